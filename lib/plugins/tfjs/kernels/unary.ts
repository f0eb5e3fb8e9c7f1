/** Functions of one tensor, element by element. */
import { ops } from "../../../native.js";
import { unaryKinds } from "../../../native-kinds.js";
import { both, type DeviceKernel, elements, flags, floats, kernel, type KernelTable } from "../table.js";
import type { TensorType } from "../types.js";
import { elu } from "./activations.js";
import type { Work } from "../work.js";
import type { Tensor } from "../../../tensor.js";

const of = (kind: keyof typeof unaryKinds): DeviceKernel =>
  kernel(floats, (work, { x }) => work.result(work.unary(kind, work.input(x!))));

/**
 * Returns the largest integer that is at most x. A conversion to i32 cuts off the fraction of numbers that i32 holds; the
 * difference to those is exact, and 0 for numbers that have a fraction.
 */
function floor(work: Work, x: Tensor): Tensor {
  const held = work.binary("minimum", work.binary("maximum", x, -(2 ** 30)), 2 ** 30);
  const cut = work.cast(work.cast(held, "i32"), "f32");
  const whole = work.binary("sub", cut, work.binary("greater", cut, held));
  return work.binary("add", whole, work.binary("sub", x, held));
}

export const unaryKernels: KernelTable = {
  Exp: of("exp"),
  Log: of("log"),
  Sqrt: of("sqrt"),
  Rsqrt: of("rsqrt"),
  Tanh: of("tanh"),
  Sigmoid: of("sigmoid"),
  Sin: of("sin"),
  Cos: of("cos"),
  Reciprocal: of("reciprocal"),
  Neg: of("neg"),
  Abs: of("abs"),
  Square: of("square"),
  Relu: of("relu"),
  Elu: kernel(floats, (work, { x }) => work.result(elu(work, work.input(x!)))),
  Floor: kernel(floats, (work, { x }) => work.result(floor(work, work.input(x!)))),
  Ceil: kernel(floats, (work, { x }) => work.result(work.unary("neg", floor(work, work.unary("neg", work.input(x!)))))),
  Relu6: kernel(floats, (work, { x }) =>
    work.result(work.binary("minimum", work.binary("maximum", work.input(x!), 0), 6)),
  ),
  ClipByValue: kernel<{ clipValueMin: number; clipValueMax: number }>(
    floats,
    (work, { x }, { clipValueMin, clipValueMax }) =>
      work.result(work.binary("minimum", work.binary("maximum", work.input(x!), clipValueMin), clipValueMax)),
  ),
  Sign: kernel(floats, (work, { x }) => {
    const inp = work.input(x!);
    return work.result(work.binary("sub", work.binary("greater", inp, 0), work.binary("less", inp, 0)));
  }),
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
    return work.result(work.binary("add", above, work.binary("mul", work.not(work.binary("greater", inp, 0)), alpha)));
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

  IsNan: kernel(floats, (work, { x }) => work.flags(work.not(work.binary("equal", work.input(x!), work.input(x!))))),
  IsInf: kernel(floats, (work, { x }) => work.flags(work.binary("equal", work.unary("abs", work.input(x!)), Infinity))),
  IsFinite: kernel(floats, (work, { x }) =>
    work.flags(work.binary("less", work.unary("abs", work.input(x!)), Infinity)),
  ),
  LogicalNot: kernel(flags, (work, { x }) => work.flags(work.binary("equal", work.cast(work.input(x!), "f32"), 0))),

  Cast: kernel<{ dtype: TensorType }>(
    both(elements, (_, { dtype }) => ["float32", "int32", "bool"].includes(dtype as string)),
    (work, { x }, { dtype }) => {
      if (dtype === x!.dtype) return work.backend.share(x!);
      const inp = work.input(x!);
      if (dtype === "bool") return work.flags(work.not(work.binary("equal", work.cast(inp, "f32"), 0)));
      return work.result(work.copied(inp, dtype === "int32" ? "i32" : "f32"), dtype);
    },
  ),
};
