// Makes a clone of the repository ready: packages, the native addon, dist/. Each step runs only when its result is
// missing or older than what it is made from, so that `npm test` works on a fresh clone and costs nothing after.
//
//   node scripts/setup.mjs           everything that the tests need
//   node scripts/setup.mjs --quick   what this machine needs to run: few packages, kernels for its own instruction set
//                                    and the portable one, kernels for CUDA only if there is a card, no declarations
//
// It uses no package, since it runs before any is installed.
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { availableParallelism } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { quickPackages } from "./quick-packages.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Returns the time of the last change of a file, or of the newest file of a folder; 0 if there is none. */
function changed(name) {
  const full = path.join(root, name);
  const stat = statSync(full, { throwIfNoEntry: false });
  if (!stat?.isDirectory()) return stat?.mtimeMs ?? 0;
  return Math.max(0, ...readdirSync(full).map((entry) => changed(path.join(name, entry))));
}

function run(why, command, args, { env = {}, cwd = root } = {}) {
  console.log(`setup: ${why}: ${command} ${args.join(" ")}`);
  const started = Date.now();
  // On Windows npm is a script, which only a shell can start.
  const shell = process.platform === "win32";
  const { status, error } = spawnSync(command, args, {
    cwd,
    stdio: "inherit",
    shell,
    env: { ...process.env, ...env },
  });
  if (status !== 0) {
    console.error(`setup: ${command} ${args.join(" ")} failed${error ? `: ${error.message}` : ""}`);
    process.exit(status || 1);
  }
  console.log(`setup: done in ${((Date.now() - started) / 1000).toFixed(0)} s`);
}

/** Runs `make` unless `target` is newer than all of `sources` and `isEnough` returns true. */
function step(target, sources, make, isEnough = true) {
  if (isEnough && changed(target) >= Math.max(...sources.map(changed)) && existsSync(path.join(root, target))) return;
  make();
  // A change that reaches no output, such as a comment, leaves the target as old as it was.
  utimesSync(path.join(root, target), new Date(), new Date());
}

const isQuick = process.argv.includes("--quick");
const manifest = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));
const areInstalled = (names) => names.every((name) => existsSync(path.join(root, "node_modules", name)));
const hasAllPackages = areInstalled(Object.keys(manifest.devDependencies));

const addon = "build/Release/heed.node";
/** Exists if the addon is one that --quick built, and says whether that addon has the kernels for CUDA. */
const partial = path.join(root, "build/partial.json");
const isPartial = existsSync(partial);
// An addon that has everything is kept, so that nothing is compiled twice.
const small = isQuick && (isPartial || !existsSync(path.join(root, addon)));
const withCuda = !small || hasCard();
const hasCMake = spawnSync("cmake", ["--version"]).status === 0;
/** `npm ci` runs the install script of the package, which builds no software CUDA device for the tests. */
const isTestable =
  process.platform !== "linux" || !hasCMake || existsSync(path.join(root, "build/Release/libheed_cuda_simulator.so"));
const isEnough = isPartial
  ? small && (JSON.parse(readFileSync(partial, "utf8")).withCuda || !withCuda)
  : isQuick || isTestable;

/** Installs packages in the versions of package-lock.json. A quick setup installs few, in a quarter of the time. */
function installPackages() {
  const args = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
  if (!isQuick || hasAllPackages) return run("installing packages", "npm", args);
  // npm installs of a lock file what the package.json beside it asks for.
  const folder = path.join(root, "build/quick-packages");
  const { name, version, dependencies, devDependencies, overrides } = manifest;
  const few = Object.fromEntries(quickPackages.map((name) => [name, devDependencies[name]]));
  mkdirSync(folder, { recursive: true });
  copyFileSync(path.join(root, "package-lock.json"), path.join(folder, "package-lock.json"));
  const asked = { name, version, dependencies, devDependencies: few, overrides };
  writeFileSync(path.join(folder, "package.json"), JSON.stringify(asked));
  run("installing the packages that quickstart needs", "npm", args, { cwd: folder });
  rmSync(path.join(root, "node_modules"), { recursive: true, force: true });
  renameSync(path.join(folder, "node_modules"), path.join(root, "node_modules"));
  rmSync(folder, { recursive: true });
}

/** Returns true if the system has NVIDIA's driver for a card. */
function hasCard() {
  const drivers = ["/dev/nvidiactl", "/dev/dxg", path.join(process.env.SystemRoot ?? "/", "System32/nvcuda.dll")];
  return drivers.some((file) => existsSync(file));
}

function buildAddon() {
  const env = { CMAKE_BUILD_PARALLEL_LEVEL: String(availableParallelism()), HEED_ISAS: small ? "here" : "all" };
  if (!withCuda) env.HEED_CUDA = "0";
  compileAddon(env);
  if (!small) return rmSync(partial, { force: true });
  writeFileSync(partial, `${JSON.stringify({ withCuda })}\n`);
  const left = withCuda ? "" : ", without CUDA kernels, because no NVIDIA GPU was found";
  console.log(
    `setup: the addon is built for this machine's processor only${left}; run \`npm run setup\` for everything`,
  );
}

function compileAddon(env) {
  const cmakeJs = ["--no-install", "cmake-js", "--log-level", "warn"];
  if (hasCMake) {
    // `build` alone would keep the configuration of an earlier build.
    const sets = `--CDHEED_ISAS=${small ? "here" : "all"}`;
    run("configuring the addon", "npx", [...cmakeJs, "configure", sets], { env });
    return run("building the addon", "npx", [...cmakeJs, "build", ...(small ? ["--target", "heed"] : [])], { env });
  }
  const built = { ...env, npm_config_build_from_source: "true" };
  run("building the addon (no CMake found)", process.execPath, ["scripts/install.mjs"], { env: built });
}

/** Compiles lib/ to dist/. A quick setup leaves out what no program reads: declarations, and GPT-2's vocabulary. */
function compileTypeScript() {
  if (!isQuick || hasAllPackages) return run("compiling TypeScript", "npm", ["run", "--silent", "build:ts"]);
  // Checking the types takes half of the time and changes nothing in dist/. `npm run typecheck` does it.
  const options = ["--noCheck", "--declaration", "false", "--declarationMap", "false"];
  run("writing the list of operations", process.execPath, ["scripts/generate-ops.mjs"]);
  run("compiling TypeScript", "npx", ["--no-install", "tsc", "-p", "tsconfig.build.json", ...options]);
  run("building the pages", "npm", ["run", "--silent", "build:web"]);
}

const packages = isQuick ? quickPackages : Object.keys(manifest.devDependencies);
step("node_modules/.package-lock.json", ["package-lock.json"], installPackages, areInstalled(packages));
const native = ["native", "scripts/compile-kernels.mjs", "scripts/ptx.mjs", "CMakeLists.txt", "binding.gyp"];
step(addon, native, buildAddon, isEnough);
const typescript = ["lib", "native/core/ops.def", "tsconfig.json", "tsconfig.build.json"];
const pages = ["server", "inspect", "report"].map((name) => `dist/${name}/web/index.html`);
const whole = [...pages, ...(isQuick ? [] : ["dist/index.d.ts", "data/gpt2-ranks.br"])];
const hasWholeDist = whole.every((file) => existsSync(path.join(root, file)));
step("dist/index.js", typescript, compileTypeScript, hasWholeDist);
