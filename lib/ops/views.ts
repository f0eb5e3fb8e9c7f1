import { record } from "../core/autograd.js";
import { ops } from "../core/native.js";
import { describe, HeedError, oneOf } from "../util/errors.js";
import { checkAxis, contiguousStrides, formatShape, resolveShape, type Shape } from "../core/shape.js";
import { allocate, type FloatTensor, type Tensor } from "../core/tensor.js";
import { type DType, dtypes, isFloat } from "../core/dtype.js";
import { checkArray, checkInteger, checkTensor } from "./check.js";

/** Records a view of a floating tensor. Other tensors have no gradients to record. */
function recordView<T extends Tensor>(
  name: string,
  x: T,
  view: T,
  backward: (dout: FloatTensor, dx: Gradient) => void,
): T {
  if (!isFloat(x.dtype)) return view;
  record(name, view as unknown as FloatTensor, [x], {}, (context) => {
    backward(context.dout, context);
  });
  return view;
}

type Gradient = Parameters<Parameters<typeof record>[4]>[0];

/**
 * Returns the same elements with another shape, in which one size may be -1. The result is a view if `x` is contiguous,
 * and a copy otherwise.
 *
 * @example
 * const y = reshape(x, [4, -1]); // [2, 8] → [4, 4]
 *
 * @throws ERR_SHAPE if the numbers of elements differ.
 */
export function reshape<T extends Tensor>(x: T, shape: readonly number[]): T {
  checkTensor("reshape", "x", x);
  const target = resolveShape("reshape", shape, x.size);
  const source = contiguous(x);
  const view = source.viewAs(target, contiguousStrides(target)) as T;
  recordView("reshape", source, view, (dout, dx) => {
    const back = dout.viewAs(source.shape, contiguousStrides(source.shape), 0, false);
    dx.pass(0, back);
    back.dispose();
  });
  if (source !== x) source.dispose();
  return view;
}

/**
 * Returns a view with the dimensions in another order, by default with the last two swapped. No element is moved.
 *
 * @example
 * const y = transpose(x); // [2, 8] → [8, 2]
 * const byHead = transpose(ones([2, 6, 4, 16]), [0, 2, 1, 3]); // [2, 4, 6, 16]
 *
 * @throws ERR_SHAPE if x has fewer than 2 dimensions and no order is given; ERR_RANGE or ERR_ARGUMENT if `order` does
 *   not name each dimension once.
 */
export function transpose<T extends Tensor>(x: T, order?: readonly number[]): T {
  checkTensor("transpose", "x", x);
  if (order) checkArray("transpose", "order", order);
  const rank = x.shape.length;
  const axes = order?.map((axis) => checkAxis("transpose", axis, rank)) ?? [
    ...Array.from({ length: rank - 2 }, (_, i) => i),
    rank - 1,
    rank - 2,
  ];
  if (rank < 2 && !order)
    throw new HeedError("ERR_SHAPE", `transpose: expected at least 2 dimensions, got shape ${formatShape(x.shape)}`);
  if (axes.length !== rank || new Set(axes).size !== rank)
    throw new HeedError(
      "ERR_ARGUMENT",
      `transpose: expected an order of all ${rank} axes, got ${formatShape(order ?? [])}`,
    );
  const view = x.viewAs(
    axes.map((axis) => x.shape[axis]!),
    axes.map((axis) => x.strides[axis]!),
  ) as T;
  const { shape } = x;
  return recordView("transpose", x, view, (dout, dx) => {
    const { out, accumulate } = dx.gradient(0);
    const strides = contiguousStrides(shape);
    const target = out.viewAs(
      axes.map((axis) => shape[axis]!),
      axes.map((axis) => strides[axis]!),
      0,
      false,
    );
    ops.copy({ out: target, inp: dout, accumulate });
    target.dispose();
  });
}

/** @internal Returns a view with the last two dimensions swapped, in no scope and no graph. */
export function transposed<T extends Tensor>(x: T): T {
  const swap = (list: Shape): number[] => [...list.slice(0, -2), list.at(-1)!, list.at(-2)!];
  return x.viewAs(swap(x.shape), swap(x.strides), 0, false) as T;
}

/**
 * Returns a view of the elements [start, start + length) along an axis. No element is moved. A negative axis counts
 * from the end.
 *
 * @example
 * const y = narrow(x, 1, 2, 3); // columns 2 to 4: [2, 8] → [2, 3]
 *
 * @throws ERR_RANGE if there is no such axis or the elements are not all there.
 */
export function narrow<T extends Tensor>(x: T, axis: number, start: number, length: number): T {
  checkTensor("narrow", "x", x);
  const at = checkAxis("narrow", axis, x.shape.length);
  const size = x.shape[at]!;
  checkInteger("narrow", "start", start, 0, size);
  checkInteger("narrow", "length", length, 0, size - start);
  const shape = x.shape.with(at, length);
  const view = x.viewAs(shape, x.strides, start * x.strides[at]!) as T;
  const full = x.shape;
  return recordView("narrow", x, view, (dout, dx) => {
    const { out, accumulate } = dx.gradient(0);
    if (!accumulate) ops.fill({ out, value: 0 });
    const strides = contiguousStrides(full);
    const target = out.viewAs(shape, strides, start * strides[at]!, false);
    ops.copy({ out: target, inp: dout, accumulate: true });
    target.dispose();
  });
}

/**
 * Returns `x` itself if its elements lie in row-major order, otherwise a copy in that order.
 *
 * @example
 * const y = contiguous(transpose(x)); // [8, 2]
 */
export function contiguous<T extends Tensor>(x: T): T {
  checkTensor("contiguous", "x", x);
  if (x.contiguous) return x;
  const out = allocate(x.shape, x.dtype, x.device) as T;
  ops.copy({ out, inp: x });
  return recordView("contiguous", x, out, (dout, dx) => {
    dx.pass(0, dout);
  });
}

/**
 * Returns the elements in another dtype, like `x.to(dtype)`. Gradients flow back.
 *
 * @example
 * const y = cast(x, "bf16");
 *
 * @throws ERR_DTYPE for an unknown dtype.
 */
export function cast<D extends DType>(x: Tensor, dtype: D): Tensor<D> {
  checkTensor("cast", "x", x);
  if (!dtypes.includes(dtype))
    throw new HeedError("ERR_DTYPE", `cast: expected dtype to be ${oneOf(dtypes)}, got ${describe(dtype)}`);
  return x.to(dtype);
}
