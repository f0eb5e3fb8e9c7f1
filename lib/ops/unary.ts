import { record } from "../core/autograd.js";
import { describe, HeedError } from "../util/errors.js";
import { ops } from "../core/native.js";
import { unaryKinds } from "../core/native-kinds.js";
import { allocate, type FloatTensor } from "../core/tensor.js";
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

function define(name: UnaryKind, differentiable = true): (x: FloatTensor) => FloatTensor {
  const kind = unaryKinds[name];
  return (x) => {
    checkFloat(name, "x", x);
    const out: FloatTensor = allocate(x.shape, x.dtype, x.device);
    ops.unary({ out, inp: x, kind });
    if (!differentiable) return out;
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
/**
 * Returns the error function ∫₀ˣ 2/√π·e^(−t²) dt of each element.
 *
 * @example
 * const y = erf(tensor([0, 1])); // [0, 0.8427]
 */
export const erf = define("erf");
/**
 * Returns the tangent of each element, in radians.
 *
 * @example
 * const y = tan(tensor([0, Math.PI / 4])); // [0, 1]
 */
export const tan = define("tan");
/**
 * Returns the angle from −π/2 to π/2 whose sine is x, element by element; NaN outside of [−1, 1].
 *
 * @example
 * const y = asin(tensor([0, 1])); // [0, 1.5708]
 */
export const asin = define("asin");
/**
 * Returns the angle from 0 to π whose cosine is x, element by element; NaN outside of [−1, 1].
 *
 * @example
 * const y = acos(tensor([1, 0])); // [0, 1.5708]
 */
export const acos = define("acos");
/**
 * Returns the angle from −π/2 to π/2 whose tangent is x, element by element. `atan2` tells all quadrants apart.
 *
 * @example
 * const y = atan(tensor([0, 1])); // [0, 0.7854]
 */
export const atan = define("atan");
/**
 * Returns the hyperbolic sine (eˣ − e⁻ˣ)/2 of each element.
 *
 * @example
 * const y = sinh(tensor([0, 1])); // [0, 1.1752]
 */
export const sinh = define("sinh");
/**
 * Returns the hyperbolic cosine (eˣ + e⁻ˣ)/2 of each element.
 *
 * @example
 * const y = cosh(tensor([0, 1])); // [1, 1.5431]
 */
export const cosh = define("cosh");
/**
 * Returns the number whose hyperbolic sine is x, element by element.
 *
 * @example
 * const y = asinh(tensor([0, 1])); // [0, 0.8814]
 */
export const asinh = define("asinh");
/**
 * Returns the number of at least 0 whose hyperbolic cosine is x, element by element; NaN below 1.
 *
 * @example
 * const y = acosh(tensor([1, 2])); // [0, 1.317]
 */
export const acosh = define("acosh");
/**
 * Returns the number whose hyperbolic tangent is x, element by element; NaN outside of [−1, 1].
 *
 * @example
 * const y = atanh(tensor([0, 0.5])); // [0, 0.5493]
 */
export const atanh = define("atanh");
/**
 * Returns eˣ − 1, element by element, without the cancellation of `sub(exp(x), 1)` near 0.
 *
 * @example
 * const y = expm1(tensor([0, 1e-6])); // [0, 1.0000005e-6]
 */
export const expm1 = define("expm1");
/**
 * Returns the natural logarithm of 1 + x, element by element, also where x is tiny.
 *
 * @example
 * const y = log1p(tensor([0, 1e-6])); // [0, 9.999995e-7]
 */
export const log1p = define("log1p");
/**
 * Returns log(1 + eˣ), element by element: a smooth `relu`.
 *
 * @example
 * const y = softplus(tensor([-1, 0, 1])); // [0.3133, 0.6931, 1.3133]
 */
export const softplus = define("softplus");
/**
 * Returns x above 0 and eˣ − 1 elsewhere, element by element.
 *
 * @example
 * const y = elu(tensor([2, -1])); // [2, -0.6321]
 *
 * @see Clevert et al. 2016, "Fast and Accurate Deep Network Learning by Exponential Linear Units", arXiv:1511.07289.
 */
export const elu = define("elu");
/**
 * Returns λ·x above 0 and λ·α·(eˣ − 1) elsewhere, element by element, with λ = 1.0507 and α = 1.6733.
 *
 * @example
 * const y = selu(tensor([2, -1])); // [2.1014, -1.1113]
 *
 * @see Klambauer et al. 2017, "Self-Normalizing Neural Networks", arXiv:1706.02515.
 */
export const selu = define("selu");
/**
 * Returns min(max(x, 0), 6), element by element.
 *
 * @example
 * const y = relu6(tensor([-1, 3, 7])); // [0, 3, 6]
 */
export const relu6 = define("relu6");
/**
 * Returns the nearest integer of each element; of two equally near ones, the even one. Its gradient is 0.
 *
 * @example
 * const y = round(tensor([0.5, 1.5, -0.7])); // [0, 2, -1]
 */
export const round = define("round");
/**
 * Returns the largest integer that is at most x, element by element. Its gradient is 0.
 *
 * @example
 * const y = floor(tensor([1.5, -0.5])); // [1, -1]
 */
export const floor = define("floor");
/**
 * Returns the smallest integer that is at least x, element by element. Its gradient is 0.
 *
 * @example
 * const y = ceil(tensor([1.5, -1.5])); // [2, -1]
 */
export const ceil = define("ceil");
/**
 * Returns −1, 0 or 1 as x is negative, 0 (or NaN) or positive, element by element. Its gradient is 0.
 *
 * @example
 * const y = sign(tensor([-3, 0, 2])); // [-1, 0, 1]
 */
export const sign = define("sign");
/**
 * Returns 1 where x is NaN and 0 elsewhere, in the dtype of x. No gradient flows.
 *
 * @example
 * const bad = isNan(tensor([NaN, 1])); // [1, 0]
 */
export const isNan = define("isNan", false);
/**
 * Returns 1 where x is ∞ or −∞ and 0 elsewhere, in the dtype of x. No gradient flows.
 *
 * @example
 * const bad = isInf(tensor([Infinity, 1])); // [1, 0]
 */
export const isInf = define("isInf", false);
/**
 * Returns 1 where x is neither NaN nor infinite and 0 elsewhere, in the dtype of x. No gradient flows.
 *
 * @example
 * const good = isFinite(tensor([NaN, 1])); // [0, 1]
 */
export const isFinite = define("isFinite", false);

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
