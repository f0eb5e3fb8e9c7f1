/**
 * Operations on tensors that need more than one task of the CPU's threads. Rows of them, including rows in the middle,
 * must have the same bits as if they were computed alone, and so must their gradients.
 */
import { expect, test } from "vitest";
import { tensor } from "../../lib/core/creation.js";
import { mul } from "../../lib/ops/binary.js";
import { packedGated } from "../../lib/ops/gated.js";
import { layerNorm } from "../../lib/ops/layer-norm.js";
import { sum } from "../../lib/ops/reduce.js";
import { rmsNorm } from "../../lib/ops/rms-norm.js";
import { rotary } from "../../lib/ops/rotary.js";
import { rotaryTable } from "../../lib/ops/rotary-table.js";
import { softmax } from "../../lib/ops/softmax.js";
import { gelu } from "../../lib/ops/unary.js";
import { cast, narrow, reshape } from "../../lib/ops/views.js";
import { scope } from "../../lib/core/scope.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { type Nd, nd, normal } from "../support/nd.js";
import { Random } from "../support/random.js";
import { targets } from "../support/targets.js";

const [rows, width] = [701, 132];
const random = new Random(31);
const [values, upstream, factors] = [
  normal(random, [rows, width]),
  normal(random, [rows, width]),
  normal(random, [width]),
];

/** Each operation takes rows [n, width] and treats all of them in the same way. */
const operations: Record<string, (x: FloatTensor) => FloatTensor> = {
  gelu: (x) => gelu(x),
  "the product with one row": (x) => mul(x, tensor(factors.data, [width])),
  "a cast": (x) => cast(cast(x, "bf16"), "f32"),
  "rows that lie apart": (x) => mul(narrow(x, 1, 3, 100), 1.5),
  gated: (x) => packedGated(x),
  softmax: (x) => softmax(x),
  layerNorm: (x) => layerNorm(x),
  rmsNorm: (x) => rmsNorm(x, { weight: tensor(factors.data, [width]) }),
  rotary: (x) => reshape(rotary(reshape(x, [x.shape[0]!, 1, 1, width]), rotaryTable({ size: 64, length: 1 })), x.shape),
  "sums of rows": (x) => mul(x, sum(x, { axes: [1], keepDims: true })),
};

/** Returns results and gradients of some rows. */
async function run(op: (x: FloatTensor) => FloatTensor, first: number, count: number): Promise<Float32Array[]> {
  const cut = (x: Nd): Nd => nd([count, width], x.data.subarray(first * width, (first + count) * width));
  using x = tensor(cut(values).data, [count, width]);
  x.requiresGrad = true;
  using out = scope(() => {
    const y = op(x);
    const above = narrow(tensor(cut(upstream).data, [count, width]), 1, 0, y.shape[1]!);
    sum(mul(y, above)).backward();
    return y;
  });
  return [await out.data(), await x.grad!.data()];
}

test.for(targets.filter(({ device }) => device === "cpu"))(
  "rows among many equal the same rows alone on $name",
  async (target) => {
    target.select();
    for (const [name, op] of Object.entries(operations)) {
      const whole = await run(op, 0, rows);
      for (const row of [0, 124, 125, 248, 350, 699]) {
        const alone = await run(op, row, 2);
        alone.forEach((part, i) => {
          const each = part.length / 2;
          expect(whole[i]!.subarray(row * each, (row + 2) * each), `${name} of rows ${row} and ${row + 1}`).toEqual(
            part,
          );
        });
      }
    }
  },
);
