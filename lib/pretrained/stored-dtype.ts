import type { FloatDType } from "../dtype.js";
import type { WeightFile } from "../formats/weights.js";
import { numel } from "../shape.js";

/** Option of the functions that load a model. */
export interface StoredDTypeOptions {
  /**
   * True if the model gets the dtype in which its file stores most of its numbers, unless `dtype` is given. Numbers that
   * are stored in codes or blocks do not count. False gives f32.
   *
   * @default true for `load`, which loads models for inference, and false for the others
   */
  storedDtype?: boolean;
}

const dtypes: Readonly<Record<string, FloatDType>> = { F64: "f32", F32: "f32", BF16: "bf16", F16: "f16" };

/** Returns the options of a model's constructor, with the dtype of the file if the options ask for it. */
export function withStoredDtype<T extends { dtype?: FloatDType } & StoredDTypeOptions>(
  { storedDtype = false, ...options }: T,
  file: WeightFile,
): Omit<T, "storedDtype"> {
  return storedDtype && options.dtype === undefined ? { ...options, dtype: dtypeOf(file) } : options;
}

/** Returns the dtype of most numbers of a file; f32 if it has none but codes and blocks. */
function dtypeOf({ tensors }: WeightFile): FloatDType {
  const counts = new Map<FloatDType, number>([["f32", 0]]);
  for (const { dtype, shape } of tensors.values()) {
    const known = dtypes[dtype];
    if (known) counts.set(known, (counts.get(known) ?? 0) + numel(shape));
  }
  return [...counts].reduce((best, one) => (one[1] > best[1] ? one : best))[0];
}
