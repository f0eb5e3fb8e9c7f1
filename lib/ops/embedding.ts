import { record } from "../autograd.js";
import type { FloatDType } from "../dtype.js";
import { ops } from "../native.js";
import { allocate, type FloatTensor, type IntTensor } from "../tensor.js";
import { checkDType, checkFloat, checkObject, checkShapeIs, checkTensor } from "./check.js";
import { checkRounding } from "./precision.js";
import { contiguous } from "./views.js";

export interface EmbeddingOptions {
  /** Of the result: the weight's dtype, which it is unless given, or bf16 or f16 of an f32 weight. */
  dtype?: FloatDType;
}

/**
 * Rows of a table: ids [...] → [..., C] from weight [V, C]. An id outside [0, V) is an
 * error on the device: reading what is computed from the result rejects with ERR_RANGE.
 */
export function embedding(ids: IntTensor, weight: FloatTensor, options: EmbeddingOptions = {}): FloatTensor {
  checkTensor("embedding", "ids", ids);
  checkDType("embedding", "ids", ids, "i32");
  checkTensor("embedding", "weight", weight, ids);
  checkFloat("embedding", "weight", weight);
  checkObject("embedding", "options", options);
  const { dtype = weight.dtype } = options;
  checkRounding("embedding", weight.dtype, dtype);
  checkShapeIs("embedding", "weight", weight, [-1, -1]);
  const index = contiguous(ids);
  const table = contiguous(weight);
  const out: FloatTensor = allocate([...ids.shape, weight.shape[1]!], dtype, weight.device);
  ops.embedding_forward({ out, ids: index, weight: table });
  record("embedding", out, [table], { index }, ({ dout, gradient, saved }) => {
    const { out: dweight, accumulate } = gradient(0);
    ops.embedding_backward({ dweight, dout, ids: saved.index, accumulate });
  });
  if (index !== ids) index.dispose();
  if (table !== weight) table.dispose();
  return out;
}
