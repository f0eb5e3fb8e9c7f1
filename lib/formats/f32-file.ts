// What files of f32 tensors that lie one after the other have in common, whatever their headers are like.
import type { FileHandle } from "node:fs/promises";
import { HeedError } from "../errors.js";
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

export interface Place extends WeightEntry {
  readonly byteOffset: number;
}

/** An open file. Close it, or declare it with `await using`. */
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

  /** The numbers that `readFloats` gives, in pieces: see `WeightFile`. */
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

  async close(): Promise<void> {
    await this.handle.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
