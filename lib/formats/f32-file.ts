// Base class for formats that store f32 tensors one after another. The formats differ only in their headers.
import type { FileHandle } from "node:fs/promises";
import { HeedError } from "../util/errors.js";
import {
  asFloats,
  entryOf,
  type PieceMemory,
  readBlocks,
  readWhole,
  type StoredPiece,
  type WeightEntry,
  type WeightFile,
} from "./weights.js";

/** Dtype, shape and position of a tensor in a file. */
export interface Place extends WeightEntry {
  /** Offset of the first byte from the start of the file. */
  readonly byteOffset: number;
}

/** An open file of f32 tensors. Close it, or declare it with `await using`. */
export class F32File implements WeightFile {
  /** @internal */
  constructor(
    readonly path: string,
    readonly tensors: ReadonlyMap<string, Place>,
    readonly handle: FileHandle,
  ) {}

  async readFloats(name: string): Promise<Float32Array> {
    return readWhole(this, name);
  }

  async *readPieces(name: string): AsyncGenerator<Float32Array> {
    yield* asFloats(this.readStored(name));
  }

  /** @internal */
  async *readStored(name: string, memory?: PieceMemory): AsyncGenerator<StoredPiece> {
    const place = entryOf(this.path, this.tensors, name);
    if (place.dtype !== "F32")
      throw new HeedError("ERR_FORMAT", `${this.path}: expected ${name} in F32, got ${place.dtype}: a quantised model`);
    yield* readBlocks(this, place, { numbers: 1, bytes: 4, read: "f32" }, memory);
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
