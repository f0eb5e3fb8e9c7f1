// What every file of weights gives, whatever its format: named tensors, whose values come when they are asked for.
import { describe, HeedError } from "../errors.js";

export interface WeightEntry {
  /** As the format calls it. */
  readonly dtype: string;
  /** Row-major. */
  readonly shape: readonly number[];
}

/** An open file of weights, or several that are one. Close it, or declare it with `await using`. */
export interface WeightFile extends AsyncDisposable {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, WeightEntry>;
  /**
   * A tensor's numbers as f32, whatever they are stored in. Throws ERR_ARGUMENT for an unknown name, ERR_FORMAT where
   * the file has shrunk or the tensor is not of numbers that can be read.
   */
  readFloats(name: string): Promise<Float32Array>;
  close(): Promise<void>;
}

/** The entry of a tensor. Throws ERR_ARGUMENT for an unknown name. */
export function entryOf<E>(path: string, tensors: ReadonlyMap<string, E>, name: unknown): E {
  const entry = typeof name === "string" ? tensors.get(name) : undefined;
  if (entry === undefined)
    throw new HeedError("ERR_ARGUMENT", `${path}: expected the name of a tensor, got ${describe(name)}`);
  return entry;
}
