import type { Command } from "commander";
import { arch, cpus, release } from "node:os";
import { devices, threads } from "../../core/device.js";
import { native } from "../../core/native.js";
import { ServedModels } from "../../server/served-models.js";
import { bytesText } from "../../util/bytes-text.js";
import { systemMemory } from "../../util/system-memory.js";
import { version } from "../../util/version.js";
import { repeatable } from "../arguments.js";
import { chosenLine } from "../chosen.js";
import { usageOf } from "../failure.js";
import { type EngineFlags, engineOptions, inferenceOptions } from "../inference-options.js";
import { print } from "../output.js";
import { loadServed, type ServedFlags, servedNames } from "../named-models.js";

/** The flags of `heed info`. */
interface InfoFlags extends Omit<ServedFlags, "model" | "name" | "adapter">, EngineFlags {
  model?: string[];
}

/** Adds the arguments and the options of `heed info`. */
export function define(command: Command): Command {
  return command
    .option("--model <name>", "also load a model and print what heed serve would choose for it", repeatable)
    .addOption(inferenceOptions.context)
    .addOption(inferenceOptions.kvMemory)
    .addOption(inferenceOptions.kvType)
    .addOption(inferenceOptions.dtype)
    .addOption(inferenceOptions.quantize)
    .addOption(inferenceOptions.activations)
    .addOption(inferenceOptions.device)
    .addHelpText(
      "after",
      `
Examples:
  $ heed info
  $ heed info --model Qwen/Qwen3-0.6B --kv-memory 2GiB`,
    )
    .action(run);
}

const isas = ["portable", "avx2", "avx512", "avx512vnni", "avx512bf16", "avx512amx"];

/** Runs `heed info`: prints the facts that a bug report should contain, and what is chosen for models. */
async function run({ model = [], ...flags }: InfoFlags): Promise<void> {
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
