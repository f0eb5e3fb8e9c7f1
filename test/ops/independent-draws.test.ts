/** One seed serves a model's first weights, its dropout and its sampling, and the draws of each must be independent. */
import { expect, test } from "vitest";
import { device as deviceOf } from "../../lib/core/device.js";
import { Dropout, DropoutSeeds } from "../../lib/nn/dropout.js";
import { Initializer } from "../../lib/nn/init.js";
import { attention } from "../../lib/ops/attention.js";
import { sample } from "../../lib/ops/sample.js";
import { dropout } from "../../lib/ops/dropout.js";
import { ones, randn, tensor, uniform, zeros } from "../../lib/core/creation.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { targets } from "../support/targets.js";

const seed = 1;
const T = 128;
const n = T * T;

function correlation(a: readonly number[], b: readonly number[]): number {
  const mean = (x: readonly number[]): number => x.reduce((sum, value) => sum + value, 0) / x.length;
  const [ma, mb] = [mean(a), mean(b)];
  const product = (x: readonly number[], mx: number, y: readonly number[], my: number): number =>
    mean(x.map((value, i) => (value - mx) * (y[i]! - my)));
  return product(a, ma, b, mb) / Math.sqrt(product(a, ma, a, ma) * product(b, mb, b, mb));
}

/** Expects a correlation within six standard deviations of that of independent numbers. */
function expectIndependent(a: readonly number[], b: readonly number[]): void {
  expect(Math.abs(correlation(a, b))).toBeLessThan(6 / Math.sqrt(a.length));
}

/** A token is chosen by the first word of a block, which four elements of a tensor share, one word each. */
const isFirst = (_: number, i: number): boolean => i % 4 === 0;

const numbers = async (x: FloatTensor | IntTensor): Promise<number[]> => [...(await x.data())];

/**
 * Returns the lengths of pairs of normal numbers, one for each number: only Box and Muller's first draw determines
 * them.
 */
async function radii(normal: FloatTensor): Promise<number[]> {
  const data = await normal.data();
  return Array.from(data, (_, i) => Math.hypot(data[i & ~1]!, data[i | 1]!));
}

/** Zero queries and keys give equal weights, and the values are one-hot, so the output is the mask. */
async function attentionMask(device: string): Promise<number[]> {
  using nothing = zeros([1, T, 1, T], { device });
  const oneHot = Float32Array.from({ length: n }, (_, i) => (i % (T + 1) === 0 ? 1 : 0));
  using values = tensor(oneHot, [1, T, 1, T], { device });
  using out = attention(nothing, nothing, values, { dropout: 0.5, seed });
  return await numbers(out);
}

test.for(targets)("weights, dropout and sampling of one seed are independent on $name", async ({ select, device }) => {
  select();
  using whole = ones([n], { device });
  using kept = dropout(whole, 0.5, seed);
  using weights = randn([n], { seed, device });
  using even = uniform([n], { seed, device });
  using logits = zeros([n / 4, 64], { device });
  const rows = Int32Array.from({ length: n / 4 }, (_, i) => i);
  using offsets = tensor(rows, [n / 4], { device });
  using ids = sample(logits, offsets, { seed });
  const [radius, uniforms, tokens] = [await radii(weights), await numbers(even), await numbers(ids)];
  for (const mask of [await numbers(kept), await attentionMask(device)]) {
    expectIndependent(mask, radius);
    expectIndependent(mask, uniforms);
    expectIndependent(tokens, mask.filter(isFirst));
  }
  expectIndependent(tokens, uniforms.filter(isFirst));
});

test.for(targets)("a model's first masks are independent of its first weights on $name", async ({ select, device }) => {
  select();
  // The first seed of each of them is the same number in a model of seed 0.
  using weights = new Initializer(0, deviceOf(device)).normal([n], 1);
  using whole = ones([n], { device });
  using kept = new Dropout(0.5, new DropoutSeeds(0)).forward(whole);
  expectIndependent(await numbers(kept), await radii(weights));
});
