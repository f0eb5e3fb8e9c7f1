/** Kernels that make, move and join elements without computing with them. */
import { ops } from "../../../core/native.js";
import { contiguousStrides, maxRank, numel } from "../../../core/shape.js";
import type { Tensor } from "../../../core/tensor.js";
import { alike, anything, both, elements, kernel, type KernelTable } from "../table.js";
import { deviceType } from "../stored.js";
import type { TensorInfo, TensorType } from "../types.js";
import { isEmpty, type Work } from "../work.js";

interface StridedSlice {
  begin: number[];
  end: number[];
  /** @default 1 in each dimension */
  strides?: number[];
  beginMask: number;
  endMask: number;
  ellipsisMask: number;
  newAxisMask: number;
  shrinkAxisMask: number;
}

function sliceInfo({ tf }: Work, x: TensorInfo, attrs: StridedSlice) {
  const { begin, end, beginMask, endMask, ellipsisMask, newAxisMask, shrinkAxisMask } = attrs;
  const strides = attrs.strides ?? begin.map(() => 1);
  return tf.slice_util.sliceInfo(
    x.shape,
    begin,
    end,
    strides,
    beginMask,
    endMask,
    ellipsisMask,
    newAxisMask,
    shrinkAxisMask,
  );
}

/** Returns a copy of a block of a tensor, as a tensor of `shape`. */
function slice(work: Work, x: TensorInfo, begin: number[], size: number[], shape = size, steps?: number[]): TensorInfo {
  return work.result(work.copied(work.block(work.input(x), begin, size, steps)), x.dtype, shape);
}

/** Joins tensors of one type along an axis. */
function concat(work: Work, infos: TensorInfo[], axis: number, shapeOf: (info: TensorInfo) => number[]): TensorInfo {
  const [first] = infos as [TensorInfo];
  const shape = shapeOf(first).with(
    axis,
    infos.reduce((sum, info) => sum + shapeOf(info)[axis]!, 0),
  );
  const out = work.make(shape, deviceType(first.dtype)!);
  const begin = shape.map(() => 0);
  for (const info of infos) {
    const size = shapeOf(info);
    if (!isEmpty(info)) ops.copy({ out: work.block(out, begin, size), inp: work.input(info, size) });
    begin[axis]! += size[axis]!;
  }
  return work.result(out, first.dtype);
}

/** Returns true if no number of nested arrays is negative. */
export const isNatural = (paddings: unknown): boolean => [paddings].flat(2).every((count) => (count as number) >= 0);

/** Returns the shape with paddings. */
function paddedShape(shape: readonly number[], paddings: readonly [number, number][]): number[] {
  return shape.map((size, i) => paddings[i]![0] + size + paddings[i]![1]);
}

/** Returns the elements with a number of others before and after them in each dimension, which have this value. */
export function padded(work: Work, x: TensorInfo, paddings: [number, number][], value: number): Tensor {
  const out = work.filled(paddedShape(x.shape, paddings), value, deviceType(x.dtype)!);
  const begin = paddings.map(([before]) => before);
  if (!isEmpty(x)) ops.copy({ out: work.block(out, begin, x.shape), inp: work.input(x) });
  return out;
}

/** Returns true if an i32 or u8 fill holds the value exactly. */
const fits = (value: number, dtype: TensorType): boolean =>
  dtype === "float32" || (dtype === "int32" ? Number.isInteger(value) : value === 0 || value === 1);

function filled(work: Work, shape: number[], value: number, dtype: TensorType): TensorInfo {
  return work.result(work.filled(shape, value, deviceType(dtype)!), dtype);
}

/** Fills a tensor of the type of another with 0 or 1. */
function like(work: Work, x: TensorInfo, value: number): TensorInfo {
  if (x.dtype !== "complex64") return filled(work, x.shape, value, x.dtype);
  return work.backend.complex(filled(work, x.shape, value, "float32"), filled(work, x.shape, 0, "float32"));
}

export const shapingKernels: KernelTable = {
  Identity: kernel(anything, ({ backend }, { x }) => backend.share(x!)),
  Reshape: kernel<{ shape: number[] }>(anything, ({ backend, tf }, { x }, { shape }) => {
    const size = numel(x!.shape);
    const whole = tf.util.inferFromImplicitShape(shape, size);
    tf.util.assert(
      size === numel(whole),
      () =>
        `The new shape (${whole.join()}) has ${numel(whole)} elements and the old shape (${x!.shape.join()}) has ` +
        `${size} elements. The new shape and old shape must have the same number of elements.`,
    );
    return backend.share(x!, whole);
  }),
  ExpandDims: kernel<{ dim: number }>(anything, ({ backend, tf }, { input }, { dim }) => {
    const rank = input!.shape.length;
    tf.util.assert(-(rank + 1) <= dim && dim <= rank, () => `Axis must be in the interval [${-(rank + 1)}, ${rank}]`);
    return backend.share(input!, input!.shape.toSpliced(dim < 0 ? rank + dim + 1 : dim, 0, 1));
  }),

  Complex: kernel(anything, ({ backend }, { real, imag }) => backend.complex(backend.copy(real!), backend.copy(imag!))),
  Real: kernel(anything, ({ backend }, { input }) =>
    backend.copy({ ...backend.stored(input!.dataId).parts!.real, shape: input!.shape }),
  ),
  Imag: kernel(anything, ({ backend }, { input }) =>
    backend.copy({ ...backend.stored(input!.dataId).parts!.imag, shape: input!.shape }),
  ),

  Fill: kernel<{ shape: number[]; value: number; dtype?: TensorType }>(
    (_, { value, dtype }, { tf }) => {
      const type = (dtype ?? tf.util.inferDtype(value as number)) as TensorType;
      return typeof value !== "string" && deviceType(type) !== null && fits(Number(value), type);
    },
    (work, _, { shape, value, dtype }) => filled(work, shape, Number(value), dtype ?? work.tf.util.inferDtype(value)),
  ),
  ZerosLike: kernel(
    ({ x }) => x!.dtype !== "string",
    (work, { x }) => like(work, x!, 0),
  ),
  OnesLike: kernel(
    ({ x }) => x!.dtype !== "string",
    (work, { x }) => like(work, x!, 1),
  ),
  Range: kernel<{ start: number; stop: number; step: number; dtype: "float32" | "int32" }>(
    anything,
    ({ backend }, _, { start, stop, step: given, dtype }) => {
      // A step of 1, which is the default, counts downwards if the range does.
      const step = stop < start && given === 1 ? -1 : given;
      const count = start === stop || start < stop !== step > 0 ? 0 : Math.abs(Math.ceil((stop - start) / step));
      const values = dtype === "int32" ? new Int32Array(count) : new Float32Array(count);
      for (let i = 0; i < count; i++) values[i] = start + i * step;
      return backend.hostResult(values, [count], dtype);
    },
  ),
  LinSpace: kernel<{ start: number; stop: number; num: number }>(anything, ({ backend }, _, { start, stop, num }) => {
    const step = (stop - start) / (num - 1);
    const values = Float32Array.from({ length: num }, (_, i) => (i === 0 ? start : start + i * step));
    return backend.hostResult(values, [num], "float32");
  }),

  Transpose: kernel<{ perm: number[] }>(elements, (work, { x }, { perm }) =>
    work.result(work.copied(work.permute(work.input(x!), perm)), x!.dtype),
  ),
  Slice: kernel<{ begin: number | number[]; size: number | number[] }>(elements, (work, { x }, attrs) => {
    const { slice_util } = work.tf;
    const [begin, size] = slice_util.parseSliceParams(x!, attrs.begin, attrs.size) as [number[], number[]];
    slice_util.assertParamsValid(x!, begin, size);
    return slice(work, x!, begin, size);
  }),
  // Steps backwards are computed on the host.
  StridedSlice: kernel<StridedSlice>(
    both(elements, (_, { strides = [] }) => (strides as number[]).every((step) => step > 0)),
    (work, { x }, attrs) => {
      const { isIdentity, begin, end, finalShape, strides } = sliceInfo(work, x!, attrs);
      if (isIdentity) return work.backend.share(x!, finalShape);
      // An end before the begin leaves nothing.
      const size = work.tf.slice_util.computeOutShape(begin, end, strides).map((count) => Math.max(0, count));
      return slice(work, x!, begin, size, finalShape, strides);
    },
  ),
  Concat: kernel<{ axis: number }>(both(elements, alike), (work, inputs, attrs) => {
    const infos = Object.values(inputs);
    const axis = work.tf.util.parseAxisParam(attrs.axis, infos[0]!.shape)[0]!;
    const shapes = infos.map((info) => info.shape);
    work.tf.backend_util.assertParamsConsistent(shapes, axis);
    const full = infos.filter((info) => !isEmpty(info));
    if (full.length === 1) return work.backend.share(full[0]!);
    if (full.length) return concat(work, full, axis, (info) => info.shape);
    return filled(work, work.tf.backend_util.computeOutShape(shapes, axis), 0, infos[0]!.dtype);
  }),
  Pack: kernel<{ axis: number }>(both(elements, alike), (work, inputs, { axis }) => {
    const infos = Object.values(inputs);
    for (const info of infos)
      work.tf.util.assertShapesMatch(
        infos[0]!.shape,
        info.shape,
        "All tensors passed to stack must have matching shapes",
      );
    const rank = infos[0]!.shape.length;
    work.tf.util.assert(
      -(rank + 1) <= axis && axis <= rank,
      () => `Axis must be in the interval [${-(rank + 1)}, ${rank}]`,
    );
    const at = axis < 0 ? axis + rank + 1 : axis;
    return concat(work, infos, at, (info) => info.shape.toSpliced(at, 0, 1));
  }),
  Unpack: kernel<{ axis: number }>(elements, (work, { value }, attrs) => {
    const { shape } = value!;
    const axis = attrs.axis < 0 ? attrs.axis + shape.length : attrs.axis;
    return Array.from({ length: shape[axis]! }, (_, i) => {
      const begin = shape.map((_, d) => (d === axis ? i : 0));
      return slice(work, value!, begin, shape.with(axis, 1), shape.toSpliced(axis, 1));
    });
  }),
  SplitV: kernel<{ numOrSizeSplits: number | number[]; axis: number }>(elements, (work, { x }, attrs) => {
    const { shape } = x!;
    const axis = work.tf.util.parseAxisParam(attrs.axis, shape)[0]!;
    const sizes = work.tf.backend_util.prepareSplitSize(x!, attrs.numOrSizeSplits, axis);
    const begin = shape.map(() => 0);
    return sizes.map((size) => {
      const part = slice(work, x!, begin, shape.with(axis, size));
      begin[axis]! += size;
      return part;
    });
  }),
  PadV2: kernel<{ paddings: [number, number][]; constantValue: number }>(
    // Negative paddings are computed on the host.
    both(
      elements,
      ({ x }, { paddings, constantValue }) => fits(constantValue as number, x!.dtype) && isNatural(paddings),
    ),
    (work, { x }, { paddings, constantValue }) => work.result(padded(work, x!, paddings, constantValue), x!.dtype),
  ),
  // Each dimension becomes two, the first of which repeats by a stride of 0. Dimensions that are not repeated stay one.
  Tile: kernel<{ reps: number[] }>(
    both(elements, ({ x }, { reps }) => {
      const repeated = (reps as number[]).filter((count) => count !== 1).length;
      return x!.shape.length + repeated <= maxRank;
    }),
    (work, { x }, { reps }) => {
      const inp = work.input(x!);
      const strides = contiguousStrides(x!.shape);
      const dims = x!.shape.flatMap<[number, number]>((size, i) =>
        reps[i] === 1
          ? [[size, strides[i]!]]
          : [
              [reps[i]!, 0],
              [size, strides[i]!],
            ],
      );
      const view = work.view(
        inp,
        dims.map(([size]) => size),
        dims.map(([, stride]) => stride),
      );
      return work.result(
        work.copied(view),
        x!.dtype,
        x!.shape.map((size, i) => size * reps[i]!),
      );
    },
  ),
};
