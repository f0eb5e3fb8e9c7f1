import type { Backward } from "../core/autograd.js";
import { ops } from "../core/native.js";
import { reduceKinds } from "../core/native-kinds.js";
import { contiguousStrides, sameShape, type Shape } from "../core/shape.js";
import { allocate, type FloatTensor, type Tensor } from "../core/tensor.js";

/**
 * @internal Returns `x` if it has the shape, otherwise a view of it that is stretched by strides of 0, which the caller
 *   disposes.
 */
export function expand<T extends Tensor>(x: T, shape: Shape): T {
  if (sameShape(x.shape, shape)) return x;
  const missing = shape.length - x.shape.length;
  const strides = shape.map((_, i) => (i < missing || x.shape[i - missing] === 1 ? 0 : x.strides[i - missing]!));
  return x.viewAs(shape, strides, 0, false) as T;
}

/**
 * @internal Returns `x` in f32. Gradients that take more than one operation are computed in f32, so that they are rounded
 *   once.
 */
export function wide(x: FloatTensor): FloatTensor {
  return x.dtype === "f32" ? x : x.to("f32");
}

/** @internal Adds a gradient at the stretched shape to input i, which is `x`, after summing it over the stretched dimensions. */
export function contribute(
  context: Pick<Backward<never>, "pass" | "gradient">,
  i: number,
  x: FloatTensor,
  value: FloatTensor,
): void {
  const { shape, dtype, device } = x;
  if (sameShape(shape, value.shape)) return context.pass(i, value);
  const kept = [...Array.from({ length: value.shape.length - shape.length }, () => 1), ...shape];
  const sum = (out: FloatTensor, of: FloatTensor, accumulate: boolean): void => {
    const target = out.viewAs(kept, contiguousStrides(kept));
    ops.reduce({ out: target, inp: of, kind: reduceKinds.sum, accumulate });
  };
  if (value.dtype === dtype) {
    const { out, accumulate } = context.gradient(i);
    return sum(out, value, accumulate);
  }
  const total = allocate(shape, "f32", device);
  sum(total, wide(value), false);
  context.pass(i, total);
}
