/** Reductions, cumulative sums and products, softmax, and kernels that find the largest elements. */
import { ops } from "../../../core/native.js";
import { numel } from "../../../core/shape.js";
import type { Tensor } from "../../../core/tensor.js";
import { both, type DeviceKernel, elements, flags, floats, kernel, type KernelTable } from "../table.js";
import type { Inputs } from "../types.js";
import { axesOf, isEmpty, reducedShape, type Work } from "../work.js";

interface Reduction {
  axis?: unknown;
  /** Name that the axes of Max have. */
  reductionIndices?: unknown;
  keepDims: boolean;
}

/** Is true if the input has elements, since an empty one has no largest element. */
const nonEmpty = ({ x }: Inputs): boolean => !isEmpty(x!);

/** Returns the kernel of a reduction that `of` computes over axes, which it keeps with a size of 1. */
const reduction = (takes: DeviceKernel["takes"], of: (work: Work, x: Tensor, axes: number[]) => Tensor): DeviceKernel =>
  kernel<Reduction>(takes, (work, { x }, { axis, reductionIndices = axis, keepDims }) => {
    const axes = axesOf(work, reductionIndices, x!.shape);
    const out = of(work, work.input(x!), axes);
    const shape = reducedShape(x!.shape, axes, keepDims);
    return x!.dtype === "bool" ? work.flags(out, shape) : work.result(out, "float32", shape);
  });

const largest = (work: Work, x: Tensor, axes: number[]): Tensor => work.reduce("max", x, axes);
const smallest = (work: Work, x: Tensor, axes: number[]): Tensor =>
  work.unary("neg", largest(work, work.unary("neg", x), axes));

/** Moves one axis to the end. */
function last(work: Work, x: Tensor, axis: number): Tensor {
  const order = x.shape.map((_, i) => i).filter((i) => i !== axis);
  return work.contiguous(work.permute(x, [...order, axis]));
}

const position = (largest: boolean): DeviceKernel =>
  kernel<{ axis: unknown }>(both(floats, nonEmpty), (work, { x }, { axis }) => {
    // TensorFlow.js gives one axis, alone or in a list.
    const at = work.tf.util.parseAxisParam(axis as number, x!.shape)[0]!;
    const inp = last(work, work.input(x!), at);
    const ids = work.make(inp.shape.slice(0, -1), "i32");
    ops.argmax({ ids, inp: largest ? inp : work.unary("neg", inp) });
    return work.result(ids, "int32");
  });

interface Scan {
  axis: number;
  exclusive: boolean;
  reverse: boolean;
}

/** Returns cumulative sums or products along the middle one of three dimensions. */
function scanned(work: Work, x: Tensor, product: boolean, exclusive = false, reverse = false): Tensor {
  const out = work.make(x.shape);
  ops.scan({ out, inp: x, product, exclusive, reverse });
  return out;
}

/**
 * Returns the kernel of cumulative sums or products. Those of integers, which have to be exact, are left to the host: heed
 * computes them in floats.
 */
const scan = (product: boolean): DeviceKernel =>
  kernel<Scan>(
    both(floats, ({ x }) => x!.shape.length > 0),
    (work, { x }, { axis, exclusive, reverse }) => {
      const { shape } = x!;
      const at = work.tf.util.parseAxisParam(axis, shape)[0]!;
      const lines = [numel(shape.slice(0, at)), shape[at]!, numel(shape.slice(at + 1))];
      return work.result(scanned(work, work.input(x!, lines), product, exclusive, reverse), "float32", shape);
    },
  );

export const reductionKernels: KernelTable = {
  Cumsum: scan(false),
  Cumprod: scan(true),
  // The last of the cumulative products.
  Prod: kernel<Reduction>(both(floats, nonEmpty), (work, { x }, { axis, keepDims }) => {
    const { shape } = x!;
    const axes = axesOf(work, axis, shape);
    const kept = [...shape.keys()].filter((i) => !axes.includes(i));
    const [outer, n] = [kept, axes].map((list) => numel(list.map((i) => shape[i]!))) as [number, number];
    const lines = work.reshape(work.permute(work.input(x!), [...kept, ...axes]), [outer, n, 1]);
    const last = work.block(scanned(work, lines, true), [0, n - 1, 0], [outer, 1, 1]);
    return work.result(work.copied(last), "float32", reducedShape(shape, axes, keepDims));
  }),
  Sum: reduction(floats, (work, x, axes) => work.reduce("sum", x, axes)),
  Max: reduction(both(floats, nonEmpty), largest),
  Min: reduction(both(floats, nonEmpty), smallest),
  All: reduction(both(flags, nonEmpty), (work, x, axes) => smallest(work, work.cast(x, "f32"), axes)),
  Any: reduction(both(flags, nonEmpty), (work, x, axes) => largest(work, work.cast(x, "f32"), axes)),
  Mean: kernel<Reduction>(both(elements, nonEmpty), (work, { x }, { axis, keepDims }) => {
    const axes = axesOf(work, axis, x!.shape);
    const mean = work.reduce("mean", work.cast(work.input(x!), "f32"), axes);
    return work.result(mean, "float32", reducedShape(x!.shape, axes, keepDims));
  }),
  ArgMax: position(true),
  ArgMin: position(false),
  TopK: kernel<{ k: number }>(
    both(floats, nonEmpty, ({ x }, { k }) => x!.shape.length > 0 && (k as number) > 0),
    (work, { x }, { k }) => {
      const shape = [...x!.shape.slice(0, -1), k];
      const [values, ids] = [work.make(shape), work.make(shape, "i32")];
      ops.topk({ values, ids, inp: work.input(x!) });
      return [work.result(values), work.result(ids, "int32")];
    },
  ),
  // TensorFlow.js calls the kernel for the last dimension only.
  Softmax: kernel(
    both(floats, ({ logits }, { dim }) => {
      const rank = logits!.shape.length;
      return rank > 0 && (dim === rank - 1 || dim === -1);
    }),
    (work, { logits }) => {
      const out = work.make(logits!.shape);
      ops.softmax_forward({ out, inp: work.input(logits!) });
      return work.result(out);
    },
  ),
};
