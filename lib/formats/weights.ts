// What every file of weights gives, whatever its format: named tensors, whose values come when they are asked for.
import type { FileHandle } from "node:fs/promises";
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
  close(): Promise<void>;
}

/** The way in which a file stores numbers: as blocks, each of `numbers` numbers in `bytes` bytes. */
export interface Encoding {
  readonly numbers: number;
  readonly bytes: number;
  /** Fills `out` with the numbers of whole blocks, which begin a buffer; null where these are f32 as they are. */
  readonly read: ((bytes: Uint8Array, out: Float32Array) => void) | null;
}

/** Implements `readPieces` for a tensor that is stored as consecutive whole blocks from `byteOffset` on. */
export async function* readBlocks(
  { path, handle }: { path: string; handle: FileHandle },
  { shape, byteOffset }: { shape: readonly number[]; byteOffset: number },
  { numbers, bytes, read }: Encoding,
): AsyncGenerator<Float32Array> {
  const size = numel(shape);
  const most = Math.min(size, Math.max(1, Math.floor(pieceLength / numbers)) * numbers);
  const values = new Float32Array(most);
  const blocks = read ? new Uint8Array((most / numbers) * bytes) : asBytes(values);
  for (let done = 0; done < size; done += most) {
    const out = values.subarray(0, size - done);
    const part = blocks.subarray(0, (out.length / numbers) * bytes);
    await naming(path, () => readFully(handle, part, byteOffset + (done / numbers) * bytes, path));
    read?.(part, out);
    yield out;
  }
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
