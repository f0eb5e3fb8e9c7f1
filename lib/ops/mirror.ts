import { tensor } from "../core/creation.js";
import { describe, HeedError } from "../util/errors.js";
import { scope } from "../core/scope.js";
import { checkAxis, formatShape, numel } from "../core/shape.js";
import type { FloatTensor } from "../core/tensor.js";
import { checkArray, checkChoice, checkFloat, checkInteger } from "./check.js";
import { embedding } from "./embedding.js";
import { reshape } from "./views.js";

/**
 * Returns the elements at these positions along an axis. What follows the axis is a row of a table, from which
 * `embedding` takes rows and to which its gradient adds them.
 */
function pick(x: FloatTensor, axis: number, positions: readonly number[]): FloatTensor {
  const [outer, size, inner] = [numel(x.shape.slice(0, axis)), x.shape[axis]!, numel(x.shape.slice(axis + 1))];
  const n = positions.length;
  const rows = new Int32Array(outer * n);
  for (let o = 0; o < outer; o++) for (let i = 0; i < n; i++) rows[o * n + i] = o * size + positions[i]!;
  const found = embedding(tensor(rows, [rows.length], { device: x.device }), reshape(x, [outer * size, inner]));
  return reshape(found, x.shape.with(axis, n));
}

/**
 * Returns the elements in the opposite order along one or more axes, by default along all.
 *
 * @example
 * const y = reverse(tensor([[1, 2], [3, 4]]), [0]); // [[3, 4], [1, 2]]
 *
 * @throws ERR_RANGE if there is no such axis.
 */
export function reverse(x: FloatTensor, axes: readonly number[] | null = null): FloatTensor {
  const op = "reverse";
  checkFloat(op, "x", x);
  if (axes !== null) checkArray(op, "axes", axes);
  const rank = x.shape.length;
  const all = new Set(axes?.map((axis) => checkAxis(op, axis, rank)) ?? x.shape.keys());
  return scope(() => {
    let y = x;
    for (const axis of all) {
      const size = x.shape[axis]!;
      const positions = Array.from({ length: size }, (_, i) => size - 1 - i);
      y = pick(y, axis, positions);
    }
    return y === x ? reshape(x, x.shape) : y;
  });
}

/**
 * Returns x with its own elements mirrored at its edges: `padding` has a pair [before, after] for each axis. "reflect"
 * mirrors at the outermost elements, which it does not repeat, and "symmetric" beyond them.
 *
 * @example
 * const y = mirrorPad(tensor([1, 2, 3]), [[2, 1]], "reflect"); // [3, 2, 1, 2, 3, 2]
 * const z = mirrorPad(tensor([1, 2, 3]), [[2, 1]], "symmetric"); // [2, 1, 1, 2, 3, 3]
 *
 * @throws ERR_SHAPE if `padding` is no list of a pair for each axis; ERR_RANGE if a pair reaches beyond what there is to
 *   mirror; ERR_ARGUMENT for another mode.
 */
export function mirrorPad(
  x: FloatTensor,
  padding: readonly (readonly [number, number])[],
  mode: "reflect" | "symmetric",
): FloatTensor {
  const op = "mirrorPad";
  checkFloat(op, "x", x);
  checkArray(op, "padding", padding);
  checkChoice(op, "mode", mode, ["reflect", "symmetric"]);
  if (padding.length !== x.shape.length)
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected padding with a pair for each dimension of ${formatShape(x.shape)}, got ${padding.length} pairs`,
    );
  for (const [axis, pair] of padding.entries()) {
    if (!Array.isArray(pair) || pair.length !== 2)
      throw new HeedError("ERR_SHAPE", `${op}: expected a pair of numbers for axis ${axis}, got ${describe(pair)}`);
    const most = Math.max(0, mode === "reflect" ? x.shape[axis]! - 1 : x.shape[axis]!);
    for (const amount of pair) checkInteger(op, `padding of axis ${axis}`, amount, 0, most);
  }
  const skipped = mode === "reflect" ? 1 : 0;
  return scope(() => {
    let y = x;
    for (const [axis, [before, after]] of padding.entries()) {
      if (before === 0 && after === 0) continue;
      const size = x.shape[axis]!;
      const positions = Array.from({ length: before + size + after }, (_, i) => {
        const at = i - before;
        return at < 0 ? skipped - 1 - at : at < size ? at : 2 * size - 1 - skipped - at;
      });
      y = pick(y, axis, positions);
    }
    return y === x ? reshape(x, x.shape) : y;
  });
}
