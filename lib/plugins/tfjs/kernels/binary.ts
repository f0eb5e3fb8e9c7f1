/** Functions of two tensors, or three, element by element; shapes broadcast. */
import type { binaryKinds } from "../../../core/native-kinds.js";
import { deviceType } from "../stored.js";
import {
  alike,
  both,
  type DeviceKernel,
  elements,
  flags,
  floats,
  kernel,
  type KernelTable,
  numbers,
} from "../table.js";
import type { TensorInfo } from "../types.js";

type Kind = keyof typeof binaryKinds;

/** Returns the kernel of a function of float32 tensors, or of others that `takes` allows. */
const arithmetic = (kind: Kind, takes = numbers): DeviceKernel =>
  kernel(both(takes, alike), (work, { a, b }) =>
    work.result(work.binary(kind, work.input(a!), work.input(b!)), a!.dtype),
  );

/** Returns the kernel of a comparison. */
const comparison = (kind: Kind): DeviceKernel =>
  kernel(both(elements, alike), (work, { a, b }) => work.flags(work.binary(kind, work.input(a!), work.input(b!))));

/** Returns the kernel of a function of booleans. */
const logical = (kind: Kind): DeviceKernel =>
  kernel(flags, (work, { a, b }) => work.flags(work.binary(kind, work.input(a!), work.input(b!))));

export const binaryKernels: KernelTable = {
  Add: arithmetic("add"),
  Sub: arithmetic("sub"),
  Multiply: arithmetic("mul"),
  RealDiv: arithmetic("div", floats),
  Mod: arithmetic("floorMod"),
  Maximum: arithmetic("maximum"),
  Minimum: arithmetic("minimum"),
  Pow: arithmetic("pow", floats),
  Atan2: arithmetic("atan2", floats),
  SquaredDifference: arithmetic("squaredDifference"),
  // The result is int32, also of floats.
  FloorDiv: kernel(both(numbers, alike), (work, { a, b }) =>
    work.result(work.cast(work.binary("floorDiv", work.input(a!), work.input(b!)), "i32"), "int32"),
  ),
  Equal: comparison("equal"),
  NotEqual: comparison("notEqual"),
  Greater: comparison("greater"),
  GreaterEqual: comparison("greaterEqual"),
  Less: comparison("less"),
  LessEqual: comparison("lessEqual"),
  LogicalAnd: logical("logicalAnd"),
  LogicalOr: logical("logicalOr"),

  // A condition of one dimension may choose rows.
  Select: kernel(
    both(elements, ({ t, e }) => t!.dtype === e!.dtype),
    (work, { condition, t, e }) => {
      const { shape } = t!;
      const missing = condition!.shape.length === 1 ? shape.length - 1 : 0;
      const chosen = work.input(condition!, [...condition!.shape, ...Array.from({ length: missing }, () => 1)]);
      const out = work.where(chosen, work.input(t!), work.input(e!), shape, deviceType(t!.dtype)!);
      return work.result(out, t!.dtype);
    },
  ),
  // x above 0, and αx elsewhere
  Prelu: kernel(floats, (work, { x, alpha }) => {
    const inp = work.input(x!);
    const below = work.binary("mul", work.binary("minimum", inp, 0), work.input(alpha!));
    return work.result(work.binary("add", work.unary("relu", inp), below));
  }),
  AddN: kernel(both(numbers, alike), (work, inputs) => {
    const [first, ...others] = Object.values(inputs) as [TensorInfo, ...TensorInfo[]];
    if (!others.length) return work.backend.share(first);
    let sum = work.input(first);
    for (const info of others) sum = work.binary("add", sum, work.input(info));
    return work.result(sum, first.dtype);
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
