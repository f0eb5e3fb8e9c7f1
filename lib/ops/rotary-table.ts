import { checkArray, checkBoolean, checkInteger, checkNumber, checkObject } from "../util/check.js";
import { type Device, device as deviceOf } from "../core/device.js";
import { describe, HeedError } from "../util/errors.js";
import { tensor } from "../core/creation.js";
import type { Tensor } from "../core/tensor.js";

/**
 * Method by which a model reads positions beyond those it was trained on: the `rope_scaling` of checkpoints.
 * `originalLength` is the context length of the training; `factor` says how many times longer the context becomes.
 */
export type RotaryScaling =
  /** Position interpolation (Chen et al. 2023, arXiv:2306.15595): every angle is divided by the factor. */
  | { type: "linear"; factor: number }
  /**
   * NTK-aware scaling (bloc97 2023): a larger base. The slowest pair turns as if it were interpolated, the fastest one
   * as before.
   */
  | { type: "ntk"; factor: number }
  /** NTK-aware scaling with the base that the table's length needs. Up to `originalLength` the base does not change. */
  | { type: "dynamic"; factor: number; originalLength: number }
  /**
   * YaRN (Peng et al. 2023, arXiv:2309.00071): slow pairs are interpolated, fast ones are left as they are, and a ramp
   * blends the pairs between them. The ramp is linear in the pairs, from the pair that turns `betaFast` (default 32)
   * times in the original length to the one that turns `betaSlow` (default 1) times. Both ends are rounded outwards, as
   * in the authors' code, unless `truncate` is false. Cosines and sines are multiplied by `attentionFactor`, by default
   * 0.1·ln(factor) + 1.
   */
  | {
      type: "yarn";
      factor: number;
      originalLength: number;
      betaFast?: number;
      betaSlow?: number;
      attentionFactor?: number;
      truncate?: boolean;
    }
  /**
   * Scaling of Llama 3.1: pairs that turn fewer than `lowFrequencyFactor` (default 1) times in the original length are
   * interpolated, pairs that turn more than `highFrequencyFactor` (default 4) times are left as they are, and the pairs
   * between them are blended, linearly in the number of turns.
   */
  | {
      type: "llama3";
      factor: number;
      originalLength: number;
      lowFrequencyFactor?: number;
      highFrequencyFactor?: number;
    }
  /**
   * Division of each pair's angle by its own factor (LongRoPE, Ding et al. 2024, arXiv:2402.13753; GGUF's rope_freqs).
   */
  | { type: "factors"; factors: readonly number[] };

/** Options of `rotaryTable`. */
export interface RotaryTableOptions {
  /** R, the number of dimensions that are turned; an even number. */
  size: number;
  /** Number of positions. */
  length: number;
  /** Base of the wavelengths. @default 10000 */
  base?: number;
  /** Method for positions beyond those of the training. @default null */
  scaling?: RotaryScaling | null;
  /** Device that holds the table. @default "auto" */
  device?: Device | (string & {});
}

/** Largest number of elements in a table: 1 GiB. */
const mostNumbers = 2 ** 28;

/**
 * Returns the angle by which each pair turns from one position to the next, in float64, and the factor of all cosines
 * and sines.
 *
 * @throws ERR_RANGE or ERR_ARGUMENT for a bad option.
 */
export function rotaryFrequencies(options: RotaryTableOptions): { frequencies: Float64Array; factor: number } {
  const op = "rotaryTable";
  checkObject(op, "options", options);
  const { size, length, base = 10_000, scaling = null } = options;
  checkInteger(op, "size", size, 2, 2 ** 16);
  if (size % 2 !== 0) throw new HeedError("ERR_RANGE", `${op}: expected an even size, got ${size}`);
  checkInteger(op, "length", length, 0, Math.floor(mostNumbers / size));
  checkAbove(op, "base", base, 1);
  const plain = (base: number): Float64Array =>
    Float64Array.from({ length: size / 2 }, (_, i) => base ** ((-2 * i) / size));
  if (!scaling) return { frequencies: plain(base), factor: 1 };

  checkObject(op, "scaling", scaling);
  if (scaling.type === "factors") {
    const { factors } = scaling;
    checkArray(op, "factors", factors);
    if (factors.length !== size / 2)
      throw new HeedError("ERR_RANGE", `${op}: expected ${size / 2} factors, one for each pair, got ${factors.length}`);
    for (const [i, value] of factors.entries()) checkAbove(op, `factors[${i}]`, value, 0);
    return { frequencies: plain(base).map((angle, i) => angle / factors[i]!), factor: 1 };
  }
  const { type, factor } = scaling;
  checkNumber(op, "factor", factor, 1, Number.MAX_VALUE);
  switch (type) {
    case "linear":
      return { frequencies: plain(base).map((angle) => angle / factor), factor: 1 };
    case "ntk":
      return { frequencies: plain(stretchedBase(options)!), factor: 1 };
    case "dynamic":
      checkInteger(op, "originalLength", scaling.originalLength, 1);
      return { frequencies: plain(stretchedBase(options)!), factor: 1 };
    case "yarn": {
      const { originalLength, betaFast = 32, betaSlow = 1, attentionFactor = 0.1 * Math.log(factor) + 1 } = scaling;
      const { truncate = true } = scaling;
      checkInteger(op, "originalLength", originalLength, 1);
      checkBoolean(op, "truncate", truncate);
      for (const [name, value] of Object.entries({ betaFast, betaSlow, attentionFactor }))
        checkAbove(op, name, value, 0);
      // Returns the pair that turns this many times in the original length, as a fractional index.
      const pairOf = (turns: number): number =>
        (size * Math.log(originalLength / (turns * 2 * Math.PI))) / (2 * Math.log(base));
      const [first, last] = [pairOf(betaFast), pairOf(betaSlow)];
      const low = Math.max(truncate ? Math.floor(first) : first, 0);
      const high = Math.min(truncate ? Math.ceil(last) : last, size - 1);
      const frequencies = plain(base).map((angle, i) => {
        const interpolated = Math.min(Math.max((i - low) / (high === low ? 0.001 : high - low), 0), 1);
        return blend(angle, angle / factor, interpolated);
      });
      return { frequencies, factor: attentionFactor };
    }
    case "llama3": {
      const { originalLength, lowFrequencyFactor: low = 1, highFrequencyFactor: high = 4 } = scaling;
      checkInteger(op, "originalLength", originalLength, 1);
      checkAbove(op, "lowFrequencyFactor", low, 0);
      checkAbove(op, "highFrequencyFactor", high, low);
      const frequencies = plain(base).map((angle) => {
        const turns = (originalLength * angle) / (2 * Math.PI);
        return blend(angle, angle / factor, Math.min(Math.max((high - turns) / (high - low), 0), 1));
      });
      return { frequencies, factor: 1 };
    }
    default:
      throw new HeedError(
        "ERR_ARGUMENT",
        `${op}: expected scaling.type to be linear, ntk, dynamic, yarn, llama3 or factors, got ${describe(type)}`,
      );
  }
}

/**
 * Returns the base with which unscaled positions equal those of NTK-aware scaling, dynamic or not; null for other
 * scalings.
 */
export function stretchedBase(options: RotaryTableOptions): number | null {
  const { size, length, base = 10_000, scaling = null } = options;
  if (scaling?.type !== "ntk" && scaling?.type !== "dynamic") return null;
  const { factor } = scaling;
  const stretch =
    scaling.type === "ntk" ? factor : Math.max(1, (factor * length) / scaling.originalLength - (factor - 1));
  // Two dimensions are a single pair, whose angle is 1 for every base.
  return size > 2 ? base * stretch ** (size / (size - 2)) : base;
}

/**
 * Returns the cosines and sines of each position's angles for `rotary`, f32 [length, size/2, 2], computed in float64.
 *
 * @example
 * const table = rotaryTable({ size: 16, length: 32, base: 500_000 }); // [32, 8, 2]
 * const q = rotary(randn([1, 6, 2, 16], { seed: 1 }), table);
 *
 * @throws ERR_RANGE if a number is out of range or the table would take more than 1 GiB; ERR_ARGUMENT for an unknown
 *   scaling.
 * @see Su et al. 2021, "RoFormer", arXiv:2104.09864.
 */
export function rotaryTable(options: RotaryTableOptions): Tensor<"f32"> {
  const { frequencies, factor } = rotaryFrequencies(options);
  const { length, device } = options;
  const values = turnedBy(frequencies, length, factor);
  return tensor(values, [length, frequencies.length, 2], device === undefined ? {} : { device: deviceOf(device) });
}

/** Number of positions in a block. Each position's angle is computed relative to the block's first. */
const blockLength = 256;

/**
 * Returns the cosines and sines of all positions, times `factor`. Computing each of them would take long. The angles of
 * a block's first position and of a place in the block add up, so that few cosines and sines give all of them, with an
 * error of about 1e-16.
 */
function turnedBy(frequencies: Float64Array, length: number, factor: number): Float32Array {
  const pairs = frequencies.length;
  const values = new Float32Array(2 * length * pairs);
  const within = cosinesAndSines(frequencies, Math.min(length, blockLength), 1);
  const firsts = cosinesAndSines(frequencies, Math.ceil(length / blockLength), blockLength);
  for (let position = 0, at = 0; position < length; position++) {
    const first = 2 * pairs * Math.floor(position / blockLength);
    const place = 2 * pairs * (position % blockLength);
    for (let i = 0; i < 2 * pairs; i += 2, at += 2) {
      const cosA = factor * firsts[first + i]!;
      const sinA = factor * firsts[first + i + 1]!;
      const cosB = within[place + i]!;
      const sinB = within[place + i + 1]!;
      values[at] = cosA * cosB - sinA * sinB;
      values[at + 1] = sinA * cosB + cosA * sinB;
    }
  }
  return values;
}

/** Returns the cosines and sines of the angles of `count` positions, `stride` from each other: [count, pairs, 2]. */
function cosinesAndSines(frequencies: Float64Array, count: number, stride: number): Float64Array {
  const values = new Float64Array(2 * count * frequencies.length);
  for (let i = 0, at = 0; i < count; i++)
    for (const frequency of frequencies) {
      values[at++] = Math.cos(i * stride * frequency);
      values[at++] = Math.sin(i * stride * frequency);
    }
  return values;
}

const blend = (a: number, b: number, share: number): number => a * (1 - share) + b * share;

function checkAbove(op: string, name: string, value: unknown, low: number): void {
  if (!(typeof value === "number" && value > low && value < Infinity))
    throw new HeedError("ERR_RANGE", `${op}: expected ${name} to be finite and above ${low}, got ${describe(value)}`);
}
