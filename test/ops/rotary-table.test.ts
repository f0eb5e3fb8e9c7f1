import { expect, test } from "vitest";
import { rotaryFrequencies, type RotaryScaling, rotaryTable } from "../../lib/ops/rotary-table.js";
import { expectError } from "../support/errors.js";

const llama = { size: 128, length: 16, base: 500_000 };
const plain = (options: { size: number; base: number }): number[] =>
  Array.from({ length: options.size / 2 }, (_, i) => 1 / Math.pow(options.base, (2 * i) / options.size));

const frequencies = (scaling: RotaryScaling | null, options = { ...llama }): number[] => [
  ...rotaryFrequencies({ ...options, scaling }).frequencies,
];

function expectAll(got: readonly number[], expected: readonly number[]): void {
  expect(got.length).toBe(expected.length);
  got.forEach((value, i) => expect(Math.abs(value / expected[i]! - 1), `pair ${i}: ${value}`).toBeLessThan(1e-13));
}

test("a table holds the cosine and sine of every position's angles, computed in float64", async () => {
  using table = rotaryTable({ size: 6, length: 1000, base: 100 });
  expect(table.shape).toEqual([1000, 3, 2]);
  const values = await table.data();
  for (const position of [0, 1, 7, 999])
    for (let i = 0; i < 3; i++) {
      const angle = position * 100 ** (-i / 3);
      const [cosine, sine] = values.subarray((position * 3 + i) * 2);
      expect(Math.abs(cosine! - Math.cos(angle))).toBeLessThan(2 ** -24);
      expect(Math.abs(sine! - Math.sin(angle))).toBeLessThan(2 ** -24);
    }
});

test("frequencies are base^(-2i/R), by default with base 10000 (Su et al. 2021, eq. 15)", () => {
  expectAll(frequencies(null), plain(llama));
  expectAll([...rotaryFrequencies({ size: 4, length: 1 }).frequencies], [1, 0.01]);
});

test("linear: position p has the angles of p/factor (Chen et al. 2023, eq. 4)", async () => {
  expectAll(
    frequencies({ type: "linear", factor: 4 }),
    plain(llama).map((angle) => angle / 4),
  );
  using long = rotaryTable({ size: 8, length: 41, scaling: { type: "linear", factor: 4 } });
  using short = rotaryTable({ size: 8, length: 11 });
  const [stretched, original] = [await long.data(), await short.data()];
  expect(stretched.subarray(40 * 8, 41 * 8)).toEqual(original.subarray(10 * 8, 11 * 8));
});

test("factors: each pair has its own", () => {
  const factors = plain(llama).map((_, i) => 1 + i / 7);
  expectAll(
    frequencies({ type: "factors", factors }),
    plain(llama).map((angle, i) => angle / factors[i]!),
  );
  const of = (factors: unknown) => () => frequencies({ type: "factors", factors: factors as number[] });
  expectError(of(factors.slice(1)), "ERR_RANGE", /expected 64 factors, one for each pair, got 63/);
  expectError(of([0, ...factors.slice(1)]), "ERR_RANGE", /factors\[0\] to be finite and above 0/);
  expectError(of(undefined), "ERR_ARGUMENT");
});

test("ntk: the fastest pair is as before, the slowest as if interpolated, all on one geometric sequence", () => {
  const scaled = frequencies({ type: "ntk", factor: 8 });
  expect(scaled[0]).toBe(1);
  expect(scaled.at(-1)! * 8).toBeCloseTo(plain(llama).at(-1)!, 15);
  for (let i = 1; i < scaled.length; i++) expect(scaled[i]! / scaled[i - 1]!).toBeCloseTo(scaled[1]!, 13);
});

test("dynamic: plain up to the original length, then the base grows with the table", () => {
  const at = (length: number): number[] =>
    frequencies({ type: "dynamic", factor: 2, originalLength: 1000 }, { ...llama, length });
  for (const length of [1, 1000]) expectAll(at(length), plain(llama));
  // Divided by factor · length / original − (factor − 1).
  expect(at(2000).at(-1)! * 3).toBeCloseTo(plain(llama).at(-1)!, 15);
  expect(at(4000).at(-1)! * 7).toBeCloseTo(plain(llama).at(-1)!, 15);
  expect(at(4000)[0]).toBe(1);
});

test("yarn: Llama 2's pairs up to 20 left, from 46 on interpolated, a ramp between; scores scaled by its attention factor", () => {
  const options = { size: 128, length: 1, base: 10_000 };
  const scaling = { type: "yarn", factor: 16, originalLength: 4096 } as const;
  const scaled = rotaryFrequencies({ ...options, scaling });
  expectAll(
    [...scaled.frequencies],
    plain(options).map((angle, i) => {
      if (i <= 20) return angle;
      if (i >= 46) return angle / 16;
      const share = (i - 20) / 26;
      return (1 - share) * angle + share * (angle / 16);
    }),
  );
  // √(1/t) of Peng et al. 2023, eq. 22: 0.1 ln 16 + 1.
  expect(scaled.factor).toBeCloseTo(1.2772588722239782, 15);
  expect(rotaryFrequencies({ ...options, scaling: { ...scaling, attentionFactor: 1 } }).factor).toBe(1);
  // The limits are pairs that rotate about 64 times and twice in 4096 tokens, instead of 32 times and once.
  const other = rotaryFrequencies({ ...options, scaling: { ...scaling, betaFast: 64, betaSlow: 2 } }).frequencies;
  expect(other[16]).toBe(plain(options)[16]);
  expect(other[17]).toBeLessThan(plain(options)[17]!);
  expect(other[41]).toBeCloseTo(plain(options)[41]! / 16, 15);
  expect(other[40]).toBeGreaterThan(plain(options)[40]! / 16);
});

test("yarn multiplies cosines and sines", async () => {
  using table = rotaryTable({
    size: 4,
    length: 1,
    scaling: { type: "yarn", factor: 2, originalLength: 8, attentionFactor: 1.5 },
  });
  expect([...(await table.data())]).toEqual([1.5, 0, 1.5, 0]);
});

test("llama3: by wavelength, as published for Llama 3.1", () => {
  const [factor, low, high, original] = [8, 1, 4, 8192];
  const expected = plain(llama).map((angle) => {
    const wavelength = (2 * Math.PI) / angle;
    if (wavelength < original / high) return angle;
    if (wavelength > original / low) return angle / factor;
    const smooth = (original / wavelength - low) / (high - low);
    return ((1 - smooth) * angle) / factor + smooth * angle;
  });
  expectAll(frequencies({ type: "llama3", factor, originalLength: original }), expected);
  // There are some pairs of each kind.
  const kinds = plain(llama).map((angle, i) => (expected[i] === angle ? 0 : expected[i] === angle / factor ? 2 : 1));
  expect([...new Set(kinds)]).toEqual([0, 1, 2]);
  expectAll(
    frequencies({ type: "llama3", factor, originalLength: 1024, lowFrequencyFactor: 2, highFrequencyFactor: 32 }),
    plain(llama).map((angle) => {
      const smooth = Math.min(Math.max(((1024 * angle) / (2 * Math.PI) - 2) / 30, 0), 1);
      return ((1 - smooth) * angle) / factor + smooth * angle;
    }),
  );
});
