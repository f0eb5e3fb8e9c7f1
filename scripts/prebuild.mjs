// Puts a stripped copy of build/Release/heed.node where node-gyp-build looks for it in the npm package. One binary
// serves every Node version (N-API 8). On Linux its name says glibc, so that Alpine (musl) builds from source. The CUDA
// kernels are put beside it as PTX, for people who build the addon without nvcc.
//
// For a release the addon is built with machine code for today's cards and without line numbers:
//   HEED_CUBINS=80,86,89,90,100,120 HEED_LINE_INFO=0 npx cmake-js rebuild && node scripts/prebuild.mjs
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { sourceHash } from "./compile-kernels.mjs";
import { withoutLines } from "./ptx.mjs";

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

/** Returns the newest version of glibc that a symbol asks for. Systems with an older one cannot load the binary. */
function neededGlibc() {
  const symbols = execFileSync("objdump", ["-T", target], { encoding: "utf8", maxBuffer: 1 << 26 });
  const versions = [...symbols.matchAll(/GLIBC_2\.(\d+)/g)].map((match) => Number(match[1]));
  return `2.${Math.max(...versions)}`;
}

const size = `${(statSync(target).size / 2 ** 20).toFixed(1)} MiB`;
console.log(`prebuild: ${path.relative(root, target)}, ${size}${linux ? `, needs glibc ${neededGlibc()}` : ""}`);

const built = path.join(root, "build/cuda");
const kernels = path.join(root, "prebuilds/kernels");
const sources = readdirSync(path.join(root, "native/cuda/kernels")).filter((name) => name.endsWith(".cu"));
const { nvcc } = JSON.parse(readFileSync(path.join(built, "toolkit.json"), "utf8"));
if (!nvcc) console.log("prebuild: no CUDA kernels: the addon was built without nvcc");
else {
  mkdirSync(kernels, { recursive: true });
  for (const name of sources.map((source) => source.replace(/\.cu$/, ".ptx"))) {
    const ptx = readFileSync(path.join(built, "whole", name), "utf8");
    writeFileSync(path.join(kernels, name), withoutLines(ptx));
  }
  writeFileSync(path.join(kernels, "sources.sha256"), `${sourceHash()}\n`);
  console.log(`prebuild: ${path.relative(root, kernels)}, PTX of ${sources.length} files`);
}
