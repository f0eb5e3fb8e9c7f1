import { checkObject, checkValues } from "./check.js";
import { describe, HeedError } from "./errors.js";
import { formatShape, sameShape, type Shape } from "./shape.js";
import type { Tensor } from "./tensor.js";

/** Describes a tensor to a file or another process. */
export interface SavedTensor {
  shape: Shape;
  values: ArrayLike<number>;
}

/** @internal Throws unless `saved` can be the content of `tensor`. */
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
