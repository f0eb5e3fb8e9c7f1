// Makes a clone of the repository ready: packages, the native addon, dist/. Each step runs only when its result is
// missing or older than what it is made from, so that `npm test` works on a fresh clone and costs nothing after.
// Uses no package: it runs before any is installed.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, statSync, utimesSync } from "node:fs";
import { availableParallelism } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/** When a file, or the newest file of a folder, last changed; 0 where there is none. */
function changed(name) {
  const full = path.join(root, name);
  const stat = statSync(full, { throwIfNoEntry: false });
  if (!stat?.isDirectory()) return stat?.mtimeMs ?? 0;
  return Math.max(0, ...readdirSync(full).map((entry) => changed(path.join(name, entry))));
}

function run(why, command, args, env = {}) {
  console.log(`setup: ${why}: ${command} ${args.join(" ")}`);
  const started = Date.now();
  // npm is a script on Windows, which only a shell starts.
  const shell = process.platform === "win32";
  const { status, error } = spawnSync(command, args, {
    cwd: root,
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

/** Runs `make` unless `target` is newer than all of `sources`. */
function step(target, sources, make) {
  if (changed(target) >= Math.max(...sources.map(changed)) && existsSync(path.join(root, target))) return;
  make();
  // A change that reaches no output (a comment, say) leaves the target as old as it was.
  utimesSync(path.join(root, target), new Date(), new Date());
}

function buildAddon() {
  if (spawnSync("cmake", ["--version"]).status === 0)
    return run("building the addon", "npx", ["--no-install", "cmake-js", "build", "--log-level", "warn"], {
      CMAKE_BUILD_PARALLEL_LEVEL: String(availableParallelism()),
    });
  // Headers beside the node binary (Linux distributions, Docker images) spare node-gyp a download.
  const prefix = path.dirname(path.dirname(process.execPath));
  const nodedir = process.env.npm_config_nodedir ?? prefix;
  const local = existsSync(path.join(nodedir, "include/node/node_api.h")) ? [`--nodedir=${nodedir}`] : [];
  run("building the addon (no CMake found)", "npx", ["--no-install", "node-gyp", "rebuild", "-j", "max", ...local]);
}

step("node_modules/.package-lock.json", ["package-lock.json"], () =>
  run("installing packages", "npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"]),
);
step("build/Release/heed.node", ["native", "scripts/compile-kernels.mjs", "CMakeLists.txt", "binding.gyp"], buildAddon);
step("dist/index.js", ["lib", "native/core/ops.def", "tsconfig.json", "tsconfig.build.json"], () =>
  run("compiling TypeScript", "npm", ["run", "--silent", "build:ts"]),
);
