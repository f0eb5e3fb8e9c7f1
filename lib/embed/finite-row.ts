import { HeedError } from "../util/errors.js";

/**
 * Returns the numbers that a model has computed for a text, which `name` names.
 *
 * @throws ERR_DIVERGED if one of them is NaN or infinite.
 */
export function finiteRow(op: string, name: string, row: Float32Array): Float32Array {
  if (row.every(Number.isFinite)) return row;
  const text = `expected finite numbers for ${name}, got NaN or Infinity`;
  throw new HeedError("ERR_DIVERGED", `${op}: the model has diverged: ${text}`);
}
