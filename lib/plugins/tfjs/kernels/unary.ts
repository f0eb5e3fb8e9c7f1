/** Functions of one tensor, element by element. */
import { ops } from "../../../core/native.js";
import { unaryKinds } from "../../../core/native-kinds.js";
import {
  both,
  type DeviceKernel,
  either,
  elements,
  flags,
  floats,
  integers,
  kernel,
  type KernelTable,
  numbers,
} from "../table.js";
import type { TensorType } from "../types.js";
import type { Work } from "../work.js";
import type { Tensor } from "../../../core/tensor.js";

/** Returns the kernel of a function of float32, and of int32 if `ofIntegers` computes it. */
const of = (
  kind: keyof typeof unaryKinds,
  ofIntegers: ((work: Work, x: Tensor) => Tensor) | null = null,
): DeviceKernel =>
  kernel(ofIntegers ? numbers : floats, (work, { x }) => {
    const inp = work.input(x!);
    return work.result(x!.dtype === "int32" ? ofIntegers!(work, inp) : work.unary(kind, inp), x!.dtype);
  });

/** Returns the kernel of a rounding, which leaves integers as they are. */
const rounding = (kind: keyof typeof unaryKinds): DeviceKernel =>
  kernel(numbers, (work, { x }) =>
    x!.dtype === "int32" ? work.backend.share(x!) : work.result(work.unary(kind, work.input(x!))),
  );

/** Returns the kernel of a test, whose result is of booleans. */
const test = (kind: keyof typeof unaryKinds): DeviceKernel =>
  kernel(floats, (work, { x }) => work.flags(work.unary(kind, work.input(x!))));

const bounded = (work: Work, x: Tensor, low: number, high: number): Tensor =>
  work.binary("minimum", work.binary("maximum", x, low), high);

/** Returns true if an int32 tensor could hold the number. */
const isInt32 = (value: unknown): boolean => ((value as number) | 0) === value;

export const unaryKernels: KernelTable = {
  Exp: of("exp"),
  Expm1: of("expm1"),
  Log: of("log"),
  Log1p: of("log1p"),
  Sqrt: of("sqrt"),
  Rsqrt: of("rsqrt"),
  Sin: of("sin"),
  Cos: of("cos"),
  Tan: of("tan"),
  Asin: of("asin"),
  Acos: of("acos"),
  Atan: of("atan"),
  Sinh: of("sinh"),
  Cosh: of("cosh"),
  Tanh: of("tanh"),
  Asinh: of("asinh"),
  Acosh: of("acosh"),
  Atanh: of("atanh"),
  Erf: of("erf"),
  Sigmoid: of("sigmoid"),
  Softplus: of("softplus"),
  Elu: of("elu"),
  Selu: of("selu"),
  Reciprocal: of("reciprocal"),
  Neg: of("neg", (work, x) => work.binary("sub", 0, x)),
  Abs: of("abs", (work, x) => work.binary("maximum", x, work.binary("sub", 0, x))),
  Square: of("square", (work, x) => work.binary("mul", x, x)),
  Relu: of("relu", (work, x) => work.binary("maximum", x, 0)),
  Relu6: of("relu6", (work, x) => bounded(work, x, 0, 6)),
  Sign: of("sign", (work, x) => work.binary("sub", work.binary("greater", x, 0), work.binary("less", x, 0))),
  Floor: rounding("floor"),
  Ceil: rounding("ceil"),
  Round: rounding("round"),
  IsNan: test("isNan"),
  IsInf: test("isInf"),
  IsFinite: test("isFinite"),
  ClipByValue: kernel<{ clipValueMin: number; clipValueMax: number }>(
    either(
      floats,
      both(integers, (_, { clipValueMin, clipValueMax }) => isInt32(clipValueMin) && isInt32(clipValueMax)),
    ),
    (work, { x }, { clipValueMin, clipValueMax }) =>
      work.result(bounded(work, work.input(x!), clipValueMin, clipValueMax), x!.dtype),
  ),
  // 1 above 0 and `alpha` elsewhere; NaN stays NaN. The slope of |x| is −1, 0, 1 or NaN.
  Step: kernel<{ alpha: number }>(floats, (work, { x }, { alpha }) => {
    const inp = work.input(x!);
    const slope = work.make(x!.shape);
    const one = work.view(
      work.backend.constant(1),
      x!.shape,
      x!.shape.map(() => 0),
    );
    ops.unary_backward({ dinp: slope, dout: one, inp, kind: unaryKinds.abs });
    const above = work.unary("relu", slope);
    if (!alpha) return work.result(above);
    return work.result(
      work.binary("add", above, work.binary("mul", work.binary("sub", 1, work.binary("greater", inp, 0)), alpha)),
    );
  }),
  // max(x, αx) is αx below 0 for α up to 1.
  LeakyRelu: kernel<{ alpha: number }>(
    both(floats, (_, { alpha }) => (alpha as number) >= 0 && (alpha as number) <= 1),
    (work, { x }, { alpha }) => {
      const inp = work.input(x!);
      return work.result(work.binary("maximum", inp, work.binary("mul", inp, alpha)));
    },
  ),
  // dy above 0, and dy·(y + 1) elsewhere
  EluGrad: kernel(floats, (work, { dy, y }) => {
    const slope = work.binary("add", work.binary("minimum", work.input(y!), 0), 1);
    return work.result(work.binary("mul", work.input(dy!), slope));
  }),

  LogicalNot: kernel(flags, (work, { x }) => work.flags(work.binary("equal", work.input(x!), 0))),

  Cast: kernel<{ dtype: TensorType }>(
    both(elements, (_, { dtype }) => ["float32", "int32", "bool"].includes(dtype as string)),
    (work, { x }, { dtype }) => {
      if (dtype === x!.dtype) return work.backend.share(x!);
      const inp = work.input(x!);
      if (dtype === "bool") return work.flags(work.binary("notEqual", inp, 0));
      return work.result(work.copied(inp, dtype === "int32" ? "i32" : "f32"), dtype);
    },
  ),
};
