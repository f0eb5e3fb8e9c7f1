import { expect, test } from "vitest";
import { argmax, sample, type SamplingOptions, topk } from "../../lib/ops/choose.js";
import { transpose } from "../../lib/ops/views.js";
import { full, tensor } from "../../lib/tensor.js";
import { normal } from "../support/nd.js";
import { draws, philox } from "../support/philox.js";
import { Random } from "../support/random.js";
import { type Target, targets } from "../support/targets.js";

const random = new Random(13);
const widths = [1, 2, 3, 17, 31, 33, 63, 65, 257, 1000];

/** Positions in falling order; the lowest index wins a tie. */
const order = (row: ArrayLike<number>): number[] =>
  [...Array(row.length).keys()].toSorted((a, b) => row[b]! - row[a]! || a - b);

test.for(targets)("argmax and topk on $name", async ({ select, device }) => {
  select();
  for (const width of widths) {
    // Rounded, so that there are ties.
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

/** The weights that the options leave, in float64, and in the order of the tokens. */
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

test.for(targets)("temperature 0 takes the likeliest, after the penalty, on $name", async (target) => {
  target.select();
  const best = order(logits)[0]!;
  expect(await draw(logits, [0, 1, 2], { temperature: 0 }, target)).toEqual([best, best, best]);
  const second = order(logits)[1]!;
  const penalty = { temperature: 0, repetitionPenalty: 100, history: [best] };
  expect(await draw(logits, [0, 9], penalty, target)).toEqual([second, second]);
});

test.for(targets)("a row's token depends on its own logits and offset alone on $name", async (target) => {
  target.select();
  const together = await draw(logits, [4, 5, 6, 7], {}, target);
  const alone = [];
  for (const offset of [4, 5, 6, 7]) alone.push(...(await draw(logits, [offset], {}, target)));
  expect(together).toEqual(alone);
  expect(await draw(logits, [4, 5, 6, 7], { seed: 2 }, target)).not.toEqual(together);
});

test.for(targets)("ids of the history out of range reject the next read on $name", async (target) => {
  target.select();
  await expect(draw(logits, [0], { history: [67] }, target)).rejects.toMatchObject({
    code: "ERR_RANGE",
    message: expect.stringMatching(/sample.*expected .* got /) as string,
  });
});
