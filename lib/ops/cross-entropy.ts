import { type Backward, needsGrad, record } from "../autograd.js";
import type { FloatDType } from "../dtype.js";
import { HeedError } from "../errors.js";
import { ops } from "../native.js";
import { binaryKinds } from "../native-kinds.js";
import { formatShape, sameShape } from "../shape.js";
import { allocate, type FloatTensor, type IntTensor } from "../tensor.js";
import { mul } from "./binary.js";
import { checkDType, checkFloat, checkInteger, checkNumber, checkObject, checkRank, checkTensor } from "./check.js";
import { contiguous } from "./views.js";

export interface CrossEntropyOptions {
  /** Rows with this target count for nothing; −100 unless given. */
  ignoreIndex?: number;
  /** s: the target distribution is (1 − s)·onehot + s/V (Szegedy et al. 2016); 0 unless given. */
  labelSmoothing?: number;
}

/**
 * @internal What the gradients of a loss are multiplied by until `backward()` brings its own factor. f16 would round off
 * those of unlikely tokens, which that factor may be there to save; times this all of them are below its largest number.
 */
export function lossScale(dtype: FloatDType): number {
  return dtype === "f16" ? 2 ** 15 : 1;
}

/** @internal Passes on what a loss saved as its gradients times `scale`: that of the loss multiplies them, in f32. */
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

/** Multiplies by an f32 tensor of shape [], in place. */
function multiply(x: FloatTensor, factor: FloatTensor): void {
  const strides = x.shape.map(() => 0);
  using stretched = factor.viewAs(x.shape, strides, 0, false);
  ops.binary({ out: x, a: x, b: stretched, kind: binaryKinds.mul });
}

/**
 * Mean over the targets of −log softmax(logits)[target], in nats: logits [..., V], targets [...] → [].
 * 0 where every target is ignored. A target outside [0, V) is an error on the device: reading the loss, or what
 * is computed from its gradient, rejects with ERR_RANGE.
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
  // The gradient of the mean is made in the same pass over the logits.
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
