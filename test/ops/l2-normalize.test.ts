import { expect, test } from "vitest";
import { l2Normalize } from "../../lib/ops/l2-normalize.js";
import { formatShape } from "../../lib/shape.js";
import { tensor } from "../../lib/tensor.js";
import { expectError } from "../support/errors.js";
import { mapRows, normal } from "../support/nd.js";
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
  // The sum's rounding is halved by the root; then a root and a quotient. The terms of the gradient (dy − y·Σ dy·y)/‖x‖,
  // of about 1, cancel, all of them where there is one; in short types it goes through five operations.
  tolerance: { out: { relative: 8, absolute: 0 }, grad: { relative: 16, absolute: 16, scale: 1 } },
  roundings: { out: { relative: 3, absolute: 0 }, grad: { relative: 8, absolute: 8, scale: 1 } },
  single: false,
});

onEachDevice((device) => {
  test("nothing stays nothing", async () => {
    using x = tensor([0, 0, 0], [1, 3], { device });
    using y = l2Normalize(x);
    expect([...(await y.data())]).toEqual([0, 0, 0]);
  });

  test("refuses integers and scalars", () => {
    using ids = tensor(Int32Array.of(1), [1], { device });
    expectError(() => l2Normalize(ids as never), "ERR_DTYPE");
    using scalar = tensor(1, [], { device });
    expectError(() => l2Normalize(scalar), "ERR_SHAPE");
  });
});
