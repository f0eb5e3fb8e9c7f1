import { type DType, isFloat } from "../dtype.js";
import { describe, HeedError } from "../errors.js";
import { formatShape, type Shape } from "../shape.js";
import { Tensor } from "../tensor.js";

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
} from "../check.js";
export { describe };

/** Throws unless `value` is a live tensor on the device of `like`. */
export function checkTensor(op: string, name: string, value: unknown, like?: Tensor): asserts value is Tensor {
  if (!(value instanceof Tensor))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected ${name} to be a tensor, got ${describe(value)}`);
  if (value.disposed)
    throw new HeedError("ERR_DISPOSED", `${op}: expected ${name} to be a live tensor, got a disposed one: ${value}`);
  if (like && value.device !== like.device)
    throw new HeedError("ERR_DEVICE", `${op}: expected ${name} on ${like.device}, got ${value.device}`);
}

/** Throws unless `value` is a live tensor of a floating type; with `like`, of its dtype and on its device. */
export function checkFloat(op: string, name: string, value: unknown, like?: Tensor): void {
  checkTensor(op, name, value, like);
  if (!isFloat(value.dtype))
    throw new HeedError("ERR_DTYPE", `${op}: expected ${name} of a floating dtype, got ${value.dtype}`);
  if (like) checkDType(op, name, value, like.dtype);
}

/** Throws unless `value` is a live tensor on the device of `like`, of its dtype or of f32. */
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

/** Sizes of -1 in `expected` stand for any. */
export function checkShapeIs(op: string, name: string, value: Tensor, expected: Shape): void {
  const { shape } = value;
  if (shape.length !== expected.length || !shape.every((n, i) => expected[i] === -1 || expected[i] === n))
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
