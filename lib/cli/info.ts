import { arch, cpus, release } from "node:os";
import { bytesText } from "../util/bytes-text.js";
import { devices, threads } from "../core/device.js";
import { native } from "../core/native.js";
import { ServedModels } from "../server/served-models.js";
import { systemMemory } from "../util/system-memory.js";
import { chosenLine } from "./chosen.js";
import { usageOf } from "./failure.js";
import { type EngineFlags, engineOptions } from "./inference-options.js";
import type { InfoFlags } from "./info-flags.js";
import { print } from "./output.js";
import { loadServed, type ServedFlags, servedNames } from "./served-models.js";
import { version } from "../util/version.js";

const isas = ["portable", "avx2", "avx512", "avx512vnni", "avx512bf16", "avx512amx"];

/** Runs `heed info`: prints the facts that a bug report should contain, and what is chosen for models. */
export async function info({ model = [], ...flags }: InfoFlags): Promise<void> {
  const { total, available } = systemMemory();
  const supported = isas.filter((isa) => native.supportsIsa(isa)).join(", ");
  const rows: [string, string][] = [
    ["heed", version()],
    ["Node.js", process.version],
    ["platform", `${process.platform} ${release()} ${arch()}`],
    ["processor", cpus()[0]?.model.trim() ?? "unknown"],
    ["instruction set", `${native.isa()} (supported: ${supported})`],
    ["threads", `${threads()} on ${native.cores()} cores`],
    ["memory", `${bytesText(total)}, of which ${bytesText(available)} are available`],
    ...devices().map(({ name, available, description }): [string, string] => [
      `device ${name}`,
      available ? description : `not available: ${description}`,
    ]),
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  for (const [name, value] of rows) await print(`${name.padEnd(width)}  ${value}\n`);
  if (model.length > 0) await printChosen({ model, ...flags });
}

/** Loads models as `heed serve` does, and prints what it would choose for them. */
async function printChosen(flags: ServedFlags & EngineFlags): Promise<void> {
  const models = await loadServed(servedNames(flags), flags);
  try {
    const served = new ServedModels(models, engineOptions(flags));
    for (const one of served.summaries) await print(`model ${chosenLine(one)}\n`);
    await served.close();
  } catch (cause) {
    throw usageOf(cause);
  } finally {
    for (const one of Object.values(models)) one.dispose();
  }
}
