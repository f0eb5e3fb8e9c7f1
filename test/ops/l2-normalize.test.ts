import { expect, test } from "vitest";
import { l2Normalize } from "../../lib/ops/l2-normalize.js";
import { formatShape } from "../../lib/core/shape.js";
import { mul } from "../../lib/ops/binary.js";
import { sum } from "../../lib/ops/reduce.js";
import { scope } from "../../lib/core/scope.js";
import { parameter } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import { expectWithin, u } from "../support/close.js";
import { leastRoundoff, roundoff, roundTo } from "../support/dtypes.js";
import { expectError } from "../support/errors.js";
import { dot, mapRows, maxAbs, normal } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { onEachDevice } from "../support/targets.js";

const random = new Random(41);

opTest({
  name: "l2Normalize",
  cases: [[1], [5], [3, 31], [2, 3, 33], [2, 257], [0, 4]].map((shape) => ({
    name: formatShape(shape),
    inputs: { x: normal(random, shape, { scale: 2 }) },
  })),
  ours: ({ x }) => l2Normalize(x),
  reference: ({ x }) =>
    mapRows(x, (row) => {
      const norm = Math.sqrt(row.reduce((sum, value) => sum + value * value, 0));
      return row.map((value) => value / norm);
    }),
  // The root halves the rounding error of the sum; then follow a root and a quotient. The terms of the gradient (dy −
  // y·Σ dy·y)/‖x‖, of about 1, cancel; a single one cancels completely. In short types each of the two is rounded once.
  tolerance: { out: { relative: 8, absolute: 0 }, grad: { relative: 16, absolute: 16, scale: 1 } },
  single: false,
});

onEachDevice((device) => {
  test.for(["f32", "bf16", "f16"] as const)("an empty row stays zero and gets no gradient in %s", async (dtype) => {
    using x = parameter(tensor([0, 0, 0, 3, 0, 4], [2, 3], { device, dtype }));
    using y = l2Normalize(x);
    expect([...(await y.data())]).toEqual([0, 0, 0, 0.6, 0, 0.8].map((value) => roundTo(dtype, value)));
    scope(() => sum(y).backward());
    expect([...(await x.grad!.data())].slice(0, 3)).toEqual([0, 0, 0]);
    x.zeroGrad();
  });

  // f16 cannot represent these squares: they are beyond its largest number or below its smallest.
  test.for([
    { width: 257, scale: 100 },
    { width: 1024, scale: 3000 },
    { width: 8, scale: 1e-4 },
    { width: 1, scale: 6e-8 },
  ])("in short types, $width numbers of about $scale", async ({ width, scale }) => {
    for (const dtype of ["bf16", "f16"] as const) {
      const draw = (factor: number): number[] =>
        Array.from({ length: width }, () => roundTo(dtype, factor * (Math.abs(random.normal()) + 0.5)));
      const values = draw(scale);
      // Upstream gradients are as large as the row, so that f16 can represent the gradient itself.
      const upstream = draw(Math.min(1, scale));
      const length = Math.sqrt(dot(values, values));
      const expected = values.map((value) => value / length);
      const along = dot(upstream, expected);
      const gradient = expected.map((value, i) => (upstream[i]! - value * along) / length);

      using x = parameter(tensor(values, [1, width], { device, dtype }));
      using y = l2Normalize(x);
      const rounding = (size: number): number => roundoff(dtype) * Math.abs(size) + leastRoundoff(dtype);
      expectWithin(`${dtype}: output`, await y.data(), expected, (size) => rounding(size) + 8 * u * Math.abs(size));
      scope(() => sum(mul(y, tensor(upstream, [1, width], { device, dtype }))).backward());
      const terms = (16 * u * maxAbs(upstream)) / length;
      expectWithin(`${dtype}: gradient`, await x.grad!.data(), gradient, (size) => rounding(size) + terms);
      x.zeroGrad();
    }
  });

  test("refuses integers and scalars", () => {
    using ids = tensor(Int32Array.of(1), [1], { device });
    expectError(() => l2Normalize(ids as never), "ERR_DTYPE");
    using scalar = tensor(1, [], { device });
    expectError(() => l2Normalize(scalar), "ERR_SHAPE");
  });
});
