import type { FloatDType } from "../core/dtype.js";
import type { WeightFile } from "../formats/weights.js";
import { numel } from "../core/shape.js";

/** Option of the functions that load a model. */
export interface StoredDTypeOptions {
  /**
   * True if the model gets the dtype in which its file stores most of its numbers, unless `dtype` is given. Numbers that
   * are stored in codes or blocks do not count. If that is f32, or `dtype` says so, the model computes in f32, but on the
   * CPU it keeps matrices that the file stores in bf16 or f16 so: they are the same numbers in half the memory. They become
   * f32 when an optimiser is made for them. False gives f32, in memory too.
   *
   * @default true for `load`, which loads models for inference, and false for the others
   */
  storedDtype?: boolean;
}

const dtypes: Readonly<Record<string, FloatDType>> = { F64: "f32", F32: "f32", BF16: "bf16", F16: "f16" };

/** Returns the dtype of 16 bits that a type of a file names, or null if it names none. */
export function halvesOf(type: string | null): "bf16" | "f16" | null {
  const dtype = type === null ? undefined : dtypes[type];
  return dtype === "bf16" || dtype === "f16" ? dtype : null;
}

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
