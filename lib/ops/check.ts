import { type DType, isFloat } from "../core/dtype.js";
import { describe, HeedError } from "../util/errors.js";
import { formatShape, type Shape } from "../core/shape.js";
import { Tensor } from "../core/tensor.js";

export {
  checkArray,
  checkBoolean,
  checkChoice,
  checkInteger,
  checkNumber,
  checkObject,
  largestFloat,
  mostLayers,
  smallestFloat,
} from "../util/check.js";
export { describe };

/**
 * Checks that `value` is a live tensor, on the device of `like` if that is given.
 *
 * @throws ERR_ARGUMENT, ERR_DISPOSED or ERR_DEVICE if it is not.
 */
export function checkTensor(op: string, name: string, value: unknown, like?: Tensor): asserts value is Tensor {
  if (!(value instanceof Tensor))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected ${name} to be a tensor, got ${describe(value)}`);
  if (value.disposed)
    throw new HeedError("ERR_DISPOSED", `${op}: expected ${name} to be a live tensor, got a disposed one: ${value}`);
  if (like && value.device !== like.device)
    throw new HeedError("ERR_DEVICE", `${op}: expected ${name} on ${like.device}, got ${value.device}`);
}

/**
 * Checks that `value` is a live tensor of a floating dtype. If `like` is given, both must have the same dtype and
 * device.
 *
 * @throws ERR_DTYPE if it has another dtype; the errors of `checkTensor`.
 */
export function checkFloat(op: string, name: string, value: unknown, like?: Tensor): void {
  checkTensor(op, name, value, like);
  if (!isFloat(value.dtype))
    throw new HeedError("ERR_DTYPE", `${op}: expected ${name} of a floating dtype, got ${value.dtype}`);
  if (like) checkDType(op, name, value, like.dtype);
}

/**
 * Checks that `value` is a live tensor on the device of `like`, with its dtype or f32.
 *
 * @throws ERR_DTYPE if it has another dtype; the errors of `checkTensor`.
 */
export function checkParameter(op: string, name: string, value: unknown, like: Tensor): void {
  checkTensor(op, name, value, like);
  if (value.dtype === like.dtype || value.dtype === "f32") return;
  const expected = like.dtype === "f32" ? "f32" : `${like.dtype} or f32`;
  throw new HeedError("ERR_DTYPE", `${op}: expected ${name} of dtype ${expected}, got ${value.dtype}`);
}

export function checkDType(op: string, name: string, value: Tensor, dtype: DType): void {
  if (value.dtype !== dtype)
    throw new HeedError("ERR_DTYPE", `${op}: expected ${name} of dtype ${dtype}, got ${value.dtype}`);
}

/**
 * Checks the shape of a tensor; a size of -1 in `expected` allows any size.
 *
 * @throws ERR_SHAPE if it differs.
 */
export function checkShapeIs(op: string, name: string, value: Tensor, expected: Shape): void {
  const { shape } = value;
  let fits = shape.length === expected.length;
  for (let i = 0; fits && i < shape.length; i++) fits = expected[i] === -1 || expected[i] === shape[i];
  if (!fits)
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected ${name} of shape ${formatShape(expected).replaceAll("-1", "*")}, got ${formatShape(shape)}`,
    );
}

export function checkRank(op: string, name: string, value: Tensor, atLeast: number): void {
  if (value.shape.length < atLeast)
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected ${name} with at least ${atLeast} dimensions, got shape ${formatShape(value.shape)}`,
    );
}
