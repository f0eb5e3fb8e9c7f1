import { InvalidArgumentError } from "commander";
import { largestFloat } from "../check.js";

/** Reads a flag's value as an integer in the given range. */
export function integer(low: number, high = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = parse(text);
    if (!Number.isSafeInteger(value) || value < low || value > high)
      throw new InvalidArgumentError(`Expected an integer ${range(low, high, Number.MAX_SAFE_INTEGER)}.`);
    return value;
  };
}

/** Reads a flag's value as a number in the given range, at most the largest of f32, in which kernels take numbers. */
export function number(low: number, high = largestFloat): (text: string) => number {
  return (text) => {
    const value = parse(text);
    if (value > largestFloat) throw new InvalidArgumentError(`Expected a number of at most ${high}.`);
    if (!(value >= low && value <= high))
      throw new InvalidArgumentError(`Expected a number ${range(low, high, largestFloat)}.`);
    return value;
  };
}

/** Reads a flag's value as a text that is not empty. */
export function text(value: string): string {
  if (value === "") throw new InvalidArgumentError("Expected a text that is not empty.");
  return value;
}

/** Adds a flag's value, a text that is not empty, to those of its earlier uses. */
export function repeatable(value: string, before: readonly string[] = []): string[] {
  return [...before, text(value)];
}

/** Reads a flag's value as the name of a device, whether or not it is there. */
export function deviceName(value: string): string {
  if (!/^(auto|cpu|cuda(:\d{1,4})?)$/.test(value))
    throw new InvalidArgumentError("Expected cpu, cuda, cuda:1, … or auto.");
  return value;
}

function parse(text: string): number {
  return text.trim() === "" ? NaN : Number(text);
}

function range(low: number, high: number, unlimited: number): string {
  return high === unlimited ? `of at least ${low}` : `from ${low} to ${high}`;
}
