import { needsGrad, record } from "../autograd.js";
import { allocate, type FloatTensor } from "../tensor.js";
import { activated, type Activation, activationIndex } from "./activation.js";
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
import { rounded } from "./precision.js";
import { contiguous, transposed } from "./views.js";

export interface FeedForwardWeights {
  /** C → hidden */
  up: { weight: FloatTensor; bias?: FloatTensor | null };
  /** hidden → C */
  down: { weight: FloatTensor; bias?: FloatTensor | null };
}

/**
 * activation(x·U + bᵤ)·D + b_d + residual (Vaswani et al. 2017, eq. 2), x [..., C] → [..., C].
 *
 * The same as two `linear`s, but the activation's derivative is fused into the product before it on the way back:
 * dh = (dy·Dᵀ) ⊙ activation'(x·U + bᵤ), then dx = dh·Uᵀ and the weights' gradients. Of the hidden values only x·U + bᵤ
 * is kept for that, a quarter less memory for a block, and activated again. Dtypes are as in `linear`.
 */
export function feedForward(
  x: FloatTensor,
  weights: FeedForwardWeights,
  options: { activation?: Activation; layout?: Layout; residual?: FloatTensor | null } = {},
): FloatTensor {
  const op = "feedForward";
  checkObject(op, "weights", weights);
  checkObject(op, "options", options);
  const { up, down } = weights;
  checkObject(op, "up", up);
  checkObject(op, "down", down);
  const { activation = "gelu", layout = "oi", residual = null } = options;
  checkFloat(op, "x", x);
  checkRank(op, "x", x, 1);
  const hidden = checkProjection(op, x, x.shape.at(-1)!, up.weight, up.bias ?? null, layout);
  const outputs = checkProjection(op, x, hidden, down.weight, down.bias ?? null, layout);
  const leading = x.shape.slice(0, -1);
  checkResidual(op, x, residual, [...leading, outputs]);
  const kind = activationIndex(op, activation);

  const input = contiguous(x);
  const added = residual && contiguous(residual);
  const inputs = [input, up.weight, up.bias, down.weight, down.bias, added];
  const make = (width: number, scoped = false): FloatTensor => allocate([...leading, width], x.dtype, x.device, scoped);
  using upWeight = rounded(up.weight, x.dtype);
  using downWeight = rounded(down.weight, x.dtype);
  using h = make(hidden);
  using preact = needsGrad(inputs) ? make(hidden) : null;
  const out = make(outputs, true);
  {
    using a = asMatrix(input);
    using u = asInOut(upWeight, layout);
    product(h, a, u, { bias: up.bias ?? null, preact, activation: kind });
    using b = asMatrix(h);
    using d = asInOut(downWeight, layout);
    product(out, b, d, { bias: down.bias ?? null, residual: added });
  }
  const saved = { input, preact, up: upWeight, down: downWeight };
  record(op, out, inputs, saved, (context) => {
    const { dout, needs, gradient, pass, saved } = context;
    pass(5, dout);
    using dy = asMatrix(dout);
    if (needs(3) || needs(4)) {
      using h = activated(saved.preact!, activation);
      using hRows = asMatrix(h);
      projectionGradients(context as never, 3, hRows, dy, layout);
    }
    if (![0, 1, 2].some(needs)) return;
    using dh = make(hidden);
    using d = asInOut(saved.down, layout);
    using dT = transposed(d);
    product(dh, dy, dT, { dactPreact: saved.preact, activation: kind });
    using dhRows = asMatrix(dh);
    using xRows = asMatrix(saved.input);
    projectionGradients(context as never, 1, xRows, dhRows, layout);
    if (needs(0)) {
      const { out: dx, accumulate } = gradient(0);
      using u = asInOut(saved.up, layout);
      using uT = transposed(u);
      product(dx, dhRows, uT, { accumulate });
    }
  });
  if (input !== x) input.dispose();
  if (added !== residual) added?.dispose();
  return out;
}
