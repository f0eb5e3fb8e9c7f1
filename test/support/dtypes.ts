/**
 * Float types as tests define them, independently of heed: the distance of their numbers, and rounding by definition.
 */
import type { FloatDType } from "../../lib/core/dtype.js";

interface Format {
  /** Bits of the significand, including the leading one. */
  precision: number;
  /** Exponent of the smallest normal number. */
  least: number;
  /** The first number that rounds to infinity. */
  overflow: number;
}

export const formats: Record<FloatDType, Format> = {
  f32: { precision: 24, least: -126, overflow: 2 ** 128 - 2 ** 103 },
  bf16: { precision: 8, least: -126, overflow: 2 ** 128 - 2 ** 119 },
  f16: { precision: 11, least: -14, overflow: 65520 },
};

/** Returns the largest relative change of a number by one rounding: 2⁻²⁴, 2⁻⁸ or 2⁻¹¹. */
export function roundoff(dtype: FloatDType): number {
  return 2 ** -formats[dtype].precision;
}

/** Returns the largest change of the smallest numbers by one rounding: half of the distance between them. */
export function leastRoundoff(dtype: FloatDType): number {
  const { precision, least } = formats[dtype];
  return 2 ** (least - precision);
}

/** Returns the nearest number of the type, or the even one if two are equally near. */
export function roundTo(dtype: FloatDType, x: number): number {
  const { precision, least, overflow } = formats[dtype];
  if (x === 0 || !Number.isFinite(x)) return x;
  if (Math.abs(x) >= overflow) return x < 0 ? -Infinity : Infinity;
  let exponent = Math.floor(Math.log2(Math.abs(x)));
  if (2 ** exponent > Math.abs(x)) exponent--;
  const unit = 2 ** (Math.max(exponent, least) - precision + 1);
  const scaled = x / unit;
  const floor = Math.floor(scaled);
  const rest = scaled - floor;
  return unit * (rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor);
}
