/**
 * Quantised blocks as the formats describe them, packed number by number: random blocks with the values that they
 * represent, and for some formats a plain quantiser with the bound of its error.
 */
import type { Random } from "../support/random.js";

/** Returns the bits of the f16 nearest to a number. */
export function halfBits(value: number): number {
  const sign = value < 0 ? 0x8000 : 0;
  const size = Math.abs(value);
  if (size === 0) return sign;
  const exponent = Math.max(-14, Math.floor(Math.log2(size)));
  const units = Math.round(size * 2 ** (10 - exponent));
  // The implicit leading one carries into the exponent by itself.
  return sign | ((exponent + 14) * 1024 + units);
}

export function halfOf(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : bits & 0x8000 ? -Infinity : Infinity;
  const size = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -size : size;
}

export interface BlockFormat {
  name: string;
  type: number;
  numbers: number;
  bytes: number;
  /** Returns a random block, whose shared scales have the bits that `half` draws. */
  random: (random: Random, half?: (random: Random) => number) => { bytes: Uint8Array; values: number[] };
  quantise?: (values: number[]) => Uint8Array;
  /** Largest error of a number that has been quantised. */
  error?: (values: number[]) => number;
}

/** A format that has a plain quantiser. */
export type QuantisedFormat = Required<BlockFormat>;

function putHalf(bytes: Uint8Array, at: number, bits: number): void {
  bytes[at] = bits & 255;
  bytes[at + 1] = bits >> 8;
}

const randomHalf = (random: Random) => halfBits(random.normal() * 2 ** (random.integer(8) - 6));
const integers = (random: Random, length: number, limit: number) => Array.from({ length }, () => random.integer(limit));
const largest = (values: number[]) => Math.max(...values.map(Math.abs));
const clamp = (x: number, low: number, high: number) => Math.min(high, Math.max(low, Math.round(x)));
/** d itself is rounded to 11 bits. */
const rounding = 2 ** -11;

/** Puts the low four bits of 32 codes: 16 into the low halves of 16 bytes, the others into the high halves. */
function putHalves(bytes: Uint8Array, at: number, q: number[]): void {
  for (const [i, x] of q.entries()) bytes[at + (i % 16)]! |= (x & 15) << (i < 16 ? 0 : 4);
}

/** Puts the fifth bits of 32 codes into 32 bits. */
function putFifths(bytes: Uint8Array, at: number, q: number[]): void {
  for (const [i, x] of q.entries()) bytes[at + Math.floor(i / 8)]! |= (x >> 4) << (i % 8);
}

/** Puts the low two bits of 256 codes: byte c of each 32 has those of numbers c, c + 32, c + 64 and c + 96. */
function putPairs(bytes: Uint8Array, at: number, q: number[]): void {
  for (const [i, x] of q.entries())
    bytes[at + 32 * Math.floor(i / 128) + (i % 32)]! |= (x & 3) << (2 * (Math.floor(i / 32) % 4));
}

/** Numbers that the codes of IQ4_NL and IQ4_XS stand for. */
const nonlinear = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

function packQ8_0(d: number, q: number[]): Uint8Array {
  const bytes = new Uint8Array(34);
  putHalf(bytes, 0, d);
  for (const [i, x] of q.entries()) bytes[2 + i] = x & 255;
  return bytes;
}

function packQ4_0(d: number, q: number[]): Uint8Array {
  const bytes = new Uint8Array(18);
  putHalf(bytes, 0, d);
  for (const [i, x] of q.entries()) bytes[2 + (i % 16)]! |= x << (i < 16 ? 0 : 4);
  return bytes;
}

function packQ4_K(d: number, dmin: number, s: number[], m: number[], q: number[]): Uint8Array {
  const bytes = new Uint8Array(144);
  putHalf(bytes, 0, d);
  putHalf(bytes, 2, dmin);
  // Groups 0–3 have their scales in bytes 0–3 and minima in bytes 4–7. For groups 4–7, bytes 8–11 hold the low four
  // bits of both, and the top two bits of bytes 0–3 and 4–7 hold the rest.
  for (let g = 0; g < 4; g++) {
    bytes[4 + g] = s[g]! | ((s[g + 4]! >> 4) << 6);
    bytes[8 + g] = m[g]! | ((m[g + 4]! >> 4) << 6);
    bytes[12 + g] = (s[g + 4]! & 15) | ((m[g + 4]! & 15) << 4);
  }
  for (const [i, x] of q.entries()) {
    const [pair, high, column] = [Math.floor(i / 64), Math.floor(i / 32) % 2, i % 32];
    bytes[16 + 32 * pair + column]! |= x << (4 * high);
  }
  return bytes;
}

function packQ6_K(d: number, s: number[], q: number[]): Uint8Array {
  const bytes = new Uint8Array(210);
  for (const [i, x] of q.entries()) {
    const [half, rest] = [Math.floor(i / 128), i % 128];
    const [row, column] = [Math.floor(rest / 32), rest % 32];
    bytes[64 * half + (rest % 64)]! |= (x & 15) << (rest < 64 ? 0 : 4);
    bytes[128 + 32 * half + column]! |= (x >> 4) << (2 * row);
  }
  for (const [g, x] of s.entries()) bytes[192 + g] = x & 255;
  putHalf(bytes, 208, d);
  return bytes;
}

const formats: BlockFormat[] = [
  {
    name: "Q8_0",
    type: 8,
    numbers: 32,
    bytes: 34,
    random(random, half = randomHalf) {
      const d = half(random);
      const q = integers(random, 32, 256).map((x) => x - 128);
      return { bytes: packQ8_0(d, q), values: q.map((x) => halfOf(d) * x) };
    },
    quantise(values) {
      const d = halfBits(largest(values) / 127);
      return packQ8_0(
        d,
        values.map((x) => clamp(x / halfOf(d), -127, 127)),
      );
    },
    error: (values) => (largest(values) / 127) * (0.5 + rounding) + largest(values) * rounding,
  },
  {
    name: "Q4_0",
    type: 2,
    numbers: 32,
    bytes: 18,
    random(random, half = randomHalf) {
      const d = half(random);
      const q = integers(random, 32, 16);
      return { bytes: packQ4_0(d, q), values: q.map((x) => halfOf(d) * (x - 8)) };
    },
    quantise(values) {
      const d = halfBits(largest(values) / 7);
      return packQ4_0(
        d,
        values.map((x) => clamp(x / halfOf(d), -7, 7) + 8),
      );
    },
    error: (values) => (largest(values) / 7) * (0.5 + rounding) + largest(values) * rounding,
  },
  {
    name: "Q4_K",
    type: 12,
    numbers: 256,
    bytes: 144,
    random(random, half = randomHalf) {
      const [d, dmin] = [half(random), half(random)];
      const [s, m] = [integers(random, 8, 64), integers(random, 8, 64)];
      const q = integers(random, 256, 16);
      const value = (x: number, i: number) => halfOf(d) * s[i >> 5]! * x - halfOf(dmin) * m[i >> 5]!;
      return { bytes: packQ4_K(d, dmin, s, m, q), values: q.map(value) };
    },
    quantise(values) {
      const groups = Array.from({ length: 8 }, (_, g) => values.slice(32 * g, 32 * g + 32));
      const lows = groups.map((group) => Math.max(0, -Math.min(...group)));
      const dmin = halfBits(Math.max(...lows) / 63);
      // A minimum is rounded up, so that no number is below it.
      const m = lows.map((low) => Math.min(63, Math.ceil(low / halfOf(dmin))));
      const steps = groups.map((group, g) => (Math.max(...group) + halfOf(dmin) * m[g]!) / 15);
      const d = halfBits(Math.max(...steps) / 63);
      const s = steps.map((step) => Math.min(63, Math.ceil(step / halfOf(d))));
      const q = values.map((x, i) => {
        const g = i >> 5;
        return clamp((x + halfOf(dmin) * m[g]!) / (halfOf(d) * s[g]!), 0, 15);
      });
      return packQ4_K(d, dmin, s, m, q);
    },
    // Half of the largest step, which is itself one 63rd too long, from a range to which one 63rd of the minimum has
    // been added.
    error(values) {
      const range = Math.max(...values) - Math.min(...values);
      return ((range * (1 + 1 / 63)) / 15) * (1 + 1 / 63) * 0.5 + range * 4 * rounding;
    },
  },
  {
    name: "Q6_K",
    type: 14,
    numbers: 256,
    bytes: 210,
    random(random, half = randomHalf) {
      const d = half(random);
      const s = integers(random, 16, 256).map((x) => x - 128);
      const q = integers(random, 256, 64);
      return { bytes: packQ6_K(d, s, q), values: q.map((x, i) => halfOf(d) * s[i >> 4]! * (x - 32)) };
    },
    quantise(values) {
      const groups = Array.from({ length: 16 }, (_, g) => values.slice(16 * g, 16 * g + 16));
      const steps = groups.map((group) => largest(group) / 31);
      const d = halfBits(Math.max(...steps) / 127);
      const s = steps.map((step) => Math.min(127, Math.ceil(step / halfOf(d))));
      return packQ6_K(
        d,
        s,
        values.map((x, i) => clamp(x / (halfOf(d) * s[i >> 4]!), -32, 31) + 32),
      );
    },
    error: (values) => (largest(values) / 31) * (1 + 1 / 127) * 0.5 + largest(values) * 2 * rounding,
  },
  {
    ...{ name: "Q4_1", type: 3, numbers: 32, bytes: 20 },
    random(random, half = randomHalf) {
      const [d, m] = [half(random), half(random)];
      const q = integers(random, 32, 16);
      const bytes = new Uint8Array(20);
      putHalf(bytes, 0, d);
      putHalf(bytes, 2, m);
      putHalves(bytes, 4, q);
      return { bytes, values: q.map((x) => halfOf(d) * x + halfOf(m)) };
    },
  },
  {
    ...{ name: "Q5_0", type: 6, numbers: 32, bytes: 22 },
    random(random, half = randomHalf) {
      const d = half(random);
      const q = integers(random, 32, 32);
      const bytes = new Uint8Array(22);
      putHalf(bytes, 0, d);
      putFifths(bytes, 2, q);
      putHalves(bytes, 6, q);
      return { bytes, values: q.map((x) => halfOf(d) * (x - 16)) };
    },
  },
  {
    ...{ name: "Q5_1", type: 7, numbers: 32, bytes: 24 },
    random(random, half = randomHalf) {
      const [d, m] = [half(random), half(random)];
      const q = integers(random, 32, 32);
      const bytes = new Uint8Array(24);
      putHalf(bytes, 0, d);
      putHalf(bytes, 2, m);
      putFifths(bytes, 4, q);
      putHalves(bytes, 8, q);
      return { bytes, values: q.map((x) => halfOf(d) * x + halfOf(m)) };
    },
  },
  {
    ...{ name: "Q2_K", type: 10, numbers: 256, bytes: 84 },
    random(random, half = randomHalf) {
      const [d, dmin] = [half(random), half(random)];
      const [s, m, q] = [integers(random, 16, 16), integers(random, 16, 16), integers(random, 256, 4)];
      const bytes = new Uint8Array(84);
      for (let part = 0; part < 16; part++) bytes[part] = s[part]! | (m[part]! << 4);
      putPairs(bytes, 16, q);
      putHalf(bytes, 80, d);
      putHalf(bytes, 82, dmin);
      const value = (x: number, i: number) => halfOf(d) * s[i >> 4]! * x - halfOf(dmin) * m[i >> 4]!;
      return { bytes, values: q.map(value) };
    },
  },
  {
    ...{ name: "Q3_K", type: 11, numbers: 256, bytes: 110 },
    random(random, half = randomHalf) {
      const d = half(random);
      const [s, q] = [integers(random, 16, 64), integers(random, 256, 8)];
      const bytes = new Uint8Array(110);
      // The mask has bit r of byte c for number c of row r, if its code is at least 4.
      for (const [i, x] of q.entries()) bytes[i % 32]! |= (x >> 2) << Math.floor(i / 32);
      putPairs(bytes, 32, q);
      // Scales 0–7 have the low halves of eight bytes, 8–15 the high halves; then each of four bytes has the top two bits
      // of scales c, c + 4, c + 8 and c + 12.
      for (const [part, x] of s.entries()) {
        bytes[96 + (part % 8)]! |= (x & 15) << (part < 8 ? 0 : 4);
        bytes[104 + (part % 4)]! |= (x >> 4) << (2 * Math.floor(part / 4));
      }
      putHalf(bytes, 108, d);
      return { bytes, values: q.map((x, i) => halfOf(d) * (s[i >> 4]! - 32) * (x - 4)) };
    },
  },
  {
    ...{ name: "Q5_K", type: 13, numbers: 256, bytes: 176 },
    random(random, half = randomHalf) {
      const [d, dmin] = [half(random), half(random)];
      const [s, m, q] = [integers(random, 8, 64), integers(random, 8, 64), integers(random, 256, 32)];
      const four = packQ4_K(
        d,
        dmin,
        s,
        m,
        q.map((x) => x & 15),
      );
      const bytes = new Uint8Array(176);
      bytes.set(four.subarray(0, 16));
      bytes.set(four.subarray(16), 48);
      for (const [i, x] of q.entries()) bytes[16 + (i % 32)]! |= (x >> 4) << Math.floor(i / 32);
      const value = (x: number, i: number) => halfOf(d) * s[i >> 5]! * x - halfOf(dmin) * m[i >> 5]!;
      return { bytes, values: q.map(value) };
    },
  },
  {
    ...{ name: "IQ4_NL", type: 20, numbers: 32, bytes: 18 },
    random(random, half = randomHalf) {
      const d = half(random);
      const q = integers(random, 32, 16);
      return { bytes: packQ4_0(d, q), values: q.map((x) => halfOf(d) * nonlinear[x]!) };
    },
  },
  {
    ...{ name: "IQ4_XS", type: 23, numbers: 256, bytes: 136 },
    random(random, half = randomHalf) {
      const d = half(random);
      const [s, q] = [integers(random, 8, 64), integers(random, 256, 16)];
      const bytes = new Uint8Array(136);
      putHalf(bytes, 0, d);
      for (const [part, x] of s.entries()) {
        bytes[2 + (part >> 2)]! |= (x >> 4) << (2 * (part % 4));
        bytes[4 + (part >> 1)]! |= (x & 15) << (4 * (part % 2));
        putHalves(bytes, 8 + 16 * part, q.slice(32 * part, 32 * part + 32));
      }
      return { bytes, values: q.map((x, i) => halfOf(d) * (s[i >> 5]! - 32) * nonlinear[x]!) };
    },
  },
  {
    // OCP Microscaling Formats 1.0: a scale of E8M0 and numbers of E2M1. GGUF has no NaN of E8M0 and no -0 of E2M1.
    ...{ name: "MXFP4", type: 39, numbers: 32, bytes: 17 },
    random(random, half) {
      const e = half ? half(random) & 255 : 120 + random.integer(8);
      const q = integers(random, 32, 16);
      const bytes = new Uint8Array(17);
      bytes[0] = e;
      putHalves(bytes, 1, q);
      const sizes = [0, 0.5, 1, 1.5, 2, 3, 4, 6];
      return { bytes, values: q.map((x) => 2 ** (e - 127) * (x > 8 ? -sizes[x - 8]! : sizes[x % 8]!)) };
    },
  },
];

/** The block formats with their values in f32, as they are read. */
export const blocks: BlockFormat[] = formats.map((format) => ({
  ...format,
  random: (random: Random, half?: (random: Random) => number) => {
    const { bytes, values } = format.random(random, half);
    return { bytes, values: values.map(Math.fround) };
  },
}));

/** The formats that have a plain quantiser. */
export const quantised = blocks.filter((format): format is QuantisedFormat => format.quantise !== undefined);

/** Draws scales of every kind: zeros of both signs, subnormal, large, infinite and NaN. */
export function awkwardHalf(random: Random): number {
  const bits = [0, 0x8000, 1, 0x83ff, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00];
  const i = random.integer(2 * bits.length);
  return bits[i] ?? random.integer(0x7c00);
}
