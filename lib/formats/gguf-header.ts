// Reads the header of a GGUF file, version 2 or 3 (github.com/ggml-org/ggml, docs/gguf.md), little-endian:
//
//   magic number, version, number of tensors, number of metadata entries
//   metadata entries: key, type and value of each
//   tensors: name, sizes (the fastest-varying first), type and offset of each
//
// The bytes of the tensors follow, aligned. A file from elsewhere is not trusted: every inconsistency is an ERR_FORMAT
// that names the fault.
import { describe, oneOf } from "../util/errors.js";
import { ggmlTypes, type GgmlType } from "./gguf-blocks.js";
import { Cursor, type GgufValue } from "./gguf-values.js";
import type { WeightEntry } from "./weights.js";

/** Type, shape and position of a tensor in a GGUF file. */
export interface GgufEntry extends WeightEntry {
  /** Number type of the tensor. */
  readonly type: GgmlType;
  /** Offset of the first byte from the start of the file. */
  readonly byteOffset: number;
  /** Number of bytes of the tensor. */
  readonly byteLength: number;
}

/** The header of a GGUF file. */
export interface GgufHeader {
  readonly version: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** Tensors by name, in the order of the header. */
  readonly tensors: ReadonlyMap<string, GgufEntry>;
}

const magic = 0x46554747;
const maxDimensions = 4;
const defaultAlignment = 32;
/** Most tensors and most metadata entries. Real models have far fewer; heed keeps an object for each. */
export const mostTensors = 2 ** 20;
const mostMetadata = 2 ** 16;

/** Parses a header that is complete in `bytes`. Errors are those of `GgufHeaderReader.read`. */
export function parseGgufHeader(bytes: Uint8Array, fileSize: number, file = "gguf"): GgufHeader {
  return new GgufHeaderReader(fileSize, file).read(bytes);
}

type Unplaced = Omit<GgufEntry, "byteOffset"> & { offset: number };

/**
 * Reads the header of a file of `fileSize` bytes whose beginning arrives step by step. A new call does not parse again
 * what an earlier call has parsed.
 */
export class GgufHeaderReader {
  readonly #metadata = new Map<string, GgufValue>();
  readonly #entries = new Map<string, Unplaced>();
  #counts: { version: number; tensors: number; metadata: number } | null = null;
  /** Offset of the first byte that has not been parsed yet. */
  #position = 0;

  constructor(
    readonly fileSize: number,
    readonly file: string,
  ) {}

  /**
   * Returns the checked header of the file that starts with `bytes`.
   *
   * @throws ERR_FORMAT if the header is malformed; the message names the file and the fault.
   * @throws HeaderCut if the header is longer than `bytes`, but not longer than the file. Call again with more bytes;
   * reading continues where it stopped.
   */
  read(bytes: Uint8Array): GgufHeader {
    const { fileSize, file } = this;
    const cursor = new Cursor(bytes, fileSize, file, this.#position);
    this.#counts ??= readCounts(cursor);
    this.#position = cursor.position;
    const counts = this.#counts;
    this.#readEach(this.#metadata, counts.metadata, cursor, readMetadata, "keys");
    this.#readEach(this.#entries, counts.tensors, cursor, readEntry, "names");
    const tensors = placed(this.#entries, this.#metadata.get("general.alignment") ?? defaultAlignment, cursor);
    checkPlaces(tensors, cursor, fileSize);
    return { version: counts.version, metadata: this.#metadata, tensors };
  }

  #readEach<T>(
    entries: Map<string, T>,
    count: number,
    cursor: Cursor,
    read: (cursor: Cursor) => [string, T],
    what: string,
  ): void {
    while (entries.size < count) {
      const [name, entry] = read(cursor);
      if (entries.has(name)) throw cursor.fault(`expected unique ${what}, got ${JSON.stringify(name)} twice`);
      entries.set(name, entry);
      this.#position = cursor.position;
    }
  }
}

function readCounts(cursor: Cursor): { version: number; tensors: number; metadata: number } {
  const found = cursor.u32("the magic number");
  if (found !== magic)
    throw cursor.fault(`expected the magic number GGUF, got 0x${found.toString(16)}: not a GGUF file`);
  const version = cursor.u32("the version");
  if (version !== 2 && version !== 3)
    throw cursor.fault(`expected version 2 or 3, got ${version}${version >= 2 ** 24 ? ": a big-endian file" : ""}`);
  // Every tensor and every metadata entry takes at least this many bytes.
  return {
    version,
    tensors: cursor.count("tensors", 24, mostTensors),
    metadata: cursor.count("metadata", 13, mostMetadata),
  };
}

function readMetadata(cursor: Cursor): [string, GgufValue] {
  return [cursor.string("a key"), cursor.value(cursor.u32("a type"))];
}

/** Returns the tensors with their positions in the file. Their bytes start after the header, aligned. */
function placed(entries: ReadonlyMap<string, Unplaced>, alignment: GgufValue, cursor: Cursor): Map<string, GgufEntry> {
  if (typeof alignment !== "number" || !Number.isInteger(alignment) || alignment < 1 || alignment % 8 !== 0)
    throw cursor.fault(`expected general.alignment to be a multiple of 8, got ${describe(alignment)}`);
  const start = align(cursor.position, alignment);
  const tensors = new Map<string, GgufEntry>();
  for (const [name, { offset, ...entry }] of entries) {
    if (offset % alignment !== 0)
      throw cursor.fault(
        `expected ${JSON.stringify(name)} at an offset that is a multiple of ${alignment}, got ${offset}`,
      );
    tensors.set(name, { ...entry, byteOffset: start + offset });
  }
  return tensors;
}

function readEntry(cursor: Cursor): [string, Unplaced] {
  const name = cursor.string("a tensor's name");
  const label = JSON.stringify(name);
  const dimensions = cursor.u32("a tensor's dimensions");
  if (dimensions > maxDimensions)
    throw cursor.fault(`expected ${label} of at most ${maxDimensions} dimensions, got ${dimensions}`);
  const sizes = Array.from({ length: dimensions }, () => cursor.size(`a size of ${label}`));
  const number = cursor.u32(`the type of ${label}`);
  const type = ggmlTypes.get(number);
  if (!type) throw cursor.fault(`expected ${label} of type ${typeNames()}, got type number ${number}`);
  const row = sizes[0] ?? 1;
  if (row % type.numbers !== 0)
    throw cursor.fault(
      `expected rows of ${label} in ${type.name} to be a multiple of ${type.numbers} numbers, got ${row}`,
    );
  const byteLength = (sizes.reduce((product, size) => product * size, 1) / type.numbers) * type.bytes;
  const offset = cursor.size(`the offset of ${label}`);
  return [name, { dtype: type.name, shape: sizes.reverse(), type, byteLength, offset }];
}

/**
 * Checks that all tensors are inside the file and do not overlap.
 *
 * @throws ERR_FORMAT if a tensor is outside the file or overlaps another.
 */
function checkPlaces(tensors: ReadonlyMap<string, GgufEntry>, cursor: Cursor, fileSize: number): void {
  let end = 0;
  let before = "";
  for (const [name, { byteOffset, byteLength }] of [...tensors].sort(([, a], [, b]) => a.byteOffset - b.byteOffset)) {
    if (!(byteOffset + byteLength <= fileSize))
      throw cursor.fault(
        `expected ${byteLength} bytes of ${JSON.stringify(name)} at ${byteOffset}, got a file of ${fileSize}: truncated`,
      );
    if (byteOffset < end)
      throw cursor.fault(
        `expected ${JSON.stringify(name)} at ${end} or later, after ${JSON.stringify(before)}, got ${byteOffset}: tensors overlap`,
      );
    end = byteOffset + byteLength;
    before = name;
  }
}

function align(position: number, alignment: number): number {
  return Math.ceil(position / alignment) * alignment;
}

function typeNames(): string {
  return oneOf([...ggmlTypes.values()].map(({ name }) => name));
}
