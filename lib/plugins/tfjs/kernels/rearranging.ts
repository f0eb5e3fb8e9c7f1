/** Kernels that take elements in another order: backwards, mirrored, or in blocks. */
import { maxRank } from "../../../core/shape.js";
import type { Tensor } from "../../../core/tensor.js";
import { both, elements, kernel, type KernelTable } from "../table.js";
import type { Inputs } from "../types.js";
import { isEmpty, type Work } from "../work.js";
import { isNatural, padded } from "./shaping.js";
import { take } from "./indexing.js";

const nonEmpty = (inputs: Inputs): boolean => Object.values(inputs).every((info) => !isEmpty(info!));

/** Returns the elements at positions along an axis, which `at` gives for each of `count`. */
function picked(work: Work, x: Tensor, axis: number, count: number, at: (i: number) => number): Tensor {
  return take(work, x, axis, work.integers(Int32Array.from({ length: count }, (_, i) => at(i))));
}

function reversed(work: Work, x: Tensor, axes: readonly number[]): Tensor {
  return axes.reduce((y, axis) => picked(work, y, axis, y.shape[axis]!, (i) => y.shape[axis]! - 1 - i), x);
}

export const rearrangingKernels: KernelTable = {
  Reverse: kernel<{ dims: number | number[] }>(both(elements, nonEmpty), (work, { x }, { dims }) => {
    const axes = x!.shape.length ? work.tf.util.parseAxisParam(dims, x!.shape) : [];
    return axes.length ? work.result(reversed(work, work.input(x!), axes), x!.dtype) : work.backend.share(x!);
  }),
  FlipLeftRight: kernel(both(elements, nonEmpty), (work, { image }) =>
    work.result(reversed(work, work.input(image!), [2]), image!.dtype),
  ),
  MirrorPad: kernel<{ paddings: [number, number][]; mode: "reflect" | "symmetric" }>(
    both(elements, nonEmpty, (_, { paddings }) => isNatural(paddings)),
    (work, { x }, { paddings, mode }) => {
      const skipped = mode === "reflect" ? 1 : 0;
      let y = work.input(x!);
      for (const [axis, [before, after]] of paddings.entries()) {
        if (before === 0 && after === 0) continue;
        const size = x!.shape[axis]!;
        y = picked(work, y, axis, before + size + after, (i) => {
          const at = i - before;
          return at < 0 ? skipped - 1 - at : at < size ? at : 2 * size - 1 - skipped - at;
        });
      }
      return work.result(y, x!.dtype);
    },
  ),

  // [B, H, W, b · b · C] → [B, H · b, W · b, C]
  DepthToSpace: kernel<{ blockSize: number; dataFormat: string }>(
    both(elements, (_, { dataFormat }) => dataFormat === "NHWC"),
    (work, { x }, { blockSize }) => {
      const [batch, height, width, depth] = x!.shape as [number, number, number, number];
      const channels = depth / blockSize ** 2;
      const blocks = work.input(x!, [batch, height, width, blockSize, blockSize, channels]);
      const shape = [batch, height * blockSize, width * blockSize, channels];
      return work.result(work.copied(work.permute(blocks, [0, 1, 3, 2, 4, 5])), x!.dtype, shape);
    },
  ),
  BatchToSpaceND: kernel<{ blockShape: number[]; crops: number[][] }>(
    both(
      elements,
      ({ x }, { blockShape, crops }) =>
        x!.shape.length + (blockShape as number[]).length <= maxRank && isNatural(crops),
    ),
    (work, { x }, { blockShape, crops }) => {
      const { backend_util } = work.tf;
      const size = blockShape.reduce((product, n) => product * n, 1);
      const split = backend_util.getReshaped(x!.shape, blockShape, size);
      const order = backend_util.getPermuted(split.length, blockShape.length);
      const joined = backend_util.getReshapedPermuted(x!.shape, blockShape, size);
      // These lists end with the dimensions that are cropped.
      const first = backend_util.getSliceBeginCoords(crops, blockShape.length);
      const cropped = backend_util.getSliceSize(joined, crops, blockShape.length);
      const begin = joined.map((_, i) => first[i] ?? 0);
      // A size of −1 is what follows the beginning, as for a slice.
      const kept = joined.map((all, i) => (cropped[i] === -1 ? all - begin[i]! : (cropped[i] ?? all)));
      const whole = work.reshape(work.permute(work.input(x!, split), order), joined);
      return work.result(work.copied(work.block(whole, begin, kept)), x!.dtype);
    },
  ),
  SpaceToBatchND: kernel<{ blockShape: number[]; paddings: [number, number][] }>(
    both(
      elements,
      ({ x }, { blockShape, paddings }) =>
        x!.shape.length + (blockShape as number[]).length <= maxRank && isNatural(paddings),
    ),
    (work, { x }, { blockShape, paddings }) => {
      const { backend_util } = work.tf;
      const rest = x!.shape.slice(1 + blockShape.length).map((): [number, number] => [0, 0]);
      const whole = padded(work, x!, [[0, 0], ...paddings, ...rest], 0);
      const size = blockShape.reduce((product, n) => product * n, 1);
      const split = backend_util.getReshaped([...whole.shape], blockShape, size, false);
      const order = backend_util.getPermuted(split.length, blockShape.length, false);
      const joined = backend_util.getReshapedPermuted([...whole.shape], blockShape, size, false);
      return work.result(work.copied(work.permute(work.reshape(whole, split), order)), x!.dtype, joined);
    },
  ),
};
