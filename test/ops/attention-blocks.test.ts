/** Tests attention under block masks, and the patterns that make such masks. */
import { expect, test } from "vitest";
import { device as deviceOf } from "../../lib/core/device.js";
import { attention, packedAttention } from "../../lib/ops/attention.js";
import { localBlocks, stridedBlocks } from "../../lib/ops/attention-blocks.js";
import { sum } from "../../lib/ops/reduce.js";
import { ones, randn, zeros } from "../../lib/core/creation.js";
import {
  largeHeads,
  masked,
  optionsOf,
  packedReference,
  roundings,
  tolerance,
  type Visible,
} from "../support/attention.js";
import { expectError } from "../support/errors.js";
import { normal } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { targets } from "../support/targets.js";

const random = new Random(13);

type Blocks = NonNullable<Visible["blocks"]>;

/** Returns a random mask of which this share is visible. */
function drawn(shape: Blocks["shape"], size: number, share = 0.4): { blocks: Blocks } {
  const mask = Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () =>
    random.integer(1000) < share * 1000 ? 1 + random.integer(255) : 0,
  );
  return { blocks: { mask, shape, size } };
}

opTest({
  name: "attention under a mask of blocks",
  ...masked([
    ["one of each", [1, 3, 3, 1, 1, 4], drawn([1, 1, 3, 3], 1)],
    ["blocks of 1", [2, 19, 19, 2, 2, 8], drawn([2, 2, 19, 19], 1)],
    ["blocks of 5", [1, 67, 67, 2, 1, 6], drawn([1, 2, 14, 14], 5)],
    ["blocks of 16", [2, 70, 70, 4, 2, 8], drawn([1, 4, 5, 5], 16)],
    ["blocks of 16", [1, 97, 97, 3, 1, 5], { causal: true, ...drawn([1, 1, 7, 7], 16) }],
    ["blocks of 64", [2, 70, 131, 2, 2, 8], drawn([2, 1, 3, 3], 64, 0.5)],
    ["blocks of 64", [1, 150, 150, 1, 1, 4], { causal: true, ...drawn([1, 1, 3, 3], 64) }],
    ["blocks of 128", [1, 60, 140, 2, 1, 4], drawn([1, 2, 2, 2], 128, 0.6)],
    ["more keys than queries", [1, 20, 90, 2, 2, 8], { causal: true, ...drawn([1, 2, 6, 6], 16) }],
    ["more queries than keys", [1, 90, 20, 2, 2, 8], drawn([1, 2, 2, 2], 16, 0.7)],
    ["a longer sequence's mask", [1, 33, 33, 1, 1, 8], drawn([1, 1, 9, 9], 16)],
    ["nothing", [1, 40, 40, 1, 1, 4], drawn([1, 1, 3, 3], 16, 0)],
    ["everything", [1, 40, 40, 1, 1, 4], { causal: true, ...drawn([1, 1, 3, 3], 16, 1) }],
    [
      "positions without a row",
      [2, 6, 40, 2, 1, 6],
      { keyLengths: [40, 30], queryStarts: [17, -2], ...drawn([1, 2, 2, 4], 10, 0.7) },
    ],
    [
      "with everything else",
      [2, 33, 70, 4, 2, 12],
      {
        causal: true,
        window: 40,
        keyLengths: [70, 52],
        queryStarts: [30, 19],
        keyRanges: Array.from({ length: 2 * 2 * 33 }, () => random.integer(79) - 4),
        slopes: [0.2, 0.1, 0.05, 0],
        softcap: 2,
        ...drawn([2, 4, 9, 9], 8, 0.6),
      },
    ],
    ["no queries", [1, 0, 5, 1, 1, 4], drawn([1, 1, 2, 2], 4)],
    ["no keys", [1, 3, 0, 1, 1, 4], drawn([1, 1, 1, 1], 4)],
  ]),
  tolerance,
});

opTest({
  name: "attention under a mask of blocks, of large heads",
  ...masked([
    ["blocks of 16", [1, 66, 66, 1, 1, 64], { causal: true, ...drawn([1, 1, 5, 5], 16) }],
    ["blocks of 64", [1, 70, 90, 1, 1, 80], drawn([1, 1, 2, 2], 64, 0.5)],
    ["blocks of 32", [1, 80, 80, 2, 1, 128], { causal: true, ...drawn([1, 1, 3, 3], 32, 0.6) }],
    ["blocks of 16", [1, 34, 66, 1, 1, 256], { causal: true, ...drawn([1, 1, 5, 5], 16) }],
    ["blocks of 8", [1, 20, 20, 2, 1, 260], { causal: true, ...drawn([1, 1, 3, 3], 8, 0.6) }],
  ]),
  tolerance: largeHeads,
});

opTest({
  name: "decoding under a mask of blocks",
  ...masked([
    ["one query", [2, 1, 300, 2, 2, 64], { causal: true, keyLengths: [300, 130], ...drawn([1, 2, 5, 5], 64, 0.5) }],
    ["a cache", [2, 1, 600, 4, 2, 16], { keyLengths: [301, 9], queryStarts: [300, 8], ...drawn([1, 4, 38, 38], 16) }],
    ["a group of heads", [1, 3, 1100, 6, 1, 20], { causal: true, ...drawn([1, 6, 55, 55], 20) }],
    ["many queries", [1, 30, 700, 1, 1, 64], { causal: true, ...drawn([1, 1, 11, 11], 64, 0.3) }],
    ["a window", [1, 2, 1300, 2, 2, 24], { causal: true, window: 600, ...drawn([1, 1, 41, 41], 32) }],
  ]),
  tolerance: largeHeads,
  differentiable: false,
});

opTest({
  name: "packedAttention under a mask of blocks",
  cases: [
    {
      name: "[2, 20, 4, 2, 6]",
      inputs: { qkv: normal(random, [2, 20, (4 + 2 * 2) * 6]) },
      options: { causal: true, ...drawn([1, 4, 3, 3], 8, 0.6) },
    },
  ],
  ours: ({ qkv }, _, options) => packedAttention(qkv, { heads: 4, kvHeads: 2, ...optionsOf(options, qkv) }),
  reference: ({ qkv }, _, options) => packedReference(qkv, 4, 2, options),
  tolerance,
  roundings,
  single: false,
});

test.for(targets)("keys that are hidden from a block of queries are not read on $name", async ({ select, device }) => {
  select();
  const [T, size] = [512, 64];
  using q = randn([1, T, 2, 32], { seed: 1, device });
  const hidden = [2, 5];
  const shown = { ...localBlocks({ length: T, size, window: 8, device }) };
  const values = await shown.mask.data();
  values.forEach((_, i) => (values[i] = hidden.includes(i % 8) ? 0 : 1));
  shown.mask.set(values);
  const keys = await randn([1, T, 2, 32], { seed: 2, device }).data();
  using k = zeros([1, T, 2, 32], { device });
  k.set(keys);
  const clean = await attention(q, k, k, { blocks: shown }).data();
  for (const block of hidden) keys.fill(NaN, block * size * 64, (block + 1) * size * 64);
  k.set(keys);
  expect(await attention(q, k, k, { blocks: shown }).data()).toEqual(clean);
});

test("the time depends on the visible keys", async () => {
  const [T, size] = [4096, 64];
  const device = deviceOf("cpu");
  const x = randn([1, T, 2, 64], { seed: 1, device });
  const blocks = localBlocks({ length: T, size, window: 1, global: 1, device: "cpu" });
  x.requiresGrad = true;
  const seconds = async (options: Parameters<typeof attention>[3]): Promise<number> => {
    const times = [];
    for (let i = 0; i < 3; i++) {
      const start = performance.now();
      using out = attention(x, x, x, options);
      using total = sum(out);
      total.backward();
      await device.synchronize();
      times.push(performance.now() - start);
    }
    return Math.min(...times);
  };
  // About 5 of 64 blocks per row are visible; a limit of a third leaves room for a busy machine.
  expect(await seconds({ blocks })).toBeLessThan((await seconds({})) / 3);
});

const rowsOf = async (mask: { data(): Promise<Uint8Array> }, count: number, head = 0): Promise<string[]> => {
  const values = await mask.data();
  return Array.from({ length: count }, (_, i) =>
    Array.from(values.subarray((head * count + i) * count, (head * count + i + 1) * count)).join(""),
  );
};

test("localBlocks are a band, the first blocks and some random ones", async () => {
  const band = localBlocks({ length: 70, size: 16, window: 1, device: "cpu" });
  expect(band.size).toBe(16);
  expect(band.mask.shape).toEqual([1, 1, 5, 5]);
  expect(await rowsOf(band.mask, 5)).toEqual(["11000", "11100", "01110", "00111", "00011"]);
  const first = localBlocks({ length: 5, size: 1, window: 0, global: 1, device: "cpu" });
  expect(await rowsOf(first.mask, 5)).toEqual(["11111", "11000", "10100", "10010", "10001"]);
  const causal = localBlocks({ length: 5, size: 1, window: 1, global: 1, causal: true, device: "cpu" });
  expect(await rowsOf(causal.mask, 5)).toEqual(["10000", "11000", "11100", "10110", "10011"]);

  const options = { length: 40, size: 1, window: 1, random: 3, heads: 2, seed: 5, device: "cpu" };
  const { mask } = localBlocks(options);
  expect(mask.shape).toEqual([1, 2, 40, 40]);
  const [a, b] = [await rowsOf(mask, 40), await rowsOf(mask, 40, 1)];
  for (const rows of [a, b])
    rows.forEach((row, i) => expect(row.replaceAll("0", "")).toHaveLength((i % 39 === 0 ? 2 : 3) + 3));
  expect(a).not.toEqual(b);
  expect(await rowsOf(localBlocks(options).mask, 40)).toEqual(a);
  expect(await rowsOf(localBlocks({ ...options, seed: 6 }).mask, 40)).not.toEqual(a);
  // All columns are equally likely: 228 of the 2 · 40 · 3 draws choose among 37 columns each, the others among 38.
  const counts = Array.from(
    { length: 40 },
    (_, j) => [...a, ...b].filter((row, i) => row[j] === "1" && Math.abs((i % 40) - j) > 1).length,
  );
  expect(Math.max(...counts)).toBeLessThan(25);
  expect(counts.filter((n) => n > 0).length).toBeGreaterThan(30);
  // There are no more blocks to draw than exist.
  const all = localBlocks({ length: 4, size: 1, window: 0, random: 9, causal: true, device: "cpu" });
  expect(await rowsOf(all.mask, 4)).toEqual(["1000", "1100", "1110", "1111"]);
});

test("stridedBlocks are the last ones and every stride-th", async () => {
  const { mask, size } = stridedBlocks({ length: 7 * 32, size: 32, stride: 3, causal: true, device: "cpu" });
  expect(size).toBe(32);
  expect(await rowsOf(mask, 7)).toEqual(["1000000", "1100000", "1110000", "1111000", "0111100", "0011110", "1001111"]);
  const both = stridedBlocks({ length: 5, size: 1, stride: 2, device: "cpu" });
  expect(await rowsOf(both.mask, 5)).toEqual(["11101", "11110", "11111", "01111", "10111"]);
});

test("masks of blocks that do not fit are refused", () => {
  const q = zeros([2, 40, 4, 8], { device: "cpu" });
  const blocks = (shape: number[], size = 16) => ({
    blocks: { mask: ones(shape, { dtype: "u8", device: "cpu" }), size },
  });
  for (const shape of [
    [1, 1, 3, 3],
    [2, 4, 3, 3],
    [1, 4, 4, 5],
  ])
    expect(() => attention(q, q, q, blocks(shape))).not.toThrow();
  for (const shape of [
    [3, 3],
    [3, 1, 3, 3],
    [1, 2, 3, 3],
    [1, 1, 2, 3],
    [1, 1, 3, 2],
    [1, 1, 1, 3, 3],
  ])
    expectError(
      () => attention(q, q, q, blocks(shape)),
      "ERR_SHAPE",
      /expected blocks.mask of shape \[1 or 2, 1 or 4, rows, columns\] with blocks of 16 for 40 positions, got/,
    );
  for (const size of [0, -1, 1.5, NaN, 2 ** 31])
    expectError(() => attention(q, q, q, blocks([1, 1, 3, 3], size)), "ERR_RANGE");
  expectError(
    () =>
      attention(q, q, q, { blocks: { mask: ones([1, 1, 3, 3], { dtype: "i32", device: "cpu" }) as never, size: 16 } }),
    "ERR_DTYPE",
  );
  expectError(() => attention(q, q, q, { blocks: 5 as never }), "ERR_ARGUMENT");

  expectError(() => localBlocks(null as never), "ERR_ARGUMENT");
  expectError(() => stridedBlocks(7 as never), "ERR_ARGUMENT");
  for (const bad of [
    { length: 0 },
    { size: 0 },
    { window: -1 },
    { global: 0.5 },
    { random: NaN },
    { heads: 0 },
    { seed: -1 },
  ])
    expectError(() => localBlocks({ length: 8, ...bad }), "ERR_RANGE");
  for (const bad of [{ length: -1 }, { size: 1.5 }, { stride: 0 }])
    expectError(() => stridedBlocks({ length: 8, stride: 2, ...bad }), "ERR_RANGE");
  expectError(() => localBlocks({ length: 2 ** 20, size: 1, heads: 1 }), "ERR_RANGE", /at most 2147483647 blocks/);
});
