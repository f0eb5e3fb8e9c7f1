import { expect } from "vitest";
import { type ErrorCode, HeedError } from "../../lib/util/errors.js";

/**
 * Expects that `body` throws a HeedError with this code and a message that says what was expected and what was given.
 */
export function expectError(body: () => unknown, code: ErrorCode, message = /expected .+, got /s): void {
  let thrown: unknown;
  try {
    body();
  } catch (error) {
    thrown = error;
  }
  checkError(thrown, code, message);
}

/** Expects the same of the error with which a promise rejects. */
export async function expectRejection(
  promise: Promise<unknown>,
  code: ErrorCode,
  message = /expected .+, got /s,
): Promise<void> {
  const outcome = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  checkError(outcome, code, message);
}

function checkError(error: unknown, code: ErrorCode, message: RegExp): void {
  expect(error, `expected ${code}`).toBeInstanceOf(HeedError);
  const { code: given, message: text } = error as HeedError;
  expect(given, text).toBe(code);
  expect(text).toMatch(message);
}
