import { record } from "../core/autograd.js";
import type { FloatDType } from "../core/dtype.js";
import { ops } from "../core/native.js";
import { allocate, type FloatTensor, type IntTensor } from "../core/tensor.js";
import { checkDType, checkFloat, checkObject, checkShapeIs, checkTensor } from "./check.js";
import { scope } from "../core/scope.js";
import { checkRounding, writeGradient } from "./precision.js";
import { contiguous } from "./views.js";

/** Options of `embedding`. */
export interface EmbeddingOptions {
  /** Dtype of the result: the weight's own by default, or bf16 or f16 for an f32 weight. */
  dtype?: FloatDType;
}

/**
 * Returns rows of a table: ids i32 [...], weight [V, C] → [..., C]. An id outside [0, V) is an error on the device:
 * reading what is computed from the result rejects with ERR_RANGE.
 *
 * @example
 * const weight = parameter(randn([256, 16], { seed: 1 }));
 * const y = embedding(tensor(new Int32Array([72, 105])), weight); // [2, 16]
 *
 * @throws ERR_DTYPE if `dtype` does not fit the weight's.
 */
export function embedding(ids: IntTensor, weight: FloatTensor, options: EmbeddingOptions = {}): FloatTensor {
  checkTensor("embedding", "ids", ids);
  checkDType("embedding", "ids", ids, "i32");
  checkTensor("embedding", "weight", weight, ids);
  checkFloat("embedding", "weight", weight);
  checkObject("embedding", "options", options);
  const { dtype = weight.modelDType } = options;
  checkRounding("embedding", weight.modelDType, dtype);
  checkShapeIs("embedding", "weight", weight, [-1, -1]);
  // Kernels widen rows of 16 bits to f32, but do not round them to another dtype.
  if (weight.keptHalves && dtype !== "f32" && dtype !== weight.dtype)
    return scope(() => embedding(ids, weight, { dtype: "f32" }).to(dtype));
  const index = contiguous(ids);
  const table = contiguous(weight);
  const out: FloatTensor = allocate([...ids.shape, weight.shape[1]!], dtype, weight.device);
  ops.embedding_forward({ out, ids: index, weight: table });
  record("embedding", out, [table], { index }, ({ dout, gradient, saved }) => {
    writeGradient(gradient(0), dout.dtype, ({ out: dweight, accumulate }) =>
      ops.embedding_backward({ dweight, dout, ids: saved.index, accumulate }),
    );
  });
  if (index !== ids) index.dispose();
  if (table !== weight) table.dispose();
  return out;
}
