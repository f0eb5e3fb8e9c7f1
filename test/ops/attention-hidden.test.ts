/**
 * Keys and values that are not finite and that no query sees. Memory outside the range that a sequence's queries see is
 * never touched. Within the range, hidden values may reach queries near to one that sees them, but none beyond.
 */
import { describe, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { attention } from "../../lib/ops/attention.js";
import { mul } from "../../lib/ops/binary.js";
import { sum } from "../../lib/ops/reduce.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { inputsOf, optionsOf, type Sizes, type Visible } from "../support/attention.js";
import type { Nd } from "../support/nd.js";
import { productTargets, type Target } from "../support/targets.js";

interface Run {
  target: Target;
  dtype: "f32" | "bf16";
}

const runs = productTargets.flatMap((target) =>
  (["f32", "bf16"] as const).map((dtype) => ({ target, dtype, name: `${target.name} in ${dtype}` })),
);

/**
 * Returns the output, in training and in inference, and the gradients. Keys and values of sequence b with `bad(b, key)` are NaN and infinite, or else
 * 0.
 */
async function run(
  { target: { device }, dtype }: Run,
  { q, k, v }: Record<"q" | "k" | "v", Nd>,
  visible: Visible,
  bad: (b: number, key: number) => boolean,
  poison: boolean,
): Promise<Record<"out" | "inferred" | "dq" | "dk" | "dv", Float32Array>> {
  const [, length, heads, size] = k.shape as [number, number, number, number];
  const leaf = (x: Nd, spoiled: boolean): FloatTensor => {
    const data = x.data.map((value, i) => {
      const key = Math.floor(i / (heads * size)) % length;
      if (!spoiled || !bad(Math.floor(i / (length * heads * size)), key)) return value;
      return !poison ? 0 : i % 3 === 0 ? Infinity : NaN;
    });
    const made = tensor(data, x.shape, { device, dtype });
    made.requiresGrad = true;
    return made;
  };
  const leaves = [leaf(q, false), leaf(k, true), leaf(v, true)] as const;
  const out = scope(() => {
    const result = attention(...leaves, optionsOf(visible, leaves[0]));
    sum(mul(result, tensor(q.data, q.shape, { device, dtype }))).backward();
    return result;
  });
  const [dq, dk, dv] = leaves.map((x) => x.grad!.data());
  using inferred = noGrad(() => scope(() => attention(...leaves, optionsOf(visible, leaves[0]))));
  const results = {
    out: await out.data(),
    inferred: await inferred.data(),
    dq: await dq!,
    dk: await dk!,
    dv: await dv!,
  };
  for (const x of [...leaves, out]) x.dispose();
  return results;
}

const cases: { name: string; sizes: Sizes; visible: Visible; seen: [number, number][] }[] = [
  {
    name: "padding",
    sizes: [2, 40, 99, 2, 1, 20],
    visible: { keyLengths: [37, 99] },
    seen: [
      [0, 37],
      [0, 99],
    ],
  },
  {
    name: "causal padding",
    sizes: [2, 40, 99, 2, 2, 64],
    visible: { causal: true, keyLengths: [70, 41] },
    seen: [
      [0, 70],
      [0, 41],
    ],
  },
  {
    name: "the rest of a cache",
    sizes: [2, 5, 200, 4, 2, 64],
    visible: { causal: true, queryStarts: [3, 150] },
    seen: [
      [0, 8],
      [0, 155],
    ],
  },
  {
    name: "the rest of a cache, decoding",
    sizes: [2, 1, 300, 4, 2, 64],
    visible: { causal: true, queryStarts: [3, 250] },
    seen: [
      [0, 4],
      [0, 251],
    ],
  },
  {
    name: "what a window has left behind",
    sizes: [1, 20, 150, 1, 1, 32],
    visible: { causal: true, window: 10, queryStarts: [60] },
    seen: [[51, 80]],
  },
  {
    name: "what lies outside of a window",
    sizes: [1, 3, 150, 2, 1, 33],
    visible: { window: 10, queryStarts: [60] },
    seen: [[51, 72]],
  },
  {
    name: "what lies outside of key ranges",
    sizes: [1, 3, 150, 2, 1, 16],
    visible: { keyRanges: [35, 60, 40, 61, 35, 50] },
    seen: [[35, 61]],
  },
];

describe.each(runs)("on $name", (at) => {
  test.for(cases)("$name is never touched", async ({ sizes, visible, seen }) => {
    at.target.select();
    const inputs = inputsOf(sizes);
    const bad = (b: number, key: number): boolean => key < seen[b]![0] || key >= seen[b]![1];
    const clean = await run(at, inputs, visible, bad, false);
    expect(Object.values(clean).every((values) => values.every(Number.isFinite))).toBe(true);
    const dirty = await run(at, inputs, visible, bad, true);
    for (const name of ["out", "inferred", "dq", "dk", "dv"] as const) expect(dirty[name], name).toEqual(clean[name]);
  });

  test.for([
    { name: "causal", visible: { causal: true }, key: 333, end: 400 },
    { name: "a window", visible: { causal: true, window: 50 }, key: 150, end: 200 },
  ])("a value that is not finite reaches queries up to 127 away from one that sees it: $name", async (given) => {
    at.target.select();
    const { visible, key, end } = given; // queries [key, end) see the key
    const [B, T, H, D] = [2, 400, 2, 32];
    const inputs = inputsOf([B, T, T, H, H, D]);
    const bad = (b: number, j: number): boolean => b === 0 && j === key;
    const clean = await run(at, inputs, visible, bad, false);
    const dirty = await run(at, inputs, visible, bad, true);
    for (const name of ["out", "dq"] as const) {
      const rows = (from: number, to: number): [Float32Array, Float32Array] => {
        const [first, last] = [Math.max(from, 0) * H * D, Math.min(to, B * T) * H * D];
        return [dirty[name].subarray(first, last), clean[name].subarray(first, last)];
      };
      expect(rows(key, end)[0].every(Number.isNaN), `${name} of queries that see it`).toBe(true);
      for (const [from, to] of [
        [0, key - 127],
        [end + 127, T],
        [T, 2 * T], // the other sequence
      ] as const) {
        const [got, want] = rows(from, to);
        expect(got, `${name} of queries ${from} to ${to}`).toEqual(want);
      }
      const [got, want] = rows(0, T);
      for (let i = 0; i < got.length; i++)
        if (!Number.isNaN(got[i]) && got[i] !== want[i]) expect.fail(`${name}: neither as without it nor NaN at ${i}`);
    }
  });
});
