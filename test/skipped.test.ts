/** A run says how many tests it skips and why, also those of a CUDA device that is absent. */
import { execFile } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { patience } from "./support/child.js";

const root = fileURLToPath(new URL("..", import.meta.url));

test("the tests of an absent CUDA device are counted as skipped, with the reason", async () => {
  const own = Object.entries(process.env).filter(([name]) => !/^(VITEST|HEED_TEST|TEST$|NODE_ENV)/.test(name));
  const env = { ...Object.fromEntries(own), HEED_CUDA_DRIVER: "none", NO_COLOR: "1" };
  const vitest = path.join(root, "node_modules/vitest/vitest.mjs");
  const files = ["test/data-sync.test.ts", "test/cuda/few-multiprocessors.test.ts"];
  const { stdout } = await promisify(execFile)(process.execPath, [vitest, "run", ...files], {
    cwd: root,
    env,
    timeout: 60_000 * patience,
  });
  const [, passed, skipped] = /Tests +(\d+) passed \| (\d+) skipped/.exec(stdout)!;
  // Each test of data-sync.test.ts is one of the CPU and one of CUDA.
  expect(Number(passed)).toBeGreaterThan(0);
  expect(Number(skipped)).toBe(Number(passed) + 1);
  const [, closing] = stdout.split("Skipped tests, by reason:\n");
  expect(closing!.trim()).toMatch(new RegExp(`^${skipped}  need a CUDA device: .+$`));
});
