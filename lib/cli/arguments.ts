import { InvalidArgumentError } from "commander";

/** Reads a flag's value as an integer in the given range. */
export function integer(low: number, high = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = parse(text);
    if (!Number.isSafeInteger(value) || value < low || value > high)
      throw new InvalidArgumentError(`Expected an integer ${range(low, high, Number.MAX_SAFE_INTEGER)}.`);
    return value;
  };
}

/** Reads a flag's value as a number in the given range. */
export function number(low: number, high = Infinity): (text: string) => number {
  return (text) => {
    const value = parse(text);
    if (!Number.isFinite(value) || value < low || value > high)
      throw new InvalidArgumentError(`Expected a number ${range(low, high, Infinity)}.`);
    return value;
  };
}

/** Adds a flag's value to those of its earlier uses. */
export function repeatable(text: string, before: readonly string[] = []): string[] {
  return [...before, text];
}

function parse(text: string): number {
  return text.trim() === "" ? NaN : Number(text);
}

function range(low: number, high: number, unlimited: number): string {
  return high === unlimited ? `of at least ${low}` : `from ${low} to ${high}`;
}
