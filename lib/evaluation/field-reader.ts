// Reads the fields of a task file one after the other. Fields that nobody has read are refused by their names.
import { describe, HeedError, oneOf } from "../util/errors.js";

/** Python code in a task file, which heed does not run. */
export class PythonCode {
  constructor(readonly source: string) {}
}

type Fields = Record<string, unknown>;

/**
 * Returns a value that must be an object.
 *
 * @throws ERR_FORMAT if it is not.
 */
export function record(name: string, value: unknown): Fields {
  if (typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof PythonCode))
    return value as Fields;
  throw refused(name, "an object", value);
}

/**
 * Returns a value that must be a list.
 *
 * @throws ERR_FORMAT if it is not.
 */
export function list(name: string, value: unknown): unknown[] {
  if (Array.isArray(value)) return value;
  throw refused(name, "a list", value);
}

/** Returns the error of a field whose value is not what is expected. */
export function refused(name: string, expected: string, value: unknown): HeedError {
  if (value instanceof PythonCode)
    return new HeedError("ERR_FORMAT", `expected ${name} without Python code, got !function ${value.source}`);
  return new HeedError("ERR_FORMAT", `expected ${name} to be ${expected}, got ${describe(value)}`);
}

/** Reads the fields of an object one after the other, and refuses those that nobody has read. */
export class FieldReader {
  readonly #left: Map<string, unknown>;
  readonly #path: string;

  constructor(fields: Fields, path: string) {
    this.#left = new Map(Object.entries(fields));
    this.#path = path;
  }

  /** Returns the value of a field, which counts as read; undefined if it is missing. */
  take(name: string): unknown {
    const value = this.#left.get(name);
    this.#left.delete(name);
    if (value instanceof PythonCode) throw refused(this.#path + name, "", value);
    return value;
  }

  /** Counts fields as read. */
  ignore(names: readonly string[]): void {
    for (const name of names) this.#left.delete(name);
  }

  /** Returns a reader of the fields of a field. */
  inner(name: string): FieldReader {
    const value = this.take(name) ?? {};
    return new FieldReader(record(this.#path + name, value), `${this.#path}${name}.`);
  }

  required(name: string, type: "string"): unknown {
    return this.#typed(name, this.take(name), type);
  }

  text(name: string, fallback: string): string {
    return this.#typed(name, this.take(name) ?? fallback, "string") as string;
  }

  optionalText(name: string): string | null {
    const value = this.take(name) ?? null;
    return value === null ? null : (this.#typed(name, value, "string") as string);
  }

  boolean(name: string, fallback: boolean): boolean {
    return this.#typed(name, this.take(name) ?? fallback, "boolean") as boolean;
  }

  number(name: string, fallback: number, low: number, high = Infinity): number {
    const value = this.take(name) ?? fallback;
    if (typeof value === "number" && value >= low && value <= high) return value;
    throw refused(this.#path + name, `a number from ${low} to ${high}`, value);
  }

  integer(name: string, fallback: number, low: number): number {
    const value = this.take(name) ?? fallback;
    if (Number.isSafeInteger(value) && (value as number) >= low) return value as number;
    throw refused(this.#path + name, `an integer of at least ${low}`, value);
  }

  choice<T extends string>(name: string, known: readonly T[], fallback: T | undefined): T {
    const value = this.take(name) ?? fallback;
    if ((known as readonly unknown[]).includes(value)) return value as T;
    throw refused(this.#path + name, oneOf(known), value);
  }

  /** Refuses the fields that are left. */
  end(): void {
    for (const [name, value] of this.#left) {
      const got = value instanceof PythonCode ? `!function ${value.source}` : describe(value);
      throw new HeedError("ERR_FORMAT", `expected no ${this.#path}${name}, which heed does not support, got ${got}`);
    }
  }

  #typed(name: string, value: unknown, type: "string" | "boolean"): unknown {
    if (typeof value === type) return value;
    throw refused(this.#path + name, `a ${type}`, value);
  }
}
