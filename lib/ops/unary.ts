import { record } from "../autograd.js";
import { describe, HeedError } from "../errors.js";
import { ops } from "../native.js";
import { unaryKinds } from "../native-kinds.js";
import { allocate, type FloatTensor } from "../tensor.js";
import { checkFloat } from "./check.js";

type UnaryKind = keyof typeof unaryKinds;

/** @internal Applies an elementwise function without recording it; the result is in no scope. */
export function unaryOf(name: UnaryKind, x: FloatTensor): FloatTensor {
  const out: FloatTensor = allocate(x.shape, x.dtype, x.device, false);
  ops.unary({ out, inp: x, kind: unaryKinds[name] });
  return out;
}

/** @internal Returns the gradient of x for y = kind(x), in no scope. */
export function unaryBackward(name: UnaryKind, dout: FloatTensor, x: FloatTensor): FloatTensor {
  const dinp: FloatTensor = allocate(x.shape, x.dtype, x.device, false);
  ops.unary_backward({ dinp, dout, inp: x, kind: unaryKinds[name] });
  return dinp;
}

function define(name: UnaryKind): (x: FloatTensor) => FloatTensor {
  const kind = unaryKinds[name];
  return (x) => {
    checkFloat(name, "x", x);
    const out: FloatTensor = allocate(x.shape, x.dtype, x.device);
    ops.unary({ out, inp: x, kind });
    return record(name, out, [x], { x }, ({ dout, gradient, saved }) => {
      const { out: dinp, accumulate } = gradient(0);
      ops.unary_backward({ dinp, dout, inp: saved.x, kind, accumulate });
    });
  };
}

/**
 * Returns −x, element by element.
 *
 * @example
 * const y = neg(tensor([1, -2])); // [-1, 2]
 */
export const neg = define("neg");
/**
 * Returns eˣ, element by element.
 *
 * @example
 * const y = exp(tensor([0, 1])); // [1, 2.718…]
 */
export const exp = define("exp");
/**
 * Returns the natural logarithm of each element.
 *
 * @example
 * const y = log(tensor([1, 0])); // [0, -Infinity]
 */
export const log = define("log");
/**
 * Returns the square root of each element.
 *
 * @example
 * const y = sqrt(tensor([4, 9])); // [2, 3]
 */
export const sqrt = define("sqrt");
/**
 * Returns 1/√x, element by element.
 *
 * @example
 * const y = rsqrt(tensor([4, 16])); // [0.5, 0.25]
 */
export const rsqrt = define("rsqrt");
/**
 * Returns x², element by element.
 *
 * @example
 * const y = square(tensor([2, -3])); // [4, 9]
 */
export const square = define("square");
/**
 * Returns the absolute value of each element.
 *
 * @example
 * const y = abs(tensor([2, -3])); // [2, 3]
 */
export const abs = define("abs");
/**
 * Returns the hyperbolic tangent of each element.
 *
 * @example
 * const y = tanh(tensor([0, 1])); // [0, 0.7616]
 */
export const tanh = define("tanh");
/**
 * Returns the logistic function 1/(1 + e⁻ˣ), element by element.
 *
 * @example
 * const y = sigmoid(tensor([0, 1])); // [0.5, 0.7311]
 */
export const sigmoid = define("sigmoid");
/**
 * Returns elu(x) + 1, element by element: x + 1 above 0, and eˣ elsewhere. It is always positive, as a feature map of
 * `linearAttention` must be.
 *
 * @example
 * const y = eluPlusOne(tensor([2, 0, -1])); // [3, 1, 0.3679]
 *
 * @see Clevert et al. 2016, "Fast and Accurate Deep Network Learning by Exponential Linear Units", arXiv:1511.07289.
 */
export const eluPlusOne = define("eluPlusOne");
/**
 * Returns max(x, 0), element by element.
 *
 * @example
 * const y = relu(tensor([2, -3])); // [2, 0]
 */
export const relu = define("relu");
/**
 * Returns x·σ(x), element by element. The function is also called swish.
 *
 * @example
 * const y = silu(tensor([0, 1])); // [0, 0.7311]
 *
 * @see Elfwing et al. 2017, "Sigmoid-Weighted Linear Units", arXiv:1702.03118.
 */
export const silu = define("silu");
/**
 * Returns the sine of each element, in radians.
 *
 * @example
 * const y = sin(tensor([0, Math.PI / 2])); // [0, 1]
 */
export const sin = define("sin");
/**
 * Returns the cosine of each element, in radians.
 *
 * @example
 * const y = cos(tensor([0, Math.PI])); // [1, -1]
 */
export const cos = define("cos");
/**
 * Returns 1/x, element by element.
 *
 * @example
 * const y = reciprocal(tensor([2, 4])); // [0.5, 0.25]
 */
export const reciprocal = define("reciprocal");

const geluTanh = define("geluTanh");
const geluErf = define("geluErf");

/**
 * Returns the GELU x·Φ(x), element by element: exactly ("erf"), or by GPT-2's approximation 0.5·x·(1 + tanh(√(2/π)·(x +
 * 0.044715·x³))) ("tanh").
 *
 * @default "tanh"
 *
 * @example
 * const y = gelu(x, "erf");
 *
 * @throws ERR_ARGUMENT for an unknown approximation.
 * @see Hendrycks & Gimpel 2016, "Gaussian Error Linear Units", arXiv:1606.08415.
 */
export function gelu(x: FloatTensor, approximation: "tanh" | "erf" = "tanh"): FloatTensor {
  if (approximation !== "tanh" && approximation !== "erf")
    throw new HeedError("ERR_ARGUMENT", `gelu: expected "tanh" or "erf", got ${describe(approximation)}`);
  return approximation === "erf" ? geluErf(x) : geluTanh(x);
}
