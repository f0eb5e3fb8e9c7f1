/** A sample of tfjs-core's own suite on the CPU; .ci/nightly runs the whole, and on the software CUDA device. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { dist } from "../../support/dist.js";

test("every twentieth spec of tfjs-core's suite passes", { timeout: 240_000 }, async () => {
  dist("plugins/tfjs/index.js");
  const suite = fileURLToPath(new URL("suite.mjs", import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [suite, "--every", "20", "--failures"], {
    maxBuffer: 2 ** 26,
  }).catch((error: unknown) => error as { stdout: string });
  expect(stdout).toMatch(/^suite: (1[5-9]\d|2\d\d) passed, 0 failed$/m);
});
