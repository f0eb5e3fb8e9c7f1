import { type Activation, activate, activations } from "../../lib/ops/activation.js";
import { add } from "../../lib/ops/binary.js";
import { linear } from "../../lib/ops/linear.js";
import { formatShape } from "../../lib/core/shape.js";
import { fixtureTest } from "../support/fixtures.js";
import { byActivation } from "../support/functions.js";
import { add as plus, map, matmul, type Nd, normal, reshape, transpose } from "../support/nd.js";
import { turns } from "../support/nightly.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";

const random = new Random(6);
type Layout = "oi" | "io";
interface Options {
  layout: Layout;
  activation: Activation;
}

function product(x: Nd, weight: Nd, layout: Layout): Nd {
  const w = layout === "oi" ? transpose(weight) : weight;
  const rows = reshape(x, [x.shape.slice(0, -1).reduce((a, b) => a * b, 1), x.shape.at(-1)!]);
  return reshape(matmul(rows, w), [...x.shape.slice(0, -1), w.shape[1]!]);
}

const weightShape = (layout: Layout, inputs: number, outputs: number): number[] =>
  layout === "oi" ? [outputs, inputs] : [inputs, outputs];

/** Returns inputs with a scale that makes results of about 1. */
function inputsOf(x: number[], outputs: number, layout: Layout): Record<"x" | "weight" | "bias" | "residual", Nd> {
  const inputs = x.at(-1)!;
  return {
    x: normal(random, x),
    weight: normal(random, weightShape(layout, inputs, outputs), { scale: 1 / Math.sqrt(Math.max(1, inputs)) }),
    bias: normal(random, [outputs]),
    residual: normal(random, [...x.slice(0, -1), outputs]),
  };
}

// The tolerance of a matrix product (matmul.test.ts); the activation's slope multiplies an error of its argument by at
// most 1.13.
const tolerance = { out: { relative: 4, absolute: 12 }, grad: { relative: 8, absolute: 24 } };

// The gradient before the activation is rounded, and was computed at a rounded argument: errors of slightly more than
// one in each term of the sums that follow, which are about 1 but may cancel.
const roundings = { grad: { relative: 2, absolute: 2, scale: 1 } };
// Here all intermediate results are rounded: the product, the sum with the bias, and the activation.
const roundingsApart = { out: { relative: 2, absolute: 3, scale: 1 }, grad: { relative: 4, absolute: 4, scale: 1 } };

const sizes: [number[], number][] = [
  [[1, 1], 1],
  [[2], 3],
  [[3, 17], 31],
  [[2, 3, 33], 17],
  [[63, 5], 65],
  [[5, 257], 33],
  [[0, 5], 3],
  [[4, 0], 3],
];

for (const layout of ["oi", "io"] as const)
  opTest({
    name: `linear ${layout}`,
    cases: sizes.map(([x, outputs]) => {
      const inputs = inputsOf(x, outputs, layout);
      return { name: `${formatShape(x)} → ${outputs}`, inputs: { x: inputs.x, weight: inputs.weight } };
    }),
    ours: ({ x, weight }) => linear(x, weight, { layout }),
    reference: ({ x, weight }) => product(x, weight, layout),
    tolerance,
    parameters: ["weight"],
  });

for (const [turn, activation] of activations.entries()) {
  // The function is piecewise linear, so short steps cost no accuracy and cross no kinks.
  const step = activation === "relu" ? 1e-7 : 1e-4;
  opTest({
    name: `linear with everything fused, ${activation}`,
    cases: turns(
      turn,
      (["oi", "io"] as const).flatMap((layout) =>
        sizes.slice(1).map(([x, outputs]) => ({
          name: `${layout} ${formatShape(x)} → ${outputs}`,
          inputs: inputsOf(x, outputs, layout),
          options: { layout, activation } satisfies Options,
        })),
      ),
    ),
    ours: ({ x, weight, bias, residual }, _, options) => linear(x, weight, { ...options, bias, residual }),
    reference: ({ x, weight, bias, residual }, _, { layout }) =>
      plus(map(plus(product(x, weight, layout), bias), byActivation[activation]), residual),
    tolerance,
    roundings,
    parameters: ["weight", "bias"],
    step,
  });

  opTest({
    name: `linear's slow twin, ${activation}`,
    cases: [{ name: "[3, 17] → 31", inputs: inputsOf([3, 17], 31, "oi") }],
    ours: ({ x, weight, bias, residual }) => add(activate(add(linear(x, weight), bias), activation), residual),
    reference: ({ x, weight, bias, residual }) =>
      plus(map(plus(product(x, weight, "oi"), bias), byActivation[activation]), residual),
    tolerance,
    roundings: roundingsApart,
    single: false,
    step,
  });
}

fixtureTest("linear", ({ x, weight, bias, residual }, _, { options }) =>
  linear(x!, weight!, { ...(options as unknown as Options), bias: bias!, residual: residual ?? null }),
);
