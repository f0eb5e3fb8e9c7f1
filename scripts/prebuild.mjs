// Puts a stripped copy of build/Release/heed.node where node-gyp-build looks for it in the npm package. One binary
// serves every Node version (N-API 8). On Linux its name says glibc, so that Alpine (musl) builds from source.
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, statSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const source = path.join(root, "build/Release/heed.node");
if (!statSync(source, { throwIfNoEntry: false })) {
  console.error("prebuild: no build/Release/heed.node: run `npm run build:native` first");
  process.exit(1);
}

const linux = process.platform === "linux";
const folder = path.join(root, "prebuilds", `${process.platform}-${process.arch}`);
const target = path.join(folder, linux ? "heed.glibc.node" : "heed.node");
mkdirSync(folder, { recursive: true });
copyFileSync(source, target);
if (process.platform !== "win32") execFileSync("strip", linux ? ["--strip-unneeded", target] : ["-x", target]);

/** The newest glibc version that a symbol asks for: systems older than that cannot load the binary. */
function neededGlibc() {
  const symbols = execFileSync("objdump", ["-T", target], { encoding: "utf8", maxBuffer: 1 << 26 });
  const versions = [...symbols.matchAll(/GLIBC_2\.(\d+)/g)].map((match) => Number(match[1]));
  return `2.${Math.max(...versions)}`;
}

const size = `${(statSync(target).size / 2 ** 20).toFixed(1)} MiB`;
console.log(`prebuild: ${path.relative(root, target)}, ${size}${linux ? `, needs glibc ${neededGlibc()}` : ""}`);
