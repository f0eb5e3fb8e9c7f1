import { record } from "../autograd.js";
import { ops } from "../native.js";
import { allocate, type FloatTensor, type IntTensor } from "../tensor.js";
import { checkDType, checkFloat, checkShapeIs, checkTensor } from "./check.js";
import { contiguous } from "./views.js";

/**
 * Rows of a table: ids [...] → [..., C] from weight [V, C]. An id outside [0, V) rejects the next read with ERR_RANGE.
 */
export function embedding(ids: IntTensor, weight: FloatTensor): FloatTensor {
  checkTensor("embedding", "ids", ids);
  checkDType("embedding", "ids", ids, "i32");
  checkFloat("embedding", "weight", weight, ids);
  checkShapeIs("embedding", "weight", weight, [-1, -1]);
  const index = contiguous(ids);
  const table = contiguous(weight);
  const out: FloatTensor = allocate([...ids.shape, weight.shape[1]!], weight.dtype, weight.device);
  ops.embedding_forward(out.handle, index.handle, table.handle);
  record("embedding", out, [table], { index }, ({ dout, gradient, saved }) => {
    const { out: dweight, accumulate } = gradient(0);
    ops.embedding_backward(dweight.handle, dout.handle, saved.index.handle, accumulate);
  });
  if (index !== ids) index.dispose();
  if (table !== weight) table.dispose();
  return out;
}
