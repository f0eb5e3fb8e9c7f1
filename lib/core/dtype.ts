import { describe, HeedError, oneOf } from "../util/errors.js";
import { dtypes } from "./native-kinds.js";

export { dtypes };

/** Element type of a tensor: f32, bf16 and f16 for numbers, i32 for token ids, u8 for masks. */
export type DType = (typeof dtypes)[number];
/** Floating element type; only tensors of such a dtype can have gradients. */
export type FloatDType = "f32" | "bf16" | "f16";

/** JavaScript array that holds the elements of a tensor: every floating dtype is read as f32. */
export type DataOf<D extends DType> = D extends FloatDType ? Float32Array : D extends "i32" ? Int32Array : Uint8Array;

/** @internal Returns the number of a dtype on the native side. */
export function dtypeIndex(dtype: DType): number {
  const index = dtypes.indexOf(dtype);
  if (index < 0) throw new HeedError("ERR_DTYPE", `expected dtype to be ${oneOf(dtypes)}, got ${describe(dtype)}`);
  return index;
}

/** Returns the number of bytes of an element. */
export function elementBytes(dtype: DType): number {
  if (dtype === "u8") return 1;
  return dtype === "bf16" || dtype === "f16" ? 2 : 4;
}

/** Returns the numbers that bf16 or f16 bits stand for, in `values`, which has the same length, or in new memory. */
export function floatsOf(
  dtype: "bf16" | "f16",
  bits: Uint16Array,
  values: Float32Array = new Float32Array(bits.length),
): Float32Array {
  // A model has billions of numbers, and TypedArray.from takes several times as long as these loops.
  if (dtype === "bf16") {
    const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
    for (let i = 0; i < bits.length; i++) words[i] = bits[i]! << 16;
  } else {
    const table = halfTable();
    for (let i = 0; i < bits.length; i++) values[i] = table[bits[i]!]!;
  }
  return values;
}

/** Numbers of bf16 or f16, stored as their bits. */
export class Halves {
  constructor(
    readonly dtype: "bf16" | "f16",
    readonly bits: Uint16Array,
  ) {}

  get length(): number {
    return this.bits.length;
  }

  /** Returns the numbers from `begin` to before `end`, in the same memory. */
  subarray(begin: number, end: number): Halves {
    return new Halves(this.dtype, this.bits.subarray(begin, end));
  }
}

/** Returns the bits of the numbers in bf16 or f16, rounded to nearest even. */
export function bitsOf(dtype: "bf16" | "f16", values: Float32Array): Uint16Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const bits = new Uint16Array(words.length);
  if (dtype === "bf16") for (let i = 0; i < words.length; i++) bits[i] = brainBits(words[i]!);
  else for (let i = 0; i < words.length; i++) bits[i] = halfBits(words[i]!);
  return bits;
}

/** Returns the bf16 bits of a number that is given by its f32 bits. */
export function brainBits(word: number): number {
  const isNaN = (word & 0x7fffffff) > 0x7f800000;
  return isNaN ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
}

/**
 * Returns the f16 bits of a number that is given by its f32 bits. A carry out of the fraction increases the exponent,
 * up to infinity.
 */
function halfBits(word: number): number {
  const sign = (word >>> 16) & 0x8000;
  const fraction = word & 0x7fffff;
  const exponent = ((word >>> 23) & 255) - 112;
  if (exponent === 143) return sign | 0x7c00 | (fraction ? 0x200 : 0);
  if (exponent >= 31) return sign | 0x7c00;
  if (exponent < -10) return sign;
  // Numbers below the smallest normal one have no implied leading one.
  const bits = exponent > 0 ? (exponent << 23) | fraction : fraction | 0x800000;
  const shift = exponent > 0 ? 13 : 14 - exponent;
  const rest = bits & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  const whole = bits >>> shift;
  return sign | (whole + (rest > half || (rest === half && whole % 2 === 1) ? 1 : 0));
}

/** Returns all numbers of f16; the index is the number's bits. */
export function halfTable(): Float32Array {
  return (halves ??= Float32Array.from({ length: 2 ** 16 }, (_, x) => halfValue(x)));
}

let halves: Float32Array | undefined;

function halfValue(bits: number): number {
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
}

export function isFloat(dtype: DType): dtype is FloatDType {
  return dtype !== "i32" && dtype !== "u8";
}
