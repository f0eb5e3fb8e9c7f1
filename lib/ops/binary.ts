import { attach, type Backward, needsGrad } from "../autograd.js";
import { ops } from "../native.js";
import { binaryKinds, reduceKinds } from "../native-kinds.js";
import { broadcastShapes, contiguousStrides, sameShape, type Shape } from "../shape.js";
import { full } from "../creation.js";
import { allocate, type FloatTensor, Tensor } from "../tensor.js";
import { scope } from "../scope.js";
import { checkFloat, checkNumber, checkTensor } from "./check.js";
import { log, neg } from "./unary.js";

type Kind = keyof typeof binaryKinds;

/**
 * A tensor, or a number that stretches to any shape. Beside bf16 and f16, numbers and f32 tensors of shape [] are not
 * rounded: they meet the tensor's elements in f32, and the result alone is rounded.
 */
export type Operand = FloatTensor | number;

/** `x` if it has that shape, else a view of it stretched to `shape` by strides of zero: the caller's to dispose. */
function expand(x: FloatTensor, shape: Shape): FloatTensor {
  if (sameShape(x.shape, shape)) return x;
  const missing = shape.length - x.shape.length;
  const strides = shape.map((_, i) => (i < missing || x.shape[i - missing] === 1 ? 0 : x.strides[i - missing]!));
  return x.viewAs(shape, strides, 0, false);
}

function isNumber(x: Tensor): boolean {
  return x.dtype === "f32" && x.shape.length === 0;
}

/** Gradients of more than one operation are taken in f32, so that they are rounded once. */
function wide(x: FloatTensor): FloatTensor {
  return x.dtype === "f32" ? x : x.to("f32");
}

/** Gradients of a and b at the full shape, from that of the output; called only for those that are needed. */
interface Gradients {
  /** Which of the tensors they are made of, beside that of the output. */
  of: readonly (keyof Saved)[];
  a: (dout: FloatTensor, saved: Saved) => FloatTensor;
  b: (dout: FloatTensor, saved: Saved) => FloatTensor;
}
type Saved = Record<"a" | "b" | "out", FloatTensor>;

/** Hands a gradient at the stretched shape to input i, which is `x`, summed over what was stretched. */
function contribute(context: Backward<Saved>, i: number, x: FloatTensor, value: FloatTensor): void {
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

function define(name: Kind, gradients: Gradients | null): (a: Operand, b: Operand) => FloatTensor {
  const kind = binaryKinds[name];
  const operand = (value: Operand, of: string, like: FloatTensor): FloatTensor => {
    if (typeof value !== "number") {
      checkTensor(name, of, value, like);
      if (!isNumber(value)) checkFloat(name, of, value, like);
      return value;
    }
    checkNumber(name, of, value);
    return full([], value, { device: like.device });
  };
  return (a, b) => {
    const like = (a instanceof Tensor && !(b instanceof Tensor && isNumber(a)) ? a : b) as FloatTensor;
    checkFloat(name, "a or b", like);
    const x = operand(a, "a", like);
    const y = operand(b, "b", like);
    const out: FloatTensor = allocate(broadcastShapes(name, x.shape, y.shape), like.dtype, like.device);
    const left = expand(x, out.shape);
    const right = expand(y, out.shape);
    try {
      ops.binary({ out, a: left, b: right, kind });
    } finally {
      if (left !== x) left.dispose();
      if (right !== y) right.dispose();
    }
    if (gradients && needsGrad([x, y])) attachGradients(name, out, x, y, gradients);
    if (x !== a) x.dispose();
    if (y !== b) y.dispose();
    return out;
  };
}

function attachGradients(name: Kind, out: FloatTensor, x: FloatTensor, y: FloatTensor, gradients: Gradients): void {
  const all: Saved = { a: x, b: y, out };
  const saved = Object.fromEntries(gradients.of.map((key) => [key, all[key]])) as Saved;
  attach(name, out, [x, y], saved, (context) => {
    scope(() => {
      if (context.needs(0)) contribute(context, 0, x, gradients.a(context.dout, context.saved));
      if (context.needs(1)) contribute(context, 1, y, gradients.b(context.dout, context.saved));
    });
  });
}

/** a + b; shapes broadcast by NumPy's rule, here and below. */
export const add = define("add", { of: [], a: (dout) => dout, b: (dout) => dout });

/** a − b */
export const sub = define("sub", { of: [], a: (dout) => dout, b: (dout) => neg(dout) });

/** a · b, element by element. */
export const mul = define("mul", {
  of: ["a", "b"],
  a: (dout, { b }) => mul(dout, b),
  b: (dout, { a }) => mul(dout, a),
});

/** a / b */
export const div = define("div", {
  of: ["b", "out"],
  a: (dout, { b }) => div(dout, b),
  b: (dout, { b, out }) => neg(div(mul(wide(dout), wide(out)), wide(b))),
});

/**
 * aᵇ. Where its derivatives would be NaN they are what PyTorch takes them for: that of a is 0 where b is 0, that of b is 0
 * where a is 0 and b not negative.
 */
export const pow = define("pow", {
  of: ["a", "b", "out"],
  a: (dout, { a, b }) => {
    const exponent = wide(b);
    // 0 times a power that is finite, where b is 0.
    const power = pow(wide(a), add(sub(exponent, 1), equal(exponent, 0)));
    return mul(mul(wide(dout), exponent), power);
  },
  b: (dout, { a, b, out }) => {
    const base = wide(a);
    const masked = mul(equal(base, 0), sub(1, less(wide(b), 0)));
    return mul(mul(wide(dout), wide(out)), log(add(base, masked)));
  },
});

/** The larger; where both are equal, each gets half of the gradient. */
export const maximum = define("maximum", {
  of: ["a", "b"],
  a: (dout, { a, b }) => mul(dout, add(greater(a, b), mul(equal(a, b), 0.5))),
  b: (dout, { a, b }) => mul(dout, add(less(a, b), mul(equal(a, b), 0.5))),
});

/** The smaller; where both are equal, each gets half of the gradient. */
export const minimum = define("minimum", {
  of: ["a", "b"],
  a: (dout, { a, b }) => mul(dout, add(less(a, b), mul(equal(a, b), 0.5))),
  b: (dout, { a, b }) => mul(dout, add(greater(a, b), mul(equal(a, b), 0.5))),
});

/** 1 where a = b, else 0. No gradient. */
export const equal = define("equal", null);
/** 1 where a > b, else 0. No gradient. */
export const greater = define("greater", null);
/** 1 where a < b, else 0. No gradient. */
export const less = define("less", null);
