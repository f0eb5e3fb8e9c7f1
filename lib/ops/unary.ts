import { record } from "../autograd.js";
import { describe, HeedError } from "../errors.js";
import { ops } from "../native.js";
import { unaryKinds } from "../native-kinds.js";
import { allocate, type FloatTensor } from "../tensor.js";
import { checkFloat } from "./check.js";

type UnaryKind = keyof typeof unaryKinds;

/** @internal kind(x) without a graph, as a tensor in no scope. */
export function unaryOf(name: UnaryKind, x: FloatTensor): FloatTensor {
  const out: FloatTensor = allocate(x.shape, x.dtype, x.device, false);
  ops.unary({ out, inp: x, kind: unaryKinds[name] });
  return out;
}

/** @internal dx for y = kind(x), as a tensor in no scope. */
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

/** −x */
export const neg = define("neg");
/** eˣ */
export const exp = define("exp");
/** Natural logarithm. */
export const log = define("log");
export const sqrt = define("sqrt");
/** 1/√x */
export const rsqrt = define("rsqrt");
/** x² */
export const square = define("square");
export const abs = define("abs");
export const tanh = define("tanh");
/** 1/(1 + e⁻ˣ) */
export const sigmoid = define("sigmoid");
/** elu(x) + 1 (Clevert et al. 2016): x + 1 above 0, else eˣ, which is above 0 as well. */
export const eluPlusOne = define("eluPlusOne");
/** max(x, 0) */
export const relu = define("relu");
/** x·σ(x), also called swish (Elfwing et al. 2017). */
export const silu = define("silu");
export const sin = define("sin");
export const cos = define("cos");
/** 1/x */
export const reciprocal = define("reciprocal");

const geluTanh = define("geluTanh");
const geluErf = define("geluErf");

/**
 * x·Φ(x) (Hendrycks & Gimpel 2016), exactly ("erf") or by GPT-2's approximation
 * 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) ("tanh", the default).
 */
export function gelu(x: FloatTensor, approximation: "tanh" | "erf" = "tanh"): FloatTensor {
  if (approximation !== "tanh" && approximation !== "erf")
    throw new HeedError("ERR_ARGUMENT", `gelu: expected "tanh" or "erf", got ${describe(approximation)}`);
  return approximation === "erf" ? geluErf(x) : geluTanh(x);
}
