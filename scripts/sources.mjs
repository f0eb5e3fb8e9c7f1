// Prints what binding.gyp and CMakeLists.txt build, one word a line. It is part of the npm package, since building from
// source needs it.
//
//   node scripts/sources.mjs core | kernels | addon | cuda   the files of one group of native/sources.json
//   node scripts/sources.mjs isas avx2                       the compiler's flags for an instruction set
//   node scripts/sources.mjs sets [here | all]               the instruction sets to build kernels for: with "here" the
//                                                            portable one and the widest of this machine; HEED_ISAS says
//                                                            which, or names them, where the command does not
import { spawnSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const sources = JSON.parse(readFileSync(path.join(root, "native/sources.json"), "utf8"));

/** The files of `folder/*.ext`, relative to the package and with forward slashes. */
function expand(pattern) {
  const { dir, ext } = path.posix.parse(pattern);
  const names = readdirSync(path.join(root, dir)).filter((name) => name.endsWith(ext));
  return names.sort().map((name) => `${dir}/${name}`);
}

/** The features of this machine's processor by the names of Linux or macOS; null where the system does not tell them. */
function features() {
  if (process.platform === "linux") return /^flags.*$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[0] ?? null;
  if (process.platform !== "darwin") return null;
  const { stdout } = spawnSync("sysctl", ["-n", "machdep.cpu.leaf7_features"], { encoding: "utf8" });
  return stdout?.toLowerCase() ?? null;
}

/** The instruction sets to build kernels for. */
function sets(wanted) {
  const all = process.arch === "x64" ? Object.keys(sources.isas) : ["portable"];
  if (wanted !== "here" && wanted !== "all") return wanted.split(/[;, ]/);
  const found = wanted === "here" && process.arch === "x64" ? features() : null;
  if (found === null) return all;
  // Either has what the sets of that name need besides (native/cpu/isa.cc).
  return ["portable", ...(/avx512dq/.test(found) ? ["avx512"] : /avx2/.test(found) ? ["avx2"] : [])];
}

const [group, name] = process.argv.slice(2);
const lines =
  group === "sets"
    ? sets(name ?? (process.env.HEED_ISAS || "all"))
    : group === "isas"
      ? sources.isas[name]
      : sources[group]?.flatMap(expand);
if (!lines) throw new Error(`native/sources.json has no ${[group, name].filter(Boolean).join(" ")}`);
console.log(lines.join("\n"));
