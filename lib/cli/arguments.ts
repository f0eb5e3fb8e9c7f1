import { InvalidArgumentError } from "commander";
import { largestFloat } from "../util/check.js";

/** Returns a parser that reads a flag's value as an integer in the given range. */
export function integer(low: number, high = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = parse(text);
    if (!Number.isSafeInteger(value) || value < low || value > high)
      throw new InvalidArgumentError(`Expected an integer ${range(low, high, Number.MAX_SAFE_INTEGER)}.`);
    return value;
  };
}

/**
 * Returns a parser that reads a flag's value as a number in the given range. Kernels take f32 numbers, so the largest
 * one of f32 is the limit.
 */
export function number(low: number, high = largestFloat): (text: string) => number {
  return (text) => {
    const value = parse(text);
    if (value > largestFloat) throw new InvalidArgumentError(`Expected a number of at most ${high}.`);
    if (!(value >= low && value <= high))
      throw new InvalidArgumentError(`Expected a number ${range(low, high, largestFloat)}.`);
    return value;
  };
}

/** Factors of the units of bytes; without a B, they are those of the binary system. */
const units = new Map([
  ...["", "k", "m", "g", "t"].flatMap((letter, i): [string, number][] => [
    [letter, 1024 ** i],
    [letter === "" ? "b" : `${letter}i`, 1024 ** i],
    [`${letter}ib`, 1024 ** i],
  ]),
  ...["kb", "mb", "gb", "tb"].map((unit, i): [string, number] => [unit, 1000 ** (i + 1)]),
]);

/** Reads a flag's value as a number of bytes: 2000000, 512M, 1.5GiB or 2GB. */
export function bytes(text: string): number {
  const [, digits, unit = ""] = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(text) ?? [];
  const value = Math.floor(Number(digits) * (units.get(unit.toLowerCase()) ?? NaN));
  if (Number.isSafeInteger(value) && value >= 1) return value;
  throw new InvalidArgumentError("Expected a number of bytes, such as 2000000, 512MiB or 1.5GiB.");
}

/** Reads a flag's value as a text, which must not be empty. */
export function text(value: string): string {
  if (value === "") throw new InvalidArgumentError("Expected a text that is not empty.");
  return value;
}

/** Adds a flag's value, which must not be empty, to the values of its earlier uses. */
export function repeatable(value: string, before: readonly string[] = []): string[] {
  return [...before, text(value)];
}

/** Reads a flag's value as the name of a device. It does not check whether the device exists. */
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
