import { ops } from "../core/native.js";
import { allocate, type FloatTensor, type IntTensor } from "../core/tensor.js";
import { checkFloat, checkInteger, checkRank } from "./check.js";
import { contiguous } from "./views.js";

/**
 * Returns the position of the largest element along the last dimension: [..., V] → i32 [...]. The lowest position wins
 * a tie. NaN counts as less than everything, unlike in PyTorch, so it wins only against other NaN.
 *
 * @example
 * const ids = argmax(tensor([[1, 3, 2], [5, 4, 0]])); // [1, 0]
 */
export function argmax(x: FloatTensor): IntTensor {
  checkFloat("argmax", "x", x);
  checkRank("argmax", "x", x, 1);
  const input = contiguous(x);
  const ids = allocate(x.shape.slice(0, -1), "i32", x.device);
  ops.argmax({ ids, inp: input });
  if (input !== x) input.dispose();
  return ids;
}

/**
 * Returns the k largest elements along the last dimension and their positions, in descending order: [..., V] → [..., k]
 * each. Equal elements are ordered by position. NaN comes last, unlike in PyTorch.
 *
 * @example
 * const { values, ids } = topk(tensor([1, 3, 2]), 2); // [3, 2] and [1, 2]
 *
 * @throws ERR_RANGE if `k` is not an integer from 1 to V.
 */
export function topk(x: FloatTensor, k: number): { values: FloatTensor; ids: IntTensor } {
  checkFloat("topk", "x", x);
  checkRank("topk", "x", x, 1);
  checkInteger("topk", "k", k, 1, x.shape.at(-1));
  const input = contiguous(x);
  const shape = [...x.shape.slice(0, -1), k];
  const values: FloatTensor = allocate(shape, x.dtype, x.device);
  const ids = allocate(shape, "i32", x.device);
  ops.topk({ values, ids, inp: input });
  if (input !== x) input.dispose();
  return { values, ids };
}
