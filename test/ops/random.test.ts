import { expect, test } from "vitest";
import { randn, uniform } from "../../lib/core/creation.js";
import { u } from "../support/close.js";
import { roundTo } from "../support/dtypes.js";
import { philox, philoxWords, uniform01 } from "../support/philox.js";
import { targets } from "../support/targets.js";

test("the tests' own Philox gives its authors' known answers", () => {
  expect(philox(0, 0)).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
});

test.for(targets)("randn is Box and Muller's transform of Philox on $name", async ({ select, device }) => {
  select();
  for (const [n, seed] of [
    [1, 0],
    [2, 1],
    [3, 2],
    [257, 2 ** 45 + 17],
    [2051, 7],
  ] as const) {
    using x = randn([n], { seed, device, mean: 0.5, std: 2 });
    const words = philoxWords(seed, n + 1);
    const expected = Float64Array.from({ length: n }, (_, i) => {
      const radius = Math.sqrt(-2 * Math.log((words[i & ~1]! + 1) / 2 ** 32));
      const angle = 2 * Math.PI * (words[i | 1]! / 2 ** 32);
      return 0.5 + 2 * radius * (i % 2 === 0 ? Math.cos(angle) : Math.sin(angle));
    });
    // Computed in double and rounded once.
    for (const [i, value] of (await x.data()).entries())
      expect(Math.abs(value - expected[i]!)).toBeLessThanOrEqual(u * Math.abs(expected[i]!) * (1 + 1e-6));
  }
});

test.for(targets)("uniform is Philox in [low, high) on $name", async ({ select, device }) => {
  select();
  for (const n of [1, 3, 65, 257]) {
    using x = uniform([n], { seed: 5, device });
    expect([...(await x.data())]).toEqual(philoxWords(5, n).map(uniform01));
    using y = uniform([n], { seed: 5, device, low: -3, high: -1 });
    const expected = philoxWords(5, n).map((word) => Math.fround(-3 + 2 * uniform01(word)));
    expect([...(await y.data())]).toEqual(expected);
  }
  using none = uniform([0], { seed: 1, device });
  expect(await none.data()).toEqual(new Float32Array(0));
});

test.for(targets)("uniform stays below high, for any interval on $name", async ({ select, device }) => {
  select();
  const numbers = async (low: number, high: number): Promise<Set<number>> => {
    using x = uniform([3001], { seed: 3, device, low, high });
    return new Set(await x.data());
  };
  // Between 1 and the next float, every draw in the upper half rounds to `high`.
  expect(await numbers(1, 1 + 2 ** -23)).toEqual(new Set([1]));
  expect(await numbers(4, 4)).toEqual(new Set([4]));
  // high − low overflows f32.
  expect(Math.max(...[...(await numbers(-3e38, 3e38))].map(Math.abs))).toBeLessThanOrEqual(3e38);
});

const intervals = [
  { low: 100, high: 101 }, // 100 and 100.5 are bf16 numbers
  { low: 0, high: 1 },
  { low: -1, high: 0 },
  { low: -101, high: -100 },
  { low: 100.1, high: 101 }, // the nearest bf16 to `low` is below it
  { low: 1000.3, high: 1009 },
  { low: 0, high: 1e-7 }, // subnormal in f16
  { low: -7e4, high: 7e4 }, // beyond the largest f16
];

test.for(targets)("uniform stays in [low, high) in short types too on $name", async ({ select, device }) => {
  select();
  const n = 3001;
  for (const dtype of ["bf16", "f16"] as const)
    for (const { low, high } of intervals) {
      // Numbers are drawn between the bounds as f32 represents them.
      const [from, to] = [Math.fround(low), Math.fround(high)];
      using x = uniform([n], { seed: 5, device, dtype, low, high });
      const exact = philoxWords(5, n).map((word) => Math.fround(from + (to - from) * uniform01(word)));
      const label = `${dtype} [${low}, ${high})`;
      const inside = exact.map((value) => roundTo(dtype, value)).filter((value) => value >= from && value < to);
      const [least, most] = [Math.min(...inside), Math.max(...inside)];
      for (const [i, value] of (await x.data()).entries()) {
        const nearest = roundTo(dtype, exact[i]!);
        if (value !== (nearest < from ? least : nearest >= to ? most : nearest))
          expect.fail(`${label}: expected the number in it nearest to ${exact[i]}, got ${value}`);
      }
    }
  // There is no bf16 between these bounds, so every number is `low`, rounded.
  using none = uniform([9], { seed: 5, device, dtype: "bf16", low: 100.1, high: 100.2 });
  expect([...(await none.data())]).toEqual(Array(9).fill(100));
});

test("the moments of many numbers", async () => {
  const n = 1 << 18;
  using x = randn([n], { seed: 9 });
  const data = await x.data();
  const moment = (k: number): number => data.reduce((sum, value) => sum + value ** k, 0) / n;
  // Within six standard deviations of each moment: √(1/n), √(2/n), √(15/n), √(96/n).
  expect(Math.abs(moment(1))).toBeLessThan(6 * Math.sqrt(1 / n));
  expect(Math.abs(moment(2) - 1)).toBeLessThan(6 * Math.sqrt(2 / n));
  expect(Math.abs(moment(3))).toBeLessThan(6 * Math.sqrt(15 / n));
  expect(Math.abs(moment(4) - 3)).toBeLessThan(6 * Math.sqrt(96 / n));
});
