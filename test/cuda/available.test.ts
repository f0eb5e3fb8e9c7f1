/** Without CUDA there are no tests of CUDA. This test reports that, and fails if HEED_TEST_CUDA=1 demands them. */
import { expect, test } from "vitest";
import { devices } from "../../lib/device.js";
import { targets } from "../support/targets.js";

test("cuda is tested", ({ skip }) => {
  const cuda = devices().find(({ name }) => name.startsWith("cuda"))!;
  const required = process.env.HEED_TEST_CUDA === "1";
  if (!cuda.available && !required) skip(cuda.description);
  expect(cuda.available, cuda.description).toBe(true);
  expect(targets.map(({ name }) => name)).toContain("cuda:0");
});
