import { type Backward, needsGrad, record } from "../core/autograd.js";
import type { FloatDType } from "../core/dtype.js";
import { HeedError } from "../util/errors.js";
import { ops } from "../core/native.js";
import { binaryKinds } from "../core/native-kinds.js";
import { formatShape, sameShape } from "../core/shape.js";
import { allocate, type FloatTensor, type IntTensor } from "../core/tensor.js";
import { mul } from "./binary.js";
import { checkDType, checkFloat, checkInteger, checkNumber, checkObject, checkRank, checkTensor } from "./check.js";
import { contiguous } from "./views.js";

/** Options of `crossEntropy`. */
export interface CrossEntropyOptions {
  /** Target whose rows do not count. @default -100 */
  ignoreIndex?: number;
  /**
   * Share s of label smoothing: the target distribution is (1 − s)·onehot + s/V.
   *
   * @default 0
   * @see Szegedy et al. 2016, "Rethinking the Inception Architecture for Computer Vision", §7, arXiv:1512.00567.
   */
  labelSmoothing?: number;
}

/**
 * @internal Returns the factor of the gradients that a loss saves until `backward()` brings its own factor. In f16 the
 * gradients of unlikely tokens would be rounded to 0 before the factor of `backward()` could save them. With this
 * factor none of them exceeds the largest number of f16.
 */
export function lossScale(dtype: FloatDType): number {
  return dtype === "f16" ? 2 ** 15 : 1;
}

/**
 * @internal Passes on the gradients that a loss saved with a factor of `scale`. They are multiplied by the loss's own
 * gradient in f32.
 */
export function passScaled(
  { dout, constant, pass }: Backward<never>,
  gradients: readonly (FloatTensor | null)[],
  scale: number,
): void {
  using factor = constant === scale ? null : mul(dout, 1 / scale);
  gradients.forEach((gradient, i) => {
    if (!gradient) return;
    if (factor) multiply(gradient, factor);
    pass(i, gradient);
  });
}

/** Multiplies `x` in place by an f32 tensor of shape []. */
function multiply(x: FloatTensor, factor: FloatTensor): void {
  const strides = x.shape.map(() => 0);
  using stretched = factor.viewAs(x.shape, strides, 0, false);
  ops.binary({ out: x, a: x, b: stretched, kind: binaryKinds.mul });
}

/**
 * Returns the mean of −log softmax(logits)[target] over the targets, in nats: logits [..., V], targets i32 [...] → f32
 * []. If every target is ignored, the loss is 0.
 *
 * A target outside [0, V) is an error on the device: reading the loss, or what is computed from its gradient, rejects
 * with ERR_RANGE.
 *
 * @example
 * const logits = randn([2, 6, 256], { seed: 1 });
 * const targets = zeros([2, 6], { dtype: "i32" });
 * const loss = await crossEntropy(logits, targets).item();
 *
 * @throws ERR_SHAPE if the shapes do not fit; ERR_RANGE if an option is out of range.
 */
export function crossEntropy(logits: FloatTensor, targets: IntTensor, options: CrossEntropyOptions = {}): FloatTensor {
  checkObject("crossEntropy", "options", options);
  const { ignoreIndex = -100, labelSmoothing = 0 } = options;
  checkFloat("crossEntropy", "logits", logits);
  checkRank("crossEntropy", "logits", logits, 1);
  checkTensor("crossEntropy", "targets", targets, logits);
  checkDType("crossEntropy", "targets", targets, "i32");
  checkInteger("crossEntropy", "ignoreIndex", ignoreIndex, -(2 ** 31), 2 ** 31 - 1);
  checkNumber("crossEntropy", "labelSmoothing", labelSmoothing, 0, 1);
  const rows = logits.shape.slice(0, -1);
  if (!sameShape(targets.shape, rows))
    throw new HeedError(
      "ERR_SHAPE",
      `crossEntropy: expected targets of shape ${formatShape(rows)}, got ${formatShape(targets.shape)}`,
    );
  const input = contiguous(logits);
  const index = contiguous(targets);
  const loss: FloatTensor = allocate([], "f32", logits.device);
  // The gradient of the mean is computed in the same pass over the logits.
  const dlogits = needsGrad([input]) ? allocate(input.shape, input.dtype, input.device, false) : null;
  const scale = lossScale(input.dtype);
  ops.cross_entropy({
    loss,
    dlogits,
    logits: input,
    targets: index,
    first: 0,
    ignoreIndex,
    smoothing: labelSmoothing,
    scale,
  });
  if (dlogits) {
    record("crossEntropy", loss, [input], { dlogits }, (context) => {
      passScaled(context as never, [context.saved.dlogits], scale);
    });
    dlogits.dispose();
  }
  if (input !== logits) input.dispose();
  if (index !== targets) index.dispose();
  return loss;
}
