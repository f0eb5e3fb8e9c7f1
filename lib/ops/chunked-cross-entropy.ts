/** The cross-entropy of a projection's logits in chunks of rows, for every kind of weight. */
import { type GradientSlot, needsGrad, record } from "../core/autograd.js";
import { HeedError } from "../util/errors.js";
import { ops } from "../core/native.js";
import { formatShape, numel, sameShape } from "../core/shape.js";
import { allocate, type FloatTensor, type IntTensor } from "../core/tensor.js";
import { checkDType, checkInteger, checkNumber, checkTensor } from "./check.js";
import { type CrossEntropyOptions, lossScale, passScaled } from "./cross-entropy.js";
import { contiguous } from "./views.js";

/** Options of every cross-entropy in chunks. */
export interface ChunkOptions extends CrossEntropyOptions {
  /** Number of rows whose logits exist at the same time. */
  chunkRows?: number;
}

/** Projection to logits. Its functions compute with matrices. */
export interface ChunkedProjection {
  /** Number of logits of a row. */
  outputs: number;
  /** Number of rows in a chunk, unless the options say another. */
  usualRows: number;
  /** Weight, if it may get a gradient. */
  weight: FloatTensor | null;
  bias: FloatTensor | null;
  /** Computes the logits of rows. */
  logits: (out: FloatTensor, rows: FloatTensor) => void;
  /** Computes the gradient of rows from that of their logits. */
  rowsBackward: (out: FloatTensor, dlogits: FloatTensor) => void;
  /** Computes the gradients of weight and bias; null for one that is not needed. */
  weightBackward: (
    dWeight: GradientSlot | null,
    dBias: GradientSlot | null,
    rows: FloatTensor,
    dlogits: FloatTensor,
  ) => void;
}

/**
 * Checks targets and options.
 *
 * @throws ERR_SHAPE, ERR_RANGE or ERR_ARGUMENT if one does not fit.
 */
export function checkChunked(op: string, x: FloatTensor, targets: IntTensor, options: ChunkOptions): void {
  const { chunkRows, ignoreIndex = -100, labelSmoothing = 0 } = options;
  checkTensor(op, "targets", targets, x);
  checkDType(op, "targets", targets, "i32");
  checkInteger(op, "ignoreIndex", ignoreIndex, -(2 ** 31), 2 ** 31 - 1);
  checkNumber(op, "labelSmoothing", labelSmoothing, 0, 1);
  if (chunkRows !== undefined) checkInteger(op, "chunkRows", chunkRows, 1);
  const leading = x.shape.slice(0, -1);
  if (!sameShape(targets.shape, leading))
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected targets of shape ${formatShape(leading)}, got ${formatShape(targets.shape)}`,
    );
}

/**
 * Returns the mean cross-entropy of the projection's logits. The logits of a chunk are replaced by their own gradient,
 * which is multiplied at once, so that what is kept for `backward()` has the sizes of x and of the parameters.
 */
export function chunkedCrossEntropy(
  op: string,
  x: FloatTensor,
  targets: IntTensor,
  projection: ChunkedProjection,
  { chunkRows, ignoreIndex = -100, labelSmoothing = 0 }: ChunkOptions,
): FloatTensor {
  const { outputs, usualRows, weight, bias } = projection;
  const { dtype, device } = x;
  const inputs = x.shape.at(-1)!;
  const input = contiguous(x);
  const index = contiguous(targets);
  const rows = numel(x.shape.slice(0, -1));
  const chunks = Math.max(1, Math.ceil(rows / (chunkRows ?? usualRows)));
  const size = Math.ceil(rows / chunks);
  const recorded = needsGrad([input, weight, bias]);
  const scale = lossScale(dtype);
  const gradientOf = (tensor: FloatTensor | null, summed: boolean): FloatTensor | null => {
    if (!recorded || !tensor?.requiresGrad) return null;
    // Sums of f16 gradients that are multiplied by a scale may exceed the largest number of f16. Beside logits in f32,
    // kernels write the gradient of a 16-bit weight in f32 only.
    const sums = (summed && chunks > 1) || scale !== 1 || tensor.dtype !== dtype;
    return allocate(tensor.shape, sums ? "f32" : tensor.dtype, device, false);
  };
  const dx = gradientOf(input, false);
  const dWeight = gradientOf(weight, true);
  const dBias = gradientOf(bias, true);

  const loss: FloatTensor = allocate([], "f32", device);
  for (let chunk = 0; chunk < chunks; chunk++) {
    const first = chunk * size;
    const count = Math.min(size, rows - first);
    const accumulate = chunk > 0;
    const part = (of: FloatTensor): FloatTensor => of.viewAs([count, inputs], [inputs, 1], first * inputs, false);
    using xs = part(input);
    // This holds the logits first and then their gradient.
    using dy: FloatTensor = allocate([count, outputs], dtype, device, false);
    projection.logits(dy, xs);
    ops.cross_entropy({
      loss,
      dlogits: recorded ? dy : null,
      logits: dy,
      targets: index,
      first,
      ignoreIndex,
      smoothing: labelSmoothing,
      scale,
      accumulate,
    });
    if (dx) {
      using dxs = part(dx);
      projection.rowsBackward(dxs, dy);
    }
    const slot = (out: FloatTensor | null): GradientSlot | null => out && { out, accumulate };
    projection.weightBackward(slot(dWeight), slot(dBias), xs, dy);
  }
  if (recorded) {
    record(op, loss, [input, weight, bias], { dx, dWeight, dBias }, (context) => {
      const { dx, dWeight, dBias } = context.saved;
      passScaled(context as never, [dx, dWeight, dBias], scale);
    });
    for (const gradient of [dx, dWeight, dBias]) gradient?.dispose();
  }
  if (input !== x) input.dispose();
  if (index !== targets) index.dispose();
  return loss;
}
