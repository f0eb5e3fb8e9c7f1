// Installs the packages of the peers in a folder of their own, since none of them is a dependency of heed.
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

// The compiled file is in build/bench/peers.
const source = fileURLToPath(new URL("../../../bench/peers", import.meta.url));
export const installed = fileURLToPath(new URL("../../peers", import.meta.url));

/** Installs what package-lock.json names, unless it is installed. Returns the reason if it fails, otherwise null. */
export function install(): string | null {
  const wanted = readFileSync(path.join(source, "package-lock.json"), "utf8");
  const done = path.join(installed, "node_modules", "installed.json");
  if (existsSync(done) && readFileSync(done, "utf8") === wanted) return null;
  mkdirSync(installed, { recursive: true });
  for (const name of ["package.json", "package-lock.json"])
    copyFileSync(path.join(source, name), path.join(installed, name));
  console.log("installing the peers in build/peers …");
  // onnxruntime-node has its CPU library in the package. What it would download is for CUDA.
  const { status, stderr } = spawnSync("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], {
    cwd: installed,
    env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: "skip" },
    encoding: "utf8",
  });
  if (status !== 0) return `npm ci: ${stderr.trim().split("\n").at(0) ?? `exit code ${status}`}`;
  copyFileSync(path.join(source, "package-lock.json"), done);
  return null;
}
