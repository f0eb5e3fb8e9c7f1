import { expect, test } from "vitest";
import { softmax } from "../../lib/ops/softmax.js";
import { tensor } from "../../lib/core/creation.js";
import { formatShape } from "../../lib/core/shape.js";
import { expectClose } from "../support/close.js";
import { fixtureTest } from "../support/fixtures.js";
import { mapRows, type Nd, normal } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { targets } from "../support/targets.js";

const random = new Random(4);

export function reference(x: Nd): Nd {
  return mapRows(x, (row) => {
    const highest = row.reduce((a, b) => Math.max(a, b), -Infinity);
    const exps = row.map((value) => Math.exp(value - highest));
    const total = exps.reduce((a, b) => a + b, 0);
    return exps.map((e) => e / total);
  });
}

const shapes = [[1], [2], [3], [17], [31], [33], [63], [65], [257], [5, 1], [4, 33], [2, 3, 65], [3, 1025], [0, 5]];

opTest({
  name: "softmax",
  cases: [
    ...shapes.map((shape) => ({ name: formatShape(shape), inputs: { x: normal(random, shape, { scale: 3 }) } })),
    { name: "large mean", inputs: { x: normal(random, [3, 65], { offset: 1000 }) } },
  ],
  ours: ({ x }) => softmax(x),
  reference: ({ x }) => reference(x),
  // exp, the sum and the quotient have about four roundings, and x − max has an error of u·|x − max|, which is below 20
  // here. The gradient is y·(dy − Σ dy·y), whose terms cancel.
  tolerance: { out: { relative: 24, absolute: 0 }, grad: { relative: 24, absolute: 16 } },
  // Backward takes the rounded weights; their sum with the gradient is about 1 and is subtracted.
  roundings: { grad: { relative: 3, absolute: 1, scale: 0.5 } },
});

fixtureTest("softmax", ({ x }) => softmax(x!));

test.for(targets)("rows of infinities on $name", async ({ select, device }) => {
  select();
  for (const width of [2, 17, 65]) {
    const rows = [
      [-Infinity, 0, ...Array<number>(width).fill(-Infinity)],
      Array<number>(width + 2).fill(-Infinity),
      [3e38, 3e38, ...Array<number>(width).fill(-3e38)],
    ];
    using x = tensor(rows, undefined, { device });
    using y = softmax(x);
    const zeros = Array<number>(width).fill(0);
    expect(await y.toArray()).toEqual([
      [0, 1, ...zeros],
      [0, 0, ...zeros],
      [0.5, 0.5, ...zeros],
    ]);
  }
});

test.for(targets)("a NaN stays in its row on $name", async ({ select, device }) => {
  select();
  for (const width of [1, 17, 513]) {
    using x = tensor(new Float32Array(3 * width).fill(-Infinity).with(2 * width - 1, NaN), [3, width], { device });
    using y = softmax(x);
    const got = await y.data();
    expect([...got].map(Number.isNaN)).toEqual([...got.keys()].map((i) => Math.floor(i / width) === 1));
  }
});

// Every term but one is 0.1. Their sum in one long f32 lane would be rounded in the same direction again and again.
test.for(targets)("rows of many terms, all rounded in the same direction, on $name", async ({ select, device }) => {
  select();
  for (const width of [50_257, 300_003]) {
    const row = new Float32Array(width).fill(-2.302585).with(0, 0);
    using x = tensor(row, [1, width], { device });
    using y = softmax(x);
    const total = 1 + (width - 1) * Math.exp(row[1]!);
    expectClose(
      `${width}`,
      await y.data(),
      Float64Array.from(row, (value) => Math.exp(value) / total),
      {
        relative: 60,
        absolute: 0,
      },
    );
  }
});
