/** Tests windows, intervals of keys, slopes and caps of attention's scores, and the helpers that make their tensors. */
import { expect, test } from "vitest";
import { packedAttention } from "../../lib/ops/attention.js";
import { alibiSlopes, documentRanges, prefixRanges } from "../../lib/ops/attention-masks.js";
import {
  largeHeads,
  type MaskCase,
  masked,
  optionsOf,
  packedReference,
  roundings,
  tolerance,
} from "../support/attention.js";
import { expectError } from "../support/errors.js";
import { normal } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";

const random = new Random(12);

/** Returns intervals of every kind: one inside another, disjoint, empty, beyond the keys. */
const randomRanges = (B: number, Tq: number, Tk: number): number[] =>
  Array.from({ length: 2 * B * Tq }, () => random.integer(Tk + 9) - 4);

/** Returns the ranges of documents of the given lengths in each sequence. */
const packedDocuments = (...documents: number[][]): number[] =>
  documents.flatMap((lengths) =>
    lengths.flatMap((length, d) => {
      const first = lengths.slice(0, d).reduce((a, b) => a + b, 0);
      return Array.from({ length }, () => [first, first + length]).flat();
    }),
  );

/** Returns the ranges of prefixes that every query sees; each query also sees one key more than the query before. */
const prefixes = (T: number, ...lengths: number[]): number[] =>
  lengths.flatMap((prefix) => Array.from({ length: T }, (_, i) => [0, Math.max(prefix, i + 1)]).flat());

const cases: MaskCase[] = [
  ["the query itself", [1, 5, 5, 1, 1, 3], { causal: true, window: 1 }],
  ["the query itself", [1, 5, 5, 1, 1, 3], { window: 1 }],
  ["a causal window", [2, 17, 17, 2, 2, 8], { causal: true, window: 5 }],
  ["a window on both sides", [2, 17, 17, 2, 1, 8], { window: 4 }],
  ["a window over tiles", [1, 150, 150, 1, 1, 5], { causal: true, window: 33 }],
  ["a window over tiles", [1, 131, 131, 2, 1, 4], { window: 66 }],
  ["a window wider than the keys", [1, 9, 9, 1, 1, 4], { causal: true, window: 100 }],
  ["positions without end", [2, 5, 40, 2, 2, 8], { window: 2 ** 31 - 1, queryStarts: [2 ** 31 - 1, -(2 ** 31)] }],
  ["a window of fewer queries than keys", [1, 7, 70, 4, 2, 9], { causal: true, window: 20 }],
  ["a window of more queries than keys", [1, 70, 7, 1, 1, 9], { window: 20 }],
  ["a window with lengths", [3, 9, 40, 2, 2, 6], { causal: true, window: 7, keyLengths: [40, 9, 23] }],
  ["a window with starts", [2, 6, 40, 2, 1, 6], { window: 3, keyLengths: [40, 30], queryStarts: [17, -2] }],
  ["a window that has passed the keys", [1, 20, 9, 1, 1, 4], { causal: true, window: 3, queryStarts: [0] }],
  ["documents", [2, 33, 33, 2, 2, 8], { keyRanges: packedDocuments([10, 1, 22], [33]) }],
  ["causal documents", [2, 70, 70, 4, 2, 6], { causal: true, keyRanges: packedDocuments([64, 1, 5], [3, 30, 37]) }],
  ["documents and padding", [1, 9, 9, 1, 1, 4], { keyRanges: [...packedDocuments([4, 3]), 0, 0, 0, 0] }],
  ["prefixes", [2, 40, 40, 2, 1, 8], { keyRanges: prefixes(40, 13, 37) }],
  ["no keys", [2, 3, 5, 1, 1, 4], { keyRanges: [0, 0, 2, 2, 4, 1, 5, 9, -3, 0, 1, 3] }],
  ["random intervals", [2, 67, 70, 2, 2, 8], { keyRanges: randomRanges(2, 67, 70) }],
  ["causal random intervals", [1, 31, 130, 6, 2, 5], { causal: true, keyRanges: randomRanges(1, 31, 130) }],
  ["slopes", [2, 17, 17, 4, 2, 8], { causal: true, slopes: [0.5, 0.25, 0.125, 0.0625] }],
  ["slopes on both sides", [1, 18, 66, 2, 2, 16], { slopes: [1, 0.1] }],
  ["slopes with starts", [2, 5, 30, 2, 1, 8], { slopes: [0.3, 0.02], keyLengths: [30, 20], queryStarts: [0, 14] }],
  ["a softcap", [1, 17, 33, 2, 1, 8], { softcap: 1.5 }],
  ["a causal softcap", [2, 65, 65, 1, 1, 4], { causal: true, softcap: 20 }],
  [
    "everything",
    [2, 33, 70, 4, 2, 12],
    {
      causal: true,
      window: 40,
      keyRanges: randomRanges(2, 33, 70),
      keyLengths: [70, 52],
      queryStarts: [30, 19],
      slopes: [0.2, 0.1, 0.05, 0],
      softcap: 2,
    },
  ],
];

opTest({
  name: "masked attention",
  ...masked(cases),
  tolerance,
});

opTest({
  name: "masked attention in tiles of large heads",
  ...masked([
    ["a window", [1, 66, 66, 1, 1, 64], { causal: true, window: 20 }],
    ["a window and slopes", [1, 35, 80, 2, 1, 128], { causal: true, window: 30, slopes: [0.5, 0.1] }],
    ["random intervals", [1, 34, 66, 2, 2, 80], { keyRanges: randomRanges(1, 34, 66) }],
    ["a softcap", [1, 18, 34, 1, 1, 256], { causal: true, softcap: 3 }],
    ["documents", [1, 20, 20, 2, 1, 260], { causal: true, keyRanges: packedDocuments([7, 13]) }],
  ]),
  tolerance: largeHeads,
});

opTest({
  name: "masked decoding",
  // Few queries and many keys, without a backward pass to follow, so that the keys may be split.
  ...masked([
    ["a window", [2, 1, 300, 2, 2, 64], { causal: true, window: 70, keyLengths: [300, 40] }],
    ["a window", [1, 3, 1100, 2, 1, 20], { causal: true, window: 600 }],
    [
      "a window in a cache",
      [2, 1, 600, 4, 2, 16],
      { causal: true, window: 9, keyLengths: [301, 9], queryStarts: [300, 8] },
    ],
    ["a window on both sides", [1, 2, 150, 2, 2, 33], { window: 20, queryStarts: [60] }],
    ["slopes", [2, 1, 300, 2, 1, 40], { causal: true, slopes: [0.05, 0.01], keyLengths: [300, 7] }],
    ["a softcap", [1, 4, 270, 4, 1, 80], { causal: true, softcap: 2 }],
    ["intervals", [2, 2, 300, 1, 1, 24], { keyRanges: [10, 290, 280, 290, 5, 5, -1, 999] }],
    [
      "everything",
      [1, 5, 320, 8, 2, 17],
      {
        causal: true,
        window: 200,
        keyRanges: randomRanges(1, 5, 320),
        // Slopes are small, because with distant intervals a query's scores would consist of little but the bias.
        slopes: [0.01, 0.02, 0.03, 0, 0.004, 0.005, 0.006, -0.01],
        softcap: 5,
      },
    ],
    ["a window of many queries", [1, 40, 700, 1, 1, 64], { causal: true, window: 100 }],
  ]),
  tolerance: largeHeads,
  differentiable: false,
});

/** Returns random biases by distance of some heads. */
const biases = (heads: number, furthest: number): number[] =>
  Array.from({ length: heads * (2 * furthest + 1) }, () => random.normal());

opTest({
  name: "attention with biases by distance",
  ...masked([
    ["distances within reach", [2, 9, 9, 2, 2, 8], { relative: biases(2, 9) }],
    ["distances beyond reach", [1, 35, 70, 4, 2, 16], { relative: biases(4, 3) }],
    ["one bias", [1, 5, 6, 2, 1, 4], { relative: biases(2, 0) }],
    ["causal", [2, 67, 67, 2, 1, 33], { causal: true, relative: biases(2, 20) }],
    ["lengths", [3, 9, 40, 2, 2, 6], { keyLengths: [40, 9, 23], queryStarts: [0, 0, 0], relative: biases(2, 8) }],
    ["a token in a cache", [2, 1, 300, 4, 2, 64], { keyLengths: [300, 7], causal: true, relative: biases(4, 128) }],
    ["a few tokens", [1, 3, 1100, 8, 1, 20], { causal: true, relative: biases(8, 50) }],
    [
      "everything",
      [2, 33, 70, 4, 2, 12],
      {
        ...{ causal: true, window: 40, keyLengths: [70, 52], queryStarts: [30, 19] },
        ...{ keyRanges: randomRanges(2, 33, 70), slopes: [0.2, 0.1, 0.05, 0], softcap: 2, relative: biases(4, 11) },
      },
    ],
  ]),
  tolerance: largeHeads,
  differentiable: false,
});

opTest({
  name: "masked packedAttention",
  cases: [
    {
      name: "[2, 20, 4, 2, 6]",
      inputs: { qkv: normal(random, [2, 20, (4 + 2 * 2) * 6]) },
      options: {
        causal: true,
        window: 9,
        keyRanges: packedDocuments([3, 17], [12, 8]),
        slopes: [0.5, 0.25, 0.125, 0],
        softcap: 4,
      },
    },
  ],
  ours: ({ qkv }, _, options) => packedAttention(qkv, { heads: 4, kvHeads: 2, ...optionsOf(options, qkv) }),
  reference: ({ qkv }, _, options) => packedReference(qkv, 4, 2, options),
  tolerance,
  roundings,
  single: false,
});

test("alibiSlopes are the paper's geometric sequences", async () => {
  const of = async (heads: number): Promise<number[]> => [...(await alibiSlopes(heads, { device: "cpu" }).data())];
  // §3: with 8 heads 1/2, 1/4, … 1/256; with 16 heads a step of 1/√2.
  expect(await of(8)).toEqual([1, 2, 3, 4, 5, 6, 7, 8].map((i) => 2 ** -i));
  expect(await of(16)).toEqual(Array.from({ length: 16 }, (_, i) => Math.fround(2 ** (-(i + 1) / 2))));
  expect(await of(1)).toEqual([2 ** -8]);
  // Twelve heads: the slopes of eight, then the first, third, fifth and seventh of sixteen.
  const [eight, sixteen] = [await of(8), await of(16)];
  expect(await of(12)).toEqual([...eight, sixteen[0], sixteen[2], sixteen[4], sixteen[6]]);
});

test("documentRanges separates documents; the remaining tokens see nothing", async () => {
  const ranges = documentRanges([[2, 1], [], [0, 4]], { length: 4, device: "cpu" });
  expect(ranges.shape).toEqual([3, 4, 2]);
  const rows = [
    [0, 2, 0, 2, 2, 3, 0, 0],
    [0, 0, 0, 0, 0, 0, 0, 0],
    [0, 4, 0, 4, 0, 4, 0, 4],
  ];
  expect([...(await ranges.data())]).toEqual(rows.flat());
  expect(documentRanges([[2, 1], Int32Array.of(5)]).shape).toEqual([2, 5, 2]);
  expect(documentRanges([]).shape).toEqual([0, 0, 2]);
});

test("prefixRanges shows the prefix to all tokens and later tokens to nobody before them", async () => {
  const ranges = prefixRanges([2, 0], 3, { device: "cpu" });
  expect(ranges.shape).toEqual([2, 3, 2]);
  expect([...(await ranges.data())]).toEqual([0, 2, 0, 2, 0, 3, 0, 1, 0, 2, 0, 3]);
  // The prefix precedes the tokens in a cache.
  const later = prefixRanges([5, 1], 2, { starts: [4, 7], device: "cpu" });
  expect([...(await later.data())]).toEqual([0, 5, 0, 6, 0, 8, 0, 9]);
});

test("the helpers of masks refuse invalid input", () => {
  for (const heads of [0, -1, 1.5, NaN, null]) expectError(() => alibiSlopes(heads!), "ERR_RANGE");
  expectError(() => documentRanges([[3, 2]], { length: 4 }), "ERR_SHAPE", /at most 4 tokens in each sequence, got 5/);
  for (const count of [-1, 0.5, NaN, "2"]) expectError(() => documentRanges([[count as number]]), "ERR_RANGE");
  for (const documents of [null, 3, "ab", [3], [null]])
    expectError(() => documentRanges(documents as never), "ERR_ARGUMENT");
  expectError(() => documentRanges([[1]], null as never), "ERR_ARGUMENT");
  expectError(() => documentRanges([[1]], { length: -1 }), "ERR_RANGE");
  for (const prefix of [-1, 4, 0.5, NaN]) expectError(() => prefixRanges([prefix], 3), "ERR_RANGE");
  expectError(() => prefixRanges(null as never, 3), "ERR_ARGUMENT");
  expectError(() => prefixRanges([1], -1), "ERR_RANGE");
  expectError(() => prefixRanges([1, 2], 2, { starts: [1] }), "ERR_RANGE");
  expectError(() => prefixRanges([6], 3, { starts: [2] }), "ERR_RANGE");
});
