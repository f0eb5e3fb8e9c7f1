// Number types of GGUF files (github.com/ggml-org/ggml, docs/gguf.md and ggml-common.h): plain numbers, and blocks of
// small integers q with shared scales, whose layouts and formulas native/core/blocks.h describes.
import { type BlockFormat, blockFormats } from "../core/block-formats.js";
import { bitsOf } from "../core/dtype.js";
import { decodeBlocks } from "./gguf-decode.js";
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
  return {
    name,
    numbers,
    bytes,
    read: (stored, out) => decodeBlocks(name, stored, out),
    write: isEncoded(name) ? (values) => encodeBlocks(name, values) : null,
  };
};

function bytesOf(values: Float32Array | Uint16Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

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
