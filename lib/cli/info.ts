import { arch, cpus, release } from "node:os";
import { devices, threads } from "../device.js";
import { native } from "../native.js";
import { print } from "./output.js";
import { version } from "../version.js";

const isas = ["portable", "avx2", "avx512", "avx512vnni", "avx512bf16"];

/** Runs `heed info`: prints the facts that a bug report should contain. */
export async function info(): Promise<void> {
  const supported = isas.filter((isa) => native.supportsIsa(isa)).join(", ");
  const rows: [string, string][] = [
    ["heed", version()],
    ["Node.js", process.version],
    ["platform", `${process.platform} ${release()} ${arch()}`],
    ["processor", cpus()[0]?.model.trim() ?? "unknown"],
    ["instruction set", `${native.isa()} (supported: ${supported})`],
    ["threads", `${threads()} on ${native.cores()} cores`],
    ...devices().map(({ name, available, description }): [string, string] => [
      `device ${name}`,
      available ? description : `not available: ${description}`,
    ]),
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  for (const [name, value] of rows) await print(`${name.padEnd(width)}  ${value}\n`);
}
