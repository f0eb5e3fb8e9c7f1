// Defines the interface that files of weights have in all formats: named tensors, whose values are read on request.
import type { FileHandle } from "node:fs/promises";
import { floatsOf, Halves } from "../core/dtype.js";
import { describe, HeedError } from "../util/errors.js";
import { naming } from "../util/files.js";
import { numel } from "../core/shape.js";
import { joined, pieceLength } from "../util/turns.js";
import { asBytes, readFully } from "./whole-io.js";

/** Dtype and shape of a tensor in a file of weights. */
export interface WeightEntry {
  /** Dtype as the format names it, such as "BF16" or "Q8_0". */
  readonly dtype: string;
  /** Sizes of the dimensions. Elements are in row-major order. */
  readonly shape: readonly number[];
}

/** An open file of weights, or several files that hold one model. Close it, or declare it with `await using`. */
export interface WeightFile extends AsyncDisposable {
  /** Path of the file. If there are several files, this is the path of their index or of the first file. */
  readonly path: string;
  /** Dtype and shape of every tensor, by name. */
  readonly tensors: ReadonlyMap<string, WeightEntry>;
  /**
   * Reads a tensor and returns its elements as f32, in row-major order, for any stored dtype that heed can convert.
   *
   * @throws ERR_ARGUMENT if the file has no tensor of that name.
   * @throws ERR_FORMAT if heed cannot convert the tensor's dtype, or the file has become shorter.
   * @throws ERR_IO if the file cannot be read.
   */
  readFloats(name: string): Promise<Float32Array>;
  /**
   * Yields the numbers that `readFloats` returns, in order and in pieces. Converting a piece blocks the event loop for
   * a few milliseconds at most. A piece is valid until the next one is requested, because all pieces share their
   * memory. Errors are those of `readFloats`.
   */
  readPieces(name: string): AsyncGenerator<Float32Array>;
  /**
   * Yields the pieces of `readPieces`, except that numbers stored as bf16 or f16 stay in that form; the device converts
   * them if necessary. If you read several tensors one after another, pass the same `memory` for each of them.
   *
   * @internal
   */
  readStored?(name: string, memory?: PieceMemory): AsyncGenerator<StoredPiece>;
  /**
   * Yields the bytes of a tensor as they are stored, in pieces that share their memory. Files that may
   * store weights in blocks or codes have this.
   *
   * @internal
   */
  readBytes?(name: string, memory?: PieceMemory): AsyncGenerator<Uint8Array>;
  /** Closes the file. */
  close(): Promise<void>;
}

/** Consecutive elements of a tensor. */
export type StoredPiece = Float32Array | Halves;

/**
 * Memory that the pieces of all tensors share, one tensor at a time. Separate memory for each tensor would
 * become garbage that is collected late.
 */
export class PieceMemory {
  #numbers = new ArrayBuffer(0);
  #blocks = new ArrayBuffer(0);

  /** Returns at least `bytes` bytes of memory for numbers. They may still contain the previous piece. */
  ofNumbers(bytes: number): ArrayBuffer {
    if (this.#numbers.byteLength < bytes) this.#numbers = new ArrayBuffer(bytes);
    return this.#numbers;
  }

  /** Returns at least `bytes` bytes of memory for encoded blocks, which are decoded into numbers. */
  ofBlocks(bytes: number): ArrayBuffer {
    if (this.#blocks.byteLength < bytes) this.#blocks = new ArrayBuffer(bytes);
    return this.#blocks;
  }
}

/** The form in which a file stores numbers: blocks of `numbers` numbers, each block in `bytes` bytes. */
export interface Encoding {
  readonly numbers: number;
  readonly bytes: number;
  /**
   * Decodes whole blocks, which start at the beginning of their buffer, into `out`. If a block is one plain number,
   * `read` is the dtype of that number instead.
   */
  readonly read: "f32" | "bf16" | "f16" | ((bytes: Uint8Array, out: Float32Array) => void | Promise<void>);
}

/** Implements `readStored` for a tensor that is stored as consecutive whole blocks, the first at `byteOffset`. */
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
    if (typeof read === "function") await read(part, out as Float32Array);
    yield out;
  }
}

/** Implements `readBytes` for a tensor whose first byte is at `byteOffset`. */
export async function* readRaw(
  { path, handle }: { path: string; handle: FileHandle },
  { byteOffset, byteLength }: { byteOffset: number; byteLength: number },
  memory = new PieceMemory(),
): AsyncGenerator<Uint8Array> {
  for (let done = 0; done < byteLength; done += pieceLength) {
    const length = Math.min(pieceLength, byteLength - done);
    const piece = new Uint8Array(memory.ofBlocks(length), 0, length);
    await naming(path, () => readFully(handle, piece, byteOffset + done, path));
    yield piece;
  }
}

/** Yields pieces as f32, whatever their dtype. */
export async function* asFloats(pieces: AsyncIterable<StoredPiece>): AsyncGenerator<Float32Array> {
  let values = new Float32Array(0);
  for await (const piece of pieces)
    if (piece instanceof Halves) {
      if (values.length < piece.length) values = new Float32Array(piece.length);
      yield floatsOf(piece.dtype, piece.bits, values.subarray(0, piece.length));
    } else yield piece;
}

/** Implements `readFloats` by joining the pieces of `readPieces`. */
export function readWhole(file: WeightFile, name: string): Promise<Float32Array> {
  return joined(file.readPieces(name), numel(entryOf(file.path, file.tensors, name).shape));
}

/**
 * Returns the entry of a tensor.
 *
 * @throws ERR_ARGUMENT if there is no tensor of that name.
 */
export function entryOf<E>(path: string, tensors: ReadonlyMap<string, E>, name: unknown): E {
  const entry = typeof name === "string" ? tensors.get(name) : undefined;
  if (entry === undefined)
    throw new HeedError("ERR_ARGUMENT", `${path}: expected the name of a tensor, got ${describe(name)}`);
  return entry;
}
