import { expect, test } from "vitest";
import { attention, type AttentionOptions, packedAttention } from "../../lib/ops/attention.js";
import { matmul } from "../../lib/ops/matmul.js";
import { softmax } from "../../lib/ops/softmax.js";
import { mul } from "../../lib/ops/binary.js";
import { sum } from "../../lib/ops/reduce.js";
import { reshape, transpose } from "../../lib/ops/views.js";
import { formatShape } from "../../lib/core/shape.js";
import { scope } from "../../lib/core/scope.js";
import { full, tensor, zeros } from "../../lib/core/creation.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import {
  inputsOf,
  ints,
  largeHeads,
  packedReference,
  reference,
  roundings,
  type Sizes,
  tolerance,
  type Visible,
} from "../support/attention.js";
import { expectClose } from "../support/close.js";
import { fixtureTest } from "../support/fixtures.js";
import { generate, type Nd, nd, normal } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { draws, philoxWords, uniform01 } from "../support/philox.js";
import { Random } from "../support/random.js";
import { devicesHere, productTargets, targets } from "../support/targets.js";

const random = new Random(11);

const cases: [Sizes, Visible][] = [
  [[1, 1, 1, 1, 1, 1], {}],
  [[1, 2, 3, 1, 1, 2], {}],
  [[2, 3, 3, 2, 2, 17], { causal: true }],
  [[1, 17, 17, 1, 1, 8], { causal: true }],
  [[1, 31, 33, 2, 1, 3], {}],
  [[1, 33, 33, 1, 1, 16], { causal: true }],
  [[1, 65, 65, 1, 1, 4], { causal: true }],
  [[1, 63, 130, 1, 1, 5], { causal: true }],
  [[1, 1, 257, 2, 1, 8], { causal: true }],
  [[1, 257, 1, 1, 1, 2], {}],
  [[2, 5, 7, 6, 2, 9], {}],
  [[1, 7, 7, 4, 1, 33], { causal: true }],
  [[1, 3, 5, 1, 1, 64], {}],
  [[1, 4, 4, 1, 1, 65], { causal: true }],
  [[3, 4, 9, 2, 2, 6], { keyLengths: [9, 1, 5] }],
  [[3, 4, 9, 2, 1, 6], { keyLengths: [9, 4, 6], causal: true }],
  [[2, 4, 9, 2, 2, 6], { keyLengths: [9, 9], queryStarts: [0, 5], causal: true }],
  [[2, 3, 70, 1, 1, 4], { keyLengths: [70, 65], queryStarts: [2 ** 31 - 1, -(2 ** 31)], causal: true }],
  // Queries that see nothing: there are no keys, or all keys are later.
  [[2, 3, 5, 1, 1, 4], { keyLengths: [0, 5] }],
  [[2, 5, 3, 1, 1, 4], { causal: true }],
  [[1, 3, 5, 1, 1, 4], { queryStarts: [-2], causal: true }],
  [[0, 3, 5, 1, 1, 4], {}],
  [[2, 0, 5, 1, 1, 4], {}],
  [[2, 3, 0, 1, 1, 4], {}],
];

// Sizes on either side of the edges of tiles, which depend on the head size.
const tiles: [Sizes, Visible][] = [
  [[1, 64, 64, 1, 1, 20], { causal: true }],
  [[1, 65, 17, 2, 1, 64], {}],
  [[1, 18, 66, 1, 1, 64], { causal: true }],
  [[1, 20, 65, 2, 1, 80], { causal: true }],
  [[2, 9, 34, 2, 2, 96], { keyLengths: [34, 33], causal: true }],
  [[1, 18, 66, 1, 1, 128], { causal: true }],
  [[1, 66, 10, 1, 1, 128], {}],
  [[1, 17, 34, 1, 1, 192], {}],
  [[1, 18, 34, 1, 1, 256], { causal: true }],
  [[1, 66, 5, 1, 1, 256], {}],
  [[1, 5, 9, 2, 1, 260], { causal: true }],
];

const partly = ([, { keyLengths, queryStarts }]: (typeof cases)[number]): boolean => !!(keyLengths ?? queryStarts);

opTest({
  name: "attention",
  cases: cases
    .filter((at) => !partly(at))
    .map(([sizes, options]) => ({
      name: `${formatShape(sizes)} ${JSON.stringify(options)}`,
      inputs: inputsOf(sizes),
      options,
    })),
  ours: ({ q, k, v }, _, { causal = false }) => attention(q, k, v, { causal }),
  reference: ({ q, k, v }, _, options) => reference(q, k, v, options),
  tolerance,
  roundings,
});

opTest({
  name: "attention to a part of the keys",
  cases: cases.filter(partly).map(([sizes, options]) => ({
    name: `${formatShape(sizes)} ${JSON.stringify(options)}`,
    inputs: inputsOf(sizes),
    options,
  })),
  ours: ({ q, k, v }, _, { keyLengths, queryStarts, causal = false }) =>
    attention(q, k, v, {
      causal,
      keyLengths: ints(keyLengths, q.device),
      queryStarts: ints(queryStarts, q.device),
    }),
  reference: ({ q, k, v }, _, options) => reference(q, k, v, options),
  tolerance,
  roundings,
  single: false,
});

opTest({
  name: "attention in tiles",
  cases: tiles.map(([sizes, options]) => ({
    name: `${formatShape(sizes)} ${JSON.stringify(options)}`,
    inputs: inputsOf(sizes),
    options,
  })),
  ours: ({ q, k, v }, _, { keyLengths, causal = false }) =>
    attention(q, k, v, { causal, keyLengths: ints(keyLengths, q.device) }),
  reference: ({ q, k, v }, _, options) => reference(q, k, v, options),
  tolerance: largeHeads,
  roundings,
  single: false,
});

opTest({
  name: "decoding",
  // Few queries and many keys, without a backward pass to follow, so that the keys may be split.
  cases: (
    [
      [[1, 1, 1, 1, 1, 1], {}],
      [[2, 1, 300, 2, 2, 64], { keyLengths: [300, 130] }],
      [[3, 1, 40, 2, 1, 16], { keyLengths: [0, 1, 40] }],
      [[1, 1, 150, 2, 1, 20], {}],
      [[1, 2, 270, 4, 2, 128], { causal: true }],
      [[1, 4, 140, 4, 1, 80], { causal: true }],
      [[1, 3, 200, 1, 1, 256], {}],
      [[2, 8, 260, 2, 1, 40], { keyLengths: [260, 5], causal: true }],
      [[1, 5, 9, 8, 2, 33], { causal: true }],
      [[1, 17, 300, 1, 1, 64], { causal: true }],
      [[1, 30, 200, 1, 1, 128], {}],
      [[1, 2, 200, 1, 1, 260], {}],
      [[2, 2, 1100, 1, 1, 3], { keyLengths: [1100, 300], causal: true }],
    ] as [Sizes, Visible][]
  ).map(([sizes, options]) => ({
    name: `${formatShape(sizes)} ${JSON.stringify(options)}`,
    inputs: inputsOf(sizes),
    options,
  })),
  ours: ({ q, k, v }, _, { keyLengths, causal = false }) =>
    attention(q, k, v, { causal, keyLengths: ints(keyLengths, q.device) }),
  reference: ({ q, k, v }, _, options) => reference(q, k, v, options),
  tolerance: largeHeads,
  roundings,
  differentiable: false,
  single: false,
});

opTest({
  name: "attention with a scale",
  cases: [0.1, 1.5, 0, -0.5].map((scale) => ({
    name: `${scale}`,
    inputs: inputsOf([1, 5, 9, 2, 2, 8]),
    options: { scale },
  })),
  ours: ({ q, k, v }, _, options) => attention(q, k, v, options),
  reference: ({ q, k, v }, _, { scale }) => reference(q, k, v, {}, scale),
  tolerance,
  roundings,
});

opTest({
  name: "attention of large scores",
  // Scores of up to ±200: a softmax that does not subtract its maximum overflows.
  cases: [{ name: "[1, 9, 65, 1, 1, 8]", inputs: { v: normal(random, [1, 65, 1, 8]) } }],
  ours: ({ v }) => {
    const { device } = v;
    return attention(
      tensor(large.q.data, large.q.shape, { device }),
      tensor(large.k.data, large.k.shape, { device }),
      v,
    );
  },
  reference: ({ v }) => reference(large.q, large.k, v, {}),
  // Scores of 200 from rounded queries and keys are unrelated to the exact ones.
  short: false,
  // An error of u in scores of 200 is 200 u in their exponentials.
  tolerance: { out: { relative: 400, absolute: 100 }, grad: { relative: 400, absolute: 100 } },
  single: false,
});

const packed: [number, number, number, number, number, boolean][] = [
  [1, 3, 1, 1, 5, false],
  [2, 17, 2, 2, 8, true],
  [2, 9, 4, 2, 6, true],
  [1, 33, 3, 1, 7, true],
  [2, 0, 2, 2, 4, true],
];

opTest({
  name: "packedAttention",
  cases: packed.map(([B, T, heads, kvHeads, D, causal]) => ({
    name: `${formatShape([B, T, heads, kvHeads, D])}${causal ? " causal" : ""}`,
    inputs: { qkv: normal(random, [B, T, (heads + 2 * kvHeads) * D]) },
    options: { heads, kvHeads, causal },
  })),
  ours: ({ qkv }, _, options) => packedAttention(qkv, options),
  reference: ({ qkv }, _, { heads, kvHeads, causal }) => packedReference(qkv, heads, kvHeads, { causal }),
  tolerance,
  roundings,
});

fixtureTest("attention", ({ q, k, v }, { keyLengths, queryStarts }, { options }) =>
  attention(q!, k!, v!, {
    ...(options as AttentionOptions),
    keyLengths: keyLengths ?? null,
    queryStarts: queryStarts ?? null,
  }),
);

opTest({
  name: "attention's slow twin",
  cases: [{ name: "[2, 5, 7, 2, 2, 8]", inputs: inputsOf([2, 5, 7, 2, 2, 8]) }],
  ours: ({ q, k, v }) => {
    const [B, T, H, D] = q.shape as [number, number, number, number];
    const heads = (x: typeof q) => transpose(x, [0, 2, 1, 3]); // [B, H, T, D]
    const weights = softmax(mul(matmul(heads(q), transpose(heads(k))), 1 / Math.sqrt(D)));
    return reshape(heads(matmul(weights, heads(v))), [B, T, H, D]);
  },
  reference: ({ q, k, v }) => reference(q, k, v, {}),
  tolerance,
  roundings,
  single: false,
});

/**
 * Returns the factors by which dropout multiplies the weights. They are read from an attention over one-hot values, so
 * that the number of keys and the head size are n.
 */
async function dropoutMask(
  [B, T, H, n]: [number, number, number, number],
  p: number,
  seed: number,
  device?: string,
): Promise<Nd> {
  const options = device ? { device } : {};
  const oneHot = generate([B, n, H, n], (i) => (Math.floor(i / (H * n)) % n === i % n ? 1 : 0));
  using q = zeros([B, T, H, n], options);
  using v = tensor(oneHot.data, [B, n, H, n], options);
  using out = attention(q, v, v, { dropout: p, seed });
  using byHead = transpose(out, [0, 2, 1, 3]);
  return nd(
    [B, H, T, n],
    Array.from(await byHead.data(), (weight) => Math.round(weight * n * (1 - p)) / (1 - p)),
  );
}

const dropped = { sizes: [2, 9, 17, 2, 2, 17] as Sizes, p: 0.25, seed: 11 };
const mask = await dropoutMask([2, 9, 2, 17], dropped.p, dropped.seed);
const large = { q: normal(random, [1, 9, 1, 8], { scale: 12 }), k: normal(random, [1, 65, 1, 8], { scale: 6 }) };

opTest({
  name: "attention with dropout",
  cases: [{ name: formatShape(dropped.sizes), inputs: inputsOf(dropped.sizes) }],
  ours: ({ q, k, v }) => attention(q, k, v, { dropout: dropped.p, seed: dropped.seed }),
  reference: ({ q, k, v }) => reference(q, k, v, {}, undefined, mask),
  tolerance,
  roundings,
});

/** Returns the mask from Philox, in rows that may begin anywhere in a block of four draws. */
function exactMask([B, Tq, Tk, H]: Sizes, p: number, seed: number): Nd {
  const words = philoxWords(seed, B * H * Tq * Tk, draws.dropout);
  return nd(
    [B, H, Tq, Tk],
    words.map((word) => (uniform01(word) >= p ? 1 / (1 - p) : 0)),
  );
}
const manyDropped = (
  [
    [1, 66, 71, 1, 1, 3],
    [1, 2, 70, 2, 2, 5],
  ] as Sizes[]
).map((sizes) => ({
  name: formatShape(sizes),
  inputs: inputsOf(sizes),
  options: exactMask(sizes, 0.25, 5),
}));

opTest({
  name: "attention with dropout of rows of any length",
  cases: manyDropped,
  ours: ({ q, k, v }) => attention(q, k, v, { dropout: 0.25, seed: 5 }),
  reference: ({ q, k, v }, _, dropped) => reference(q, k, v, {}, undefined, dropped),
  tolerance,
  roundings,
});

test("dropout of attention follows its probability and seed", async () => {
  const zerosOf = (m: Nd): number => m.data.filter((x) => x === 0).length / m.data.length;
  expect([...new Set(mask.data)].toSorted()).toEqual([0, 1 / 0.75]);
  const big = await dropoutMask([2, 40, 2, 40], 0.25, 1);
  // Six standard deviations of 6,400 draws.
  expect(Math.abs(zerosOf(big) - 0.25)).toBeLessThan(6 * Math.sqrt((0.25 * 0.75) / big.data.length));
  expect((await dropoutMask([2, 40, 2, 40], 0.25, 1)).data).toEqual(big.data);
  expect((await dropoutMask([2, 40, 2, 40], 0.25, 2)).data).not.toEqual(big.data);
  // Heads and sequences draw independently.
  const [a, b, c] = [0, 1600, 3200].map((at) => big.data.slice(at, at + 1600));
  expect(a).not.toEqual(b);
  expect(a).not.toEqual(c);
});

test("every device drops the same weights", async () => {
  const [first, ...others] = await Promise.all(
    devicesHere.map(({ device }) => dropoutMask([2, 5, 3, 67], 0.3, 2 ** 40 + 5, device)),
  );
  expect(new Set(first!.data).size).toBe(2);
  for (const other of others) expect(other.data).toEqual(first!.data);
});

test.for(targets)("key lengths out of range reject the next read on $name", async ({ select, device }) => {
  select();
  using x = zeros([2, 3, 1, 4], { device });
  for (const length of [-1, 4]) {
    using keyLengths = tensor(Int32Array.of(2, length), [2], { device });
    using out = attention(x, x, x, { keyLengths });
    await expect(out.data()).rejects.toMatchObject({
      code: "ERR_RANGE",
      message: expect.stringMatching(/attention.*expected .* got /) as string,
    });
    expect([...(await x.data())]).toEqual(Array(24).fill(0));
  }
});

test.for(targets)("infinite scores, and NaN, on $name", async ({ select, device }) => {
  select();
  for (const Tq of [1, 20]) {
    const filled = (rows: number, value: number): FloatTensor => full([1, rows, 1, 8], value, { device });
    using q = filled(Tq, 1e30);
    using k = filled(30, -1e30);
    using none = attention(q, k, k);
    expect(new Set(await none.data()), "scores of minus infinity").toEqual(new Set([0]));
    const values = new Float32Array(Tq * 8).fill(1).with(3, NaN);
    using spoilt = tensor(values, [1, Tq, 1, 8], { device });
    using v = filled(30, 1);
    using out = attention(spoilt, v, v);
    const got = await out.data();
    expect([...got].map(Number.isNaN)).toEqual([...got.keys()].map((i) => i < 8));
  }
});

// Scores of thousands may have large absolute errors, but backward recomputes exactly those that forward summed. So its
// probabilities sum to 1, and the gradients of one query's values sum to the query's own.
test.for(targets)("backward recomputes the same scores on $name", async ({ select, device }) => {
  select();
  for (const Tk of [50, 600]) {
    const make = (shape: number[], offset: number): FloatTensor => {
      const x = normal(random, shape, { offset });
      return tensor(x.data, shape, { device });
    };
    using q = make([1, 1, 1, 64], 20);
    using k = make([1, Tk, 1, 64], 20);
    using v = make([1, Tk, 1, 64], 0);
    using upstream = make([1, 1, 1, 64], 3);
    for (const x of [q, k, v]) x.requiresGrad = true;
    scope(() => sum(mul(attention(q, k, v, { scale: 0.125 }), upstream)).backward());
    const [dv, wanted] = [await v.grad!.data(), await upstream.data()];
    for (let d = 0; d < 64; d++) {
      let total = 0;
      for (let j = 0; j < Tk; j++) total += dv[j * 64 + d]!;
      // The logarithm of the sum of exponentials is up to 4096 here. Rounding it changes each probability by 2⁻¹³, by
      // the same factor for all keys.
      expect(Math.abs(total / wanted[d]! - 1)).toBeLessThan(2 ** -12);
    }
  }
});

// Enough rows with enough keys for the CPU to pack the keys.
test.for(targets.filter(({ device }) => device === "cpu"))("many rows of large heads on $name", async (target) => {
  target.select();
  const inputs = inputsOf([1, 64, 520, 8, 1, 256]);
  using q = tensor(inputs.q.data, inputs.q.shape);
  using k = tensor(inputs.k.data, inputs.k.shape);
  using v = tensor(inputs.v.data, inputs.v.shape);
  using out = attention(q, k, v, { causal: true });
  const got = await out.data();
  for (const row of [0, 31, 63]) {
    const at = (x: Nd): Nd => nd([1, 1, 8, 256], x.data.subarray(row * 2048, (row + 1) * 2048));
    const expected = reference(at(inputs.q), inputs.k, inputs.v, { causal: true, queryStarts: [456 + row] });
    // Sums of twice as many values.
    const allowed = { relative: 8, absolute: 24 };
    expectClose(`row ${row}`, got.subarray(row * 2048, (row + 1) * 2048), expected.data, allowed);
  }
});

test.for(targets)("a sequence's result does not depend on its batch on $name", async ({ select, device }) => {
  select();
  const [q, k, v] = [normal(random, [3, 5, 2, 8]), normal(random, [3, 9, 2, 8]), normal(random, [3, 9, 2, 8])];
  const run = async (rows: Nd[]): Promise<Float32Array> => {
    const [a, b, c] = rows.map((x) => tensor(x.data, x.shape, { device })) as [never, never, never];
    return attention(a, b, c, { causal: true }).data();
  };
  const all = await run([q, k, v]);
  const last = await run([q, k, v].map((x) => nd([1, ...x.shape.slice(1)], x.data.subarray((x.data.length / 3) * 2))));
  expectClose("the last sequence alone", last, all.subarray(160), { relative: 0, absolute: 0 });
});

test.for(productTargets)("keys of bf16 beyond an odd length may be anything on $name", async ({ select, device }) => {
  select();
  const inputs = inputsOf([1, 40, 99, 2, 1, 20]);
  const run = async (beyond: number): Promise<Float32Array[]> => {
    const leaf = (x: Nd, kept: number): FloatTensor => {
      const made = tensor(
        x.data.map((value, i) => (i < kept ? value : beyond)),
        x.shape,
        { device, dtype: "bf16" },
      );
      made.requiresGrad = true;
      return made;
    };
    using q = leaf(inputs.q, Infinity);
    using k = leaf(inputs.k, 37 * 20);
    using v = leaf(inputs.v, 37 * 20);
    using keyLengths = tensor(Int32Array.of(37), [1], { device });
    using out = attention(q, k, v, { keyLengths, causal: true });
    using total = sum(out);
    total.backward();
    return await Promise.all([out, q.grad!, k.grad!, v.grad!].map((x) => x.data()));
  };
  const clean = await run(0);
  expect(clean.every((values) => values.every(Number.isFinite) && values.some((x) => x !== 0))).toBe(true);
  expect(await run(NaN)).toEqual(clean);
});
