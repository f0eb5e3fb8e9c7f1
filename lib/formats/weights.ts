// What every file of weights gives, whatever its format: named tensors, whose values come when they are asked for.
import type { FileHandle } from "node:fs/promises";
import { floatsOf, Halves } from "../dtype.js";
import { describe, HeedError } from "../errors.js";
import { naming } from "../files.js";
import { numel } from "../shape.js";
import { joined, pieceLength } from "../turns.js";
import { asBytes, readFully } from "./whole-io.js";

export interface WeightEntry {
  /** As the format calls it. */
  readonly dtype: string;
  /** Row-major. */
  readonly shape: readonly number[];
}

/** An open file of weights, or several that are one. Close it, or declare it with `await using`. */
export interface WeightFile extends AsyncDisposable {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, WeightEntry>;
  /**
   * A tensor's numbers as f32, whatever they are stored in. Throws ERR_ARGUMENT for an unknown name, ERR_FORMAT where
   * the file has shrunk or the tensor is not of numbers that can be read.
   */
  readFloats(name: string): Promise<Float32Array>;
  /**
   * The same in pieces, in their order, each of which is converted while the event loop waits no longer than some
   * milliseconds and is valid until the next one is asked for. Throws as `readFloats` does.
   */
  readPieces(name: string): AsyncGenerator<Float32Array>;
  /**
   * The same, but numbers that are stored as bf16 or f16 stay so, for the device to convert where it has to. Whoever reads one
   * tensor after the other gives each the same `memory`.
   *
   * @internal
   */
  readStored?(name: string, memory?: PieceMemory): AsyncGenerator<StoredPiece>;
  close(): Promise<void>;
}

/** @internal Consecutive numbers of a tensor. */
export type StoredPiece = Float32Array | Halves;

/**
 * @internal Memory for the pieces of one tensor at a time. Each with memory of its own would leave as much garbage as there are
 * tensors, which is collected late.
 */
export class PieceMemory {
  #numbers = new ArrayBuffer(0);
  #blocks = new ArrayBuffer(0);

  /** Returns at least `bytes` bytes for numbers, which may still hold those of the piece before. */
  ofNumbers(bytes: number): ArrayBuffer {
    if (this.#numbers.byteLength < bytes) this.#numbers = new ArrayBuffer(bytes);
    return this.#numbers;
  }

  /** Returns at least `bytes` bytes for encoded blocks, from which numbers are made. */
  ofBlocks(bytes: number): ArrayBuffer {
    if (this.#blocks.byteLength < bytes) this.#blocks = new ArrayBuffer(bytes);
    return this.#blocks;
  }
}

/** The way in which a file stores numbers: as blocks, each of `numbers` numbers in `bytes` bytes. */
export interface Encoding {
  readonly numbers: number;
  readonly bytes: number;
  /**
   * Fills `out` with the numbers of whole blocks, which begin a buffer; where the blocks are plain numbers, their dtype.
   */
  readonly read: "f32" | "bf16" | "f16" | ((bytes: Uint8Array, out: Float32Array) => void);
}

/** Implements `readStored` for a tensor that is stored as consecutive whole blocks from `byteOffset` on. */
export async function* readBlocks(
  { path, handle }: { path: string; handle: FileHandle },
  { shape, byteOffset }: { shape: readonly number[]; byteOffset: number },
  { numbers, bytes, read }: Encoding,
  memory = new PieceMemory(),
): AsyncGenerator<StoredPiece> {
  const size = numel(shape);
  const most = Math.min(size, Math.max(1, Math.floor(pieceLength / numbers)) * numbers);
  const values =
    read === "bf16" || read === "f16"
      ? new Halves(read, new Uint16Array(memory.ofNumbers(2 * most), 0, most))
      : new Float32Array(memory.ofNumbers(4 * most), 0, most);
  const stored =
    typeof read === "function"
      ? new Uint8Array(memory.ofBlocks((most / numbers) * bytes))
      : asBytes(values instanceof Halves ? values.bits : values);
  for (let done = 0; done < size; done += most) {
    const out = values.subarray(0, size - done);
    const part = stored.subarray(0, (out.length / numbers) * bytes);
    await naming(path, () => readFully(handle, part, byteOffset + (done / numbers) * bytes, path));
    if (typeof read === "function") read(part, out as Float32Array);
    yield out;
  }
}

/** Yields pieces as floats, whatever they are stored as. */
export async function* asFloats(pieces: AsyncIterable<StoredPiece>): AsyncGenerator<Float32Array> {
  let values = new Float32Array(0);
  for await (const piece of pieces)
    if (piece instanceof Halves) {
      if (values.length < piece.length) values = new Float32Array(piece.length);
      yield floatsOf(piece.dtype, piece.bits, values.subarray(0, piece.length));
    } else yield piece;
}

/** Implements `readFloats` by joining what `readPieces` yields. */
export function readWhole(file: WeightFile, name: string): Promise<Float32Array> {
  return joined(file.readPieces(name), numel(entryOf(file.path, file.tensors, name).shape));
}

/** The entry of a tensor. Throws ERR_ARGUMENT for an unknown name. */
export function entryOf<E>(path: string, tensors: ReadonlyMap<string, E>, name: unknown): E {
  const entry = typeof name === "string" ? tensors.get(name) : undefined;
  if (entry === undefined)
    throw new HeedError("ERR_ARGUMENT", `${path}: expected the name of a tensor, got ${describe(name)}`);
  return entry;
}
