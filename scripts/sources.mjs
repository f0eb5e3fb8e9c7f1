// node scripts/sources.mjs core | kernels | addon | isas avx2: prints one group of native/sources.json for binding.gyp,
// file patterns expanded, flags as they are. Part of the npm package: building from source needs it.
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

const [group, isa] = process.argv.slice(2);
const lines = group === "isas" ? sources.isas[isa] : sources[group]?.flatMap(expand);
if (!lines) throw new Error(`native/sources.json has no ${[group, isa].filter(Boolean).join(" ")}`);
console.log(lines.join("\n"));
