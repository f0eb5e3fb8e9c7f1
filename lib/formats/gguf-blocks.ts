// Number types of GGUF files (github.com/ggml-org/ggml, docs/gguf.md and ggml-common.h): plain numbers, and blocks of
// small integers q with shared scales, whose layouts and formulas native/core/blocks.h describes.
import { type BlockFormat, blockFormats } from "../block-formats.js";
import { bitsOf, halfTable } from "../dtype.js";
import { encodeBlocks, isEncoded } from "./gguf-encode.js";
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

const plain = (
  name: string,
  bytes: number,
  read: GgmlType["read"] = null,
  write: GgmlType["write"] = null,
): GgmlType => ({ name, numbers: 1, bytes, read, write });

const foreign = (name: string, numbers: number, bytes: number): GgmlType => ({
  ...{ name, numbers, bytes, read: null, write: null },
});

const blocks = (name: BlockFormat): GgmlType => {
  const { numbers, bytes } = blockFormats[name];
  const decode = decoders[name];
  return {
    name,
    numbers,
    bytes,
    read(stored, out) {
      for (let at = 0, to = 0; at < stored.length; at += bytes, to += numbers) decode(stored, at, out, to);
    },
    write: isEncoded(name) ? (values) => encodeBlocks(name, values) : null,
  };
};

function bytesOf(values: Float32Array | Uint16Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

function half(bytes: Uint8Array, at: number): number {
  return halfTable()[bytes[at]! | (bytes[at + 1]! << 8)]!;
}

function int8(byte: number): number {
  return (byte << 24) >> 24;
}

/** Decodes the block at byte `at` to `out` from `to` on. */
type Decode = (bytes: Uint8Array, at: number, out: Float32Array, to: number) => void;

/** Returns code i of 2n codes of 4 bits: the low halves of n bytes are the first n codes, the high halves the others. */
function halfByte(bytes: Uint8Array, at: number, n: number, i: number): number {
  return i < n ? bytes[at + i]! & 15 : bytes[at + i - n]! >> 4;
}

/** Returns bit i of the bytes from `at` on. */
function bit(bytes: Uint8Array, at: number, i: number): number {
  return (bytes[at + (i >> 3)]! >> (i & 7)) & 1;
}

/** Returns the two bits of number i of 256; 32 bytes have those of four rows of 32 numbers. */
function twoBits(bytes: Uint8Array, at: number, i: number): number {
  return (bytes[at + (i >> 7) * 32 + (i & 31)]! >> (2 * ((i >> 5) & 3))) & 3;
}

/**
 * Returns the scale and the minimum of a part of a Q4_K or Q5_K. Twelve bytes store 8 of each in 6 bits. The first four
 * of each have bytes of their own, whose two spare bits are the high bits of the last four.
 */
function scaleAndMin(bytes: Uint8Array, at: number, part: number): [number, number] {
  const packed = (i: number): number => bytes[at + i]!;
  if (part < 4) return [packed(part) & 63, packed(part + 4) & 63];
  const [rest, s, m] = [packed(part + 4), packed(part - 4), packed(part)];
  return [(rest & 15) | ((s >> 6) << 4), (rest >> 4) | ((m >> 6) << 4)];
}

/** Numbers of the codes of IQ4_NL and IQ4_XS, and twice those of E2M1, the numbers of MXFP4. */
const nonlinear = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
const e2m1 = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

const decoders: Record<BlockFormat, Decode> = {
  Q4_0(bytes, at, out, to) {
    const d = half(bytes, at);
    for (let i = 0; i < 32; i++) out[to + i] = d * (halfByte(bytes, at + 2, 16, i) - 8);
  },
  Q4_1(bytes, at, out, to) {
    const [d, m] = [half(bytes, at), half(bytes, at + 2)];
    for (let i = 0; i < 32; i++) out[to + i] = d * halfByte(bytes, at + 4, 16, i) + m;
  },
  Q5_0(bytes, at, out, to) {
    const d = half(bytes, at);
    for (let i = 0; i < 32; i++)
      out[to + i] = d * ((halfByte(bytes, at + 6, 16, i) | (bit(bytes, at + 2, i) << 4)) - 16);
  },
  Q5_1(bytes, at, out, to) {
    const [d, m] = [half(bytes, at), half(bytes, at + 2)];
    for (let i = 0; i < 32; i++) out[to + i] = d * (halfByte(bytes, at + 8, 16, i) | (bit(bytes, at + 4, i) << 4)) + m;
  },
  Q8_0(bytes, at, out, to) {
    const d = half(bytes, at);
    for (let i = 0; i < 32; i++) out[to + i] = d * int8(bytes[at + 2 + i]!);
  },
  Q2_K(bytes, at, out, to) {
    const [d, dmin] = [half(bytes, at + 80), half(bytes, at + 82)];
    for (let i = 0; i < 256; i++) {
      const part = bytes[at + (i >> 4)]!;
      out[to + i] = d * (part & 15) * twoBits(bytes, at + 16, i) - dmin * (part >> 4);
    }
  },
  Q3_K(bytes, at, out, to) {
    const d = half(bytes, at + 108);
    for (let i = 0; i < 256; i++) {
      const part = i >> 4;
      // Half bytes are the low bits of the 16 scales; pairs of bits of the next four bytes are the high ones.
      const low = halfByte(bytes, at + 96, 8, part);
      const high = (bytes[at + 104 + (part & 3)]! >> (2 * (part >> 2))) & 3;
      const third = (bytes[at + (i & 31)]! >> (i >> 5)) & 1;
      out[to + i] = d * ((low | (high << 4)) - 32) * ((twoBits(bytes, at + 32, i) | (third << 2)) - 4);
    }
  },
  Q4_K(bytes, at, out, to) {
    const [d, dmin] = [half(bytes, at), half(bytes, at + 2)];
    for (let part = 0; part < 8; part++) {
      const [s, m] = scaleAndMin(bytes, at + 4, part);
      // Each 32 bytes of q contain two parts: one in the low halves of the bytes, the next in the high halves.
      const q = at + 16 + (part >> 1) * 32;
      for (let i = 0; i < 32; i++)
        out[to + 32 * part + i] = d * s * halfByte(bytes, q, 32, 32 * (part & 1) + i) - dmin * m;
    }
  },
  Q5_K(bytes, at, out, to) {
    const [d, dmin] = [half(bytes, at), half(bytes, at + 2)];
    for (let part = 0; part < 8; part++) {
      const [s, m] = scaleAndMin(bytes, at + 4, part);
      const q = at + 48 + (part >> 1) * 32;
      for (let i = 0; i < 32; i++) {
        const fifth = (bytes[at + 16 + i]! >> part) & 1;
        out[to + 32 * part + i] = d * s * (halfByte(bytes, q, 32, 32 * (part & 1) + i) | (fifth << 4)) - dmin * m;
      }
    }
  },
  Q6_K(bytes, at, out, to) {
    const d = half(bytes, at + 208);
    for (let i = 0; i < 256; i++) {
      // Each half of the block has 128 numbers in four rows of 32. Rows 0 and 1 are the low halves of 64 bytes, rows 2
      // and 3 the high halves.
      const low = halfByte(bytes, at + (i >> 7) * 64, 64, i & 127);
      const q = low | (twoBits(bytes, at + 128, i) << 4);
      out[to + i] = d * int8(bytes[at + 192 + (i >> 4)]!) * (q - 32);
    }
  },
  IQ4_NL(bytes, at, out, to) {
    const d = half(bytes, at);
    for (let i = 0; i < 32; i++) out[to + i] = d * nonlinear[halfByte(bytes, at + 2, 16, i)]!;
  },
  IQ4_XS(bytes, at, out, to) {
    const d = half(bytes, at);
    for (let part = 0; part < 8; part++) {
      const low = (bytes[at + 4 + (part >> 1)]! >> (4 * (part & 1))) & 15;
      const high = (bytes[at + 2 + (part >> 2)]! >> (2 * (part & 3))) & 3;
      const scale = d * ((low | (high << 4)) - 32);
      for (let i = 0; i < 32; i++)
        out[to + 32 * part + i] = scale * nonlinear[halfByte(bytes, at + 8 + 16 * part, 16, i)]!;
    }
  },
  MXFP4(bytes, at, out, to) {
    const scale = 2 ** (bytes[at]! - 128);
    for (let i = 0; i < 32; i++) out[to + i] = scale * e2m1[halfByte(bytes, at + 1, 16, i)]!;
  },
};

/** Types by the number that a file stores for them. */
export const ggmlTypes: ReadonlyMap<number, GgmlType> = new Map([
  [0, plain("F32", 4, "f32", bytesOf)],
  [1, plain("F16", 2, "f16", (values) => bytesOf(bitsOf("f16", values)))],
  [2, blocks("Q4_0")],
  [3, blocks("Q4_1")],
  [6, blocks("Q5_0")],
  [7, blocks("Q5_1")],
  [8, blocks("Q8_0")],
  [9, foreign("Q8_1", 32, 36)],
  [10, blocks("Q2_K")],
  [11, blocks("Q3_K")],
  [12, blocks("Q4_K")],
  [13, blocks("Q5_K")],
  [14, blocks("Q6_K")],
  [15, foreign("Q8_K", 256, 292)],
  [16, foreign("IQ2_XXS", 256, 66)],
  [17, foreign("IQ2_XS", 256, 74)],
  [18, foreign("IQ3_XXS", 256, 98)],
  [19, foreign("IQ1_S", 256, 50)],
  [20, blocks("IQ4_NL")],
  [21, foreign("IQ3_S", 256, 110)],
  [22, foreign("IQ2_S", 256, 82)],
  [23, blocks("IQ4_XS")],
  [24, plain("I8", 1)],
  [25, plain("I16", 2)],
  [26, plain("I32", 4)],
  [27, plain("I64", 8)],
  [28, plain("F64", 8)],
  [29, foreign("IQ1_M", 256, 56)],
  [30, plain("BF16", 2, "bf16", (values) => bytesOf(bitsOf("bf16", values)))],
  [39, blocks("MXFP4")],
]);

/** Names of the types that heed reads. */
export const readableTypes: readonly string[] = [...ggmlTypes.values()].flatMap(({ name, read }) => (read ? name : []));
