import { expect, test } from "vitest";
import { type MaskingOptions, maskTokens } from "../../lib/data/mask-tokens.js";
import { expectError } from "../support/errors.js";

const options = { maskToken: 3, vocabularySize: 100, seed: 1, special: [0, 1, 2] };
const tokens = Int32Array.from({ length: 40_000 }, (_, i) => (i % 10 === 0 ? 1 : 4 + (i % 96)));

test("hides 15 of a hundred tokens, by BERT's recipe", () => {
  const { ids, positions, targets } = maskTokens(tokens, options);
  const may = tokens.length * 0.9;
  // Within five standard deviations of a binomial distribution.
  const near = (count: number, n: number, p: number) =>
    expect(Math.abs(count - n * p)).toBeLessThan(5 * Math.sqrt(n * p * (1 - p)));
  near(positions.length, may, 0.15);
  expect([...targets]).toEqual([...positions].map((place) => tokens[place]));
  const kinds = { masked: 0, kept: 0, drawn: 0 };
  for (const [i, place] of positions.entries()) {
    const id = ids[place]!;
    kinds[id === 3 ? "masked" : id === targets[i] ? "kept" : "drawn"]++;
    expect([0, 1, 2]).not.toContain(id);
  }
  near(kinds.masked, positions.length, 0.8);
  near(kinds.kept, positions.length, 0.1 + 0.1 / 96);
  near(kinds.drawn, positions.length, 0.1 - 0.1 / 96);
  // Tokens that need not be predicted are unchanged.
  const said = new Set(positions);
  for (const [place, id] of ids.entries()) if (!said.has(place)) expect(id).toBe(tokens[place]);
  expect([...positions].every((place, i) => tokens[place] !== 1 && (i === 0 || positions[i - 1]! < place))).toBe(true);
});

test("follows from the seed", () => {
  expect(maskTokens(tokens, options)).toEqual(maskTokens([...tokens], options));
  for (const seed of [2, 2 ** 32 + 1])
    expect(maskTokens(tokens, { ...options, seed }).positions).not.toEqual(maskTokens(tokens, options).positions);
});

test("always has a token to predict", () => {
  const { positions, targets } = maskTokens([1, 7, 1], { ...options, probability: 0 });
  expect([...positions]).toEqual([1]);
  expect([...targets]).toEqual([7]);
  expect(maskTokens(tokens, { ...options, probability: 1 }).positions).toHaveLength(tokens.length * 0.9);
});

test.each<[Partial<MaskingOptions>, "ERR_RANGE" | "ERR_ARGUMENT"]>([
  [{ maskToken: 100 }, "ERR_RANGE"],
  [{ vocabularySize: 0 }, "ERR_RANGE"],
  [{ seed: -1 }, "ERR_RANGE"],
  [{ probability: 2 }, "ERR_RANGE"],
  [{ special: [5] }, "ERR_ARGUMENT"],
  [{ special: 5 as never }, "ERR_ARGUMENT"],
])("refuses %j", (change, code) => expectError(() => maskTokens([5, 5], { ...options, ...change }), code));

test("refuses invalid tokens", () => {
  expectError(() => maskTokens(null!, options), "ERR_ARGUMENT");
  expectError(() => maskTokens([1], null!), "ERR_ARGUMENT");
});
