// Reads and writes safetensors files. Opening a file reads only its header; the bytes of a tensor are read when they
// are requested, directly into the given memory. Writing streams one tensor after another and replaces an old file
// atomically.
import type { FileHandle } from "node:fs/promises";
import { HeedError } from "../util/errors.js";
import { naming } from "../util/files.js";
import { writeFileAtomic } from "./atomic-file.js";
import { asBytes, opening, readFully, writeFully } from "./whole-io.js";
import {
  parseSafetensorsHeader,
  safetensorsHeaderLength,
  serializeSafetensorsHeader,
  tensorBytes,
  type SafetensorsDType,
  type SafetensorsEntry,
  type SafetensorsSpecification,
} from "./safetensors-header.js";
import {
  asFloats,
  type Encoding,
  entryOf,
  type PieceMemory,
  readBlocks,
  readRaw,
  readWhole,
  type StoredPiece,
  type WeightFile,
} from "./weights.js";

/** Encoding of each dtype that can be converted to f32. */
const encodings: Partial<Record<SafetensorsDType, Encoding>> = {
  F32: { numbers: 1, bytes: 4, read: "f32" },
  BF16: { numbers: 1, bytes: 2, read: "bf16" },
  F16: { numbers: 1, bytes: 2, read: "f16" },
};

/**
 * An open safetensors file. Close it, or declare it with `await using`.
 *
 * @example
 * const bias = { name: "bias", dtype: "F32", shape: [2], data: Float32Array.of(0.5, 1) } as const;
 * await writeSafetensors("bias.safetensors", [bias]);
 * await using file = await readSafetensors("bias.safetensors");
 * const values = await file.readFloats("bias"); // Float32Array [0.5, 1]
 */
export class SafetensorsFile implements WeightFile {
  /** @internal */
  constructor(
    readonly path: string,
    /** Dtype, shape and position of every tensor, by name, in the order of their bytes in the file. */
    readonly tensors: ReadonlyMap<string, SafetensorsEntry>,
    /** Texts of the entry "__metadata__", by key. */
    readonly metadata: ReadonlyMap<string, string>,
    /** @internal */
    readonly handle: FileHandle,
  ) {}

  /**
   * Reads the bytes of a tensor, little-endian and row-major, into `into`, which must have exactly their length, or
   * into new memory.
   *
   * @throws ERR_ARGUMENT if the file has no tensor of that name.
   * @throws ERR_RANGE if `into` has another length in bytes than the tensor.
   * @throws ERR_FORMAT or ERR_IO if the file has become shorter or cannot be read.
   */
  async read<T extends ArrayBufferView = Uint8Array>(name: string, into?: T): Promise<T> {
    const entry = entryOf(this.path, this.tensors, name);
    const target = into ?? new Uint8Array(entry.byteLength);
    if (target.byteLength !== entry.byteLength)
      throw new HeedError(
        "ERR_RANGE",
        `${this.path}: expected memory of ${entry.byteLength} bytes for tensor ${JSON.stringify(name)}, got ${target.byteLength}`,
      );
    await naming(this.path, () => readFully(this.handle, asBytes(target), entry.byteOffset, this.path));
    return target as T;
  }

  /**
   * Reads a tensor of dtype F32, BF16 or F16 and returns its elements as f32, in row-major order.
   *
   * @throws ERR_ARGUMENT if the file has no tensor of that name.
   * @throws ERR_FORMAT if the tensor has another dtype, or the file has become shorter.
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
    const encoding = encodings[entry.dtype];
    if (!encoding)
      throw new HeedError(
        "ERR_FORMAT",
        `${this.path}: expected ${JSON.stringify(name)} of dtype F32, BF16 or F16, got ${entry.dtype}`,
      );
    yield* readBlocks(this, entry, encoding, memory);
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

/**
 * Opens a safetensors file and checks its header.
 *
 * @example
 * await writeSafetensors("ids.safetensors", [{ name: "ids", dtype: "I32", shape: [2], data: Int32Array.of(7, 8) }]);
 * await using file = await readSafetensors("ids.safetensors");
 * const ids = await file.read("ids", new Int32Array(2)); // Int32Array [7, 8]
 *
 * @throws ERR_IO if the file cannot be read; the message names it.
 * @throws ERR_FORMAT if the header is malformed or does not match the file's length; the message names the file.
 * @see https://github.com/huggingface/safetensors
 */
export async function readSafetensors(path: string): Promise<SafetensorsFile> {
  return opening(path, async (handle, size) => {
    const start = new Uint8Array(Math.min(8, size));
    await readFully(handle, start, 0, path);
    const bytes = new Uint8Array(8 + safetensorsHeaderLength(start, size, path));
    await readFully(handle, bytes, 0, path);
    const { tensors, metadata } = parseSafetensorsHeader(bytes, size, path);
    return new SafetensorsFile(path, tensors, metadata, handle);
  });
}

/** A tensor to write. */
export interface SafetensorsInput extends SafetensorsSpecification {
  /**
   * Bytes of the tensor, little-endian and row-major, or a function that returns them, whole or in pieces. The function
   * is called when the tensor is written, so that not all tensors need to be in memory.
   */
  readonly data: ArrayBufferView | (() => ArrayBufferView | Promise<ArrayBufferView> | AsyncIterable<ArrayBufferView>);
}

/**
 * Writes a safetensors file. An old file is replaced only when the new one is complete and flushed to the disk.
 *
 * @example
 * const bias = { name: "bias", dtype: "F32", shape: [2], data: Float32Array.of(0.5, 1) } as const;
 * await writeSafetensors("weights.safetensors", [bias], { license: "MIT" });
 *
 * @throws ERR_ARGUMENT if the format cannot store a name, shape, dtype or metadata, or if `data` has another length
 * than `shape` and `dtype` require.
 * @throws ERR_IO if the file cannot be written; an old file then stays unchanged.
 * @see https://github.com/huggingface/safetensors
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<SafetensorsInput>,
  metadata: ReadonlyMap<string, string> | Readonly<Record<string, string>> = {},
): Promise<void> {
  const texts = metadata instanceof Map ? metadata : new Map(Object.entries(metadata));
  const { bytes, ordered } = serializeSafetensorsHeader(tensors, texts);
  const room = ordered.reduce((sum, { dtype, shape }) => sum + tensorBytes(dtype, shape), bytes.length);
  await writeFileAtomic(
    path,
    async (handle) => {
      await writeFully(handle, bytes);
      for (const { name, dtype, shape, data } of ordered) {
        const given = typeof data === "function" ? await data() : data;
        let written = 0;
        for await (const view of ArrayBuffer.isView(given) ? [given] : given) {
          await writeFully(handle, asBytes(view));
          written += view.byteLength;
        }
        const expected = tensorBytes(dtype, shape);
        if (written !== expected)
          throw new HeedError(
            "ERR_ARGUMENT",
            `safetensors: expected ${expected} bytes for tensor ${JSON.stringify(name)}, ${dtype} [${shape.join(", ")}], got ${written}`,
          );
      }
    },
    { bytes: room },
  );
}
