import { needsGrad, record } from "../autograd.js";
import { allocate, type FloatTensor } from "../tensor.js";
import { type Activation, activationBackward, activationIndex } from "./activation.js";
import { checkFloat, checkObject, checkRank } from "./check.js";
import {
  asInOut,
  asMatrix,
  checkProjection,
  checkResidual,
  type Layout,
  product,
  projectionGradients,
} from "./projection.js";
import { multiplier } from "./precision.js";
import { contiguous, transposed } from "./views.js";

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
 * weight and bias are sums in f32.
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
  using operand = multiplier(weight, x.dtype);
  const out: FloatTensor = allocate(shape, x.dtype, x.device);
  const preact = kind && needsGrad([input, weight, bias, added]) ? allocate(shape, x.dtype, x.device, false) : null;
  {
    using a = asMatrix(input);
    using w = asInOut(operand, layout);
    product(out, a, w, { bias, residual: added, preact, activation: kind });
  }
  // Only the weight's gradient needs the input.
  const kept = weight.requiresGrad ? input : null;
  record("linear", out, [input, weight, bias, added], { input: kept, weight: operand, preact }, (context) => {
    const { dout, needs, gradient, pass, saved } = context;
    pass(3, dout);
    using before = saved.preact ? activationBackward(dout, saved.preact, activation) : dout.alias();
    using dy = asMatrix(before);
    if (needs(0)) {
      const { out: dx, accumulate } = gradient(0);
      using w = asInOut(saved.weight, layout);
      using wT = transposed(w);
      product(dx, dy, wT, { accumulate });
    }
    using rows = saved.input && asMatrix(saved.input);
    projectionGradients(context as never, 1, rows, dy, layout);
  });
  preact?.dispose();
  if (input !== x) input.dispose();
  if (added !== residual) added?.dispose();
  return out;
}
