import { needsGrad, record } from "../core/autograd.js";
import { ops } from "../core/native.js";
import { allocate, type FloatTensor } from "../core/tensor.js";
import { type Activation, activationBackward, activationIndex } from "./activation.js";
import { checkFloat, checkObject, checkRank } from "./check.js";
import { checkProjection, checkResidual, type Layout, projectionGradients } from "./projection.js";
import { multiplier } from "./precision.js";
import { contiguous } from "./views.js";

/** Options of `linear`. */
export interface LinearOptions {
  /** Bias [out]. @default null */
  bias?: FloatTensor | null;
  /** Activation of x·W + b, before the residual is added. @default "none" */
  activation?: Activation;
  /** Tensor of the result's shape that is added to it. @default null */
  residual?: FloatTensor | null;
  /** Order of the weight's dimensions: [out, in] ("oi") or [in, out] ("io", as in GPT-2's files). @default "oi" */
  layout?: Layout;
}

/**
 * Returns activation(x·W + b) + residual, computed in one pass: x [..., in] → [..., out].
 *
 * The backward pass is dx = dy·Wᵀ, dW = xᵀ·dy, db = Σ dy, where dy has been multiplied by the derivative of the
 * activation.
 *
 * If x is bf16 or f16, weight and bias may be f32. The weight is then rounded to the dtype of x, and the gradients of
 * weight and bias are sums in f32. If x is f32, the weight may be bf16 or f16: the result is that of the same numbers in
 * f32, while only 16 bits of each are read.
 *
 * @example
 * const weight = parameter(randn([4, 8], { seed: 2 }));
 * const y = linear(x, weight, { bias: zeros([4]), activation: "gelu" }); // [2, 4]
 *
 * @throws ERR_SHAPE if the shapes do not fit; ERR_ARGUMENT for an unknown activation or layout.
 */
export function linear(x: FloatTensor, weight: FloatTensor, options: LinearOptions = {}): FloatTensor {
  checkObject("linear", "options", options);
  const { bias = null, residual = null, activation = "none", layout = "oi" } = options;
  checkFloat("linear", "x", x);
  checkRank("linear", "x", x, 1);
  const outputs = checkProjection("linear", x, x.shape.at(-1)!, weight, bias, layout);
  const shape = [...x.shape.slice(0, -1), outputs];
  checkResidual("linear", x, residual, shape);
  const kind = activationIndex("linear", activation);

  const input = contiguous(x);
  const added = residual && contiguous(residual);
  const operand = multiplier(weight, x.dtype);
  const out: FloatTensor = allocate(shape, x.dtype, x.device);
  const preact = kind && needsGrad([input, weight, bias, added]) ? allocate(shape, x.dtype, x.device, false) : null;
  ops.gemm({
    out,
    a: input,
    b: operand,
    transposeB: layout === "oi",
    bias,
    residual: added,
    preact,
    activation: kind,
  });
  // Only the weight's gradient needs the input.
  const kept = weight.requiresGrad ? input : null;
  record("linear", out, [input, weight, bias, added], { input: kept, weight: operand, preact }, (context) => {
    const { dout, needs, gradient, pass, saved } = context;
    pass(3, dout);
    const dy = saved.preact ? activationBackward(dout, saved.preact, activation) : dout;
    if (needs(0)) {
      const { out, accumulate } = gradient(0);
      ops.gemm({ out, a: dy, b: saved.weight, transposeB: layout === "io", accumulate });
    }
    projectionGradients(context as never, 1, saved.input, dy, layout);
    if (dy !== dout) dy.dispose();
  });
  operand.dispose();
  preact?.dispose();
  if (input !== x) input.dispose();
  if (added !== residual) added?.dispose();
  return out;
}
