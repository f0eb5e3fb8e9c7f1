import { expect, test } from "vitest";
import { dropout } from "../../lib/ops/dropout.js";
import { formatShape, numel } from "../../lib/core/shape.js";
import { ones, tensor } from "../../lib/core/creation.js";
import { type Nd, nd, normal, zip } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { draws, philoxWords, uniform01 } from "../support/philox.js";
import { Random } from "../support/random.js";
import { targets } from "../support/targets.js";

const random = new Random(11);

function mask(shape: readonly number[], p: number, seed: number): Nd {
  const factor = 1 / (1 - Math.fround(p));
  return nd(
    shape,
    philoxWords(seed, numel(shape), draws.dropout).map((word) => (uniform01(word) >= Math.fround(p) ? factor : 0)),
  );
}

const shapes = [[], [1], [2], [3], [17], [31], [33], [63], [65], [257], [5, 33], [0]];

opTest({
  name: "dropout",
  cases: [...shapes.map((shape) => ({ shape, p: 0.3, seed: 7 })), { shape: [65], p: 0.9, seed: 2 ** 40 + 3 }].map(
    (options) => ({
      name: `${formatShape(options.shape)} p ${options.p}`,
      inputs: { x: normal(random, options.shape) },
      options,
    }),
  ),
  ours: ({ x }, _, { p, seed }) => dropout(x, p, seed),
  reference: ({ x }, _, { shape, p, seed }) => zip(x, mask(shape, p, seed), (a, m) => a * m),
  // 1/(1 − p) is rounded, and so is the product.
  tolerance: { out: { relative: 3, absolute: 0 }, grad: { relative: 4, absolute: 0 } },
});

const large = mask([17_003], 0.5, 1); // more than one task of the CPU's draws
test.for(targets)("dropout of many numbers on $name", async ({ select, device }) => {
  select();
  using x = ones([17_003], { device });
  using y = dropout(x, 0.5, 1);
  expect(await y.data()).toEqual(Float32Array.from(large.data));
});

test.for(targets)("a draw that equals p is kept on $name", async ({ select, device }) => {
  select();
  using x = ones([50], { device });
  for (const [i, word] of philoxWords(31, 9, draws.dropout).entries())
    for (const [p, kept] of [
      [uniform01(word), true],
      [uniform01(word) + 2 ** -24, false],
    ] as const) {
      using y = dropout(x, p, 31);
      expect((await y.data())[i] !== 0).toBe(kept);
    }
});

test.for(targets)("dropout with p = 0 and p = 1 on $name", async ({ select, device }) => {
  select();
  using x = tensor([1, NaN, Infinity, -1], [4], { device });
  expect(dropout(x, 0, 1)).toBe(x);
  using nothing = dropout(x, 1, 1);
  expect([...(await nothing.data())].map(Math.abs)).toEqual([0, 0, 0, 0]);
});

test.for(targets)("dropout keeps a share of 1 − p, whatever the threads, on $name", async ({ select, device }) => {
  select();
  const n = 1 << 18;
  using x = ones([n], { device });
  for (const p of [0.1, 0.5]) {
    using y = dropout(x, p, 3);
    const data = await y.data();
    const kept = data.reduce((count, value) => count + Number(value !== 0), 0);
    expect(Math.abs(kept / n - (1 - p))).toBeLessThan(6 * Math.sqrt((p * (1 - p)) / n));
    // Another seed gives another mask: as many elements agree as in two independent masks.
    using z = dropout(x, p, 4);
    const other = await z.data();
    const same = data.reduce((count, value, i) => count + Number(value === other[i]), 0);
    expect(Math.abs(same / n - (p ** 2 + (1 - p) ** 2))).toBeLessThan(6 * Math.sqrt(0.25 / n));
  }
});
