// Reads GGUF files, the format of llama.cpp: metadata (the model's sizes, its tokenizer) and tensors, many of them
// quantised. Opening a file reads only its header; the bytes of a tensor are read when they are requested.
import type { FileHandle } from "node:fs/promises";
import { HeedError, oneOf } from "../util/errors.js";
import { naming } from "../util/files.js";
import { readableTypes } from "./gguf-blocks.js";
import { type GgufEntry, type GgufHeader, GgufHeaderReader } from "./gguf-header.js";
import { type GgufValue, HeaderCut } from "./gguf-values.js";
import { opening, readFully } from "./whole-io.js";
import {
  asFloats,
  entryOf,
  type PieceMemory,
  readBlocks,
  readRaw,
  readWhole,
  type StoredPiece,
  type WeightFile,
} from "./weights.js";

/**
 * An open GGUF file. Close it, or declare it with `await using`.
 *
 * @example
 * await saveGguf("whale.gguf", gpt);
 * await using file = await readGguf("whale.gguf");
 * const embedding = await file.readFloats("token_embd.weight"); // 256 · 16 numbers
 */
export class GgufFile implements WeightFile {
  /** Version of the format, 2 or 3. */
  readonly version: number;
  /** Values of the metadata by key, such as "general.architecture". */
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** Type, shape and position of every tensor, by name. */
  readonly tensors: ReadonlyMap<string, GgufEntry>;

  /** @internal */
  constructor(
    readonly path: string,
    header: GgufHeader,
    /** The open file from which tensors are read. */
    readonly handle: FileHandle,
  ) {
    this.version = header.version;
    this.metadata = header.metadata;
    this.tensors = header.tensors;
  }

  /**
   * Reads the bytes of a tensor as they are stored in the file.
   *
   * @throws ERR_ARGUMENT if the file has no tensor of that name.
   * @throws ERR_FORMAT or ERR_IO if the file has become shorter or cannot be read.
   */
  async read(name: string): Promise<Uint8Array> {
    const { byteOffset, byteLength } = entryOf(this.path, this.tensors, name);
    const bytes = new Uint8Array(byteLength);
    await naming(this.path, () => readFully(this.handle, bytes, byteOffset, this.path));
    return bytes;
  }

  /**
   * Reads a tensor and returns its elements as f32, in row-major order. Its type may be F32, F16, BF16, Q4_0, Q4_1, Q5_0,
   * Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS or MXFP4.
   *
   * @throws ERR_ARGUMENT if the file has no tensor of that name.
   * @throws ERR_FORMAT if the tensor has another type, or the file has become shorter.
   * @throws ERR_IO if the file cannot be read.
   */
  async readFloats(name: string): Promise<Float32Array> {
    return readWhole(this, name);
  }

  async *readPieces(name: string): AsyncGenerator<Float32Array> {
    yield* asFloats(this.readStored(name));
  }

  /** @internal */
  async *readStored(name: string, memory?: PieceMemory): AsyncGenerator<StoredPiece> {
    const entry = entryOf(this.path, this.tensors, name);
    const { numbers, bytes, read } = entry.type;
    if (!read)
      throw new HeedError(
        "ERR_FORMAT",
        `${this.path}: expected ${JSON.stringify(name)} of type ${oneOf(readableTypes)}, got ${entry.type.name}`,
      );
    yield* readBlocks(this, entry, { numbers, bytes, read }, memory);
  }

  /** @internal */
  async *readBytes(name: string, memory?: PieceMemory): AsyncGenerator<Uint8Array> {
    yield* readRaw(this, entryOf(this.path, this.tensors, name), memory);
  }

  /** Closes the file. */
  async close(): Promise<void> {
    await this.handle.close();
  }

  /** Does the same as `close()`, at the end of the block that declares it with `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Number of bytes to read first; a header that contains a vocabulary has a few MiB. */
const firstRead = 1 << 20;
/** Largest header in bytes. Real headers are far smaller, and a string cannot be much longer than this. */
export const longestHeader = 1 << 28;

/**
 * Opens a GGUF file of version 2 or 3 and checks its header.
 *
 * @example
 * await saveGguf("model.gguf", gpt);
 * await using file = await readGguf("model.gguf");
 * const architecture = file.metadata.get("general.architecture"); // "gpt2"
 *
 * @throws ERR_IO if the file cannot be read; the message names it.
 * @throws ERR_FORMAT if the header is malformed, or a tensor lies outside the file; the message names the file.
 * @see https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */
export async function readGguf(path: string): Promise<GgufFile> {
  return opening(path, async (handle, size) => new GgufFile(path, await readHeader(handle, size, path), handle));
}

/**
 * Reads the header. The format does not store the header's length, so at least twice as many bytes are read each time
 * until the header is complete.
 */
async function readHeader(handle: FileHandle, size: number, path: string): Promise<GgufHeader> {
  const reader = new GgufHeaderReader(size, path);
  let bytes = new Uint8Array(Math.min(firstRead, size));
  await readFully(handle, bytes, 0, path);
  for (;;) {
    try {
      return reader.read(bytes);
    } catch (error) {
      if (!(error instanceof HeaderCut)) throw error;
      const more = new Uint8Array(Math.min(Math.max(2 * bytes.length, error.needed), size, longestHeader));
      if (more.length === bytes.length)
        throw new HeedError(
          "ERR_FORMAT",
          `${path}: expected a header of at most ${longestHeader} bytes, got a longer one`,
        );
      more.set(bytes);
      await readFully(handle, more.subarray(bytes.length), bytes.length, path);
      bytes = more;
    }
  }
}
