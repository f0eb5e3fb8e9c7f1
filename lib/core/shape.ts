import { describe, HeedError } from "../util/errors.js";

/** Sizes of a tensor's dimensions, outermost first; [] is the shape of a single number. */
export type Shape = readonly number[];

/** Largest number of dimensions of a tensor (native/core/tensor.h). */
export const maxRank = 8;

/** Returns the number of elements of a shape. */
export function numel(shape: Shape): number {
  let n = 1;
  for (const size of shape) n *= size;
  return n;
}

/** Returns the row-major strides of a shape, in elements. */
export function contiguousStrides(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= shape[i]!;
  }
  return strides;
}

export function isContiguous(shape: Shape, strides: Shape): boolean {
  let expected = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== 1 && strides[i] !== expected) return false;
    expected *= shape[i]!;
  }
  return true;
}

export function sameShape(a: Shape, b: Shape): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

export function formatShape(shape: Shape): string {
  return `[${Array.from(shape, describe).join(", ")}]`;
}

/**
 * Checks that `shape` is a list of at most eight integers of at least 0.
 *
 * @throws ERR_SHAPE if it is not.
 */
export function checkShape(op: string, shape: Shape): void {
  if (!Array.isArray(shape) || shape.length > maxRank || !shape.every((n) => Number.isSafeInteger(n) && n >= 0))
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected a shape of at most ${maxRank} integers of at least 0, got ${
        Array.isArray(shape) ? formatShape(shape) : describe(shape)
      }`,
    );
}

/**
 * Returns the index of `axis` in `rank` dimensions; a negative axis counts from the end.
 *
 * @throws ERR_RANGE if there is no such axis.
 */
export function checkAxis(op: string, axis: number, rank: number): number {
  if (!Number.isInteger(axis) || axis < -rank || axis >= rank)
    throw new HeedError("ERR_RANGE", `${op}: expected an axis from ${-rank} to ${rank - 1}, got ${describe(axis)}`);
  return axis < 0 ? axis + rank : axis;
}

/**
 * Returns the shape that two shapes broadcast to (NumPy's rule): sizes of 1 stretch, and missing leading sizes count as
 * 1.
 *
 * @throws ERR_SHAPE if the shapes do not broadcast.
 */
export function broadcastShapes(op: string, a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length);
  const shape = new Array<number>(rank);
  for (let i = 0; i < rank; i++) {
    const x = a[a.length - rank + i] ?? 1;
    const y = b[b.length - rank + i] ?? 1;
    if (x !== y && x !== 1 && y !== 1)
      throw new HeedError(
        "ERR_SHAPE",
        `${op}: expected shapes that broadcast together, got ${formatShape(a)} and ${formatShape(b)}`,
      );
    shape[i] = x === 1 ? y : x;
  }
  return shape;
}

/**
 * Returns the shape with its unknown size, if one is given as -1, computed from the number of elements.
 *
 * @throws ERR_SHAPE if no shape of `count` elements results.
 */
export function resolveShape(op: string, shape: Shape, count: number): number[] {
  const unknown = Array.isArray(shape) ? shape.indexOf(-1) : -1;
  if (unknown < 0) {
    checkShape(op, shape);
    if (numel(shape) !== count)
      throw new HeedError("ERR_SHAPE", `${op}: expected a shape of ${count} elements, got ${formatShape(shape)}`);
    return [...shape];
  }
  const resolved = [...shape];
  resolved[unknown] = 1;
  checkShape(op, resolved);
  const known = numel(resolved);
  resolved[unknown] = known === 0 ? NaN : count / known;
  if (!Number.isInteger(resolved[unknown]))
    throw new HeedError("ERR_SHAPE", `${op}: expected a shape of ${count} elements, got ${formatShape(shape)}`);
  return resolved;
}
