import { expect } from "vitest";

/** Returns a value as an instance of a class, and fails if it is none. */
export function instanceOf<T>(type: abstract new (...given: never[]) => T, value: unknown): T {
  expect(value).toBeInstanceOf(type);
  return value as T;
}
