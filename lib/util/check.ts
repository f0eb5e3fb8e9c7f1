/** Checks of arguments that are not tensors. The checks of tensors are in ops/check.ts. */
import { describe, HeedError, oneOf } from "./errors.js";

/** Largest finite number of f32, the type in which kernels receive numbers. */
export const largestFloat = 3.4028234663852886e38;
/** Smallest positive number of f32. */
export const smallestFloat = 2 ** -149;

/**
 * Checks that `value` is a number with low <= value <= high.
 *
 * @throws ERR_RANGE if it is not, also for NaN.
 */
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

/**
 * Largest number of layers that a model may have. No published model is deeper, and heed keeps lists and objects for
 * each layer.
 */
export const mostLayers = 4096;

export function checkBoolean(op: string, name: string, value: unknown): void {
  if (typeof value !== "boolean")
    throw new HeedError("ERR_ARGUMENT", `${op}: expected ${name} to be a boolean, got ${describe(value)}`);
}

/**
 * Checks that `value` is one of `choices`.
 *
 * @throws ERR_ARGUMENT if it is not.
 */
export function checkChoice(op: string, name: string, value: unknown, choices: readonly string[]): void {
  if ((choices as readonly unknown[]).includes(value)) return;
  throw new HeedError("ERR_ARGUMENT", `${op}: expected ${name} to be ${oneOf(choices)}, got ${describe(value)}`);
}

/**
 * Checks that `value` is an object, from which options can be read.
 *
 * @throws ERR_ARGUMENT if it is not.
 */
export function checkObject(op: string, name: string, value: unknown): void {
  if (typeof value !== "object" || value === null)
    throw new HeedError("ERR_ARGUMENT", `${op}: expected ${name} to be an object, got ${describe(value)}`);
}

export function checkArray(op: string, name: string, value: unknown): void {
  if (!Array.isArray(value))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected ${name} to be an array, got ${describe(value)}`);
}

export function checkFunction(op: string, value: unknown): void {
  if (typeof value !== "function")
    throw new HeedError("ERR_ARGUMENT", `${op}: expected a function, got ${describe(value)}`);
}

/**
 * Checks that `values` is an array of numbers or a typed array of them.
 *
 * @throws ERR_ARGUMENT if it is not.
 */
export function checkValues(op: string, values: unknown): asserts values is ArrayLike<number> {
  const big = values instanceof BigInt64Array || values instanceof BigUint64Array;
  if (ArrayBuffer.isView(values) && !(values instanceof DataView) && !big) return;
  if (!Array.isArray(values))
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected numbers in an array or a typed array, got ${big ? "big integers" : describe(values)}`,
    );
  for (let i = 0; i < values.length; i++)
    if (typeof values[i] !== "number")
      throw new HeedError("ERR_ARGUMENT", `${op}: expected numbers, got ${describe(values[i])} at position ${i}`);
}

/**
 * Checks that arrays and objects are nested at most `most` deep, without recursion.
 *
 * @throws ERR_ARGUMENT
 */
export function checkLevels(name: string, value: unknown, most: number): void {
  const levels = new Map<object, number>();
  const open: [value: unknown, level: number][] = [[value, 1]];
  for (let next = open.pop(); next; next = open.pop()) {
    const [one, level] = next;
    if (typeof one !== "object" || one === null || (levels.get(one) ?? 0) >= level) continue;
    if (level > most)
      throw new HeedError("ERR_ARGUMENT", `${name}: expected parts that are nested at most ${most} deep, got more`);
    levels.set(one, level);
    for (const part of Object.values(one)) open.push([part, level + 1]);
  }
}
