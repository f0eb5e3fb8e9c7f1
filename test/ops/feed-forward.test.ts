import { type Activation, activations } from "../../lib/ops/activation.js";
import { feedForward } from "../../lib/ops/feed-forward.js";
import { linear } from "../../lib/ops/linear.js";
import { byActivation } from "../support/functions.js";
import { add as plus, map, matmul, type Nd, normal, reshape, transpose } from "../support/nd.js";
import { turns } from "../support/nightly.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";

const random = new Random(16);
type Layout = "oi" | "io";
interface Options {
  layout: Layout;
  activation: Activation;
}

function project(x: Nd, weight: Nd, bias: Nd, layout: Layout): Nd {
  return plus(matmul(x, layout === "oi" ? transpose(weight) : weight), bias);
}

function inputsOf(rows: number[], width: number, hidden: number, layout: Layout) {
  const weight = (from: number, to: number): Nd =>
    normal(random, layout === "oi" ? [to, from] : [from, to], { scale: 1 / Math.sqrt(from) });
  return {
    x: normal(random, [...rows, width]),
    up: weight(width, hidden),
    upBias: normal(random, [hidden]),
    down: weight(hidden, width),
    downBias: normal(random, [width]),
    residual: normal(random, [...rows, width]),
  };
}

const sizes: [number[], number, number][] = [
  [[1], 1, 1],
  [[2, 3], 17, 33],
  [[31], 5, 65],
  [[65], 33, 3],
];

for (const [turn, activation] of activations.entries())
  for (const fused of activation === "gelu" ? [true, false] : [true])
    opTest({
      name: `feedForward${fused ? "" : "'s slow twin"}, ${activation}`,
      cases: turns(
        turn,
        (["oi", "io"] as const).flatMap((layout) =>
          sizes.map(([rows, width, hidden]) => ({
            name: `${layout} [${rows.join()}] ${width} → ${hidden}`,
            inputs: inputsOf(rows, width, hidden, layout),
            options: { layout, activation } satisfies Options,
          })),
        ),
      ),
      ours: ({ x, up, upBias, down, downBias, residual }, _, { layout, activation }) =>
        fused
          ? feedForward(
              x,
              { up: { weight: up, bias: upBias }, down: { weight: down, bias: downBias } },
              { layout, activation, residual },
            )
          : linear(linear(x, up, { bias: upBias, activation, layout }), down, { bias: downBias, layout, residual }),
      reference: ({ x, up, upBias, down, downBias, residual }, _, { layout, activation }) => {
        const rows = reshape(x, [x.shape.slice(0, -1).reduce((a, b) => a * b, 1), x.shape.at(-1)!]);
        const h = map(project(rows, up, upBias, layout), byActivation[activation]);
        return plus(reshape(project(h, down, downBias, layout), x.shape), residual);
      },
      // Two products in a row, each with the tolerance of linear.test.ts.
      tolerance: { out: { relative: 8, absolute: 24 }, grad: { relative: 16, absolute: 48 } },
      // The hidden layer, its gradient and the activation's argument are rounded: errors of one or two in each term of
      // sums of about 1, which may cancel.
      roundings: { out: { relative: 1, absolute: 2, scale: 1 }, grad: { relative: 2, absolute: 4, scale: 1 } },
      parameters: ["up", "upBias", "down", "downBias"],
      single: fused,
      step: activation === "relu" ? 1e-7 : 1e-4,
    });
