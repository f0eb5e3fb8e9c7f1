// GGUF files, llama.cpp's: metadata (the model's sizes, its tokenizer) and tensors, many of them quantised. Reading
// takes the header alone; a tensor's bytes come when asked for.
import type { FileHandle } from "node:fs/promises";
import { HeedError } from "../errors.js";
import { naming } from "../files.js";
import { type GgufEntry, type GgufHeader, GgufHeaderReader } from "./gguf-header.js";
import { type GgufValue, HeaderCut } from "./gguf-values.js";
import { opening, readFully } from "./whole-io.js";
import {
  asFloats,
  entryOf,
  type PieceMemory,
  readBlocks,
  readWhole,
  type StoredPiece,
  type WeightFile,
} from "./weights.js";

/** An open GGUF file. Close it, or declare it with `await using`. */
export class GgufFile implements WeightFile {
  readonly version: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufEntry>;

  /** @internal */
  constructor(
    readonly path: string,
    header: GgufHeader,
    readonly handle: FileHandle,
  ) {
    this.version = header.version;
    this.metadata = header.metadata;
    this.tensors = header.tensors;
  }

  /** A tensor's bytes as they are in the file. Throws ERR_ARGUMENT for an unknown name, ERR_FORMAT if the file has shrunk. */
  async read(name: string): Promise<Uint8Array> {
    const { byteOffset, byteLength } = entryOf(this.path, this.tensors, name);
    const bytes = new Uint8Array(byteLength);
    await naming(this.path, () => readFully(this.handle, bytes, byteOffset, this.path));
    return bytes;
  }

  /** The numbers of a tensor of F32, F16, BF16, Q8_0, Q4_0, Q4_K or Q6_K. */
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
    const { numbers, bytes, read } = entry.type;
    if (!read)
      throw new HeedError(
        "ERR_FORMAT",
        `${this.path}: expected ${JSON.stringify(name)} of type F32, F16, BF16, Q8_0, Q4_0, Q4_K or Q6_K, got ${entry.type.name}`,
      );
    yield* readBlocks(this, entry, { numbers, bytes, read }, memory);
  }

  async close(): Promise<void> {
    await this.handle.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** How much of a file is read at first: headers with a vocabulary take some MiB. */
const firstRead = 1 << 20;
/** Far more than headers are; no string may be much longer. */
const longestHeader = 1 << 28;

/** Opens a GGUF file and checks its header. Throws ERR_IO or ERR_FORMAT with the file's name. */
export async function readGguf(path: string): Promise<GgufFile> {
  return opening(path, async (handle, size) => new GgufFile(path, await readHeader(handle, size, path), handle));
}

/** The header says nowhere how long it is: at least twice as much is read until it is whole. */
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
