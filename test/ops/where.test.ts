import { expect, test } from "vitest";
import { full, ones, tensor, zeros } from "../../lib/core/creation.js";
import { greater } from "../../lib/ops/binary.js";
import { log } from "../../lib/ops/unary.js";
import { sum } from "../../lib/ops/reduce.js";
import { where } from "../../lib/ops/where.js";
import { scope } from "../../lib/core/scope.js";
import { formatShape } from "../../lib/core/shape.js";
import { expectError } from "../support/errors.js";
import { integers, type Nd, normal, zip } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { devicesTested, targets } from "../support/targets.js";

const random = new Random(41);

const shapes: [condition: number[], a: number[], b: number[]][] = [
  [[], [], []],
  [[0], [0], [1]],
  [[17], [17], [17]],
  [[33], [], [33]],
  [[257], [257], []],
  [
    [5, 65],
    [5, 65],
    [5, 65],
  ],
  [
    [5, 1],
    [1, 33],
    [5, 33],
  ],
  [[3], [2, 1, 3], [4, 1]],
  [[2, 3, 1], [7], [1]],
];

/** Returns a where the condition is not 0, from two functions that know broadcasting: c·a + (1 − c)·b. */
function reference(a: Nd, b: Nd, condition: Nd): Nd {
  const chosen = zip(condition, a, (c, x) => (c ? x : 0));
  const others = zip(condition, b, (c, y) => (c ? 0 : y));
  return zip(chosen, others, (x, y) => x + y);
}

opTest({
  name: "where",
  cases: shapes.map(([condition, a, b]) => ({
    name: [condition, a, b].map(formatShape).join(" "),
    inputs: { a: normal(random, a), b: normal(random, b) },
    ints: { condition: integers(random, condition, 2) },
  })),
  ours: ({ a, b }, { condition }) => where(condition, a, b),
  reference: ({ a, b }, { condition }) => reference(a, b, condition),
  // Gradients over stretched dimensions are sums of up to 165 terms.
  tolerance: { out: { relative: 0, absolute: 0 }, grad: { relative: 4, absolute: 24 } },
  // No gradient is rounded more than once, when it is written, and once when it is added to.
  roundings: { out: { relative: 0, absolute: 0 }, grad: { relative: 3, absolute: 3 } },
});

opTest({
  name: "where, with a number",
  cases: [[17], [3, 33]].map((shape) => ({
    name: formatShape(shape),
    inputs: { x: normal(random, shape) },
    ints: { condition: integers(random, shape, 3) },
  })),
  ours: ({ x }, { condition }) => [where(condition, x, -2), where(condition, 0.5, x)],
  reference: ({ x }, { condition }) => [
    zip(condition, x, (c, v) => (c ? v : -2)),
    zip(condition, x, (c, v) => (c ? 0.5 : v)),
  ],
  tolerance: { out: { relative: 0, absolute: 0 }, grad: { relative: 2, absolute: 0 } },
  single: false,
});

test.for(targets)("conditions and elements of every dtype on $name", async ({ select, device }) => {
  select();
  const numbers = [0, 1, 0, 1, 1];
  const conditions = [
    ...(["f32", "bf16", "f16", "i32", "u8"] as const).map((dtype) => tensor(numbers, [5], { dtype, device })),
    tensor([-0, NaN, 0, -2, Infinity], [5], { device }),
  ];
  for (const condition of conditions) {
    using big = where(condition, tensor(Int32Array.of(16777217, 5, 2 ** 31 - 1, 7, -(2 ** 31)), [5], { device }), -1);
    expect([...(await big.data())], `of ${condition.dtype}`).toEqual([-1, 5, -1, 7, -(2 ** 31)]);
    using bytes = where(condition, 255, tensor(Uint8Array.of(0, 1, 2, 3, 4), [5], { device }));
    expect([...(await bytes.data())], `of ${condition.dtype}`).toEqual([0, 255, 2, 255, 255]);
  }
});

test.for(devicesTested)(
  "what was not chosen hides NaN and infinity, also from gradients, on $name",
  async ({ device }) => {
    const x = tensor([-1, 0, 1, 4], [4], { device });
    x.requiresGrad = true;
    const y = where(greater(x, 0), log(x), 0);
    expect([...(await y.data())]).toEqual([0, 0, 0, Math.fround(Math.log(4))]);
    const chosen = full([4], 2, { device });
    chosen.requiresGrad = true;
    const hidden = tensor([NaN, Infinity, NaN, -Infinity], [4], { device });
    hidden.requiresGrad = true;
    scope(() => sum(where(ones([4], { device }), chosen, hidden)).backward());
    expect([...(await chosen.grad!.data())]).toEqual([1, 1, 1, 1]);
    expect([...(await hidden.grad!.data())]).toEqual([0, 0, 0, 0]);
  },
);

test("wrong arguments are named", () => {
  const [mask, x] = [zeros([2, 3]), ones([2, 3])];
  expectError(() => where(mask, 1, 2), "ERR_ARGUMENT", /expected a or b to be a tensor, got 1 and 2/);
  expectError(() => where(true as never, x, x), "ERR_ARGUMENT", /expected condition to be a tensor/);
  expectError(() => where(mask, x, ones([4])), "ERR_SHAPE");
  expectError(() => where(ones([4]), x, 0), "ERR_SHAPE");
  expectError(
    () => where(mask, x, zeros([2, 3], { dtype: "i32" }) as never),
    "ERR_DTYPE",
    /expected b of dtype f32, got i32/,
  );
  expectError(() => where(mask, zeros([3], { dtype: "i32" }), 0.5), "ERR_RANGE");
});
