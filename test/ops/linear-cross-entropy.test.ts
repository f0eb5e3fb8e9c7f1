import { expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { device as deviceOf } from "../../lib/core/device.js";
import { crossEntropy } from "../../lib/ops/cross-entropy.js";
import { linear } from "../../lib/ops/linear.js";
import { linearCrossEntropy, type LinearCrossEntropyOptions } from "../../lib/ops/linear-cross-entropy.js";
import { mul } from "../../lib/ops/binary.js";
import { scope } from "../../lib/core/scope.js";
import { formatShape } from "../../lib/core/shape.js";
import { tensor } from "../../lib/core/creation.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { u } from "../support/close.js";
import { fixtureTest } from "../support/fixtures.js";
import { add, integers, matmul, type Nd, normal, reshape, transpose } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { devicesTested, targets } from "../support/targets.js";

const random = new Random(31);

/** Returns the mean of log Σ exp − the logit of the target, smoothed, over the targets that count. */
function reference(
  { x, weight, bias }: Record<string, Nd>,
  ids: Nd,
  { layout = "oi", ignoreIndex = -100, labelSmoothing: s = 0 }: LinearCrossEntropyOptions,
): Nd {
  const rows = ids.data.length;
  const products = matmul(reshape(x!, [rows, x!.shape.at(-1)!]), layout === "oi" ? transpose(weight!) : weight!);
  const logits = bias ? add(products, bias) : products;
  const V = logits.shape[1]!;
  let [total, count] = [0, 0];
  ids.data.forEach((target, r) => {
    if (target === ignoreIndex) return;
    const row = logits.data.subarray(r * V, (r + 1) * V);
    const highest = row.reduce((a, b) => Math.max(a, b), -Infinity);
    const lse = highest + Math.log(row.reduce((a, b) => a + Math.exp(b - highest), 0));
    total += (1 - s) * (lse - row[target]!) + (s * row.reduce((a, b) => a + (lse - b), 0)) / V;
    count++;
  });
  return { shape: [], data: Float64Array.of(count === 0 ? 0 : total / count) };
}

// Logits are sums of C products (linear.test.ts). The loss is as accurate as they are; their errors hardly add up in a
// mean.
const tolerance = { out: { relative: 8, absolute: 16, scale: 1 }, grad: { relative: 32, absolute: 32 } };
// A 16-bit logit has its own rounding error, and so has the loss. The relative error of its gradient is as large, and
// the gradient is rounded as well.
const roundings = {
  out: { relative: 2, absolute: 2, scale: 1 },
  grad: { relative: 4, absolute: 4 },
};

interface Options extends LinearCrossEntropyOptions {
  rows: number[];
  C: number;
  V: number;
}

const cases: Options[] = [
  { rows: [], C: 3, V: 5 },
  { rows: [1], C: 1, V: 1, chunkRows: 7 },
  { rows: [7], C: 17, V: 31 },
  { rows: [7], C: 17, V: 31, chunkRows: 1, ignoreIndex: 3 },
  { rows: [3, 5], C: 33, V: 65, chunkRows: 4, layout: "io" },
  { rows: [17], C: 5, V: 257, chunkRows: 16, labelSmoothing: 0.1, ignoreIndex: -1 },
  { rows: [2, 3, 4], C: 8, V: 19, chunkRows: 9, layout: "io", labelSmoothing: 1 },
  { rows: [0], C: 4, V: 6, chunkRows: 2 },
];

for (const biased of [false, true])
  opTest({
    name: `linearCrossEntropy${biased ? " with a bias" : ""}`,
    cases: cases.map((options) => {
      const { rows, C, V, layout = "oi", ignoreIndex = -100 } = options;
      const ids = integers(random, rows, V);
      const inputs: Record<string, Nd> = {
        x: normal(random, [...rows, C]),
        weight: normal(random, layout === "oi" ? [V, C] : [C, V], { scale: 1 / Math.sqrt(C) }),
      };
      if (biased) inputs.bias = normal(random, [V]);
      const { rows: _, C: __, V: ___, ...rest } = options;
      return {
        name: `${formatShape([...rows, C])} → ${V} ${JSON.stringify(rest)}`,
        inputs,
        ints: { targets: { ...ids, data: ids.data.map((id, i) => (i % 3 === 1 ? ignoreIndex : id)) } },
        options: rest,
      };
    }),
    ours: ({ x, weight, bias }, { targets }, options: LinearCrossEntropyOptions) =>
      linearCrossEntropy(x!, weight!, targets, { ...options, bias: bias ?? null }),
    reference: (inputs, { targets }, options) => reference(inputs, targets, options),
    tolerance,
    roundings,
    parameters: biased ? ["weight", "bias"] : ["weight"],
    outDType: "f32",
  });

fixtureTest("linear-cross-entropy", ({ x, weight, bias }, { targets }, { options }) =>
  linearCrossEntropy(x!, weight!, targets!, { ...options, bias: bias ?? null }),
);

function inputsOn(device: string): { x: FloatTensor; weight: FloatTensor; ids: Int32Array } {
  const values = new Random(5);
  const floats = (n: number): Float32Array => Float32Array.from({ length: n }, () => values.normal());
  const x = tensor(floats(9 * 6), [9, 6], { device });
  const weight = tensor(floats(13 * 6), [13, 6], { device });
  x.requiresGrad = weight.requiresGrad = true;
  return { x, weight, ids: Int32Array.from({ length: 9 }, (_, i) => (i === 4 ? -100 : (i * 5) % 13)) };
}

async function gradientsOf(tensors: FloatTensor[]): Promise<ArrayLike<number>[]> {
  const found = await Promise.all(tensors.map((tensor) => tensor.grad!.data()));
  for (const tensor of tensors) tensor.zeroGrad();
  return found;
}

test.for(targets)("in one chunk it is crossEntropy of linear to the bit on $name", async ({ select, device }) => {
  select();
  const { x, weight, ids } = inputsOn(device);
  using index = tensor(ids, [9], { device });
  using together = linearCrossEntropy(x, weight, index);
  together.backward();
  const gradients = await gradientsOf([x, weight]);
  using apart = scope(() => crossEntropy(linear(x, weight), index));
  apart.backward();
  expect(await together.item()).toBe(await apart.item());
  expect(gradients).toEqual(await gradientsOf([x, weight]));
  x.dispose();
  weight.dispose();
});

test.for(targets)("later operations scale the gradients, and they add up on $name", async ({ select, device }) => {
  select();
  const { x, weight, ids } = inputsOn(device);
  using index = tensor(ids, [9], { device });
  const loss = (): FloatTensor => linearCrossEntropy(x, weight, index, { chunkRows: 4 });
  scope(() => loss().backward());
  const plain = await gradientsOf([x, weight]);
  scope(() => {
    mul(loss(), 3).backward();
    loss().backward(-2);
    loss().backward();
  });
  for (const [i, gradient] of (await gradientsOf([x, weight])).entries())
    for (const [j, value] of Array.from(gradient).entries())
      expect(Math.abs(value - 2 * plain[i]![j]!)).toBeLessThan(16 * u);
  x.dispose();
  weight.dispose();
});

test.for(targets)("every target ignored gives 0 and no gradient on $name", async ({ select, device }) => {
  select();
  const { x, weight } = inputsOn(device);
  using index = tensor(new Int32Array(9).fill(-100), [9], { device });
  using loss = linearCrossEntropy(x, weight, index, { chunkRows: 2 });
  loss.backward();
  expect(await loss.item()).toBe(0);
  expect(await gradientsOf([x, weight])).toEqual([new Float32Array(54), new Float32Array(78)]);
  x.dispose();
  weight.dispose();
});

test.for(devicesTested)("a target out of range is reported with its position on $name", async ({ device }) => {
  const { x, weight, ids } = inputsOn(device);
  using index = tensor(ids.fill(13, 7, 8), [9], { device });
  using loss = linearCrossEntropy(x, weight, index, { chunkRows: 2 });
  await expect(loss.item()).rejects.toMatchObject({ code: "ERR_RANGE", message: expect.stringMatching(/got 13.* 7/) });
  x.dispose();
  weight.dispose();
});

test.for(devicesTested)("the logits never all exist at once on $name", ({ device }) => {
  const [rows, C, V] = [600, 8, 3000];
  const where = deviceOf(device);
  using x = tensor(new Float32Array(rows * C), [rows, C], { device });
  using weight = tensor(new Float32Array(V * C), [V, C], { device });
  using index = tensor(new Int32Array(rows), [rows], { device });
  x.requiresGrad = weight.requiresGrad = true;
  const peakOf = (body: () => FloatTensor): number => {
    where.resetPeak();
    const before = where.memory().live;
    body().dispose();
    return where.memory().peak - before;
  };
  const loss = (): FloatTensor => linearCrossEntropy(x, weight, index, { chunkRows: 60 });
  const logits = rows * V * 4;
  const gradients = (rows + V) * C * 4;
  // Besides a chunk of logits there are the gradients, and workspaces of products.
  expect(peakOf(loss) - gradients).toBeLessThan(logits / 10 + (1 << 20));
  // Without recording, nothing is kept.
  expect(peakOf(() => noGrad(loss))).toBeLessThan(logits / 10 + (1 << 20));
});
