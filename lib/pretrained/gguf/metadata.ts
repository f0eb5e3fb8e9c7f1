import { describe, HeedError } from "../../util/errors.js";
import type { GgufValue } from "../../formats/gguf-values.js";

/** Typed access to the metadata of a GGUF file. Keys are given without the prefix of the architecture's name. */
export class GgufMetadata {
  readonly architecture: string;

  /**
   * Reads the architecture's name.
   *
   * @throws ERR_FORMAT if there is none.
   */
  constructor(
    readonly path: string,
    readonly values: ReadonlyMap<string, GgufValue>,
  ) {
    const given = values.get("general.architecture");
    if (typeof given !== "string" || given === "") throw this.fault("general.architecture", "a name", given);
    this.architecture = given;
  }

  /** Returns a size, which is an integer of at least 1. */
  size(key: string, otherwise?: number): number {
    const value = this.number(key, otherwise);
    if (!Number.isSafeInteger(value) || value < 1) throw this.fault(this.#full(key), "a positive integer", value);
    return value;
  }

  number(key: string, otherwise?: number): number {
    const value = this.values.get(this.#full(key)) ?? otherwise;
    if (typeof value !== "number" || !Number.isFinite(value)) throw this.fault(this.#full(key), "a number", value);
    return value;
  }

  /** Returns a string, or null if there is none. */
  text(key: string): string | null {
    const value = this.values.get(this.#full(key)) ?? null;
    if (value !== null && typeof value !== "string") throw this.fault(this.#full(key), "a string", value);
    return value;
  }

  fault(key: string, expected: string, value: unknown): HeedError {
    return new HeedError("ERR_FORMAT", `${this.path}: expected ${key} to be ${expected}, got ${describe(value)}`);
  }

  #full(key: string): string {
    return `${this.architecture}.${key}`;
  }
}
