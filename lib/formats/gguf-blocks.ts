// Number types of GGUF files (github.com/ggml-org/ggml, docs/gguf.md and ggml-common.h): plain numbers, and blocks of
// small integers q with shared scales. d and dmin are f16; s, m and q are integers.
//
//   Q8_0   32 numbers, 34 bytes: d, q int8[32]                                 x = d q
//   Q4_0   32 numbers, 18 bytes: d, q 4 bits: low halves 0–15, high 16–31      x = d (q - 8)
//   Q4_K  256 numbers, 144 bytes: d, dmin, s and m 6 bits for 8 × 32, q 4 bits x = d s q - dmin m
//   Q6_K  256 numbers, 210 bytes: q's low 4 bits, its high 2, s int8 for 16 × 16, d   x = d s (q - 32)
import { bitsOf, halfTable } from "../dtype.js";
import type { Encoding } from "./weights.js";

/** A number type of GGUF files. */
export interface GgmlType {
  /** Name of the type, such as "Q8_0". */
  readonly name: string;
  /** Number of elements in a block. */
  readonly numbers: number;
  /** Number of bytes of a block. */
  readonly bytes: number;
  /** Decoder of the type's blocks, as `Encoding.read` describes it, or null if heed cannot read the type. */
  readonly read: Encoding["read"] | null;
  /** Encoder that turns the numbers of whole blocks into bytes, or null if heed cannot write the type. */
  readonly write: ((values: Float32Array) => Uint8Array) | null;
}

const type = (
  name: string,
  numbers: number,
  bytes: number,
  read: GgmlType["read"] = null,
  write: GgmlType["write"] = null,
): GgmlType => ({ name, numbers, bytes, read, write });

/** Types by the number that a file stores for them. */
export const ggmlTypes: ReadonlyMap<number, GgmlType> = new Map([
  [0, type("F32", 1, 4, "f32", bytesOf)],
  [1, type("F16", 1, 2, "f16", (values) => bytesOf(bitsOf("f16", values)))],
  [2, type("Q4_0", 32, 18, readQ4_0, writeQ4_0)],
  [3, type("Q4_1", 32, 20)],
  [6, type("Q5_0", 32, 22)],
  [7, type("Q5_1", 32, 24)],
  [8, type("Q8_0", 32, 34, readQ8_0, writeQ8_0)],
  [9, type("Q8_1", 32, 36)],
  [10, type("Q2_K", 256, 84)],
  [11, type("Q3_K", 256, 110)],
  [12, type("Q4_K", 256, 144, readQ4_K)],
  [13, type("Q5_K", 256, 176)],
  [14, type("Q6_K", 256, 210, readQ6_K)],
  [15, type("Q8_K", 256, 292)],
  [24, type("I8", 1, 1)],
  [25, type("I16", 1, 2)],
  [26, type("I32", 1, 4)],
  [27, type("I64", 1, 8)],
  [28, type("F64", 1, 8)],
  [30, type("BF16", 1, 2, "bf16", (values) => bytesOf(bitsOf("bf16", values)))],
]);

function bytesOf(values: Float32Array | Uint16Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

function half(bytes: Uint8Array, at: number): number {
  return halfTable()[bytes[at]! | (bytes[at + 1]! << 8)]!;
}

function int8(byte: number): number {
  return (byte << 24) >> 24;
}

function readQ8_0(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; at < bytes.length; at += 34, to += 32) {
    const d = half(bytes, at);
    for (let i = 0; i < 32; i++) out[to + i] = d * int8(bytes[at + 2 + i]!);
  }
}

/** Encodes blocks so that the number of largest magnitude in a block becomes 127 or −127. */
function writeQ8_0(values: Float32Array): Uint8Array {
  const scales = new Float32Array(values.length / 32);
  for (const [block] of scales.entries()) {
    let largest = 0;
    for (let i = 32 * block; i < 32 * block + 32; i++) largest = Math.max(largest, Math.abs(values[i]!));
    scales[block] = largest / 127;
  }
  const halves = bitsOf("f16", scales);
  const out = new Uint8Array(scales.length * 34);
  for (const [block, d] of scales.entries()) {
    const at = 34 * block;
    out[at] = halves[block]! & 255;
    out[at + 1] = halves[block]! >> 8;
    if (d > 0) for (let i = 0; i < 32; i++) out[at + 2 + i] = Math.round(values[32 * block + i]! / d) & 255;
  }
  return out;
}

function readQ4_0(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; at < bytes.length; at += 18, to += 32) {
    const d = half(bytes, at);
    for (let i = 0; i < 16; i++) {
      const q = bytes[at + 2 + i]!;
      out[to + i] = d * ((q & 15) - 8);
      out[to + 16 + i] = d * ((q >> 4) - 8);
    }
  }
}

/**
 * Encodes blocks so that the number of largest magnitude in a block becomes −8: 4 bits have one more negative code than
 * positive ones.
 */
function writeQ4_0(values: Float32Array): Uint8Array {
  const scales = new Float32Array(values.length / 32);
  for (const [block] of scales.entries()) {
    let largest = 0;
    for (const value of values.subarray(32 * block, 32 * block + 32))
      if (Math.abs(value) > Math.abs(largest)) largest = value;
    scales[block] = largest / -8 || 0; // 0 instead of −0
  }
  const halves = bitsOf("f16", scales);
  const out = new Uint8Array(scales.length * 18);
  for (const [block, d] of scales.entries()) {
    const at = 18 * block;
    out[at] = halves[block]! & 255;
    out[at + 1] = halves[block]! >> 8;
    const code = (i: number): number => (d === 0 ? 8 : Math.min(15, Math.round(values[32 * block + i]! / d) + 8));
    for (let i = 0; i < 16; i++) out[at + 2 + i] = code(i) | (code(i + 16) << 4);
  }
  return out;
}

function readQ4_K(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; at < bytes.length; at += 144, to += 256) {
    const [d, dmin] = [half(bytes, at), half(bytes, at + 2)];
    const scales = bytes.subarray(at + 4, at + 16);
    // Each 32 bytes of q contain two groups: one in the low halves of the bytes, the next in the high halves.
    for (let group = 0; group < 8; group++) {
      const [s, m] = scaleAndMin(scales, group);
      const shift = group % 2 === 0 ? 0 : 4;
      const q = at + 16 + (group >> 1) * 32;
      for (let i = 0; i < 32; i++) out[to + group * 32 + i] = d * s * ((bytes[q + i]! >> shift) & 15) - dmin * m;
    }
  }
}

/**
 * Returns a group's scale and minimum. Twelve bytes store 8 scales and 8 minima in 6 bits each. The first four of each
 * have bytes of their own, whose two spare bits are the high bits of the last four.
 */
function scaleAndMin(scales: Uint8Array, group: number): [number, number] {
  if (group < 4) return [scales[group]! & 63, scales[group + 4]! & 63];
  const [rest, s, m] = [scales[group + 4]!, scales[group - 4]!, scales[group]!];
  return [(rest & 15) | ((s >> 6) << 4), (rest >> 4) | ((m >> 6) << 4)];
}

function readQ6_K(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; at < bytes.length; at += 210, to += 256) {
    const d = half(bytes, at + 208);
    for (let i = 0; i < 256; i++) {
      // Each half of the block has 128 numbers in four rows of 32. Rows 0 and 1 are the low halves of 64 bytes, rows 2
      // and 3 the high halves. The high bits of the four rows are the four pairs of bits of the same 32 bytes.
      const [part, row, column] = [i >> 7, (i >> 5) & 3, i & 31];
      const low = bytes[at + part * 64 + (row & 1) * 32 + column]! >> (row >> 1 === 0 ? 0 : 4);
      const high = bytes[at + 128 + part * 32 + column]! >> (2 * row);
      const q = (low & 15) | ((high & 3) << 4);
      out[to + i] = d * int8(bytes[at + 192 + (i >> 4)]!) * (q - 32);
    }
  }
}
