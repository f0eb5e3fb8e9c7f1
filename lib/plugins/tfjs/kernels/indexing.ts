/**
 * Gathering and scattering of float32 rows. Indices in host memory are checked at the call, as TensorFlow.js does it; an
 * index on the device that is out of range makes the read of the result fail.
 */
import { ops } from "../../../core/native.js";
import { contiguousStrides, numel } from "../../../core/shape.js";
import type { Tensor } from "../../../core/tensor.js";
import { deviceType } from "../stored.js";
import { both, integers, kernel, type KernelTable } from "../table.js";
import type { Inputs, TensorInfo, TensorType } from "../types.js";
import { isEmpty, type Work } from "../work.js";

/** Returns the condition that there are elements of one of these types, and indices. */
const rowsOf =
  (name: string, index: string, types: readonly TensorType[] = ["float32", "int32", "bool"]) =>
  (inputs: Inputs): boolean =>
    types.includes(inputs[name]!.dtype) &&
    inputs[index]!.dtype === "int32" &&
    !isEmpty(inputs[name]!) &&
    !isEmpty(inputs[index]!);

/** Returns false if an index that is known on the host is outside of [0, size). */
function inRange(work: Work, info: TensorInfo, size: number): boolean {
  const values = work.backend.onHost(info) as Int32Array | null;
  return !values || values.every((value) => value >= 0 && value < size);
}

/** Returns table[ids], rows of [rows, width]. Bytes are gathered as f32, because the operation takes none. */
function gather(work: Work, table: Tensor, ids: Tensor): Tensor {
  if (table.dtype === "u8") return work.cast(gather(work, work.cast(table, "f32"), ids), "u8");
  const out = work.make([...ids.shape, table.shape[1]!], table.dtype);
  ops.embedding_forward({ out, ids, weight: table });
  return out;
}

/** Returns the elements at the positions `ids` along an axis. */
export function take(work: Work, x: Tensor, axis: number, ids: Tensor): Tensor {
  const [size, count] = [x.shape[axis]!, ids.shape[0]!];
  const [outer, inner] = [numel(x.shape.slice(0, axis)), numel(x.shape.slice(axis + 1))];
  const shape = x.shape.with(axis, count);
  if (outer === 1) return work.reshape(gather(work, work.reshape(x, [size, inner]), ids), shape);
  // [outer, size, inner] → [size, outer · inner], and back
  const rows = work.permute(work.reshape(x, [outer, size, inner]), [1, 0, 2]);
  const found = gather(work, work.reshape(rows, [size, outer * inner]), ids);
  return work.reshape(work.permute(work.reshape(found, [count, outer, inner]), [1, 0, 2]), shape);
}

/** Returns sums of the rows [n, width] with the same of n ids, in a table of `rows`. */
function scatter(work: Work, rows: number, updates: Tensor, ids: Tensor): Tensor {
  const out = work.make([rows, updates.shape[1]!]);
  ops.embedding_backward({ dweight: out, dout: updates, ids });
  return out;
}

/** Returns true if i32 holds the flat number of every place in dimensions of these sizes. */
const countable = (sizes: number[]): boolean => numel(sizes) <= 2 ** 31;

/** Returns the flat number of each of n indices [n, k] into a tensor whose first dimensions are `sizes`. */
function flatten(work: Work, indices: Tensor, sizes: number[]): Tensor {
  const [n, strides] = [indices.shape[0]!, contiguousStrides(sizes)];
  let flat: Tensor | null = null;
  for (const [i, stride] of strides.entries()) {
    const column = work.view(indices, [n], [sizes.length], i);
    const part = stride === 1 ? column : work.binary("mul", column, stride);
    flat = flat ? work.binary("add", flat, part) : part;
  }
  return work.contiguous(flat!);
}

/** Returns false if an index of [..., k] that is known on the host is out of range in its dimension. */
function allInRange(work: Work, info: TensorInfo, sizes: number[]): boolean {
  const values = work.backend.onHost(info) as Int32Array | null;
  return !values || values.every((value, i) => value >= 0 && value < sizes[i % sizes.length]!);
}

/** Returns how many dimensions an index of ScatterNd names: one for each of a list of indices. */
const depthOf = ({ shape }: TensorInfo): number => (shape.length > 1 ? shape.at(-1)! : 1);

export const indexingKernels: KernelTable = {
  GatherV2: kernel<{ axis: number; batchDims: number }>(
    both(rowsOf("x", "indices"), ({ x, indices }, { axis, batchDims }, work) => {
      const at = work.tf.util.parseAxisParam(axis as number, x!.shape)[0]!;
      return (batchDims ?? 0) === 0 && inRange(work, indices!, x!.shape[at]!);
    }),
    (work, { x, indices }, { axis }) => {
      const at = work.tf.util.parseAxisParam(axis, x!.shape)[0]!;
      const shape = [...x!.shape.slice(0, at), ...indices!.shape, ...x!.shape.slice(at + 1)];
      const ids = work.input(indices!, [numel(indices!.shape)]);
      return work.result(take(work, work.input(x!), at, ids), x!.dtype, shape);
    },
  ),
  GatherNd: kernel(
    both(rowsOf("params", "indices"), ({ params, indices }, _, work) => {
      const depth = indices!.shape.at(-1)!;
      const sizes = params!.shape.slice(0, depth);
      return depth > 0 && depth <= params!.shape.length && countable(sizes) && allInRange(work, indices!, sizes);
    }),
    (work, { params, indices }) => {
      const depth = indices!.shape.at(-1)!;
      const [sizes, rest] = [params!.shape.slice(0, depth), params!.shape.slice(depth)];
      const ids = flatten(work, work.input(indices!, [numel(indices!.shape) / depth, depth]), sizes);
      const found = gather(work, work.input(params!, [numel(sizes), numel(rest)]), ids);
      return work.result(found, params!.dtype, [...indices!.shape.slice(0, -1), ...rest]);
    },
  ),
  ScatterNd: kernel<{ shape: number[] }>(
    both(rowsOf("updates", "indices", ["float32"]), ({ indices }, { shape }, work) => {
      const depth = depthOf(indices!);
      const sizes = (shape as number[]).slice(0, depth);
      return depth > 0 && countable(sizes) && allInRange(work, indices!, sizes);
    }),
    (work, { indices, updates }, { shape }) => {
      work.tf.backend_util.calculateShapes(updates as never, indices as never, shape);
      const depth = depthOf(indices!);
      const [sizes, rest] = [shape.slice(0, depth), shape.slice(depth)];
      const n = numel(indices!.shape) / depth;
      const ids = flatten(work, work.input(indices!, [n, depth]), sizes);
      const table = scatter(work, numel(sizes), work.input(updates!, [n, numel(rest)]), ids);
      return work.result(table, "float32", shape);
    },
  ),
  // The gradient of GatherV2.
  UnsortedSegmentSum: kernel<{ numSegments: number }>(
    both(rowsOf("x", "segmentIds", ["float32"]), ({ segmentIds }, { numSegments }, work) => {
      return segmentIds!.shape.length === 1 && inRange(work, segmentIds!, numSegments as number);
    }),
    (work, { x, segmentIds }, { numSegments }) => {
      const n = segmentIds!.shape[0]!;
      const rest = x!.shape.slice(1);
      const table = scatter(work, numSegments, work.input(x!, [n, numel(rest)]), work.input(segmentIds!, [n]));
      return work.result(table, "float32", [numSegments, ...rest]);
    },
  ),
  OneHot: kernel<{ depth: number; onValue: number; offValue: number; dtype: "float32" | "int32" }>(
    both(integers, (_, { dtype }) => ["float32", "int32"].includes(dtype as string)),
    (work, { indices }, { depth, onValue, offValue, dtype }) => {
      const places = work.integers(Int32Array.from({ length: depth }, (_, i) => i));
      const hits = work.binary("equal", work.input(indices!, [numel(indices!.shape), 1]), places);
      const out = work.where(hits, onValue, offValue, hits.shape, deviceType(dtype)!);
      return work.result(out, dtype, [...indices!.shape, depth]);
    },
  ),
};
