// Prints what binding.gyp and CMakeLists.txt build, one word a line. It is part of the npm package, since building from
// source needs it.
//
//   node scripts/sources.mjs core | kernels | addon | cuda   the files of one group of native/sources.json
//   node scripts/sources.mjs isas avx2                       the compiler's flags for an instruction set
//   node scripts/sources.mjs sets [here | all]               the instruction sets to build kernels for; "here" means the
//                                                            portable one and the widest of this machine. If the command
//                                                            does not say which, HEED_ISAS does, or lists their names.
import { spawnSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const sources = JSON.parse(readFileSync(path.join(root, "native/sources.json"), "utf8"));

/** Returns a file, or the files of `folder/*.ext`, relative to the package and with forward slashes. */
function expand(pattern) {
  const { dir, name, ext } = path.posix.parse(pattern);
  if (name !== "*") return [pattern];
  const names = readdirSync(path.join(root, dir)).filter((name) => name.endsWith(ext));
  return names.sort().map((name) => `${dir}/${name}`);
}

/** Returns the features of the processor as Linux or macOS names them; null if the system does not list them. */
function features() {
  if (process.platform === "linux") return /^flags.*$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[0] ?? null;
  if (process.platform !== "darwin") return null;
  const { stdout } = spawnSync("sysctl", ["-n", "machdep.cpu.leaf7_features"], { encoding: "utf8" });
  return stdout?.toLowerCase() ?? null;
}

/** Returns the files of one group of native/sources.json; undefined if there is no such group. */
export function filesOf(group) {
  return sources[group] && [...new Set(sources[group].flatMap(expand))];
}

/** Returns the instruction sets to build kernels for. */
export function instructionSets(wanted) {
  const all = process.arch === "x64" ? Object.keys(sources.isas) : ["portable"];
  if (wanted !== "here" && wanted !== "all") return wanted.split(/[;, ]/);
  const found = wanted === "here" && process.arch === "x64" ? features() : null;
  if (found === null) return all;
  // Both features imply what else the set of that name needs (native/cpu/isa.cc).
  return ["portable", ...(/avx512dq/.test(found) ? ["avx512"] : /avx2/.test(found) ? ["avx2"] : [])];
}

function main([group, name]) {
  const lines =
    group === "sets"
      ? instructionSets(name ?? (process.env.HEED_ISAS || "all"))
      : group === "isas"
        ? sources.isas[name]
        : filesOf(group);
  if (!lines) throw new Error(`native/sources.json has no ${[group, name].filter(Boolean).join(" ")}`);
  console.log(lines.join("\n"));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main(process.argv.slice(2));
