/**
 * In inference, parts of K and splits of keys that have blocks of their own, on a card with room for them, give the bits
 * of blocks that take them in turn, on one without.
 */
import { expect, test } from "vitest";
import { runChild } from "../support/child.js";
import { needsSimulator, noCuda } from "../support/cuda.js";
import { describeUnless } from "../support/skip.js";

const program = `
  import { createHash } from "node:crypto";
  const hashes = [];
  const normals = (shape, dtype, seed) => heed.randn(shape, { device: "cuda", dtype, seed });
  const [x, weight, residual] = [[20, 776], [136, 776], [20, 136]].map((shape, i) => normals(shape, "f32", i));
  const bias = normals([136], "f32", 9);
  const results = [heed.linear(x, weight), heed.linear(x, weight, { bias, residual, activation: "gelu" })];
  for (const dtype of ["f32", "bf16"])
    for (const [length, size] of [[70, 40], [1, 200]]) {
      const [q, k, v] = [length, 600, 600].map((tokens, i) => normals([1, tokens, 1, size], dtype, i));
      results.push(heed.cast(heed.attention(q, k, v, { causal: true }), "f32"));
    }
  for (const result of results) hashes.push(createHash("sha256").update(await result.data()).digest("hex"));
  console.log(hashes.join("\\n"));
`;

describeUnless(noCuda)("cuda: bits on cards with few and many multiprocessors", () => {
  test("are the same", async (context) => {
    needsSimulator(context);
    const [few, many] = await Promise.all(
      ["1", "108"].map((count) => runChild(program, 200, { HEED_SIMULATOR_MULTIPROCESSORS: count })),
    );
    expect(few!.code, few!.errors).toBe(0);
    expect(few!.output.trim().split("\n")).toHaveLength(6);
    expect(few!.output).toBe(many!.output);
  });
});
