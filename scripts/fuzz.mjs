// Runs every property of test/fuzz on its nightly number of cases, with a new seed (HEED_FUZZ_SEED names another one):
// npm run fuzz -- [options of vitest]. What is too long for every change belongs here (docs/testing.md).
import { spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";

const seed = process.env.HEED_FUZZ_SEED ?? String(randomInt(2 ** 31));
console.log(`fuzz: HEED_FUZZ_SEED=${seed}`);
const { status, error } = spawnSync("npx", ["--no-install", "vitest", "run", "test/fuzz", ...process.argv.slice(2)], {
  stdio: "inherit",
  shell: process.platform === "win32",
  env: { ...process.env, HEED_FUZZ: "nightly", HEED_FUZZ_SEED: seed },
});
if (error) console.error(`fuzz: vitest did not start: ${error.message}`);
process.exitCode = status ?? 1;
