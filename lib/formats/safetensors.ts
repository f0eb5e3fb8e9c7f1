// Reading and writing safetensors files. Reading takes the header alone; a tensor's bytes come when asked for, straight
// into the given memory. Writing streams tensor by tensor and is atomic.
import type { FileHandle } from "node:fs/promises";
import { HeedError } from "../errors.js";
import { naming } from "../files.js";
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
  readWhole,
  type StoredPiece,
  type WeightFile,
} from "./weights.js";

/** The encoding of each dtype that can be read as numbers. */
const encodings: Partial<Record<SafetensorsDType, Encoding>> = {
  F32: { numbers: 1, bytes: 4, read: "f32" },
  BF16: { numbers: 1, bytes: 2, read: "bf16" },
  F16: { numbers: 1, bytes: 2, read: "f16" },
};

/** An open safetensors file. Close it, or declare it with `await using`. */
export class SafetensorsFile implements WeightFile {
  /** @internal */
  constructor(
    readonly path: string,
    /** Dtype, shape and place of every tensor, by name. */
    readonly tensors: ReadonlyMap<string, SafetensorsEntry>,
    readonly metadata: ReadonlyMap<string, string>,
    /** @internal */
    readonly handle: FileHandle,
  ) {}

  /**
   * The bytes of a tensor, little-endian and row-major, in `into` (of exactly their length) or in new memory. Throws
   * ERR_ARGUMENT for an unknown name, ERR_RANGE for an `into` of another length, ERR_FORMAT if the file has shrunk.
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

  /** The numbers of a tensor of F32, BF16 or F16. Throws as `read` does, and ERR_FORMAT for another dtype. */
  async readFloats(name: string): Promise<Float32Array> {
    return readWhole(this, name);
  }

  /** The numbers that `readFloats` gives, in pieces: see `WeightFile`. */
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

  async close(): Promise<void> {
    await this.handle.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Opens a safetensors file and checks its header. Throws ERR_IO or ERR_FORMAT with the file's name. */
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

/**
 * A tensor to be written, its bytes little-endian and row-major; as a function, they are asked for when their turn comes,
 * whole or in pieces.
 */
export interface SafetensorsInput extends SafetensorsSpecification {
  readonly data: ArrayBufferView | (() => ArrayBufferView | Promise<ArrayBufferView> | AsyncIterable<ArrayBufferView>);
}

/**
 * Writes a safetensors file, replacing an old one only when the new one is complete and on the disk. Throws
 * ERR_ARGUMENT for what the format cannot hold, ERR_IO where the file cannot be written.
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
