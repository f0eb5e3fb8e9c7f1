import { attach, needsGrad } from "../core/autograd.js";
import { ops } from "../core/native.js";
import { binaryKinds } from "../core/native-kinds.js";
import { broadcastShapes } from "../core/shape.js";
import { full } from "../core/creation.js";
import { allocate, type FloatTensor, Tensor } from "../core/tensor.js";
import { scope } from "../core/scope.js";
import { contribute, expand, wide } from "./broadcast.js";
import { checkFloat, checkNumber, checkTensor } from "./check.js";
import { log, neg } from "./unary.js";

type Kind = keyof typeof binaryKinds;

/**
 * Operand of an elementwise operation: a tensor, or a number, which stretches to any shape and must not be NaN
 * (ERR_RANGE). Beside bf16 and f16 tensors, numbers and f32 tensors of shape [] are not rounded: the operation computes
 * in f32 and rounds only the result.
 */
export type Operand = FloatTensor | number;

function isNumber(x: Tensor): boolean {
  return x.dtype === "f32" && x.shape.length === 0;
}

/**
 * Functions that compute the gradients of a and b at the full shape, from the gradient of the output. They are called
 * only if that gradient is needed.
 */
interface Gradients {
  /** Tensors that the functions need in addition to the gradient of the output. */
  of: readonly (keyof Saved)[];
  a: (dout: FloatTensor, saved: Saved) => FloatTensor;
  b: (dout: FloatTensor, saved: Saved) => FloatTensor;
}
type Saved = Record<"a" | "b" | "out", FloatTensor>;

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
    checkFloat(name, !(like instanceof Tensor) ? "a or b" : like === a ? "a" : "b", like);
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

/**
 * Returns a + b, element by element. Shapes broadcast by NumPy's rule.
 *
 * @example
 * const y = add(x, tensor([1, 2, 3, 4, 5, 6, 7, 8])); // [2, 8] + [8]
 *
 * @throws ERR_SHAPE if the shapes do not broadcast.
 */
export const add = define("add", { of: [], a: (dout) => dout, b: (dout) => dout });

/**
 * Returns a − b, element by element. Shapes broadcast by NumPy's rule.
 *
 * @example
 * const y = sub(1, x);
 *
 * @throws ERR_SHAPE if the shapes do not broadcast.
 */
export const sub = define("sub", { of: [], a: (dout) => dout, b: (dout) => neg(dout) });

/**
 * Returns a · b, element by element. Shapes broadcast by NumPy's rule. `matmul` is the matrix product.
 *
 * @example
 * const y = mul(x, 0.5);
 *
 * @throws ERR_SHAPE if the shapes do not broadcast.
 */
export const mul = define("mul", {
  of: ["a", "b"],
  a: (dout, { b }) => mul(dout, b),
  b: (dout, { a }) => mul(dout, a),
});

/**
 * Returns a / b, element by element. Shapes broadcast by NumPy's rule.
 *
 * @example
 * const y = div(x, sum(x, { axes: [-1], keepDims: true })); // every row sums to 1
 *
 * @throws ERR_SHAPE if the shapes do not broadcast.
 */
export const div = define("div", {
  of: ["b", "out"],
  a: (dout, { b }) => div(dout, b),
  b: (dout, { b, out }) => neg(div(mul(wide(dout), wide(out)), wide(b))),
});

/**
 * Returns aᵇ, element by element. Shapes broadcast by NumPy's rule.
 *
 * Where a derivative would be NaN it has the value that PyTorch gives it: the derivative with respect to a is 0 where b
 * is 0, and the one with respect to b is 0 where a is 0 and b is not negative.
 *
 * @example
 * const y = pow(tensor([1, 2, 3]), 2); // [1, 4, 9]
 *
 * @throws ERR_SHAPE if the shapes do not broadcast.
 */
export const pow = define("pow", {
  of: ["a", "b", "out"],
  a: (dout, { a, b }) => {
    const exponent = wide(b);
    // Where b is 0, this is 0 times a finite power.
    const power = pow(wide(a), add(sub(exponent, 1), equal(exponent, 0)));
    return mul(mul(wide(dout), exponent), power);
  },
  b: (dout, { a, b, out }) => {
    const base = wide(a);
    const masked = mul(equal(base, 0), sub(1, less(wide(b), 0)));
    return mul(mul(wide(dout), wide(out)), log(add(base, masked)));
  },
});

/**
 * Returns the larger of a and b, element by element. Shapes broadcast by NumPy's rule. Where both are equal, each gets
 * half of the gradient.
 *
 * @example
 * const y = maximum(x, 0);
 *
 * @throws ERR_SHAPE if the shapes do not broadcast.
 */
export const maximum = define("maximum", {
  of: ["a", "b"],
  a: (dout, { a, b }) => mul(dout, add(greater(a, b), mul(equal(a, b), 0.5))),
  b: (dout, { a, b }) => mul(dout, add(less(a, b), mul(equal(a, b), 0.5))),
});

/**
 * Returns the smaller of a and b, element by element. Shapes broadcast by NumPy's rule. Where both are equal, each gets
 * half of the gradient.
 *
 * @example
 * const y = minimum(maximum(x, -1), 1);
 *
 * @throws ERR_SHAPE if the shapes do not broadcast.
 */
export const minimum = define("minimum", {
  of: ["a", "b"],
  a: (dout, { a, b }) => mul(dout, add(less(a, b), mul(equal(a, b), 0.5))),
  b: (dout, { a, b }) => mul(dout, add(greater(a, b), mul(equal(a, b), 0.5))),
});

/**
 * Returns 1 where a = b and 0 elsewhere, in the dtype of the operands. Shapes broadcast by NumPy's rule; no gradient
 * flows.
 *
 * @example
 * const hits = equal(tensor([1, 2, 3]), 2); // [0, 1, 0]
 *
 * @throws ERR_SHAPE if the shapes do not broadcast.
 */
export const equal = define("equal", null);
/**
 * Returns 1 where a > b and 0 elsewhere, in the dtype of the operands. Shapes broadcast by NumPy's rule; no gradient
 * flows.
 *
 * @example
 * const positive = greater(x, 0);
 *
 * @throws ERR_SHAPE if the shapes do not broadcast.
 */
export const greater = define("greater", null);
/**
 * Returns 1 where a < b and 0 elsewhere, in the dtype of the operands. Shapes broadcast by NumPy's rule; no gradient
 * flows.
 *
 * @example
 * const negative = less(x, 0);
 *
 * @throws ERR_SHAPE if the shapes do not broadcast.
 */
export const less = define("less", null);
/**
 * Returns 1 where a ≠ b and 0 elsewhere, in the dtype of the operands. Shapes broadcast by NumPy's rule; no gradient
 * flows. NaN differs from every number and from itself.
 *
 * @example
 * const others = notEqual(tensor([1, 2, 3]), 2); // [1, 0, 1]
 *
 * @throws ERR_SHAPE if the shapes do not broadcast.
 */
export const notEqual = define("notEqual", null);
/**
 * Returns 1 where a ≥ b and 0 elsewhere, in the dtype of the operands. Shapes broadcast by NumPy's rule; no gradient
 * flows.
 *
 * @example
 * const enough = greaterEqual(tensor([1, 2, 3]), 2); // [0, 1, 1]
 *
 * @throws ERR_SHAPE if the shapes do not broadcast.
 */
export const greaterEqual = define("greaterEqual", null);
/**
 * Returns 1 where a ≤ b and 0 elsewhere, in the dtype of the operands. Shapes broadcast by NumPy's rule; no gradient
 * flows.
 *
 * @example
 * const atMost = lessEqual(tensor([1, 2, 3]), 2); // [1, 1, 0]
 *
 * @throws ERR_SHAPE if the shapes do not broadcast.
 */
export const lessEqual = define("lessEqual", null);
/**
 * Returns 1 where neither a nor b is 0 and 0 elsewhere, in the dtype of the operands. Shapes broadcast by NumPy's rule; no
 * gradient flows.
 *
 * @example
 * const within = logicalAnd(greater(x, -1), less(x, 1));
 *
 * @throws ERR_SHAPE if the shapes do not broadcast.
 */
export const logicalAnd = define("logicalAnd", null);
/**
 * Returns 1 where a or b is not 0 and 0 elsewhere, in the dtype of the operands. Shapes broadcast by NumPy's rule; no
 * gradient flows.
 *
 * @example
 * const outside = logicalOr(less(x, -1), greater(x, 1));
 *
 * @throws ERR_SHAPE if the shapes do not broadcast.
 */
export const logicalOr = define("logicalOr", null);

/**
 * Returns (a − b)², element by element. Shapes broadcast by NumPy's rule.
 *
 * @example
 * const y = squaredDifference(tensor([1, 4]), 2); // [1, 4]
 *
 * @throws ERR_SHAPE if the shapes do not broadcast.
 */
export const squaredDifference = define("squaredDifference", {
  of: ["a", "b"],
  a: (dout, { a, b }) => mul(mul(wide(dout), 2), sub(wide(a), wide(b))),
  b: (dout, { a, b }) => mul(mul(wide(dout), 2), sub(wide(b), wide(a))),
});

/**
 * Returns the angle of the point (b, a), from −π to π and with the tangent a / b, element by element. Shapes broadcast by
 * NumPy's rule.
 *
 * @example
 * const angle = atan2(tensor([1, 1]), tensor([1, -1])); // [0.7854, 2.3562]
 *
 * @throws ERR_SHAPE if the shapes do not broadcast.
 */
export const atan2 = define("atan2", {
  of: ["a", "b"],
  a: (dout, { a, b }) => div(mul(wide(dout), wide(b)), squaredLength(a, b)),
  b: (dout, { a, b }) => neg(div(mul(wide(dout), wide(a)), squaredLength(a, b))),
});

function squaredLength(a: FloatTensor, b: FloatTensor): FloatTensor {
  const [x, y] = [wide(a), wide(b)];
  return add(mul(x, x), mul(y, y));
}

/**
 * Returns the quotient a / b rounded down to an integer, element by element. Shapes broadcast by NumPy's rule; no gradient
 * flows.
 *
 * @example
 * const y = floorDiv(tensor([7, -7]), 2); // [3, -4]
 *
 * @throws ERR_SHAPE if the shapes do not broadcast.
 */
export const floorDiv = define("floorDiv", null);

/**
 * Returns a − b · floorDiv(a, b), element by element and exactly: what remains of a, with the sign of b. Shapes broadcast
 * by NumPy's rule. It is NaN where b is 0.
 *
 * @example
 * const y = floorMod(tensor([7, -7]), 3); // [1, 2]
 *
 * @throws ERR_SHAPE if the shapes do not broadcast.
 */
export const floorMod = define("floorMod", {
  of: ["a", "b"],
  a: (dout) => dout,
  b: (dout, { a, b }) => neg(mul(wide(dout), floorDiv(wide(a), wide(b)))),
});
