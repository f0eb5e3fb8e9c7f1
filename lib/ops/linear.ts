import { needsGrad, record } from "../autograd.js";
import { HeedError } from "../errors.js";
import { ops } from "../native.js";
import { formatShape, numel, sameShape } from "../shape.js";
import { allocate, type FloatTensor } from "../tensor.js";
import { type Activation, activationBackward, activationIndex } from "./activation.js";
import { checkFloat, checkRank, checkShapeIs } from "./check.js";
import { contiguous } from "./views.js";

/** The weight as an [in, out] matrix, whichever way it lies; in no scope and no graph. */
function asInOut(weight: FloatTensor, layout: "oi" | "io"): FloatTensor {
  const [rows, columns] = weight.shape as [number, number];
  const [row, column] = weight.strides as [number, number];
  return layout === "io" ? weight.alias() : weight.viewAs([columns, rows], [column, row], 0, false);
}

export interface LinearOptions {
  /** [out] */
  bias?: FloatTensor | null;
  /** Applied to x·W + b before the residual is added. */
  activation?: Activation;
  /** Added to the result; of its shape. */
  residual?: FloatTensor | null;
  /** How `weight` lies in memory: [out, in] ("oi", the default) or [in, out] ("io", GPT-2's checkpoints). */
  layout?: "oi" | "io";
}

/**
 * activation(x·W + b) + residual in one pass: x [..., in] → [..., out].
 *
 * Backward: dx = dy·Wᵀ, dW = xᵀ·dy, db = Σ dy, with dy first multiplied by the activation's derivative.
 */
export function linear(x: FloatTensor, weight: FloatTensor, options: LinearOptions = {}): FloatTensor {
  const { bias = null, residual = null, activation = "none", layout = "oi" } = options;
  checkFloat("linear", "x", x);
  checkRank("linear", "x", x, 1);
  checkFloat("linear", "weight", weight, x);
  if (layout !== "oi" && layout !== "io")
    throw new HeedError("ERR_ARGUMENT", `linear: expected layout "oi" or "io", got ${String(layout)}`);
  const inputs = x.shape.at(-1)!;
  checkShapeIs("linear", "weight", weight, layout === "oi" ? [-1, inputs] : [inputs, -1]);
  const outputs = weight.shape[layout === "oi" ? 0 : 1]!;
  const shape = [...x.shape.slice(0, -1), outputs];
  if (bias) {
    checkFloat("linear", "bias", bias, x);
    checkShapeIs("linear", "bias", bias, [outputs]);
  }
  if (residual) {
    checkFloat("linear", "residual", residual, x);
    if (!sameShape(residual.shape, shape))
      throw new HeedError(
        "ERR_SHAPE",
        `linear: expected residual of shape ${formatShape(shape)}, got ${formatShape(residual.shape)}`,
      );
  }
  const kind = activationIndex("linear", activation);
  const input = contiguous(x);
  const added = residual && contiguous(residual);
  const rows = numel(x.shape.slice(0, -1));
  const matrix = (t: FloatTensor, columns: number): FloatTensor => t.viewAs([rows, columns], [columns, 1], 0, false);

  const out: FloatTensor = allocate(shape, x.dtype, x.device);
  const preact = kind && needsGrad([input, weight, bias, added]) ? allocate(shape, x.dtype, x.device, false) : null;
  {
    using a = matrix(input, inputs);
    using b = asInOut(weight, layout);
    using c = matrix(out, outputs);
    using r = added && matrix(added, outputs);
    using p = preact && matrix(preact, outputs);
    ops.gemm(
      c.handle,
      a.handle,
      b.handle,
      bias?.handle ?? null,
      r?.handle ?? null,
      p?.handle ?? null,
      null,
      kind,
      false,
    );
  }
  const saved = { input, weight, preact };
  record("linear", out, [input, weight, bias, added], saved, ({ dout, needs, gradient, pass, saved }) => {
    pass(3, dout);
    // dy: the gradient before the activation.
    using dy = saved.preact ? activationBackward(dout, saved.preact, activation) : dout.alias();
    using dy2 = matrix(dy, outputs);
    if (needs(0)) {
      const { out: dx, accumulate } = gradient(0);
      using target = matrix(dx, inputs);
      using w = asInOut(saved.weight, layout);
      using wt = w.viewAs([outputs, inputs], [w.strides[1]!, w.strides[0]!], 0, false);
      ops.gemm(target.handle, dy2.handle, wt.handle, null, null, null, null, 0, accumulate);
    }
    if (needs(1)) {
      const { out: dw, accumulate } = gradient(1);
      using x2 = matrix(saved.input, inputs);
      const [left, right] = layout === "io" ? [x2, dy2] : [dy2, x2];
      using lt = left.viewAs([left.shape[1]!, left.shape[0]!], [1, left.shape[1]!], 0, false);
      ops.gemm(dw.handle, lt.handle, right.handle, null, null, null, null, 0, accumulate);
    }
    if (needs(2)) {
      const { out: db, accumulate } = gradient(2);
      ops.bias_backward(db.handle, dy2.handle, accumulate);
    }
  });
  preact?.dispose();
  if (input !== x) input.dispose();
  if (added !== residual) added?.dispose();
  return out;
}
