/** Without CUDA, its tests are skipped. This test fails then if HEED_TEST_CUDA=1 demands them. */
import { expect, test } from "vitest";
import { devices } from "../../lib/core/device.js";
import { noCuda } from "../support/cuda.js";
import { targets } from "../support/targets.js";

test("cuda is tested", ({ skip }) => {
  const cuda = devices().find(({ name }) => name.startsWith("cuda"))!;
  const required = process.env.HEED_TEST_CUDA === "1";
  if (noCuda !== null && !required) skip(noCuda);
  expect(cuda.available, cuda.description).toBe(true);
  expect(targets.map(({ name }) => name)).toContain("cuda:0");
});
