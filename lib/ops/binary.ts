import { type Backward, record } from "../autograd.js";
import { ops } from "../native.js";
import { broadcastShapes, contiguousStrides, sameShape, type Shape } from "../shape.js";
import { allocate, type FloatTensor, full, Tensor } from "../tensor.js";
import { scope } from "../scope.js";
import { checkFloat, checkNumber } from "./check.js";
import { log, neg } from "./unary.js";

/** In the order of `BinaryKind` in native/core/kinds.h. */
const kinds = ["add", "sub", "mul", "div", "maximum", "minimum", "pow", "equal", "greater", "less"] as const;
type Kind = (typeof kinds)[number];

/** @internal The operation's number on the native side. */
export function binaryKind(name: Kind): number {
  return kinds.indexOf(name);
}

/** A tensor, or a number that stretches to any shape. */
export type Operand = FloatTensor | number;

/** A view of `x` stretched to `shape` by strides of zero. */
function expand(x: FloatTensor, shape: Shape): FloatTensor {
  if (sameShape(x.shape, shape)) return x.alias();
  const missing = shape.length - x.shape.length;
  const strides = shape.map((_, i) => (i < missing || x.shape[i - missing] === 1 ? 0 : x.strides[i - missing]!));
  return x.viewAs(shape, strides, 0, false);
}

/** Gradients of a and b at the full shape, from that of the output; called only for those that are needed. */
interface Gradients {
  /** Which of the tensors they are made of, beside that of the output. */
  of: readonly (keyof Saved)[];
  a: (dout: FloatTensor, saved: Saved) => FloatTensor;
  b: (dout: FloatTensor, saved: Saved) => FloatTensor;
}
type Saved = Record<"a" | "b" | "out", FloatTensor>;

/** Hands a gradient at the stretched shape to input i, summed over what was stretched. */
function contribute(context: Backward<Saved>, i: number, shape: Shape, value: FloatTensor): void {
  if (sameShape(shape, value.shape)) return context.pass(i, value);
  const { out, accumulate } = context.gradient(i);
  const kept = [...Array.from({ length: value.shape.length - shape.length }, () => 1), ...shape];
  const target = out.viewAs(kept, contiguousStrides(kept));
  ops.reduce(target.handle, value.handle, 0, accumulate);
}

function define(kind: Kind, gradients: Gradients | null): (a: Operand, b: Operand) => FloatTensor {
  return (a, b) => {
    const like = a instanceof Tensor ? a : b;
    checkFloat(kind, "a or b", like);
    const operand = (value: Operand, name: string): FloatTensor => {
      if (typeof value !== "number") {
        checkFloat(kind, name, value, like as FloatTensor);
        return value;
      }
      checkNumber(kind, name, value);
      return full([], value, { dtype: (like as FloatTensor).dtype, device: (like as FloatTensor).device });
    };
    const x = operand(a, "a");
    const y = operand(b, "b");
    const out: FloatTensor = allocate(broadcastShapes(kind, x.shape, y.shape), x.dtype, x.device);
    using left = expand(x, out.shape);
    using right = expand(y, out.shape);
    ops.binary(out.handle, left.handle, right.handle, kinds.indexOf(kind), false);
    if (gradients) {
      const all: Saved = { a: x, b: y, out };
      const saved = Object.fromEntries(gradients.of.map((name) => [name, all[name]])) as Saved;
      record(kind, out, [x, y], saved, (context) => {
        scope(() => {
          if (context.needs(0)) contribute(context, 0, x.shape, gradients.a(context.dout, context.saved));
          if (context.needs(1)) contribute(context, 1, y.shape, gradients.b(context.dout, context.saved));
        });
      });
    }
    if (x !== a) x.dispose();
    if (y !== b) y.dispose();
    return out;
  };
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
  b: (dout, { b, out }) => neg(div(mul(dout, out), b)),
});

/** aᵇ */
export const pow = define("pow", {
  of: ["a", "b", "out"],
  a: (dout, { a, b }) => mul(mul(dout, b), pow(a, sub(b, 1))),
  b: (dout, { a, out }) => mul(mul(dout, out), log(a)),
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
