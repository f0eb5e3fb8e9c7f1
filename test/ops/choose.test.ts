import { expect, test } from "vitest";
import { argmax, checkSampling, sample, sampleInto, type SamplingOptions, topk } from "../../lib/ops/choose.js";
import { transpose } from "../../lib/ops/views.js";
import { full, tensor } from "../../lib/creation.js";
import { normal } from "../support/nd.js";
import { draws, philox } from "../support/philox.js";
import { Random } from "../support/random.js";
import { type Target, targets } from "../support/targets.js";

const random = new Random(13);
const widths = [1, 2, 3, 17, 31, 33, 63, 65, 257, 1000];

/** Returns positions in descending order; the lowest index wins a tie. */
const order = (row: ArrayLike<number>): number[] =>
  [...Array(row.length).keys()].toSorted((a, b) => row[b]! - row[a]! || a - b);

test.for(targets)("argmax and topk on $name", async ({ select, device }) => {
  select();
  for (const width of widths) {
    // The values are rounded, so that there are ties.
    const data = normal(random, [5, width]).data.map((value) => Math.round(value * 4) / 4);
    const rows = Array.from({ length: 5 }, (_, r) => data.subarray(r * width, (r + 1) * width));
    using x = tensor(data, [5, width], { device });
    using best = argmax(x);
    expect(best.shape).toEqual([5]);
    expect([...(await best.data())]).toEqual(rows.map((row) => order(row)[0]));
    for (const k of [1, 2, 7, width].filter((k) => k <= width)) {
      const { values, ids } = topk(x, k);
      expect(ids.shape).toEqual([5, k]);
      expect(await ids.toArray()).toEqual(rows.map((row) => order(row).slice(0, k)));
      expect(await values.toArray()).toEqual(
        rows.map((row) =>
          order(row)
            .slice(0, k)
            .map((i) => row[i]),
        ),
      );
      values.dispose();
      ids.dispose();
    }
  }
});

test.for(targets)("argmax and topk of rows of every kind on $name", async ({ select, device }) => {
  select();
  const kinds: ((i: number) => number)[] = [
    () => Math.round(2 * random.normal()), // ties, -0 among them
    () => [random.normal(), -Infinity, NaN][random.integer(3)]!,
    (i) => i,
    (i) => -i,
    () => (random.sign() > 0 ? NaN : -Infinity),
  ];
  // NaN is ordered after every number.
  const ordered = (row: Float32Array): number[] => {
    const numbers = [...row.keys()].filter((i) => !Number.isNaN(row[i]));
    return [
      ...numbers.toSorted((a, b) => (row[a] === row[b] ? a - b : row[b]! - row[a]!)),
      ...[...row.keys()].filter((i) => Number.isNaN(row[i])),
    ];
  };
  for (const width of [1, 16, 17, 511, 513, 5000]) {
    const rows = kinds.map((kind) => Float32Array.from({ length: width }, (_, i) => kind(i)));
    using x = tensor(Float32Array.from(rows.flatMap((row) => [...row])), [rows.length, width], { device });
    using best = argmax(x);
    expect([...(await best.data())]).toEqual(rows.map((row) => ordered(row)[0]));
    for (const k of [1, 50, 300, width].filter((k) => k <= width)) {
      const { values, ids } = topk(x, k);
      const expected = rows.map((row) => ordered(row).slice(0, k));
      expect(await ids.toArray()).toEqual(expected);
      expect([...(await values.data())]).toEqual(expected.flatMap((list, r) => list.map((i) => rows[r]![i])));
      values.dispose();
      ids.dispose();
    }
  }
});

test.for(targets)("argmax of strided, empty and odd inputs on $name", async ({ select, device }) => {
  select();
  using x = tensor([1, 5, 2, 4, 3, 6], [2, 3], { device });
  using columns = transpose(x);
  using best = argmax(columns);
  expect([...(await best.data())]).toEqual([1, 0, 1]);
  using none = full([0, 4], 0, { device });
  using nothing = argmax(none);
  expect(await nothing.data()).toEqual(new Int32Array(0));
  using infinite = tensor([-Infinity, -Infinity, -Infinity, 1, Infinity, 2], [2, 3], { device });
  using ids = argmax(infinite);
  expect([...(await ids.data())]).toEqual([0, 1]);
});

interface Draw extends SamplingOptions {
  seed?: number;
  history?: number[];
}

async function draw(logits: number[], offsets: number[], options: Draw, { device }: Target): Promise<number[]> {
  const { seed = 1, history, ...rest } = options;
  const B = offsets.length;
  using x = tensor(
    offsets.flatMap(() => logits),
    [B, logits.length],
    { device },
  );
  using at = tensor(Int32Array.from(offsets), [B], { device });
  using past = history
    ? tensor(Int32Array.from(offsets.flatMap(() => history)), [B, history.length], { device })
    : null;
  using ids = sample(x, at, { seed, history: past, ...rest });
  return [...(await ids.data())];
}

/** Returns the weights that remain after the options, in float64 and in the order of the tokens. */
function weightsOf(logits: number[], options: Draw): number[] {
  const { repetitionPenalty = 1, temperature = 1, topK = 0, topP = 1, minP = 0, history = [] } = options;
  const penalised = logits.map((x, i) =>
    history.includes(i) ? (x > 0 ? x / repetitionPenalty : x * repetitionPenalty) : x,
  );
  const highest = Math.max(...penalised);
  const weights = penalised.map((x) => Math.exp((x - highest) / temperature));
  let kept = order(penalised).slice(0, topK || undefined);
  const mass = (ids: number[]): number => ids.reduce((sum, i) => sum + weights[i]!, 0);
  const target = topP * mass(kept);
  let n = 1;
  while (mass(kept.slice(0, n)) < target * (1 - 1e-6)) n++;
  kept = kept.slice(0, n).filter((i) => weights[i]! >= minP);
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

test.for(targets)("temperature 0 takes the likeliest token, after the penalty, on $name", async (target) => {
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
    [{ topP: 0.42 }, 9], // 8 tokens have 0.40
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

test.for(targets)("a set from a large vocabulary on $name", async ({ select, device }) => {
  select();
  // 60 tokens have the same weight among many of 1e-4. Their mass is 60.394, and 31 of them have half of it.
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

test.for(targets)("a row's token depends only on its own logits and offset on $name", async (target) => {
  target.select();
  const together = await draw(logits, [4, 5, 6, 7], {}, target);
  const alone = [];
  for (const offset of [4, 5, 6, 7]) alone.push(...(await draw(logits, [offset], {}, target)));
  expect(together).toEqual(alone);
  expect(await draw(logits, [4, 5, 6, 7], { seed: 2 }, target)).not.toEqual(together);
});

test.for(targets)("only rows without a distribution get the id -1, on $name", async ({ select, device }) => {
  select();
  const random = new Random(21);
  // The sizes reach both kernels of CUDA, and rows that do not fill vectors.
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
        using ids = sample(x, offsets, { seed: 3, history, ...options });
        using alone = sample(healthy, goodOffsets, { seed: 3, history: goodHistory, ...options });
        const [found, expected] = [[...(await ids.data())], await alone.data()];
        expect(found).toEqual(rows.map((_, row) => (row % 2 ? -1 : expected[row / 2]!)));
        using into = full([8], 9, { device, dtype: "i32" });
        using inputs = full([8], 9, { device, dtype: "i32" });
        sampleInto({ ids: into, inputs }, x, offsets, { seed: 3, history, ...checkSampling("sample", options) });
        expect([...(await into.data())]).toEqual(found);
        expect([...(await inputs.data())]).toEqual(rows.map((_, row) => (row % 2 ? 0 : expected[row / 2]!)));
      }
  }
});

test.for(targets)("a penalty that makes a logit infinite leaves no distribution on $name", async (target) => {
  target.select();
  expect(await draw([1e30, 1e30], [0], { repetitionPenalty: 1e-10, history: [1] }, target)).toEqual([-1]);
  // -Infinity is allowed.
  expect(await draw([-1e30, -1e30], [0], { repetitionPenalty: 1e10, history: [1] }, target)).toEqual([0]);
});

test.for(targets)("argmax and topk put NaN last on $name", async ({ select, device }) => {
  select();
  using x = tensor([NaN, -Infinity, 3, NaN, 7, NaN, NaN, NaN, NaN, NaN], [2, 5], { device });
  using best = argmax(x);
  expect(await best.toArray()).toEqual([4, 0]);
  const { values, ids } = topk(x, 5);
  expect(await ids.toArray()).toEqual([
    [4, 2, 1, 0, 3],
    [0, 1, 2, 3, 4],
  ]);
  expect([...(await values.data())].slice(0, 5)).toEqual([7, 3, -Infinity, NaN, NaN]);
  values.dispose();
  ids.dispose();
});

test.for(targets)("ids of the history out of range reject the next read on $name", async (target) => {
  target.select();
  await expect(draw(logits, [0], { history: [67] }, target)).rejects.toMatchObject({
    code: "ERR_RANGE",
    message: expect.stringMatching(/sample.*expected .* got /) as string,
  });
});
