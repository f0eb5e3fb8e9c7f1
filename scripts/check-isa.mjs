// node scripts/check-isa.mjs BUILD_FOLDER checks that no object file compiled with AVX flags defines a symbol that the
// linker merges across files, unless the symbol is in that build's namespace. The linker keeps the first copy of a weak
// symbol; an AVX-512 copy in portable code would end the process on a machine without AVX-512.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";

/** Pointer to the unwinder's routine. It is data, not code, and the same in every object file. */
const harmless = ["DW.ref.__gxx_personality_v0"];

const build = process.argv[2] ?? "build";
let files = 0;
const faults = [];

const targets = ["avx2", "avx512"].flatMap((isa) => [
  { isa, target: `heed_kernels_${isa}`, namespace: `heed::cpu::${isa}::` },
  { isa, target: `heed_simulator_lanes_${isa}`, namespace: `heed::simulator::${isa}::` },
]);
for (const { isa, target, namespace } of targets) {
  const folder = path.join(build, `CMakeFiles/${target}.dir`);
  const objects = existsSync(folder)
    ? readdirSync(folder, { recursive: true }).filter((name) => name.endsWith(".o"))
    : [];
  for (const object of objects) {
    files++;
    const { status, stdout, stderr } = spawnSync("nm", ["-C", "--defined-only", path.join(folder, object)], {
      encoding: "utf8",
      maxBuffer: 1 << 28,
    });
    if (status !== 0) throw new Error(`nm failed on ${object}: ${stderr}`);
    for (const line of stdout.split("\n")) {
      const [, kind, name] = /^[0-9a-f]+ (\w) (.*)$/.exec(line) ?? [];
      const merged = kind && "WVuwv".includes(kind) && !harmless.includes(name);
      if (merged && !name.includes(namespace)) faults.push(`${isa}/${path.basename(object)}: ${kind} ${name}`);
    }
  }
}

if (files === 0) {
  console.error(`check-isa: no AVX object files in ${build}`);
  process.exitCode = 1;
} else if (faults.length > 0) {
  console.error(`check-isa: symbols that must not leave their instruction set:\n  ${faults.join("\n  ")}`);
  process.exitCode = 1;
} else {
  console.log(`check-isa: ${files} object files keep to their instruction set`);
}
