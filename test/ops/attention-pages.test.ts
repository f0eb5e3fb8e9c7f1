import { expect, test } from "vitest";
import { randn, tensor, zeros } from "../../lib/core/creation.js";
import type { FloatDType } from "../../lib/core/dtype.js";
import { attention, type AttentionOptions } from "../../lib/ops/attention.js";
import { alibiSlopes } from "../../lib/ops/attention-masks.js";
import { cacheWrite } from "../../lib/ops/cache-write.js";
import { keep, scope } from "../../lib/core/scope.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { Random } from "../support/random.js";
import { type Target, targets } from "../support/targets.js";

/** Keys and values in pages, and the same in one piece per sequence, [B, Tk, Hkv, D], with NaN beyond the lengths. */
interface Cache {
  pages: IntTensor;
  lengths: IntTensor;
  paged: { k: FloatTensor; v: FloatTensor };
  dense: { k: FloatTensor; v: FloatTensor };
}

interface Shape {
  lengths: number[];
  columns: number;
  size: number;
  heads: number;
  width: number;
  dtype: FloatDType;
}

/** Makes a cache in which the sequences have pages in random order, and the first two sequences share their first page. */
function makeCache(random: Random, shape: Shape, device: Target["device"]): Cache {
  const { lengths, columns, size, heads, width, dtype } = shape;
  const B = lengths.length;
  const count = B * columns + 3;
  const order = Array.from({ length: count }, (_, i) => i).toSorted(() => random.uniform() - 0.5);
  const table = Int32Array.from({ length: B * columns }, (_, i) => order[i]!);
  if (B > 1) table[columns] = table[0]!;
  // Entries beyond the lengths lead nowhere.
  lengths.forEach((length, b) => table.fill(-7, b * columns + Math.ceil(length / size), (b + 1) * columns));
  const row = heads * width;
  const make = (): { paged: FloatTensor; dense: FloatTensor } => {
    const pool = Float32Array.from({ length: count * size * row }, () => random.normal());
    const dense = new Float32Array(B * columns * size * row).fill(NaN);
    const used = new Uint8Array(count * size);
    lengths.forEach((length, b) => {
      for (let j = 0; j < length; j++) {
        const place = table[b * columns + Math.floor(j / size)]! * size + (j % size);
        used[place] = 1;
        dense.set(pool.subarray(place * row, (place + 1) * row), (b * columns * size + j) * row);
      }
    });
    for (let place = 0; place < used.length; place++) if (!used[place]) pool.fill(NaN, place * row, (place + 1) * row);
    return {
      paged: tensor(pool, [count, size, heads, width], { device, dtype }),
      dense: tensor(dense, [B, columns * size, heads, width], { device, dtype }),
    };
  };
  const [k, v] = [make(), make()];
  return {
    pages: tensor(table, [B, columns], { device }),
    lengths: tensor(Int32Array.from(lengths), [B], { device }),
    paged: { k: k.paged, v: v.paged },
    dense: { k: k.dense, v: v.dense },
  };
}

test.for(targets)(
  "attention over pages has the bits of attention over one piece on $name",
  async ({ select, device }) => {
    select();
    const random = new Random(8);
    const cases = device === "cpu" ? 60 : 24;
    for (let i = 0; i < cases; i++) {
      let label = "";
      const outputs = scope(() => {
        const pick = <T>(...values: T[]): T => values[random.integer(values.length)]!;
        const [size, columns, heads, width] = [pick(1, 5, 16, 64), random.integer(5) + 1, pick(1, 2), pick(4, 33, 64)];
        const queries = pick(1, 1, 2, 7, 40);
        const groups = pick(1, 2, 5);
        const dtype = pick<FloatDType>("f32", "bf16", "f16");
        // As in decoding, the queries are the last tokens; a first sequence with a whole page lets another share it.
        const lengths = Array.from({ length: random.integer(3) + 1 }, () => random.integer(columns * size + 1));
        const cache = makeCache(random, { lengths, columns, size, heads, width, dtype }, device);
        const q = randn([lengths.length, queries, heads * groups, width], { seed: i, device, dtype });
        const options: AttentionOptions = {
          causal: pick(true, true, false),
          window: pick(0, 0, 3, 50),
          softcap: pick(0, 0, 5),
          slopes: pick(null, null, alibiSlopes(heads * groups, { device })),
          relative: pick(null, null, randn([heads * groups, 2 * pick(0, 5, 90) + 1], { device, seed: i })),
          keyLengths: cache.lengths,
          queryStarts: pick(
            null,
            tensor(
              Int32Array.from(lengths, (n) => Math.max(0, n - queries)),
              [lengths.length],
              { device },
            ),
          ),
        };
        const { paged, dense } = cache;
        label = JSON.stringify({ lengths, size, columns, heads, groups, width, queries, dtype, ...options });
        return [
          keep(attention(q, paged.k, paged.v, { ...options, pages: cache.pages })),
          keep(attention(q, dense.k, dense.v, options)),
        ] as const;
      });
      const [found, expected] = await Promise.all(outputs.map((out) => out.data()));
      for (const out of outputs) out.dispose();
      expect([...found!].some(Number.isNaN), label).toBe(false);
      expect([...found!], label).toEqual([...expected!]);
    }
  },
);

test.for(targets)("cacheWrite writes into pages on $name", async ({ select, device }) => {
  select();
  const random = new Random(9);
  for (const [size, tokens] of [
    [1, 3],
    [4, 1],
    [4, 9],
    [16, 5],
  ] as const)
    for (const dtype of ["f32", "bf16"] as const) {
      const [B, columns, heads, width] = [3, 4, 2, dtype === "f32" ? 8 : 5];
      const table = Int32Array.from(
        Array.from({ length: B * columns }, (_, i) => i).toSorted(() => random.uniform() - 0.5),
      );
      const starts = Array.from({ length: B }, () => random.integer(columns * size - tokens + 1));
      using cache = zeros([B * columns, size, heads, width], { device, dtype });
      using values = randn([B, tokens, heads, width], { seed: size, device, dtype });
      using pages = tensor(table, [B, columns], { device });
      using firsts = tensor(Int32Array.from(starts), [B], { device });
      cacheWrite(cache, values, firsts, pages);
      const row = heads * width;
      const expected = new Float32Array(cache.size);
      const given = await values.data();
      for (let b = 0; b < B; b++)
        for (let t = 0; t < tokens; t++) {
          const at = starts[b]! + t;
          const place = table[b * columns + Math.floor(at / size)]! * size + (at % size);
          expected.set(given.subarray((b * tokens + t) * row, (b * tokens + t + 1) * row), place * row);
        }
      expect([...(await cache.data())]).toEqual([...expected]);
    }
});

test.for(targets)("pages that do not exist are an error on $name", async ({ select, device }) => {
  select();
  using keys = zeros([3, 32, 2, 16], { device });
  using values = zeros([2, 1, 2, 16], { device });
  using starts = tensor(Int32Array.of(0, 40), [2], { device });
  for (const queries of [1, 40])
    for (const page of [-1, 3, 2 ** 31 - 1]) {
      using q = zeros([2, queries, 2, 16], { device });
      using pages = tensor(Int32Array.of(0, 1, 2, page), [2, 2], { device });
      const message = `expected pages from 0 to 2, got ${page} at place 1 of sequence 1`;
      const matching = (op: string): object => ({
        code: "ERR_RANGE",
        message: expect.stringContaining(`${op}: ${message}`) as string,
      });
      const run = async (length: number): Promise<void> => {
        using keyLengths = tensor(Int32Array.of(64, length), [2], { device });
        using out = attention(q, keys, keys, { pages, keyLengths, causal: true });
        await out.data();
      };
      await expect(run(33)).rejects.toMatchObject(matching("attention_forward"));
      await run(32);
      using cache = zeros([3, 32, 2, 16], { device });
      cacheWrite(cache, values, starts, pages);
      await expect(cache.data()).rejects.toMatchObject(matching("cache_write"));
    }
});

test("pages need keys without a gradient, and a table that fits", () => {
  const q = zeros([2, 1, 2, 16]);
  const keys = zeros([3, 32, 2, 16]);
  const pages = tensor(Int32Array.of(0, 1), [2, 1]);
  expect(() => attention(q, keys, keys, { pages: tensor(Int32Array.of(0), [1, 1]) })).toThrow(
    /pages of shape \[2, \*?/,
  );
  const learned = zeros([3, 32, 2, 16]);
  learned.requiresGrad = true;
  expect(() => attention(q, learned, keys, { pages })).toThrow(/expected no operand that needs a gradient with pages/);
});
