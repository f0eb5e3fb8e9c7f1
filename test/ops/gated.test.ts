import { expect, test } from "vitest";
import { type Activation, activations } from "../../lib/ops/activation.js";
import { gated, packedGated } from "../../lib/ops/gated.js";
import { formatShape } from "../../lib/core/shape.js";
import { tensor } from "../../lib/core/creation.js";
import { byActivation } from "../support/functions.js";
import { generate, map, mapRows, type Nd, nonZero, normal, zip } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { targets } from "../support/targets.js";

const random = new Random(22);

/**
 * Returns gates away from relu's kink, and from the range in which gelu almost vanishes: its relative error there is
 * that of e^(x²).
 */
function gates(activation: Activation, shape: readonly number[]): Nd {
  if (activation === "relu") return nonZero(random, shape);
  return generate(shape, () => Math.max(-2.5, 2 * random.normal()));
}

const reference = (gate: Nd, up: Nd, activation: Activation): Nd =>
  zip(map(gate, byActivation[activation]), up, (a, b) => a * b);

// The error of the activation (unary.test.ts) and of a product. Gradients have two products, and terms of the slope may
// cancel.
const tolerance = { out: { relative: 7, absolute: 2 }, grad: { relative: 10, absolute: 4, scale: 1 } };

const shapes = [[], [0], [1], [3], [17], [33], [65], [257], [3, 0], [5, 33], [3, 1, 64], [2, 3, 40]];

for (const activation of activations)
  opTest({
    name: `gated, ${activation}`,
    cases: shapes.map((shape) => ({
      name: formatShape(shape),
      inputs: { gate: gates(activation, shape), up: normal(random, shape) },
    })),
    ours: ({ gate, up }) => gated(gate, up, activation),
    reference: ({ gate, up }) => reference(gate, up, activation),
    tolerance,
  });

opTest({
  name: "packedGated",
  cases: (["silu", "gelu"] as const).flatMap((activation) =>
    [[2], [6], [64], [3, 10], [0, 4], [2, 3, 128], [70, 34]].map((shape) => ({
      name: `${activation} ${formatShape(shape)}`,
      inputs: { x: gates(activation, shape) },
      options: activation,
    })),
  ),
  ours: ({ x }, _, activation) => packedGated(x, activation),
  reference: ({ x }, _, activation) => {
    const half = (part: number): Nd => {
      const width = x.shape.at(-1)! / 2;
      const rows: number[] = [];
      mapRows(x, (row) => {
        rows.push(...row.subarray(part * width, (part + 1) * width));
        return row;
      });
      return { shape: x.shape.with(-1, width), data: Float64Array.from(rows) };
    };
    return reference(half(0), half(1), activation);
  },
  tolerance,
});

opTest({
  name: "gated of a tensor and itself",
  cases: [[33], [4, 64]].map((shape) => ({ name: formatShape(shape), inputs: { x: gates("silu", shape) } })),
  ours: ({ x }) => gated(x, x),
  reference: ({ x }) => reference(x, x, "silu"),
  tolerance,
  // Two gradients, each of which is rounded, may cancel.
  roundings: { grad: { relative: 3, absolute: 2 } },
});

test.for(targets)("a gate far below 0 blocks, and one far above 0 passes, on $name", async ({ select, device }) => {
  select();
  for (const activation of ["relu", "gelu", "geluErf", "silu"] as const)
    for (const far of [200, Infinity]) {
      using gate = tensor([-far, 200], [2], { device });
      using up = tensor([3, 3], [2], { device });
      using out = gated(gate, up, activation);
      const [shut, open] = await out.data();
      expect(Math.abs(shut!), activation).toBeLessThan(1e-30);
      expect(open, activation).toBe(600);
    }
});
