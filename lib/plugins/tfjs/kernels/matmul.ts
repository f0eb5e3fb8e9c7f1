/** Matrix products, with a fused bias and activation. */
import { ops } from "../../../core/native.js";
import { nativeActivations } from "../../../core/native-kinds.js";
import { broadcastShapes, numel, sameShape } from "../../../core/shape.js";
import type { Tensor } from "../../../core/tensor.js";
import { floats, kernel, type KernelTable } from "../table.js";
import type { TensorInfo } from "../types.js";
import { activated } from "./activations.js";
import type { Work } from "../work.js";

interface Transposes {
  transposeA?: boolean;
  transposeB?: boolean;
}

interface Fused extends Transposes {
  activation?: string;
  leakyreluAlpha?: number;
}

/** Returns a view of a batch of matrices, transposed if asked for, with the sizes of `batch` in front. */
function matrices(work: Work, info: TensorInfo, transpose: boolean | undefined, batch: readonly number[]): Tensor {
  const x = work.input(info);
  const rank = x.shape.length;
  const order = [...x.shape.keys()];
  if (transpose) [order[rank - 2], order[rank - 1]] = [rank - 1, rank - 2];
  const view = transpose ? work.permute(x, order) : x;
  const shape = [...batch, ...view.shape.slice(-2)];
  if (sameShape(shape, view.shape)) return view;
  const missing = shape.length - rank;
  const strides = shape.map((_, i) => {
    const size = view.shape[i - missing];
    return i < missing || (i < batch.length && size === 1) ? 0 : view.strides[i - missing]!;
  });
  return work.view(view, shape, strides);
}

function product(
  work: Work,
  a: TensorInfo,
  b: TensorInfo,
  { transposeA, transposeB }: Transposes,
  bias: Tensor | null,
  activation: number,
): Tensor {
  const batch = broadcastShapes("matMul", a.shape.slice(0, -2), b.shape.slice(0, -2));
  const left = matrices(work, a, transposeA, batch);
  const right = matrices(work, b, transposeB, batch);
  const out = work.make([...batch, left.shape.at(-2)!, right.shape.at(-1)!]);
  ops.gemm({ out, a: left, b: right, bias, activation });
  return out;
}

export const matmulKernels: KernelTable = {
  BatchMatMul: kernel<Transposes>(floats, (work, { a, b }, attrs) =>
    work.result(product(work, a!, b!, attrs, null, nativeActivations.none)),
  ),
  _FusedMatMul: kernel<Fused>(floats, (work, { a, b, bias, preluActivationWeights }, attrs) => {
    const { activation = "linear", leakyreluAlpha } = attrs;
    const columns = attrs.transposeB ? b!.shape.at(-2)! : b!.shape.at(-1)!;
    // A row of biases is added by the product, and so are the two most common activations.
    const row = bias && numel(bias.shape) === columns && (bias.shape.at(-1) ?? 1) === columns ? bias : undefined;
    const whole = !bias || row;
    const fused = whole && (activation === "relu" || activation === "sigmoid") ? activation : "none";
    const added = row ? work.input(row, [columns]) : null;
    let out = product(work, a!, b!, attrs, added, nativeActivations[fused]);
    if (bias && !row) out = work.binary("add", out, work.input(bias));
    if (fused === "none")
      out = activated(work, out, { activation, alpha: leakyreluAlpha, prelu: preluActivationWeights });
    return work.result(out);
  }),
};
