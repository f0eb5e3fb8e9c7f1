// Encodes numbers as blocks of GGUF files. Scales are searched: of several candidates, each improved by least squares
// for the codes that it gives, the one with the least sum of squared errors is taken. The errors are weighted by the
// importance of the numbers, if it is known.
import { blockFormats } from "../core/block-formats.js";
import { bitsOf, halfTable } from "../core/dtype.js";

/** Formats of blocks that heed writes. */
export const encodedFormats = ["Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K"] as const;
export type EncodedFormat = (typeof encodedFormats)[number];

/** Returns true if heed writes a format. */
export function isEncoded(name: string): name is EncodedFormat {
  return (encodedFormats as readonly string[]).includes(name);
}

/**
 * Importance of the numbers of a tensor's rows, at least 0: the error of a number counts as much as it is important.
 * The numbers to encode begin at element `first` of the tensor, and its rows are as long as `ofRow`.
 */
export interface Importance {
  readonly ofRow: Float32Array;
  readonly first: number;
}

/** Returns the bytes of whole blocks. */
export function encodeBlocks(format: EncodedFormat, values: Float32Array, importance?: Importance | null): Uint8Array {
  const { numbers, bytes } = blockFormats[format];
  const encode = encoders[format];
  const out = new Uint8Array((values.length / numbers) * bytes);
  const same = new Float32Array(numbers).fill(1);
  for (let block = 0; block < values.length / numbers; block++) {
    const at = block * numbers;
    let weights: Float32Array = same;
    if (importance) {
      const { ofRow, first } = importance;
      const begin = (first + at) % ofRow.length;
      weights = ofRow.subarray(begin, begin + numbers);
    }
    encode(values.subarray(at, at + numbers), weights, out.subarray(block * bytes, (block + 1) * bytes));
  }
  return out;
}

type Encode = (x: Float32Array, weights: Float32Array, out: Uint8Array) => void;

const room = new Float32Array(1);

/** Stores a number as f16 and returns the stored one. Numbers beyond the largest f16 become it. */
function putHalf(out: Uint8Array, at: number, value: number): number {
  room[0] = Math.max(-65504, Math.min(65504, value)) || 0;
  const bits = bitsOf("f16", room)[0]!;
  out[at] = bits & 255;
  out[at + 1] = bits >> 8;
  return halfTable()[bits]!;
}

/** Returns x / step, rounded to an integer of [low, high]; the integer nearest to 0 if there is no step. */
function codeOf(x: number, step: number, low: number, high: number): number {
  const code = step === 0 ? 0 : Math.round(x / step);
  return code > high ? high : code >= low ? code : code < low ? low : Math.max(low, 0);
}

interface ScaleSearch {
  at: number;
  count: number;
  low: number;
  high: number;
  reach: number;
  others?: readonly number[];
}

/**
 * Returns the scale d for which d · q is nearest to the `count` numbers from `at` on, with integers q from `low` to
 * `high`. The candidates map the number of largest magnitude to `low` ± `reach` tenths, and to the codes in `others`.
 */
function scaleFor(
  x: Float32Array,
  weights: Float32Array,
  { at, count, low, high, reach, others = [] }: ScaleSearch,
): number {
  let largest = 0;
  for (let i = at; i < at + count; i++) if (Math.abs(x[i]!) > Math.abs(largest)) largest = x[i]!;
  if (largest === 0 || !Number.isFinite(largest)) return 0;
  let [best, scale] = [-1, largest / low];
  const tenths = Array.from({ length: 2 * reach + 1 }, (_, i) => low + (i - reach) / 10);
  for (const code of [...tenths, ...others]) {
    const step = largest / code;
    let [products, squares] = [0, 0];
    for (let i = at; i < at + count; i++) {
      const q = codeOf(x[i]!, step, low, high);
      products += weights[i]! * q * x[i]!;
      squares += weights[i]! * q * q;
    }
    // The least sum of squared errors is Σ w x² less this.
    const gain = (products * products) / squares;
    if (gain > best) [best, scale] = [gain, products / squares];
  }
  return scale;
}

/**
 * Returns the scale s and the minimum m, both at least 0, for which s · q - m is nearest to the 32 numbers from `at` on,
 * with integers q from 0 to `most`.
 */
function rangeFor(x: Float32Array, weights: Float32Array, at: number, most: number): [s: number, m: number] {
  let [low, high] = [0, -Infinity];
  for (let i = at; i < at + 32; i++) {
    if (x[i]! < low) low = x[i]!;
    if (x[i]! > high) high = x[i]!;
  }
  if (!Number.isFinite(high - low)) return [0, 0];
  if (high <= low) return [0, -low];
  let [least, found] = [Infinity, [(high - low) / most, -low] as [number, number]];
  for (let tenth = -10; tenth <= 8; tenth++) {
    const step = (high - low) / (most + tenth / 10);
    let [w, q1, q2, x1, qx, x2] = [0, 0, 0, 0, 0, 0];
    for (let i = at; i < at + 32; i++) {
      const [weight, value] = [weights[i]!, x[i]!];
      const q = codeOf(value - low, step, 0, most);
      w += weight;
      q1 += weight * q;
      q2 += weight * q * q;
      x1 += weight * value;
      qx += weight * q * value;
      x2 += weight * value * value;
    }
    const determinant = w * q2 - q1 * q1;
    let s = determinant > 0 ? (w * qx - q1 * x1) / determinant : step;
    let m = determinant > 0 ? (q1 * qx - q2 * x1) / determinant : -low;
    if (m < 0 || s < 0) {
      m = 0;
      s = q2 > 0 ? Math.max(0, qx / q2) : 0;
    }
    const error = x2 - 2 * s * qx + 2 * m * x1 + s * s * q2 - 2 * s * m * q1 + m * m * w;
    if (error < least) [least, found] = [error, [s, m]];
  }
  return found;
}

const encodeQ8_0: Encode = (x, weights, out) => {
  const d = putHalf(out, 0, scaleFor(x, weights, { at: 0, count: 32, low: -127, high: 127, reach: 0 }));
  for (let i = 0; i < 32; i++) out[2 + i] = codeOf(x[i]!, d, -127, 127) & 255;
};

/**
 * Codes of the largest of 32 numbers that are products of a scale and codes. With these, and -8, such numbers are stored as
 * they are: smaller codes are products of these and a power of two.
 */
const largestCodes = [-7, 7, -6, 6, -5, 5];

const encodeQ4_0: Encode = (x, weights, out) => {
  const search = { at: 0, count: 32, low: -8, high: 7, reach: 9, others: largestCodes };
  const d = putHalf(out, 0, scaleFor(x, weights, search));
  const code = (i: number): number => codeOf(x[i]!, d, -8, 7) + 8;
  for (let i = 0; i < 16; i++) out[2 + i] = code(i) | (code(i + 16) << 4);
};

/** Encodes a Q4_K or, with a fifth bit of each code, a Q5_K. */
const encodeParts =
  (bits: 4 | 5): Encode =>
  (x, weights, out) => {
    const most = 2 ** bits - 1;
    const ranges = Array.from({ length: 8 }, (_, part) => rangeFor(x, weights, 32 * part, most));
    const d = putHalf(out, 0, Math.max(...ranges.map(([s]) => s)) / 63);
    const dmin = putHalf(out, 2, Math.max(...ranges.map(([, m]) => m)) / 63);
    const scales = ranges.map(([s, m]) => [codeOf(s, d, 0, 63), codeOf(m, dmin, 0, 63)] as const);
    for (let part = 0; part < 4; part++) {
      const [[s, m], [later, laterMin]] = [scales[part]!, scales[part + 4]!];
      out[4 + part] = s | ((later >> 4) << 6);
      out[8 + part] = m | ((laterMin >> 4) << 6);
      out[12 + part] = (later & 15) | ((laterMin & 15) << 4);
    }
    const low = bits === 4 ? 16 : 48;
    out.fill(0, 16);
    for (let i = 0; i < 256; i++) {
      const part = i >> 5;
      const [s, m] = scales[part]!;
      const q = codeOf(x[i]! + dmin * m, d * s, 0, most);
      out[low + (part >> 1) * 32 + (i & 31)]! |= (q & 15) << (4 * (part & 1));
      if (bits === 5) out[16 + (i & 31)]! |= (q >> 4) << part;
    }
  };

const encodeQ6_K: Encode = (x, weights, out) => {
  const steps = Array.from({ length: 16 }, (_, part) =>
    scaleFor(x, weights, { at: 16 * part, count: 16, low: -32, high: 31, reach: 9 }),
  );
  const largest = steps.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0);
  out.fill(0);
  const d = putHalf(out, 208, largest / -128);
  const scales = steps.map((step) => codeOf(step, d, -128, 127));
  for (const [part, s] of scales.entries()) out[192 + part] = s & 255;
  for (let i = 0; i < 256; i++) {
    const q = codeOf(x[i]!, d * scales[i >> 4]!, -32, 31) + 32;
    out[(i >> 7) * 64 + (i & 63)]! |= (q & 15) << ((i & 127) < 64 ? 0 : 4);
    out[128 + (i >> 7) * 32 + (i & 31)]! |= (q >> 4) << (2 * ((i >> 5) & 3));
  }
};

const encoders: Record<EncodedFormat, Encode> = {
  Q8_0: encodeQ8_0,
  Q4_0: encodeQ4_0,
  Q4_K: encodeParts(4),
  Q5_K: encodeParts(5),
  Q6_K: encodeQ6_K,
};
