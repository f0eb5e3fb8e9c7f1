import { type DType, isFloat } from "../dtype.js";
import { HeedError } from "../errors.js";
import { formatShape, type Shape } from "../shape.js";
import { Tensor } from "../tensor.js";

/** Throws unless `value` is a live tensor on the device of `like`. */
export function checkTensor(op: string, name: string, value: unknown, like?: Tensor): asserts value is Tensor {
  if (!(value instanceof Tensor))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected ${name} to be a tensor, got ${describe(value)}`);
  if (value.disposed)
    throw new HeedError("ERR_DISPOSED", `${op}: expected ${name} to be a live tensor, got a disposed one: ${value}`);
  if (like && value.device !== like.device)
    throw new HeedError("ERR_DEVICE", `${op}: expected ${name} on ${like.device}, got ${value.device}`);
}

/** Throws unless `value` is a live tensor of a floating type on the device of `like`. */
export function checkFloat(op: string, name: string, value: unknown, like?: Tensor): void {
  checkTensor(op, name, value, like);
  if (!isFloat(value.dtype))
    throw new HeedError("ERR_DTYPE", `${op}: expected ${name} of a floating dtype, got ${value.dtype}`);
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

/** Throws ERR_RANGE unless low <= value <= high; NaN never is. */
export function checkNumber(op: string, name: string, value: unknown, low = -Infinity, high = Infinity): void {
  if (typeof value !== "number" || !(value >= low && value <= high))
    throw new HeedError(
      "ERR_RANGE",
      `${op}: expected ${name} to be a number from ${low} to ${high}, got ${describe(value)}`,
    );
}

export function checkInteger(
  op: string,
  name: string,
  value: unknown,
  low: number,
  high = Number.MAX_SAFE_INTEGER,
): void {
  if (!Number.isSafeInteger(value) || (value as number) < low || (value as number) > high)
    throw new HeedError(
      "ERR_RANGE",
      `${op}: expected ${name} to be an integer from ${low} to ${high}, got ${describe(value)}`,
    );
}

/** A value, shortly, for a message. */
export function describe(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
  if (value === null || typeof value !== "object") return String(value);
  if (value instanceof Tensor) return value.toString();
  return Array.isArray(value) ? `an array of ${value.length}` : `an object`;
}
