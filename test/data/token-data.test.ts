import { truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Batches } from "../../lib/data/batches.js";
import { Permutation } from "../../lib/util/permutation.js";
import { TokenFile, splitSource, tokenData, type TokenSource } from "../../lib/data/token-data.js";
import { sharedFolder } from "../support/folder.js";

const folder = sharedFolder();

const refusal = (code: string, message = ""): unknown =>
  expect.objectContaining({ name: "HeedError", code, message: expect.stringContaining(message) });

/** Tokens 0, 1, 2, …, so that each token is its own position. */
const counting = (length: number) => tokenData(Int32Array.from({ length }, (_, i) => i));

function readAll(source: TokenSource): number[] {
  const out = new Int32Array(source.length);
  source.read(0, source.length, out);
  return [...out];
}

const fileOf = (name: string, data: NodeJS.ArrayBufferView): string => {
  const file = path.join(folder, name);
  writeFileSync(file, data);
  return file;
};

describe.each([
  ["u8", Uint8Array.of(0, 1, 127, 128, 255)],
  ["u16", Uint16Array.of(0, 1, 255, 256, 65535)],
  ["i32", Int32Array.of(0, 1, 65536, 2 ** 31 - 1, -1)],
] as const)("%s ids", (dtype, ids) => {
  test.each(["memory", "file"])("in %s", (place) => {
    const source = place === "memory" ? tokenData(ids) : TokenFile.open(fileOf(dtype, ids), { dtype });
    expect(source.length).toBe(5);
    expect(readAll(source)).toEqual([...ids]);
    const out = new Int32Array(4).fill(7);
    source.read(1, 3, out);
    expect([...out]).toEqual([...ids.subarray(1, 4), 7]);
    source.read(5, 0, out);
    for (const [offset, count] of [
      [-1, 1],
      [5, 1],
      [3, 3],
      [0.5, 1],
      [0, -1],
      [0, NaN],
      [2 ** 53, 1],
    ] as const)
      expect(() => source.read(offset, count, out)).toThrow(refusal("ERR_RANGE", "window"));
    expect(() => source.read(0, 5, out)).toThrow(refusal("ERR_RANGE", "room for 5"));
    source.close();
    source.close();
  });
});

describe("TokenFile", () => {
  test("refuses files that do not contain ids", () => {
    const odd = fileOf("odd", Uint8Array.of(1, 2, 3));
    expect(() => TokenFile.open(odd)).toThrow(refusal("ERR_FORMAT", odd));
    expect(() => TokenFile.open(path.join(folder, "none"))).toThrow(refusal("ERR_IO", "none"));
    expect(() => TokenFile.open(folder)).toThrow(refusal("ERR_IO", folder));
    expect(() => TokenFile.open(odd, { dtype: "u32" as "i32" })).toThrow(refusal("ERR_DTYPE", "u32"));
    expect(TokenFile.open(fileOf("empty", new Uint8Array(0))).length).toBe(0);
  });

  test("reports a file that has shrunk, or has been closed", () => {
    const name = fileOf("shrinking", Uint16Array.of(1, 2, 3));
    const out = new Int32Array(3);
    {
      using file = TokenFile.open(name);
      truncateSync(name, 4);
      expect(() => file.read(0, 3, out)).toThrow(refusal("ERR_FORMAT", "has become shorter"));
      file.read(0, 2, out);
      file.close();
      expect(() => file.read(0, 2, out)).toThrow(refusal("ERR_DISPOSED", name));
    }
  });

  test("gives the same batches as memory", () => {
    const ids = Uint16Array.from({ length: 1000 }, (_, i) => (i * 31) % 997);
    using file = TokenFile.open(fileOf("same", ids));
    const options = { batchSize: 3, contextLength: 16, seed: 5 };
    for (const step of [0, 7, 100])
      expect(new Batches(file, options).batch(step)).toEqual(new Batches(tokenData(ids), options).batch(step));
  });
});

describe("splitSource", () => {
  test("splits off the end, without gap or overlap", () => {
    fc.assert(
      fc.property(fc.nat(300), fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (length, fraction) => {
        const { train, validation } = splitSource(counting(length), fraction);
        expect([...readAll(train), ...readAll(validation)]).toEqual(readAll(counting(length)));
        expect(validation.length).toBe(Math.floor(length * fraction));
      }),
    );
  });

  test("keeps to its part", () => {
    const { train, validation } = splitSource(counting(10), 0.3);
    expect(() => train.read(6, 2, new Int32Array(2))).toThrow(refusal("ERR_RANGE"));
    expect(() => validation.read(-1, 2, new Int32Array(2))).toThrow(refusal("ERR_RANGE"));
    train.close();
    expect(readAll(validation)).toEqual([7, 8, 9]);
  });

  test.each([1, -0.1, NaN, Infinity])("refuses the fraction %d", (fraction) => {
    expect(() => splitSource(counting(10), fraction)).toThrow(refusal("ERR_RANGE", "fraction"));
  });
});

describe("Permutation", () => {
  test("takes every position once", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2000 }), fc.maxSafeNat(), fc.nat(), (n, seed, epoch) => {
        const permutation = new Permutation(n, seed, epoch);
        const seen = new Set(Array.from({ length: n }, (_, i) => permutation.at(i)));
        expect(seen.size).toBe(n);
        expect(Math.max(...seen)).toBe(n - 1);
      }),
      { numRuns: 200 },
    );
  });

  test.each([2 ** 31 + 11, 2 ** 40 - 87, 2 ** 52])("stays inside [0, %d) and repeats nothing", (n) => {
    const permutation = new Permutation(n, 1, 2);
    const seen = new Set<number>();
    for (let i = 0; i < 2000; i++) seen.add(permutation.at(i)).add(permutation.at(n - 1 - i));
    expect(seen.size).toBe(4000);
    for (const value of seen) expect(Number.isSafeInteger(value) && value >= 0 && value < n).toBe(true);
    // Spread over the whole range: of 4000 uniform values, a tenth holds 400 ± 19 (one standard deviation).
    for (let tenth = 0; tenth < 10; tenth++) {
      const count = [...seen].filter((value) => Math.floor((value / n) * 10) === tenth).length;
      expect(Math.abs(count - 400)).toBeLessThan(100);
    }
  });

  test.each([2, 3, 7, 10, 16, 33])("puts each of %d anywhere as often, over the epochs", (n) => {
    const epochs = 4000;
    const counts = new Float64Array(n * n);
    for (let epoch = 0; epoch < epochs; epoch++) {
      const permutation = new Permutation(n, 3, epoch);
      for (let i = 0; i < n; i++) counts[i * n + permutation.at(i)]!++;
    }
    // Chi-square with (n-1)² degrees of freedom: mean (n-1)², variance 2(n-1)²; six standard deviations.
    const expected = epochs / n;
    const chi2 = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    const freedom = (n - 1) ** 2;
    expect(chi2).toBeLessThan(freedom + 6 * Math.sqrt(2 * freedom));
  });

  test.each([
    [2, (i: number) => [i, 0]],
    [3, (i: number) => [7, i]],
    [4, (i: number) => [i * 1_000_003, 1]],
    [5, (i: number) => [i, 0]],
    [5, (i: number) => [2 ** 40 + 1, i]],
    [6, (i: number) => [i * 2 ** 32 + 5, 3]],
  ] as const)("gives %d items all of their orders as often", (n, at) => {
    const orders = Array.from({ length: n }, (_, i) => i + 1).reduce((a, b) => a * b);
    const draws = 40 * orders + 2000;
    const counts = new Map<string, number>();
    for (let i = 0; i < draws; i++) {
      const [seed, epoch] = at(i) as [number, number];
      const permutation = new Permutation(n, seed, epoch);
      const order = Array.from({ length: n }, (_, i) => permutation.at(i)).join();
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect(counts.size).toBe(orders);
    // Chi-square: mean and half the variance are the degrees of freedom; five standard deviations.
    const expected = draws / orders;
    const chi2 = [...counts.values()].reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    expect(chi2).toBeLessThan(orders - 1 + 5 * Math.sqrt(2 * (orders - 1)));
  });

  test("keeps the orders of earlier checkpoints as version 1, and those of many items in every version", () => {
    const order = (n: number, version?: 1 | 2): number[] =>
      Array.from({ length: n }, (_, i) => new Permutation(n, 5, 3, version).at(i));
    // As the first version of heed computed it.
    expect(order(9, 1)).toEqual([5, 4, 8, 7, 6, 1, 2, 0, 3]);
    expect(order(9)).not.toEqual(order(9, 1));
    expect(order(256)).not.toEqual(order(256, 1));
    expect(order(257)).toEqual(order(257, 1));
  });

  test("differs by seed and by epoch", () => {
    const order = (seed: number, epoch: number) =>
      Array.from({ length: 64 }, (_, i) => new Permutation(64, seed, epoch).at(i)).join();
    const seeds = [0, 1, 2, 2 ** 31, 2 ** 32, 2 ** 32 + 1, 2 ** 40, Number.MAX_SAFE_INTEGER];
    const orders = seeds.flatMap((seed) => [0, 1, 2, 2 ** 32].map((epoch) => order(seed, epoch)));
    expect(new Set(orders).size).toBe(orders.length);
  });
});

describe("Batches", () => {
  const sizes = fc.record({
    length: fc.integer({ min: 2, max: 300 }),
    batchSize: fc.integer({ min: 1, max: 9 }),
    contextLength: fc.integer({ min: 1, max: 20 }),
    seed: fc.maxSafeNat(),
  });

  test("see every window exactly once an epoch, with its targets", () => {
    fc.assert(
      fc.property(sizes, ({ length, batchSize: B, contextLength: T, seed }) => {
        fc.pre(length > T);
        const batches = new Batches(counting(length), { batchSize: B, contextLength: T, seed });
        expect(batches.windows).toBe(Math.floor((length - 1) / T));
        const epochs = 3;
        const starts: number[] = [];
        for (let step = 0; step * B < epochs * batches.windows; step++) {
          const { inputs, targets } = batches.batch(step);
          expect(batches.epoch(step)).toBe(Math.floor(starts.length / batches.windows));
          for (let b = 0; b < B; b++) {
            const row = inputs.subarray(b * T, (b + 1) * T);
            expect([...row]).toEqual(Array.from({ length: T }, (_, t) => row[0]! + t));
            starts.push(row[0]!);
          }
          expect(targets).toEqual(inputs.map((token) => token + 1));
        }
        for (let epoch = 0; epoch < epochs; epoch++) {
          const seen = starts.slice(epoch * batches.windows, (epoch + 1) * batches.windows).sort((a, b) => a - b);
          expect(seen).toEqual(Array.from({ length: batches.windows }, (_, i) => i * T));
        }
      }),
    );
  });

  test("depend only on the seed and the step", () => {
    fc.assert(
      fc.property(sizes, fc.array(fc.nat(50), { minLength: 1, maxLength: 8 }), ({ length, ...options }, steps) => {
        fc.pre(length > options.contextLength);
        const used = new Batches(counting(length), options);
        for (const step of steps) expect(used.batch(step)).toEqual(new Batches(counting(length), options).batch(step));
      }),
    );
  });

  test("come in another order each epoch and with each seed", () => {
    const starts = (seed: number, epoch: number) => {
      const batches = new Batches(counting(401), { batchSize: 10, contextLength: 4, seed });
      return Array.from({ length: 10 }, (_, i) => [...batches.batch(epoch * 10 + i).inputs]).join();
    };
    expect(new Set([starts(0, 0), starts(0, 1), starts(1, 0), starts(1, 1)]).size).toBe(4);
  });

  test("keep the source's order on request", () => {
    const batches = new Batches(counting(9), { batchSize: 2, contextLength: 2, shuffle: false });
    expect(batches.batchesPerEpoch).toBe(2);
    const [first, second] = [
      { inputs: Int32Array.of(0, 1, 2, 3), targets: Int32Array.of(1, 2, 3, 4), documents: null },
      { inputs: Int32Array.of(4, 5, 6, 7), targets: Int32Array.of(5, 6, 7, 8), documents: null },
    ];
    expect(batches.batch(0)).toEqual(first);
    expect(batches.batch(1)).toEqual(second);
    expect(batches.batch(2)).toEqual(batches.batch(0));
  });

  test.each([
    [{ batchSize: 0 }, "batchSize"],
    [{ batchSize: 1.5 }, "batchSize"],
    [{ contextLength: 0 }, "contextLength"],
    [{ contextLength: NaN }, "contextLength"],
    [{ contextLength: 10 }, "at least 11 tokens"],
    [{ seed: -1 }, "seed"],
    [{ seed: 0.5 }, "seed"],
  ])("refuse %j", (options, message) => {
    expect(() => new Batches(counting(10), { batchSize: 1, contextLength: 2, ...options })).toThrow(
      refusal("ERR_RANGE", message),
    );
  });

  test.each([-1, 0.5, NaN, 2 ** 53])("refuse the step %d", (step) => {
    const batches = new Batches(counting(10), { batchSize: 1, contextLength: 2 });
    expect(() => batches.batch(step)).toThrow(refusal("ERR_RANGE", "step"));
  });
});
