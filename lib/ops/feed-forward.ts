import { needsGrad, record } from "../core/autograd.js";
import { ops } from "../core/native.js";
import { allocate, type FloatTensor } from "../core/tensor.js";
import { activated, type Activation, activationIndex } from "./activation.js";
import { checkFloat, checkObject, checkRank } from "./check.js";
import { checkProjection, checkResidual, type Layout, projectionGradients } from "./projection.js";
import { multiplier } from "./precision.js";
import { contiguous } from "./views.js";

/** Weights of a feed-forward layer, each in the layout that the options name. */
export interface FeedForwardWeights {
  /** Projection from width C to the hidden width; `bias` has the hidden width. */
  up: { weight: FloatTensor; bias?: FloatTensor | null };
  /** Projection from the hidden width back to C; `bias` is [C]. */
  down: { weight: FloatTensor; bias?: FloatTensor | null };
}

/**
 * Returns activation(x·U + bᵤ)·D + b_d + residual: x [..., C] → [..., C]. The activation is "gelu" by default, and
 * weights lie in layout "oi" ([out, in]).
 *
 * The result is that of two calls of `linear`, but the backward pass fuses the activation's derivative into the product
 * before it: dh = (dy·Dᵀ) ⊙ activation'(x·U + bᵤ), then dx = dh·Uᵀ and the gradients of the weights. Of the hidden
 * values it keeps only x·U + bᵤ and applies the activation again, which saves a quarter of a block's memory. Dtypes may
 * be combined as in `linear`.
 *
 * @example
 * const up = { weight: randn([32, 8], { seed: 1 }), bias: zeros([32]) };
 * const down = { weight: randn([8, 32], { seed: 2 }), bias: zeros([8]) };
 * const y = feedForward(x, { up, down }, { activation: "gelu", residual: x });
 *
 * @throws ERR_SHAPE if the shapes do not fit; ERR_ARGUMENT for an unknown activation or layout.
 * @see Vaswani et al. 2017, "Attention Is All You Need", eq. 2, arXiv:1706.03762.
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
  using upWeight = multiplier(up.weight, x.dtype);
  using downWeight = multiplier(down.weight, x.dtype);
  using h = make(hidden);
  using preact = needsGrad(inputs) ? make(hidden) : null;
  const out = make(outputs, true);
  const transposeB = layout === "oi";
  ops.gemm({ out: h, a: input, b: upWeight, transposeB, bias: up.bias, preact, activation: kind });
  ops.gemm({ out, a: h, b: downWeight, transposeB, bias: down.bias, residual: added });
  // Only the weight's gradient needs the input.
  const kept = up.weight.requiresGrad ? input : null;
  const saved = { input: kept, preact, up: upWeight, down: downWeight };
  record(op, out, inputs, saved, (context) => {
    const { dout, needs, gradient, pass, saved } = context;
    pass(5, dout);
    if (needs(3) || needs(4)) {
      using h = activated(saved.preact!, activation);
      projectionGradients(context as never, 3, h, dout, layout);
    }
    if (![0, 1, 2].some(needs)) return;
    using dh = make(hidden);
    ops.gemm({
      out: dh,
      a: dout,
      b: saved.down,
      transposeB: !transposeB,
      dactPreact: saved.preact,
      activation: kind,
    });
    projectionGradients(context as never, 1, saved.input, dh, layout);
    if (needs(0)) {
      const { out, accumulate } = gradient(0);
      ops.gemm({ out, a: dh, b: saved.up, transposeB: !transposeB, accumulate });
    }
  });
  if (input !== x) input.dispose();
  if (added !== residual) added?.dispose();
  return out;
}
