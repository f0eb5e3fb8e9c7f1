import { expect, test } from "vitest";
import {
  checkSampling,
  logProbabilities,
  type RowSampling,
  sample,
  type SampleInputs,
  sampleInto,
  type SamplingOptions,
  SamplingTensors,
} from "../../lib/ops/sample.js";
import { full, tensor } from "../../lib/core/creation.js";
import type { DType } from "../../lib/core/dtype.js";
import type { Tensor } from "../../lib/core/tensor.js";
import { draws, philox } from "../support/philox.js";
import { Random } from "../support/random.js";
import { type Target, targets } from "../support/targets.js";

const random = new Random(13);

/** Positions in falling order; the lowest index wins a tie. */
const order = (row: ArrayLike<number>): number[] =>
  [...Array(row.length).keys()].toSorted((a, b) => row[b]! - row[a]! || a - b);

/** Options of one row, and its inputs as arrays. */
interface Draw extends SamplingOptions {
  seed?: number;
  history?: number[];
  generated?: number[];
  bias?: number[];
  /** True for each token that may be chosen. */
  allowed?: boolean[];
}

/** Returns bits i32 [⌈V/32⌉] of the tokens that may be chosen. */
function bitsOf(allowed: boolean[]): number[] {
  const words = new Int32Array(Math.ceil(allowed.length / 32));
  for (const [token, may] of allowed.entries()) if (may) words[token >> 5]! |= 1 << (token & 31);
  return [...words];
}

/** Draws at each offset from the same logits; each row has the options and inputs of `rows[b]`. */
async function drawRows(
  logits: number[],
  offsets: number[],
  rows: Draw[],
  { device }: Pick<Target, "device">,
  dtype: "f32" | "bf16" | "f16" = "f32",
): Promise<number[]> {
  const B = offsets.length;
  const made: Tensor[] = [];
  const make = <T extends DType>(values: number[][], type: T): Tensor<T> => {
    const columns = Math.max(...values.map(({ length }) => length));
    const padded = values.map((row) => [...row, ...Array<number>(columns - row.length).fill(-1)]);
    const x = tensor<T>(padded.flat(), [B, columns], { device, dtype: type });
    made.push(x);
    return x;
  };
  const given = <T extends DType>(
    key: "history" | "generated" | "bias",
    type: T,
    missing: number[],
  ): Tensor<T> | null =>
    rows.some((row) => row[key])
      ? make(
          rows.map((row) => row[key] ?? missing),
          type,
        )
      : null;
  const inputs: SampleInputs = {
    history: given("history", "i32", [-1]),
    generated: given("generated", "i32", [-1]),
    bias: given(
      "bias",
      "f32",
      logits.map(() => 0),
    ),
    allowed: rows.some((row) => row.allowed)
      ? make(
          rows.map((row) => bitsOf(row.allowed ?? logits.map(() => true))),
          "i32",
        )
      : null,
  };
  using x = tensor(
    offsets.flatMap(() => logits),
    [B, logits.length],
    { device, dtype },
  );
  using at = tensor(Int32Array.from(offsets), [B], { device });
  const options = rows.map((row): RowSampling => ({ seed: 1, ...row })); // `sample` ignores the other properties
  using ids = sample(x, at, options, inputs);
  for (const one of made) one.dispose();
  return [...(await ids.data())];
}

const draw = (logits: number[], offsets: number[], options: Draw, target: Target): Promise<number[]> =>
  drawRows(
    logits,
    offsets,
    offsets.map(() => options),
    target,
  );

/** The weights that the options leave, in float64, and in the order of the tokens. */
function weightsOf(logits: number[], options: Draw): number[] {
  const { repetitionPenalty = 1, presencePenalty = 0, frequencyPenalty = 0, history = [], generated = [] } = options;
  const { temperature = 1, topK = 0, topP = 1, minP = 0, typicalP = 1, bias = [], allowed = [] } = options;
  const adjusted = logits.map((x, i) => {
    if (history.includes(i)) x = x > 0 ? x / repetitionPenalty : x * repetitionPenalty;
    const count = generated.filter((token) => token === i).length;
    if (count > 0) x -= presencePenalty + frequencyPenalty * count;
    return (allowed[i] ?? true) ? x + (bias[i] ?? 0) : -Infinity;
  });
  const highest = Math.max(...adjusted);
  const weights = adjusted.map((x) => Math.exp((x - highest) / temperature));
  const mass = (ids: number[]): number => ids.reduce((sum, i) => sum + weights[i]!, 0);
  /** Returns the first ids with this share of the mass of all. */
  const prefix = (ids: number[], share: number): number[] => {
    const target = share * mass(ids);
    let n = 1;
    while (mass(ids.slice(0, n)) < target * (1 - 1e-6)) n++;
    return ids.slice(0, n);
  };
  let kept = prefix(order(adjusted).slice(0, topK || undefined), topP).filter((i) => weights[i]! >= minP);
  if (typicalP < 1) {
    kept = kept.filter((i) => weights[i]! > 0);
    const total = mass(kept);
    const surprisal = (i: number): number => -Math.log(weights[i]! / total);
    const entropy = kept.reduce((sum, i) => sum + (weights[i]! / total) * surprisal(i), 0);
    const distance = new Map(kept.map((i) => [i, Math.abs(surprisal(i) - entropy)]));
    kept = prefix(
      kept.toSorted((a, b) => distance.get(a)! - distance.get(b)! || a - b),
      typicalP,
    );
  }
  return weights.map((weight, i) => (kept.includes(i) ? weight : 0));
}

const logits = Array.from({ length: 67 }, () => 3 * random.normal());
const optionSets: Draw[] = [
  {},
  { temperature: 0.5 },
  { temperature: 2.5 },
  { topK: 5 },
  { topK: 1 },
  { topP: 0.7 },
  { topP: 1e-9 },
  { minP: 0.2 },
  { minP: 1 },
  { repetitionPenalty: 1.5, history: [0, 3, 3, -1, 9, 40] },
  { repetitionPenalty: 0.5, history: [1, 2] },
  { presencePenalty: 1.5, generated: [4, 4, -1, 8] },
  { frequencyPenalty: 0.7, generated: [4, 4, 60, 4, -1, 8] },
  { frequencyPenalty: -0.5, presencePenalty: 0.25, generated: [1, 2, 1], repetitionPenalty: 1.3, history: [1, 5] },
  { bias: logits.map((_, i) => (i % 3 ? (i % 5) - 2 : -Infinity)) },
  { allowed: logits.map((_, i) => i % 7 === 2 || i === 64) },
  { typicalP: 0.5 },
  { typicalP: 1e-9 },
  { typicalP: 0.9, temperature: 1.7 },
  { typicalP: 0.6, topK: 30, topP: 0.95, minP: 0.01, temperature: 1.2 },
  { temperature: 0.8, topK: 20, topP: 0.9, minP: 0.01, repetitionPenalty: 1.2, history: [5, 7] },
];

test.for(targets)("sample draws by inverting the filtered distribution at Philox's number on $name", async (target) => {
  target.select();
  const offsets = Array.from({ length: 200 }, (_, i) => i * 3);
  for (const options of optionSets) {
    const ids = await draw(logits, offsets, { seed: 77, ...options }, target);
    const weights = weightsOf(logits, options);
    const total = weights.reduce((a, b) => a + b, 0);
    offsets.forEach((offset, row) => {
      const [high, low] = philox(77, offset, draws.sampling);
      const point = ((high * 2 ** 32 + low) / 2 ** 64) * total;
      const id = ids[row]!;
      expect(weights[id], `${JSON.stringify(options)}: token ${id} is filtered out`).toBeGreaterThan(0);
      const before = weights.slice(0, id).reduce((a, b) => a + b, 0);
      // Weights are float32 on the device.
      const label = `${JSON.stringify(options)}: the draw of token ${id}`;
      expect(point, label).toBeGreaterThan(before - 1e-5 * total);
      expect(point, label).toBeLessThan(before + weights[id]! + 1e-5 * total);
    });
  }
});

test.for(targets)("each row of a batch is drawn as alone, by its own options, on $name", async (target) => {
  target.select();
  const random = new Random(3);
  const often = <T>(value: T, other: T): T => (random.integer(3) > 0 ? value : other);
  for (const [V, dtype] of [
    [67, "f32"],
    [700, "bf16"],
    [5000, "f32"],
    [5000, "f16"],
  ] as const) {
    const row = Array.from({ length: V }, () => 3 * random.normal());
    const tokens = (): number[] => Array.from({ length: random.integer(9) + 1 }, () => random.integer(V + 1) - 1);
    const rows = Array.from({ length: 12 }, (): Draw => ({
      seed: random.integer(2 ** 31) * 2 ** 20,
      temperature: often(0.3 + random.uniform(), 0),
      topK: often(0, random.integer(V) + 1),
      topP: often(1, 0.1 + 0.8 * random.uniform()),
      minP: often(0, 0.1 * random.uniform()),
      typicalP: often(1, 0.1 + 0.8 * random.uniform()),
      repetitionPenalty: often(1, 1.4),
      presencePenalty: often(0, 1),
      frequencyPenalty: often(0, 0.5),
      history: tokens(),
      generated: tokens(),
      ...often({}, { bias: row.map(() => random.integer(5) - 2) }),
      ...often({}, { allowed: row.map(() => random.integer(3) > 0) }),
    }));
    const offsets = rows.map(() => random.integer(1000));
    const together = await drawRows(row, offsets, rows, target, dtype);
    const alone = [];
    for (const [b, options] of rows.entries())
      alone.push(...(await drawRows(row, [offsets[b]!], [options], target, dtype)));
    expect(together).toEqual(alone);
  }
});

test.for(targets)("a row of which no token is allowed gets the id -1 on $name", async (target) => {
  target.select();
  const none = logits.map(() => false);
  expect(await drawRows(logits, [0, 0], [{ allowed: none }, { allowed: none.with(66, true) }], target)).toEqual([
    -1, 66,
  ]);
});

test.for(targets)("logProbabilities agrees with float64 on $name", async ({ select, device }) => {
  select();
  const random = new Random(5);
  for (const dtype of ["f32", "bf16", "f16"] as const)
    for (const V of [1, 3, 65, 1030, 5001]) {
      const rows = Array.from({ length: 4 }, () => Float32Array.from({ length: V }, () => 4 * random.normal()));
      if (V > 3) rows[1]![2] = -Infinity;
      rows[3]![V - 1] = [NaN, Infinity][V % 2]!;
      using x = tensor(
        rows.flatMap((row) => [...row]),
        [4, V],
        { device, dtype },
      );
      const tokens = rows.map(() => [random.integer(V), V - 1, -1, Math.min(2, V - 1)]);
      using ids = tensor(tokens.flat(), [4, 4], { device, dtype: "i32" });
      using found = logProbabilities(x, ids);
      expect(found.shape).toEqual([4, 4]);
      const [values, rounded] = [await found.data(), await x.data()];
      tokens.forEach((list, b) => {
        const row = [...rounded.subarray(b * V, (b + 1) * V)];
        const highest = Math.max(...row);
        const normaliser = highest + Math.log(row.reduce((sum, v) => sum + Math.exp(v - highest), 0));
        list.forEach((id, j) => {
          const expected = b === 3 || id < 0 ? NaN : row[id]! - normaliser;
          const value = values[b * 4 + j]!;
          if (Number.isFinite(expected)) expect(Math.abs(value - expected)).toBeLessThan(1e-5);
          else expect(value).toBe(expected);
        });
      });
    }
  using x = tensor([1, 2, 3], [1, 3], { device });
  using wrong = tensor([0, 3], [1, 2], { device, dtype: "i32" });
  using out = logProbabilities(x, wrong);
  await expect(out.data()).rejects.toMatchObject({ code: "ERR_RANGE" });
});

test.for(targets)("temperature 0 takes the likeliest, after the penalty, on $name", async (target) => {
  target.select();
  const best = order(logits)[0]!;
  expect(await draw(logits, [0, 1, 2], { temperature: 0 }, target)).toEqual([best, best, best]);
  const second = order(logits)[1]!;
  const penalty = { temperature: 0, repetitionPenalty: 100, history: [best] };
  expect(await draw(logits, [0, 9], penalty, target)).toEqual([second, second]);
});

test.for(targets)("of equal tokens the first are kept on $name", async (target) => {
  target.select();
  const offsets = Array.from({ length: 120 }, (_, i) => i);
  for (const [options, kept] of [
    [{ topK: 7 }, 7],
    [{ topP: 0.42 }, 9], // 8 have 0.40
    [{ topK: 10, topP: 0.42 }, 5],
    [{ topP: 0.09 }, 2],
    [{ topP: 1e-9 }, 1],
    [{ minP: 1 }, 20],
    [{ temperature: 0 }, 1],
  ] as const) {
    const ids = await draw(Array<number>(20).fill(1), offsets, options, target);
    expect([...new Set(ids)].toSorted((a, b) => a - b)).toEqual(Array.from({ length: kept }, (_, i) => i));
  }
});

test.for(targets)("a set out of a large vocabulary on $name", async ({ select, device }) => {
  select();
  // 60 tokens of one weight among many of 1e-4: their mass is 60.394, half of which 31 of them have.
  const row = new Float32Array(4000).fill(Math.log(1e-4));
  for (let i = 0; i < 60; i++) row[i * 66 + 5] = 0;
  const rows = new Float32Array(300 * row.length);
  for (let b = 0; b < 300; b++) rows.set(row, b * row.length);
  using x = tensor(rows, [300, row.length], { device });
  using offsets = tensor(
    Int32Array.from({ length: 300 }, (_, b) => b),
    [300],
    { device },
  );
  using ids = sample(x, offsets, { seed: 42, topP: 0.5 });
  const found = [...new Set(await ids.data())].toSorted((a, b) => a - b);
  expect(found).toEqual(Array.from({ length: 31 }, (_, i) => i * 66 + 5));
});

test.for(targets)("temperatures near 0 and near infinity on $name", async (target) => {
  target.select();
  const best = order(logits)[0]!;
  for (const temperature of [1e-30, 1e-42])
    expect(await draw(logits, [0, 1], { temperature }, target)).toEqual([best, best]);
  const likeliest = new Set(order(logits).slice(0, 3));
  const ids = await draw(
    logits,
    Array.from({ length: 100 }, (_, i) => i),
    { temperature: 1e30, topK: 3 },
    target,
  );
  expect(new Set(ids)).toEqual(likeliest);
});

test.for(targets)("a row's token depends on its own logits and offset alone on $name", async (target) => {
  target.select();
  const together = await draw(logits, [4, 5, 6, 7], {}, target);
  const alone = [];
  for (const offset of [4, 5, 6, 7]) alone.push(...(await draw(logits, [offset], {}, target)));
  expect(together).toEqual(alone);
  expect(await draw(logits, [4, 5, 6, 7], { seed: 2 }, target)).not.toEqual(together);
});

test.for(targets)("rows without a distribution get the id -1, alone, on $name", async ({ select, device }) => {
  select();
  const random = new Random(21);
  // Both kernels of CUDA, and rows that do not fill vectors.
  for (const V of [1, 2, 33, 700, 4100]) {
    const at = (): number => random.integer(V);
    const fine = (): number[] => Array.from({ length: V }, () => random.normal());
    const masked = (): number[] => fine().with(at(), -Infinity).with(at(), 1);
    const with_ = (value: number): number[] => masked().with(at(), value);
    const rows = [
      fine(),
      with_(NaN),
      masked(),
      with_(Infinity),
      masked(),
      fine().fill(-Infinity),
      fine(),
      fine().fill(NaN),
    ];
    const good = [0, 2, 4, 6];
    for (const dtype of ["f32", "bf16", "f16"] as const)
      for (const options of [
        { temperature: 0 },
        {},
        { topK: 4 },
        { topP: 0.8, minP: 0.01 },
        { repetitionPenalty: 2 },
      ]) {
        using x = tensor(rows.flat(), [8, V], { device, dtype });
        using healthy = tensor(
          good.flatMap((row) => rows[row]!),
          [4, V],
          { device, dtype },
        );
        using offsets = tensor(Int32Array.from(rows.keys()), [8], { device });
        using goodOffsets = tensor(Int32Array.from(good), [4], { device });
        using history = tensor(new Int32Array(8), [8, 1], { device });
        using goodHistory = tensor(new Int32Array(4), [4, 1], { device });
        using ids = sample(x, offsets, { seed: 3, ...options }, { history });
        using alone = sample(healthy, goodOffsets, { seed: 3, ...options }, { history: goodHistory });
        const [found, expected] = [[...(await ids.data())], await alone.data()];
        expect(found).toEqual(rows.map((_, row) => (row % 2 ? -1 : expected[row / 2]!)));
        using into = full([8], 9, { device, dtype: "i32" });
        using inputs = full([8], 9, { device, dtype: "i32" });
        const row = { ...checkSampling("sample", options), seed: 3 };
        using sampling = new SamplingTensors(8, x.device);
        sampling.set(Array(8).fill(row));
        sampleInto({ ids: into, inputs }, x, offsets, sampling, { history });
        expect([...(await into.data())]).toEqual(found);
        expect([...(await inputs.data())]).toEqual(rows.map((_, row) => (row % 2 ? 0 : expected[row / 2]!)));
      }
  }
});

test.for(targets)("a penalty that makes Infinity of a logit leaves no distribution on $name", async (target) => {
  target.select();
  expect(await draw([1e30, 1e30], [0], { repetitionPenalty: 1e-10, history: [1] }, target)).toEqual([-1]);
  // -Infinity it may be.
  expect(await draw([-1e30, -1e30], [0], { repetitionPenalty: 1e10, history: [1] }, target)).toEqual([0]);
});

test.for(targets)("ids of earlier tokens out of range reject the next read on $name", async (target) => {
  target.select();
  for (const key of ["history", "generated"])
    await expect(
      draw(logits, [0], { [key]: [67], repetitionPenalty: 2, presencePenalty: 1 }, target),
    ).rejects.toMatchObject({
      code: "ERR_RANGE",
      message: expect.stringMatching(/sample: expected ids of earlier tokens below 67, got 67/) as string,
    });
});
