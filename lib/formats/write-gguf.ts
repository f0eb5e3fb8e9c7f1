// Writes GGUF files of version 3; gguf-header.ts describes the format. Tensors are streamed, one in memory at a time,
// and the new file replaces an old one only when it is complete.
import type { FileHandle } from "node:fs/promises";
import { describe, HeedError, oneOf } from "../util/errors.js";
import { numel, type Shape } from "../core/shape.js";
import { inPieces, pauseIfLong } from "../util/turns.js";
import { writeFileAtomic } from "./atomic-file.js";
import { ggmlTypes } from "./gguf-blocks.js";
import { encodeBlocks, encodedFormats, type EncodedFormat, type Importance, isEncoded } from "./gguf-encode.js";
import { writeFully } from "./whole-io.js";

/**
 * Types in which a tensor can be written.
 *
 * @example
 * const types = ggufWritable.join(", "); // "F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q5_K, Q6_K"
 */
export const ggufWritable = ["F32", "F16", "BF16", ...encodedFormats] as const;
/**
 * A type in which a tensor can be written. Q8_0 and Q4_0 have blocks of 32 numbers, Q4_K, Q5_K and Q6_K blocks of 256,
 * with scales that make the sum of squared errors small.
 */
export type GgufWritable = (typeof ggufWritable)[number];

/** A value of the metadata, with its type. */
export type GgufInputValue =
  | { type: "u32" | "i32" | "f32"; value: number }
  | { type: "bool"; value: boolean }
  | { type: "string"; value: string }
  | { type: "strings"; value: readonly string[] }
  | { type: "f32s" | "i32s"; value: ArrayLike<number> };

/** A tensor to write. */
export interface GgufTensorInput {
  /** Name of the tensor, unique in the file. */
  readonly name: string;
  /** Type in which the numbers are stored. */
  readonly type: GgufWritable;
  /** Sizes of at most 4 dimensions. The last must be a multiple of the numbers of a block: 32, or 256 for Q4_K to Q6_K. */
  readonly shape: Shape;
  /**
   * Importance of the numbers of a row, at least 0 each: how much their squared errors count when scales are chosen.
   * @default all count equally
   */
  readonly importance?: Float32Array | null;
  /** Returns the numbers, row-major, whole or in pieces of whole blocks. It is called when the tensor is written. */
  readonly data: () => Float32Array | Promise<Float32Array> | AsyncIterable<Float32Array>;
}

const alignment = 32;

/**
 * Writes a GGUF file.
 *
 * @example
 * const name = { type: "string", value: "whale" } as const;
 * const bias = { name: "bias", type: "F16", shape: [2], data: () => Float32Array.of(0.5, 1) } as const;
 * await writeGguf("bias.gguf", new Map([["general.name", name]]), [bias]);
 *
 * @throws ERR_ARGUMENT if the format cannot store a name, type, shape or value, or `data` returns another number of
 * elements than `shape` says.
 * @throws ERR_IO if the file cannot be written; an old file then stays unchanged.
 * @see https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */
export async function writeGguf(
  path: string,
  metadata: ReadonlyMap<string, GgufInputValue>,
  tensors: readonly GgufTensorInput[],
): Promise<void> {
  const header = new Bytes();
  header.bytes(Buffer.from("GGUF"));
  header.u32(3);
  header.u64(tensors.length);
  header.u64(metadata.size);
  for (const [key, value] of metadata) {
    header.text(key);
    header.value(value);
  }
  let offset = 0;
  const names = new Set<string>();
  for (const { name, type, shape, importance } of tensors) {
    const [number, { numbers, bytes }] = typeOf(name, type);
    if (names.has(name)) throw fault(`unique names, got ${JSON.stringify(name)} twice`);
    names.add(name);
    if (importance && importance.length !== shape.at(-1))
      throw fault(`importance of ${shape.at(-1)} numbers for ${JSON.stringify(name)}, got ${importance.length}`);
    if (shape.length > 4) throw fault(`at most 4 dimensions of ${JSON.stringify(name)}, got ${shape.length}`);
    if ((shape.at(-1) ?? 1) % numbers !== 0)
      throw fault(
        `rows of ${JSON.stringify(name)} in ${type} to be a multiple of ${numbers} numbers, got ${shape.at(-1)}`,
      );
    header.text(name);
    header.u32(shape.length);
    for (const size of [...shape].reverse()) header.u64(size);
    header.u32(number);
    header.u64(offset);
    offset += aligned((numel(shape) / numbers) * bytes);
  }
  await writeFileAtomic(
    path,
    async (handle) => {
      const bytes = header.joined();
      await writeFully(handle, bytes);
      await pad(handle, bytes.length);
      for (const { name, type, shape, data, importance } of tensors) {
        const values = await data();
        const [, { numbers, write }] = typeOf(name, type);
        let [count, bytes] = [0, 0];
        for await (const piece of values instanceof Float32Array ? inPieces(values) : values) {
          const first = count;
          count += piece.length;
          if (count % numbers !== 0 || count > numel(shape)) break;
          const written = isEncoded(type)
            ? await encoded(type, piece, importance ? { ofRow: importance, first } : null)
            : write!(piece);
          bytes += written.length;
          await writeFully(handle, written);
        }
        if (count !== numel(shape)) throw fault(`${numel(shape)} numbers of ${JSON.stringify(name)}, got ${count}`);
        await pad(handle, bytes);
      }
    },
    { bytes: offset },
  );
}

/** Numbers that are encoded in one turn of the event loop; the search for scales takes some milliseconds for them. */
const encodedAtOnce = 2 ** 14;

/** Encodes whole blocks in turns. */
async function encoded(
  format: EncodedFormat,
  values: Float32Array,
  importance: Importance | null,
): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for (let at = 0; at < values.length; at += encodedAtOnce) {
    await pauseIfLong();
    const part = importance && { ...importance, first: importance.first + at };
    parts.push(encodeBlocks(format, values.subarray(at, at + encodedAtOnce), part));
  }
  return Buffer.concat(parts);
}

function typeOf(name: string, type: unknown) {
  const found = [...ggmlTypes].find(([, entry]) => entry.name === type);
  if (found?.[1].write) return found;
  throw fault(`${JSON.stringify(name)} of type ${oneOf(ggufWritable)}, got ${describe(type)}`);
}

function aligned(length: number): number {
  return Math.ceil(length / alignment) * alignment;
}

/** Writes zero bytes after `length` bytes, up to a multiple of the alignment. */
async function pad(handle: FileHandle, length: number): Promise<void> {
  await writeFully(handle, new Uint8Array(aligned(length) - length));
}

function fault(expected: string): HeedError {
  return new HeedError("ERR_ARGUMENT", `gguf: expected ${expected}`);
}

/** Builds a header, little-endian. */
class Bytes {
  readonly #parts: Uint8Array[] = [];

  bytes(part: Uint8Array): void {
    this.#parts.push(part);
  }

  u32(value: number): void {
    this.bytes(new Uint8Array(Uint32Array.of(value).buffer));
  }

  u64(value: number): void {
    this.bytes(new Uint8Array(BigUint64Array.of(BigInt(value)).buffer));
  }

  text(text: string): void {
    const bytes = Buffer.from(text);
    this.u64(bytes.length);
    this.bytes(bytes);
  }

  /** Appends the number of the type, then the value. */
  value(input: GgufInputValue): void {
    switch (input.type) {
      case "u32":
        this.u32(4);
        return this.u32(input.value);
      case "i32":
        this.u32(5);
        return this.bytes(new Uint8Array(Int32Array.of(input.value).buffer));
      case "f32":
        this.u32(6);
        return this.bytes(new Uint8Array(Float32Array.of(input.value).buffer));
      case "bool":
        this.u32(7);
        return this.bytes(Uint8Array.of(input.value ? 1 : 0));
      case "string":
        this.u32(8);
        return this.text(input.value);
      case "strings":
        this.#array(8, input.value.length);
        for (const text of input.value) this.text(text);
        return;
      case "f32s":
        this.#array(6, input.value.length);
        return this.bytes(new Uint8Array(Float32Array.from(input.value).buffer));
      case "i32s":
        this.#array(5, input.value.length);
        return this.bytes(new Uint8Array(Int32Array.from(input.value).buffer));
    }
  }

  #array(type: number, length: number): void {
    this.u32(9);
    this.u32(type);
    this.u64(length);
  }

  joined(): Uint8Array {
    return Buffer.concat(this.#parts);
  }
}
