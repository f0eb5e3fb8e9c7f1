import { checkObject, checkValues } from "../util/check.js";
import { describe, HeedError } from "../util/errors.js";
import { formatShape, sameShape, type Shape } from "./shape.js";
import type { Tensor } from "./tensor.js";

/** Content of a tensor, for a file or another process. */
export interface SavedTensor {
  /** Sizes of the dimensions. */
  shape: Shape;
  /** All elements in row-major order. */
  values: ArrayLike<number>;
}

/**
 * @internal Checks that `saved` can be the content of `tensor`.
 *
 * @throws ERR_ARGUMENT if it is not an object with `shape` and `values`; ERR_SHAPE if its shape or number of values
 *   differs.
 */
export function checkSaved(op: string, name: string, tensor: Tensor, saved: unknown): void {
  checkObject(op, name, saved);
  const { shape, values } = saved as Partial<SavedTensor>;
  checkValues(op, values);
  if (!Array.isArray(shape) || !sameShape(shape, tensor.shape) || values.length !== tensor.size)
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected ${name} of shape ${formatShape(tensor.shape)}, got ` +
        `${Array.isArray(shape) ? formatShape(shape) : describe(shape)} and ${values.length} values`,
    );
}
