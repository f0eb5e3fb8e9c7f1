// The header of a GGUF file, version 2 or 3 (github.com/ggml-org/ggml, docs/gguf.md), little-endian: magic, version,
// number of tensors, number of metadata; the metadata, each a key, a type and a value; the tensors, each a name, its
// sizes with the fastest first, a type and an offset; then, aligned, their bytes. A file from elsewhere is not trusted:
// whatever does not add up is an ERR_FORMAT that names the fault.
import { HeedError } from "../errors.js";
import { ggmlTypes, type GgmlType } from "./gguf-blocks.js";
import type { WeightEntry } from "./weights.js";

/** Integers of 64 bits that a number cannot hold are bigints. */
export type GgufValue = string | number | bigint | boolean | readonly GgufValue[];

export interface GgufEntry extends WeightEntry {
  readonly type: GgmlType;
  /** From the start of the file. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

export interface GgufHeader {
  readonly version: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** In the order of the header. */
  readonly tensors: ReadonlyMap<string, GgufEntry>;
}

/** The bytes given end before the header does; more of the file may have it. */
export class HeaderCut extends Error {}

const magic = 0x46554747;
const maxDepth = 4;
const maxDimensions = 4;
const defaultAlignment = 32;

/**
 * The checked header of a file of `fileSize` bytes that starts with `bytes`. Throws ERR_FORMAT naming `file` and the
 * fault, or HeaderCut where the header is longer than `bytes`, but not than the file.
 */
export function parseGgufHeader(bytes: Uint8Array, fileSize: number, file = "gguf"): GgufHeader {
  const cursor = new Cursor(bytes, fileSize, file);
  const found = cursor.u32("the magic number");
  if (found !== magic)
    throw cursor.fault(`expected the magic number GGUF, got 0x${found.toString(16)}: not a GGUF file`);
  const version = cursor.u32("the version");
  if (version !== 2 && version !== 3)
    throw cursor.fault(`expected version 2 or 3, got ${version}${version >= 2 ** 24 ? ": a big-endian file" : ""}`);
  // Of every tensor and every value there are at least this many bytes.
  const tensorCount = cursor.count("tensors", 24);
  const metadataCount = cursor.count("metadata", 13);

  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < metadataCount; i++) {
    const key = cursor.string("a key");
    if (metadata.has(key)) throw cursor.fault(`expected unique keys, got ${JSON.stringify(key)} twice`);
    metadata.set(key, cursor.value(cursor.u32("a type"), maxDepth));
  }
  const alignment = metadata.get("general.alignment") ?? defaultAlignment;
  if (typeof alignment !== "number" || !Number.isInteger(alignment) || alignment < 1 || alignment % 8 !== 0)
    throw cursor.fault(`expected general.alignment to be a multiple of 8, got ${String(alignment)}`);

  const specifications: [string, Omit<GgufEntry, "byteOffset"> & { offset: number }][] = [];
  const names = new Set<string>();
  for (let i = 0; i < tensorCount; i++) {
    const [name, entry] = readEntry(cursor);
    if (names.has(name)) throw cursor.fault(`expected unique names, got ${JSON.stringify(name)} twice`);
    names.add(name);
    specifications.push([name, entry]);
  }
  const start = align(cursor.position, alignment);
  const tensors = new Map(
    specifications.map(([name, { offset, ...entry }]) => {
      if (offset % alignment !== 0)
        throw cursor.fault(`expected ${JSON.stringify(name)} at a multiple of ${alignment}, got ${offset}`);
      return [name, { ...entry, byteOffset: start + offset }];
    }),
  );
  checkPlaces(tensors, cursor, fileSize);
  return { version, metadata, tensors };
}

function readEntry(cursor: Cursor): [string, Omit<GgufEntry, "byteOffset"> & { offset: number }] {
  const name = cursor.string("a tensor's name");
  const label = JSON.stringify(name);
  const dimensions = cursor.u32("a tensor's dimensions");
  if (dimensions > maxDimensions)
    throw cursor.fault(`expected ${label} of at most ${maxDimensions} dimensions, got ${dimensions}`);
  const sizes = Array.from({ length: dimensions }, () => cursor.size(`a size of ${label}`));
  const number = cursor.u32(`the type of ${label}`);
  const type = ggmlTypes.get(number);
  if (!type) throw cursor.fault(`expected ${label} of a type of ${typeNames()}, got number ${number}`);
  const row = sizes[0] ?? 1;
  if (row % type.numbers !== 0)
    throw cursor.fault(`expected rows of ${label} in blocks of ${type.numbers} for ${type.name}, got ${row} numbers`);
  const byteLength = (sizes.reduce((product, size) => product * size, 1) / type.numbers) * type.bytes;
  const offset = cursor.size(`the offset of ${label}`);
  return [name, { dtype: type.name, shape: sizes.reverse(), type, byteLength, offset }];
}

/** Tensors must be in the file, each in bytes of its own. */
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
        `expected ${JSON.stringify(name)} behind ${JSON.stringify(before)} at ${end}, got ${byteOffset}: tensors overlap`,
      );
    end = byteOffset + byteLength;
    before = name;
  }
}

function align(position: number, alignment: number): number {
  return Math.ceil(position / alignment) * alignment;
}

function typeNames(): string {
  return [...ggmlTypes.values()].map(({ name }) => name).join(", ");
}

/** Reads a header from front to back. */
class Cursor {
  position = 0;
  readonly #view: DataView;
  readonly #text = new TextDecoder("utf-8", { ignoreBOM: true });

  constructor(
    readonly bytes: Uint8Array,
    readonly fileSize: number,
    readonly file: string,
  ) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  fault(message: string): HeedError {
    return new HeedError("ERR_FORMAT", `${this.file}: ${message}`);
  }

  /** Moves over `length` bytes and gives where they begin. */
  take(length: number, what: string): number {
    const at = this.position;
    if (!(at + length <= this.fileSize))
      throw this.fault(`expected ${length} bytes of ${what} at ${at}, got a file of ${this.fileSize}: truncated`);
    if (at + length > this.bytes.length) throw new HeaderCut();
    this.position += length;
    return at;
  }

  u32(what: string): number {
    return this.#view.getUint32(this.take(4, what), true);
  }

  /** An integer of 64 bits that a number holds exactly. */
  size(what: string): number {
    const value = this.#view.getBigUint64(this.take(8, what), true);
    if (value > Number.MAX_SAFE_INTEGER) throw this.fault(`expected ${what} below 2^53, got ${value}`);
    return Number(value);
  }

  /** How many follow, of at least `least` bytes each. */
  count(what: string, least: number): number {
    const count = this.size(`the number of ${what}`);
    if (count * least > this.fileSize - this.position)
      throw this.fault(
        `expected ${count} ${what} of at least ${least} bytes, got a file of ${this.fileSize}: truncated`,
      );
    return count;
  }

  string(what: string): string {
    const length = this.size(`the length of ${what}`);
    const at = this.take(length, what);
    return this.#text.decode(this.bytes.subarray(at, at + length));
  }

  value(type: number, depth: number): GgufValue {
    const view = this.#view;
    const what = "a value";
    switch (type) {
      case 0:
        return view.getUint8(this.take(1, what));
      case 1:
        return view.getInt8(this.take(1, what));
      case 2:
        return view.getUint16(this.take(2, what), true);
      case 3:
        return view.getInt16(this.take(2, what), true);
      case 4:
        return view.getUint32(this.take(4, what), true);
      case 5:
        return view.getInt32(this.take(4, what), true);
      case 6:
        return view.getFloat32(this.take(4, what), true);
      case 7: {
        const value = view.getUint8(this.take(1, what));
        if (value > 1) throw this.fault(`expected a boolean of 0 or 1, got ${value}`);
        return value === 1;
      }
      case 8:
        return this.string(what);
      case 9:
        return this.#array(depth);
      case 10:
        return narrow(view.getBigUint64(this.take(8, what), true));
      case 11:
        return narrow(view.getBigInt64(this.take(8, what), true));
      case 12:
        return view.getFloat64(this.take(8, what), true);
      default:
        throw this.fault(`expected a metadata type from 0 to 12, got ${type}`);
    }
  }

  #array(depth: number): GgufValue[] {
    if (depth === 0) throw this.fault(`expected arrays at most ${maxDepth} deep, got a deeper one`);
    const type = this.u32("the type of an array");
    const count = this.count("values of an array", 1);
    const values: GgufValue[] = [];
    for (let i = 0; i < count; i++) values.push(this.value(type, depth - 1));
    return values;
  }
}

function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
