import { record } from "../autograd.js";
import { ops } from "../native.js";
import { describe, HeedError } from "../errors.js";
import { checkAxis, contiguousStrides, formatShape, resolveShape, type Shape } from "../shape.js";
import { allocate, type FloatTensor, type Tensor } from "../tensor.js";
import { type DType, dtypes, isFloat } from "../dtype.js";
import { checkArray, checkInteger, checkTensor } from "./check.js";

/** Records a view of a floating tensor; of others there is nothing to record. */
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

/** The same elements under another shape; one size may be -1. A copy where `x` is not contiguous. */
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

/** The dimensions in another order, by default the last two swapped. A view: nothing moves. */
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

/** @internal The last two dimensions swapped: a view in no scope and no graph. */
export function transposed<T extends Tensor>(x: T): T {
  const swap = (list: Shape): number[] => [...list.slice(0, -2), list.at(-1)!, list.at(-2)!];
  return x.viewAs(swap(x.shape), swap(x.strides), 0, false) as T;
}

/** Elements [start, start + length) along an axis. A view: nothing moves. */
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

/** `x` itself if its elements lie in row-major order, else a copy that does. */
export function contiguous<T extends Tensor>(x: T): T {
  checkTensor("contiguous", "x", x);
  if (x.contiguous) return x;
  const out = allocate(x.shape, x.dtype, x.device) as T;
  ops.copy({ out, inp: x });
  return recordView("contiguous", x, out, (dout, dx) => {
    dx.pass(0, dout);
  });
}

/** The elements in another type, as `x.to(dtype)`. */
export function cast<D extends DType>(x: Tensor, dtype: D): Tensor<D> {
  checkTensor("cast", "x", x);
  if (!dtypes.includes(dtype))
    throw new HeedError("ERR_DTYPE", `cast: expected a dtype of ${dtypes.join(", ")}, got ${describe(dtype)}`);
  return x.to(dtype);
}
