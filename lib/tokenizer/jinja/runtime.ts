// What filters, tests, functions and methods know of the interpreter that calls them.
import type { Bounds } from "./bounds.js";
import { type Bound, Signature } from "./signature.js";
import { type Keywords, stringOf, TemplateError, typeName, Undefined, type Value } from "./values.js";

export interface Runtime {
  readonly bounds: Bounds;
  /** Returns the value of what does not exist. */
  undefined(message: string): Undefined;
  /** Returns value.name. */
  attribute(value: Value, name: string): Value;
  /** Returns value[key]. */
  item(value: Value, key: Value): Value;
  filter(name: string, value: Value, args: readonly Value[], kwargs: Keywords): Value;
  test(name: string, value: Value, args: readonly Value[], kwargs: Keywords): boolean;
  call(callee: Value, args: readonly Value[], kwargs: Keywords): Value;
}

/** A filter, a test or a method: a function of a value and further arguments. */
export interface Operation<T, R> {
  readonly signature: Signature;
  readonly apply: (runtime: Runtime, value: T, args: Bound, kwargs: Keywords) => R;
  /** True if the results say which parts of them are untrusted; see untrusted.ts. */
  readonly tracks?: boolean;
}

/** Defines an operation by its parameters and what it does. */
type Definition<T, R> = (parameters: string, apply: Operation<T, R>["apply"]) => Operation<T, R>;

/** Returns a function that defines operations by their parameters (see `Signature`) and what they do. */
export function operations<T, R>(): Definition<T, R> {
  return (parameters, apply) => ({ signature: new Signature(parameters), apply });
}

/** Returns a function that defines operations whose results say which parts of them are untrusted. */
export function tracking<T, R>(define: Definition<T, R>): Definition<T, R> {
  return (parameters, apply) => ({ ...define(parameters, apply), tracks: true });
}

/** Returns an argument that must be a text. */
export function needText(value: Value | undefined, name: string): string {
  if (value instanceof Undefined) value.fail();
  return stringOf(value) ?? fail(`expected ${name} to be a str, got ${typeName(value ?? null)}`);
}

/** Returns an argument that must be an integer, or `usual` if it is not given. */
export function needInt(value: Value | undefined, usual: number, name: string): number {
  if (value === undefined) return usual;
  if (value instanceof Undefined) value.fail();
  if (typeof value === "number" || typeof value === "boolean" || typeof value === "bigint") return Number(value);
  return fail(`expected ${name} to be an int, got ${typeName(value)}`);
}

export function fail(message: string): never {
  throw new TemplateError(message);
}
