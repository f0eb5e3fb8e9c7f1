/** Functions of two tensors, or three, element by element; shapes broadcast. */
import type { binaryKinds } from "../../../native-kinds.js";
import type { Tensor } from "../../../tensor.js";
import { type DeviceKernel, either, flags, floats, kernel, type KernelTable } from "../table.js";
import type { TensorInfo } from "../types.js";
import type { Work } from "../work.js";

type Kind = keyof typeof binaryKinds;

const arithmetic = (kind: Kind): DeviceKernel =>
  kernel(floats, (work, { a, b }) => work.result(work.binary(kind, work.input(a!), work.input(b!))));

/** Returns the kernel of a comparison of float32 tensors, or of booleans as the numbers 0 and 1. */
const comparison = (of: (work: Work, a: Tensor, b: Tensor) => Tensor): DeviceKernel =>
  kernel(either(floats, flags), (work, { a, b }) =>
    work.flags(of(work, work.cast(work.input(a!), "f32"), work.cast(work.input(b!), "f32"))),
  );

/** Returns the kernel of a function of booleans, which are the numbers 0 and 1. */
const logical = (kind: "minimum" | "maximum"): DeviceKernel =>
  kernel(flags, (work, { a, b }) =>
    work.flags(work.binary(kind, work.cast(work.input(a!), "f32"), work.cast(work.input(b!), "f32"))),
  );

export const binaryKernels: KernelTable = {
  Add: arithmetic("add"),
  Sub: arithmetic("sub"),
  Multiply: arithmetic("mul"),
  RealDiv: arithmetic("div"),
  Maximum: arithmetic("maximum"),
  Minimum: arithmetic("minimum"),
  Pow: arithmetic("pow"),
  Equal: comparison((work, a, b) => work.binary("equal", a, b)),
  NotEqual: comparison((work, a, b) => work.not(work.binary("equal", a, b))),
  Greater: comparison((work, a, b) => work.binary("greater", a, b)),
  Less: comparison((work, a, b) => work.binary("less", a, b)),
  // NaN is neither greater nor equal.
  GreaterEqual: comparison((work, a, b) =>
    work.binary("maximum", work.binary("greater", a, b), work.binary("equal", a, b)),
  ),
  LessEqual: comparison((work, a, b) => work.binary("maximum", work.binary("less", a, b), work.binary("equal", a, b))),
  LogicalAnd: logical("minimum"),
  LogicalOr: logical("maximum"),

  SquaredDifference: kernel(floats, (work, { a, b }) =>
    work.result(work.unary("square", work.binary("sub", work.input(a!), work.input(b!)))),
  ),
  // x above 0, and αx elsewhere
  Prelu: kernel(floats, (work, { x, alpha }) => {
    const inp = work.input(x!);
    const below = work.binary("mul", work.binary("minimum", inp, 0), work.input(alpha!));
    return work.result(work.binary("add", work.unary("relu", inp), below));
  }),
  AddN: kernel(floats, (work, inputs) => {
    const [first, ...others] = Object.values(inputs) as [TensorInfo, ...TensorInfo[]];
    if (!others.length) return work.backend.share(first);
    let sum = work.input(first);
    for (const info of others) sum = work.binary("add", sum, work.input(info));
    return work.result(sum);
  }),
  // hypot
  ComplexAbs: kernel(
    ({ x }) => x!.dtype === "complex64",
    (work, { x }) => {
      const { real, imag } = work.backend.stored(x!.dataId).parts!;
      const [re, im] = [work.backend.readSync(real.dataId), work.backend.readSync(imag.dataId)] as [
        Float32Array,
        Float32Array,
      ];
      work.backend.host.calls++;
      return work.backend.hostResult(
        re.map((x, i) => Math.hypot(x, im[i]!)),
        x!.shape,
        "float32",
      );
    },
  ),
};
