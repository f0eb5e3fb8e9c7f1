// Packs heed for npm into build/packages: heed itself, and for each platform a package with its addon, such as
// @heed/linux-x64. heed's package.json names those packages as optional dependencies only in the tarball, so that the
// repository installs without them. One addon serves every version of Node.js (N-API 8).
//
//   node scripts/prebuild.mjs                         the addon of build/Release, for this platform
//   node scripts/prebuild.mjs linux-x64 linux-arm64   addons that are built here for these platforms (cmake/*.cmake); on
//                                                     Linux they run with the glibc that the README names, or a newer one
//
// The CUDA kernels go into heed's tarball as PTX, for people who build the addon without nvcc. A release has machine code
// for today's cards and no line numbers:
//   HEED_CUBINS=80,86,89,90,100,120 HEED_LINE_INFO=0 node scripts/prebuild.mjs linux-x64 linux-arm64
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants } from "node:zlib";
import { sourceHash } from "./compile-kernels.mjs";
import { withoutLines } from "./ptx.mjs";
import { sysroot } from "./sysroot.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const packages = path.join(root, "build/packages");
const manifest = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));
const read = (program, args) => execFileSync(program, args, { encoding: "utf8", maxBuffer: 1 << 26 });
const run = (program, args) => execFileSync(program, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"] });

/** Writes a folder's tarball into build/packages and returns its file. npm replaces "@heed/" by "heed-" in its name. */
function pack(folder, { name, version }, ...options) {
  read("npm", ["pack", folder, "--silent", "--pack-destination", packages, ...options]);
  return path.join(packages, `${name.replace("@", "").replace("/", "-")}-${version}.tgz`);
}

/** Returns the program, such as "STRIP", that belongs to the compiler of a build folder. */
function tool(build, name) {
  const cache = readFileSync(path.join(build, "CMakeCache.txt"), "utf8");
  return new RegExp(`^CMAKE_${name}:FILEPATH=(.*)$`, "m").exec(cache)[1];
}

/** Builds the addon for a platform that cmake/ has a toolchain file for, and returns its build folder. */
function crossBuild(platform) {
  const toolchain = `cmake/${platform}.cmake`;
  if (!existsSync(path.join(root, toolchain))) throw new Error(`expected a platform of cmake/, got ${platform}`);
  if (platform.startsWith("linux-")) sysroot(platform);
  const build = path.join(root, "build/platforms", platform);
  const headers = createRequire(import.meta.url)("node-api-headers").include_dir;
  run("cmake", ["-S", ".", "-B", build, "-G", "Ninja", "--toolchain", toolchain, `-DCMAKE_JS_INC=${headers}`]);
  run("cmake", ["--build", build, "--target", "heed"]);
  return build;
}

/** Returns the newest version of glibc that a symbol of the addon asks for, as the number after "2.". */
function neededGlibc(build, addon) {
  const symbols = read(tool(build, "OBJDUMP"), ["-T", addon]);
  return Math.max(...[...symbols.matchAll(/\bGLIBC_2\.(\d+)/g)].map((match) => Number(match[1])));
}

/** Packs the package of one platform. `build` is the build folder of its addon. */
function packPlatform(platform, build, addon, isPortable) {
  const [os, cpu] = platform.split("-");
  const folder = path.join(packages, platform);
  const target = path.join(folder, "heed.node");
  mkdirSync(folder);
  copyFileSync(addon, target);
  copyFileSync(path.join(root, "LICENSE"), path.join(folder, "LICENSE"));
  run(tool(build, "STRIP"), [os === "darwin" ? "-x" : "--strip-unneeded", target]);
  const { version, license, engines } = manifest;
  const description = `The native addon of heed for ${platform}`;
  // Alpine, with another C library, builds from source.
  const libc = os === "linux" ? { libc: ["glibc"] } : {};
  const described = {
    name: `@heed/${platform}`,
    version,
    description,
    license,
    engines,
    os: [os],
    cpu: [cpu],
    ...libc,
  };
  writeFileSync(path.join(folder, "package.json"), JSON.stringify({ ...described, main: "heed.node" }, null, 2));
  const size = `${(statSync(target).size / 2 ** 20).toFixed(1)} MiB`;
  const needs = os === "linux" ? neededGlibc(build, target) : null;
  console.log(`prebuild: ${described.name}, ${size}${needs === null ? "" : `, needs glibc 2.${needs}`}`);
  if (isPortable && needs !== null) {
    const promised = Number(/glibc 2\.(\d+)/.exec(readFileSync(path.join(root, "README.md"), "utf8"))?.[1]);
    if (!(needs <= promised)) throw new Error(`${platform} needs glibc 2.${needs}, but the README says 2.${promised}`);
  }
  pack(folder, described);
  return described;
}

/** Puts the PTX of a build's kernels into prebuilds/kernels, which heed's tarball contains. */
function keepKernels(build) {
  const kernels = path.join(root, "prebuilds/kernels");
  const sources = readdirSync(path.join(root, "native/cuda/kernels")).filter((name) => name.endsWith(".cu"));
  const { nvcc } = JSON.parse(readFileSync(path.join(build, "cuda/toolkit.json"), "utf8"));
  if (!nvcc) return console.log("prebuild: no CUDA kernels: the addon was built without nvcc");
  rmSync(kernels, { recursive: true, force: true });
  mkdirSync(kernels, { recursive: true });
  for (const name of sources.map((source) => source.replace(/\.cu$/, ".ptx"))) {
    const ptx = readFileSync(path.join(build, "cuda/whole", name), "utf8");
    // The best quality takes long, and only a release, which has machine code too, is downloaded by many.
    const quality = process.env.HEED_CUBINS ? 9 : 4;
    const params = { [constants.BROTLI_PARAM_QUALITY]: quality, [constants.BROTLI_PARAM_LGWIN]: 24 };
    writeFileSync(path.join(kernels, `${name}.br`), brotliCompressSync(withoutLines(ptx), { params }));
  }
  writeFileSync(path.join(kernels, "sources.sha256"), `${sourceHash()}\n`);
  console.log(`prebuild: ${path.relative(root, kernels)}, PTX of ${sources.length} files`);
}

/** Packs heed itself. Its tarball differs from what npm packs of the repository in its optional dependencies. */
function packHeed(platforms) {
  const plain = pack(root, manifest);
  read("tar", ["xzf", plain, "-C", packages]);
  const folder = path.join(packages, "package");
  const optionalDependencies = Object.fromEntries(platforms.map(({ name, version }) => [name, version]));
  writeFileSync(path.join(folder, "package.json"), JSON.stringify({ ...manifest, optionalDependencies }, null, 2));
  pack(folder, manifest, "--ignore-scripts");
}

rmSync(packages, { recursive: true, force: true });
mkdirSync(packages, { recursive: true });
const wanted = process.argv.slice(2);
const builds =
  wanted.length === 0
    ? [{ platform: `${process.platform}-${process.arch}`, build: path.join(root, "build"), addon: "Release/heed.node" }]
    : wanted.map((platform) => ({ platform, build: crossBuild(platform), addon: "heed.node" }));
if (!existsSync(path.join(builds[0].build, builds[0].addon)))
  throw new Error("prebuild: no build/Release/heed.node: run `npm run build:native` first");
keepKernels(builds[0].build);
packHeed(
  builds.map(({ platform, build, addon }) => packPlatform(platform, build, path.join(build, addon), wanted.length > 0)),
);
console.log(
  `prebuild: ${readdirSync(packages)
    .filter((name) => name.endsWith(".tgz"))
    .join(", ")} in build/packages`,
);
