/**
 * Gathering and scattering of float32 rows. Indices in host memory are checked at the call, as TensorFlow.js does it; an
 * index on the device that is out of range makes the read of the result fail.
 */
import { ops } from "../../../native.js";
import { contiguousStrides, numel } from "../../../shape.js";
import type { Tensor } from "../../../tensor.js";
import { both, kernel, type KernelTable } from "../table.js";
import type { Inputs, TensorInfo } from "../types.js";
import { isEmpty, type Work } from "../work.js";

const rowsOf =
  (name: string, index: string) =>
  (inputs: Inputs): boolean =>
    inputs[name]!.dtype === "float32" &&
    inputs[index]!.dtype === "int32" &&
    !isEmpty(inputs[name]!) &&
    !isEmpty(inputs[index]!);

/** Returns false if an index that is known on the host is outside of [0, size). */
function inRange(work: Work, info: TensorInfo, size: number): boolean {
  const values = work.backend.onHost(info) as Int32Array | null;
  return !values || values.every((value) => value >= 0 && value < size);
}

/** Returns table[ids], rows of [rows, width]. */
function gather(work: Work, table: Tensor, ids: Tensor): Tensor {
  const out = work.make([...ids.shape, table.shape[1]!]);
  ops.embedding_forward({ out, ids, weight: table });
  return out;
}

/** Returns sums of the rows [n, width] with the same of n ids, in a table of `rows`. */
function scatter(work: Work, rows: number, updates: Tensor, ids: Tensor): Tensor {
  const out = work.make([rows, updates.shape[1]!]);
  ops.embedding_backward({ dweight: out, dout: updates, ids });
  return out;
}

/** Largest number of places that f32 counts exactly. */
const countable = 2 ** 24;

/** Returns the flat number of each of n indices [n, k] into a tensor whose first dimensions are `sizes`. */
function flatten(work: Work, indices: Tensor, sizes: number[]): Tensor {
  const [n, strides] = [indices.shape[0]!, contiguousStrides(sizes)];
  let flat: Tensor | null = null;
  for (const [i, stride] of strides.entries()) {
    const column = work.cast(work.view(indices, [n], [sizes.length], i), "f32");
    const part = stride === 1 ? column : work.binary("mul", column, stride);
    flat = flat ? work.binary("add", flat, part) : part;
  }
  return work.cast(flat!, "i32");
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
      const [before, size, after] = [x!.shape.slice(0, at), x!.shape[at]!, x!.shape.slice(at + 1)];
      const [outer, inner, count] = [numel(before), numel(after), numel(indices!.shape)];
      const shape = [...before, ...indices!.shape, ...after];
      const ids = work.input(indices!, [count]);
      if (outer === 1) return work.result(gather(work, work.input(x!, [size, inner]), ids), "float32", shape);
      // [outer, size, inner] → [size, outer · inner], and back
      const rows = work.contiguous(work.permute(work.input(x!, [outer, size, inner]), [1, 0, 2]));
      const found = work.reshape(gather(work, work.reshape(rows, [size, outer * inner]), ids), [count, outer, inner]);
      return work.result(work.copied(work.permute(found, [1, 0, 2])), "float32", shape);
    },
  ),
  GatherNd: kernel(
    both(rowsOf("params", "indices"), ({ params, indices }, _, work) => {
      const depth = indices!.shape.at(-1)!;
      const sizes = params!.shape.slice(0, depth);
      return (
        depth > 0 && depth <= params!.shape.length && numel(sizes) < countable && allInRange(work, indices!, sizes)
      );
    }),
    (work, { params, indices }) => {
      const depth = indices!.shape.at(-1)!;
      const [sizes, rest] = [params!.shape.slice(0, depth), params!.shape.slice(depth)];
      const ids = flatten(work, work.input(indices!, [numel(indices!.shape) / depth, depth]), sizes);
      const found = gather(work, work.input(params!, [numel(sizes), numel(rest)]), ids);
      return work.result(found, "float32", [...indices!.shape.slice(0, -1), ...rest]);
    },
  ),
  ScatterNd: kernel<{ shape: number[] }>(
    both(rowsOf("updates", "indices"), ({ indices }, { shape }, work) => {
      const depth = depthOf(indices!);
      const sizes = (shape as number[]).slice(0, depth);
      return depth > 0 && numel(sizes) < countable && allInRange(work, indices!, sizes);
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
    both(rowsOf("x", "segmentIds"), ({ segmentIds }, { numSegments }, work) => {
      return segmentIds!.shape.length === 1 && inRange(work, segmentIds!, numSegments as number);
    }),
    (work, { x, segmentIds }, { numSegments }) => {
      const n = segmentIds!.shape[0]!;
      const rest = x!.shape.slice(1);
      const table = scatter(work, numSegments, work.input(x!, [n, numel(rest)]), work.input(segmentIds!, [n]));
      return work.result(table, "float32", [numSegments, ...rest]);
    },
  ),
  // Ids beyond those that f32 counts exactly are rounded, but never to one of the places.
  OneHot: kernel<{ depth: number; onValue: number; offValue: number; dtype: "float32" | "int32" }>(
    both(
      ({ indices }) => indices!.dtype === "int32",
      (_, { dtype, depth }) => ["float32", "int32"].includes(dtype as string) && (depth as number) < countable,
    ),
    (work, { indices }, { depth, onValue, offValue, dtype }) => {
      const count = numel(indices!.shape);
      const places = work.backend.hostResult(
        Float32Array.from({ length: depth }, (_, i) => i),
        [depth],
        "float32",
      );
      const ids = work.cast(work.input(indices!, [count, 1]), "f32");
      const hits = work.binary("equal", ids, work.input(places));
      work.backend.disposeData(places.dataId);
      const scaled = onValue - offValue === 1 ? hits : work.binary("mul", hits, onValue - offValue);
      const out = offValue === 0 ? scaled : work.binary("add", scaled, offValue);
      return work.result(work.cast(out, dtype === "int32" ? "i32" : "f32"), dtype, [...indices!.shape, depth]);
    },
  ),
};
