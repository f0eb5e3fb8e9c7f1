import { record } from "../core/autograd.js";
import { HeedError } from "../util/errors.js";
import { ops } from "../core/native.js";
import { reduceKinds } from "../core/native-kinds.js";
import { scope } from "../core/scope.js";
import { checkAxis, contiguousStrides, numel } from "../core/shape.js";
import { allocate, type FloatTensor } from "../core/tensor.js";
import { equal, mul } from "./binary.js";
import { checkArray, checkFloat, checkObject } from "./check.js";
import { reciprocal } from "./unary.js";

/** Options of `sum`, `mean` and `max`. */
export interface ReduceOptions {
  /** Dimensions to reduce, by default all. A negative one counts from the end. */
  axes?: readonly number[];
  /** Keeps the reduced dimensions with size 1. @default false */
  keepDims?: boolean;
}

function reduce(name: keyof typeof reduceKinds, x: FloatTensor, options: ReduceOptions): FloatTensor {
  checkFloat(name, "x", x);
  checkObject(name, "options", options);
  if (options.axes) checkArray(name, "axes", options.axes);
  const rank = x.shape.length;
  const axes = new Set(options.axes ? options.axes.map((axis) => checkAxis(name, axis, rank)) : x.shape.keys());
  const kept = x.shape.map((size, i) => (axes.has(i) ? 1 : size));
  if (name !== "sum" && x.size === 0 && numel(kept) > 0)
    throw new HeedError("ERR_SHAPE", `${name}: expected at least one element, got ${x}`);
  const whole: FloatTensor = allocate(kept, x.dtype, x.device, false);
  ops.reduce({ out: whole, inp: x, kind: reduceKinds[name] });
  const shape = options.keepDims ? kept : x.shape.filter((_, i) => !axes.has(i));
  const out = whole.viewAs(shape, contiguousStrides(shape));
  const count = x.size / Math.max(1, numel(kept));
  record(name, out, [x], name === "max" ? { x, whole } : {}, ({ dout, gradient, pass, saved }) => {
    // The gradient is stretched over the dimensions that were reduced.
    const strides = contiguousStrides(kept).map((stride, i) => (axes.has(i) ? 0 : stride));
    using stretched = dout.viewAs(x.shape, strides, 0, false);
    if (name === "sum") {
      const { out: dinp, accumulate } = gradient(0);
      ops.copy({ out: dinp, inp: stretched, accumulate });
    } else
      scope(() => {
        if (name === "mean") return pass(0, mul(stretched, 1 / count));
        // If several elements are the largest, they share the gradient.
        const ties = equal(saved.x!, saved.whole!).to("f32"); // a 16-bit type cannot count them all
        const share = reduce("sum", ties, { axes: [...axes], keepDims: true });
        pass(0, mul(mul(stretched.to("f32"), ties), reciprocal(share)));
      });
  });
  whole.dispose();
  return out;
}

/**
 * Returns the sum over the dimensions `axes`, by default over all.
 *
 * @example
 * const total = await sum(x).item();
 * const rows = sum(x, { axes: [-1] }); // [2, 8] → [2]
 *
 * @throws ERR_RANGE if there is no such dimension.
 */
export function sum(x: FloatTensor, options: ReduceOptions = {}): FloatTensor {
  return reduce("sum", x, options);
}

/**
 * Returns the mean over the dimensions `axes`, by default over all.
 *
 * @example
 * const columns = mean(x, { axes: [0] }); // [2, 8] → [8]
 *
 * @throws ERR_RANGE if there is no such dimension; ERR_SHAPE for the mean of no elements.
 */
export function mean(x: FloatTensor, options: ReduceOptions = {}): FloatTensor {
  return reduce("mean", x, options);
}

/**
 * Returns the largest element over the dimensions `axes`, by default over all. If several elements are the largest,
 * they share its gradient.
 *
 * @example
 * const largest = max(x, { axes: [-1], keepDims: true }); // [2, 8] → [2, 1]
 *
 * @throws ERR_RANGE if there is no such dimension; ERR_SHAPE for the largest of no elements.
 */
export function max(x: FloatTensor, options: ReduceOptions = {}): FloatTensor {
  return reduce("max", x, options);
}
