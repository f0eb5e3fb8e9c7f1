// The package's install script. If the package with the addon for this platform is missing (@heed/linux-x64, say) or does
// not load, or npm is called with --build-from-source, it builds the addon by node-gyp: on all cores, with kernels for
// this machine's processor and portable ones (HEED_ISAS=all builds every instruction set), and says how far it has come.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, openSync, readdirSync, rmSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { filesOf, instructionSets } from "./sources.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const isas = process.env.HEED_ISAS || "here";

/** Returns the environment that node-gyp gets. */
function environment() {
  const env = { npm_config_jobs: "max", ...process.env, HEED_ISAS: isas };
  // If there are headers beside the node binary (Linux distributions, Docker images), node-gyp need not download them.
  const prefix = path.dirname(path.dirname(process.execPath));
  if (!env.npm_config_nodedir && existsSync(path.join(prefix, "include/node/node_api.h")))
    env.npm_config_nodedir = prefix;
  return env;
}

/** Returns how many files the build compiles. */
function fileCount() {
  const count = (group) => filesOf(group).length;
  // One more file is the one that compile-kernels.mjs writes about the toolkit.
  return count("core") + count("addon") + count("cuda") + 1 + instructionSets(isas).length * count("kernels");
}

/** Returns the terminal of the person who installs if npm hides the output of scripts from it; otherwise null. */
function hiddenTerminal() {
  if (process.platform === "win32" || process.stdout.isTTY || process.env.npm_config_foreground_scripts === "true")
    return null;
  try {
    return openSync("/dev/tty", "w");
  } catch {
    return null;
  }
}

const terminal = hiddenTerminal();
function show(line) {
  console.log(line);
  if (terminal !== null) writeSync(terminal, `${line}\n`);
}

/** Returns true if the package with the addon for this platform is installed and loads. */
function hasPackage() {
  // In a process of its own: an addon for another C library may end it.
  const program = "require(`@heed/${process.platform}-${process.arch}`)";
  return spawnSync(process.execPath, ["-e", program], { cwd: root, stdio: "ignore" }).status === 0;
}

if (process.env.npm_config_build_from_source !== "true" && hasPackage()) process.exit();

const build = spawn(process.execPath, [createRequire(import.meta.url).resolve("node-gyp-build/bin.js")], {
  cwd: root,
  env: environment(),
  stdio: ["ignore", "pipe", "inherit"],
});
let [compiled, shown] = [0, 0];
build.stdout.setEncoding("utf8").on("data", (text) => {
  process.stdout.write(text);
  compiled += text.match(/\bCXX\(/g)?.length ?? 0;
  if (compiled === 0) return;
  const percent = Math.min(100, Math.floor((10 * compiled) / fileCount()) * 10);
  if (percent > shown || compiled === 1) show(`heed: building from source, ${(shown = percent)} % done`);
});
build.on("close", (code) => {
  process.exitCode = code ?? 1;
  if (compiled === 0) return;
  show(code === 0 ? "heed: built" : "heed: the build failed");
  // Objects are a hundred times as large as the addon, and nothing is built from them again.
  const release = path.join(root, "build/Release");
  const objects = code === 0 ? readdirSync(release).filter((name) => !name.endsWith(".node")) : [];
  for (const name of objects) rmSync(path.join(release, name), { recursive: true, force: true });
});
