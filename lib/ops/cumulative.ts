import { record } from "../core/autograd.js";
import { ops } from "../core/native.js";
import { checkAxis, contiguousStrides, numel } from "../core/shape.js";
import { allocate, type FloatTensor } from "../core/tensor.js";
import { checkBoolean, checkFloat, checkObject } from "./check.js";
import { contiguous } from "./views.js";

/** Options of `cumsum` and `cumprod`. */
export interface CumulativeOptions {
  /** Axis along which elements are added up or multiplied. @default -1 */
  axis?: number;
  /** Leaves an element out of its own result, so that the first result is 0, or 1 for a product. @default false */
  exclusive?: boolean;
  /** Begins at the end of the axis. @default false */
  reverse?: boolean;
}

function define(op: string, product: boolean): (x: FloatTensor, options?: CumulativeOptions) => FloatTensor {
  return (x, options = {}) => {
    checkFloat(op, "x", x);
    checkObject(op, "options", options);
    const { axis = -1, exclusive = false, reverse = false } = options;
    checkBoolean(op, "exclusive", exclusive);
    checkBoolean(op, "reverse", reverse);
    const at = checkAxis(op, axis, x.shape.length);
    const lines = [numel(x.shape.slice(0, at)), x.shape[at]!, numel(x.shape.slice(at + 1))];
    const strides = contiguousStrides(lines);
    const asLines = (tensor: FloatTensor): FloatTensor => tensor.viewAs(lines, strides, 0, false);

    const input = contiguous(x);
    const out: FloatTensor = allocate(x.shape, x.dtype, x.device);
    {
      using to = asLines(out);
      using from = asLines(input);
      ops.scan({ out: to, inp: from, product, exclusive, reverse });
    }
    // The gradient of a sum needs nothing but the gradient of the result.
    record(op, out, [input], { input: product ? input : null }, ({ dout, gradient, saved }) => {
      const { out: dx, accumulate } = gradient(0);
      using dinp = asLines(dx);
      using upstream = asLines(dout);
      using from = saved.input && asLines(saved.input);
      if (from) ops.scan_product_backward({ dinp, dout: upstream, inp: from, exclusive, reverse, accumulate });
      else ops.scan({ out: dinp, inp: upstream, product: false, exclusive, reverse: !reverse, accumulate });
    });
    if (input !== x) input.dispose();
    return out;
  };
}

/**
 * Returns the sums of the elements up to each one along an axis. On the CPU they are kept in f64, so that the rounding
 * errors of long sums do not add up.
 *
 * @example
 * const sums = cumsum(tensor([1, 2, 3])); // [1, 3, 6]
 * const before = cumsum(tensor([1, 2, 3]), { exclusive: true }); // [0, 1, 3]
 *
 * @throws ERR_RANGE if there is no such axis; ERR_ARGUMENT if an option is no boolean.
 */
export const cumsum = define("cumsum", false);

/**
 * Returns the products of the elements up to each one along an axis. Its gradient divides by nothing, so that it holds for
 * zeros too.
 *
 * @example
 * const products = cumprod(tensor([1, 2, 3])); // [1, 2, 6]
 *
 * @throws ERR_RANGE if there is no such axis; ERR_ARGUMENT if an option is no boolean.
 */
export const cumprod = define("cumprod", true);
