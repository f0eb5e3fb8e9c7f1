import { checkArray, checkBoolean, checkInteger, checkNumber, checkObject } from "../check.js";
import { type Device, device as deviceOf } from "../device.js";
import { describe, HeedError } from "../errors.js";
import { tensor } from "../creation.js";
import type { Tensor } from "../tensor.js";

/**
 * How a model is to read positions beyond those it was trained on: the `rope_scaling` of checkpoints. `originalLength` is
 * the context length of the training, `factor` how many times longer it becomes.
 */
export type RotaryScaling =
  /** Position interpolation (Chen et al. 2023): every angle divided by the factor. */
  | { type: "linear"; factor: number }
  /** NTK-aware (bloc97 2023): a larger base, with which the slowest pair turns as if interpolated, the fastest as before. */
  | { type: "ntk"; factor: number }
  /** NTK-aware, with the base that the table's length needs: none up to `originalLength`. */
  | { type: "dynamic"; factor: number; originalLength: number }
  /**
   * YaRN (Peng et al. 2023): slow pairs interpolated, fast ones left, a ramp between. The ramp is linear in the pairs, from
   * that which turns `betaFast` (32) times in the original length to that which turns `betaSlow` (1) times, both rounded
   * outwards unless `truncate` is false, as in the authors' code. Cosines and sines are multiplied by `attentionFactor`,
   * 0.1·ln(factor) + 1 unless given.
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
   * Llama 3.1: pairs interpolated that turn fewer than `lowFrequencyFactor` (1) times in the original length, left those
   * that turn more than `highFrequencyFactor` (4) times, and blended between, linearly in the turns.
   */
  | {
      type: "llama3";
      factor: number;
      originalLength: number;
      lowFrequencyFactor?: number;
      highFrequencyFactor?: number;
    }
  /** Each pair's angle divided by a factor of its own (LongRoPE, Ding et al. 2024; GGUF's rope_freqs). */
  | { type: "factors"; factors: readonly number[] };

export interface RotaryTableOptions {
  /** Dimensions that are turned, R: an even number. */
  size: number;
  /** Positions. */
  length: number;
  /** Of the wavelengths; 10000 unless given. */
  base?: number;
  scaling?: RotaryScaling | null;
  device?: Device | (string & {});
}

/** Of a table: 1 GiB. */
const mostNumbers = 2 ** 28;

/** Angle by which each pair turns from one position to the next, and the factor of all cosines and sines; in float64. */
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
      throw new HeedError("ERR_RANGE", `${op}: expected factors of ${size / 2} pairs, got ${factors.length}`);
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
      // The pair that turns so many times in the original length, as a number between pairs.
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
        `${op}: expected scaling of type linear, ntk, dynamic, yarn, llama3 or factors, got ${describe(type)}`,
      );
  }
}

/** The base of plain positions that are those of NTK-aware scaling, dynamic or not; null for other scalings. */
export function stretchedBase(options: RotaryTableOptions): number | null {
  const { size, length, base = 10_000, scaling = null } = options;
  if (scaling?.type !== "ntk" && scaling?.type !== "dynamic") return null;
  const { factor } = scaling;
  const stretch =
    scaling.type === "ntk" ? factor : Math.max(1, (factor * length) / scaling.originalLength - (factor - 1));
  // Of two dimensions there is but the one pair, whose angle is 1 whatever the base.
  return size > 2 ? base * stretch ** (size / (size - 2)) : base;
}

/** Cosines and sines of each position's angles: f32 [length, size/2, 2], computed in float64. */
export function rotaryTable(options: RotaryTableOptions): Tensor<"f32"> {
  const { frequencies, factor } = rotaryFrequencies(options);
  const { length, device } = options;
  const values = turnedBy(frequencies, length, factor);
  return tensor(values, [length, frequencies.length, 2], device === undefined ? {} : { device: deviceOf(device) });
}

/** Positions in a block, of which each is turned from the block's first. */
const blockLength = 256;

/**
 * Cosines and sines, times `factor`, of all positions. Computing each would take long; the angles of a block's first
 * position and of the place in the block add up, so those of few positions give all (with an error of some 1e-16).
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
    throw new HeedError("ERR_RANGE", `${op}: expected ${name} above ${low} and finite, got ${describe(value)}`);
}
