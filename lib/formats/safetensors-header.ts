// Reads and writes the header of safetensors files (github.com/huggingface/safetensors): the header's length in eight
// bytes, little-endian, then JSON of that length, padded with spaces:
//
//   {"name": {"dtype": …, "shape": …, "data_offsets": [begin, end]}, "__metadata__": {key: text}}
//
// The tensors' bytes follow, row-major and little-endian, without gaps. A file from elsewhere is not trusted: names are
// kept in Maps, never in objects, and every inconsistency is an ERR_FORMAT that names the fault.
import { HeedError, oneOf } from "../util/errors.js";
import { parseStrictJson } from "./strict-json.js";

/** Number of bytes of an element, for each dtype of the format. */
export const safetensorsDTypes = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
} as const;

/** Dtype of a tensor in a safetensors file. */
export type SafetensorsDType = keyof typeof safetensorsDTypes;

/** Dtype, shape and position of a tensor in a safetensors file. */
export interface SafetensorsEntry {
  /** Dtype of the elements. */
  readonly dtype: SafetensorsDType;
  /** Sizes of the dimensions. */
  readonly shape: readonly number[];
  /** Offset of the first byte from the start of the file. */
  readonly byteOffset: number;
  /** Number of bytes of the tensor. */
  readonly byteLength: number;
}

/** The header of a safetensors file. */
export interface SafetensorsHeader {
  /** Tensors by name, in the order of their bytes in the file. */
  readonly tensors: ReadonlyMap<string, SafetensorsEntry>;
  /** Texts of the entry "__metadata__", by key. */
  readonly metadata: ReadonlyMap<string, string>;
}

/** Largest header that the format allows, in bytes. */
export const maxHeaderLength = 100_000_000;
/** Deepest nesting of the JSON: the object of tensors, the object of one tensor, the list of its sizes. */
const maxDepth = 3;

/**
 * Returns the length of the JSON, given the first eight bytes of a file of `fileSize` bytes.
 *
 * @throws ERR_FORMAT if the length is impossible; the message begins with `file`.
 */
export function safetensorsHeaderLength(bytes: Uint8Array, fileSize: number, file = "safetensors"): number {
  if (bytes.length < 8 || fileSize < 8) throw fault(file, `expected at least 8 bytes, got ${fileSize}: truncated`);
  const length = new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true);
  if (length > maxHeaderLength)
    throw fault(file, `expected a header of at most ${maxHeaderLength} bytes, got ${length}: not a safetensors file`);
  if (8 + Number(length) > fileSize)
    throw fault(file, `expected a header of ${length} bytes, got a file of ${fileSize} bytes: truncated`);
  return Number(length);
}

/**
 * Returns the checked header of a file of `fileSize` bytes that starts with `bytes`, which must contain the whole
 * header.
 *
 * @throws ERR_FORMAT if the header is malformed or does not match the file's length; the message names `file` and the
 * fault.
 */
export function parseSafetensorsHeader(bytes: Uint8Array, fileSize: number, file = "safetensors"): SafetensorsHeader {
  const length = safetensorsHeaderLength(bytes, fileSize, file);
  if (bytes.length < 8 + length)
    throw fault(file, `expected a header of ${length} bytes, got ${bytes.length - 8}: truncated`);
  const header = parseJson(bytes.subarray(8, 8 + length), file);
  if (!isObject(header)) throw fault(file, "expected the header to be an object");

  const metadata = new Map<string, string>();
  const entries: [string, SafetensorsEntry][] = [];
  for (const [name, value] of Object.entries(header)) {
    if (hasLoneSurrogate(name)) throw fault(file, `expected names of valid Unicode, got ${JSON.stringify(name)}`);
    if (name !== "__metadata__") {
      entries.push([name, parseEntry(name, value, 8 + length, file)]);
      continue;
    }
    if (!isObject(value)) throw fault(file, "expected __metadata__ to be an object of strings");
    for (const [key, text] of Object.entries(value)) {
      if (typeof text !== "string")
        throw fault(file, `expected metadata ${JSON.stringify(key)} to be a string, got ${typeof text}`);
      metadata.set(key, text);
    }
  }

  entries.sort(([, a], [, b]) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  let end = 8 + length;
  for (const [name, { byteOffset, byteLength }] of entries) {
    if (byteOffset !== end)
      throw fault(
        file,
        `expected the bytes of tensor ${JSON.stringify(name)} to start at ${end}, got ${byteOffset}: ` +
          (byteOffset < end ? "tensors overlap" : "a hole in the data"),
      );
    end += byteLength;
  }
  if (end !== fileSize)
    throw fault(
      file,
      `expected ${end} bytes for the tensors of the header, got a file of ${fileSize}: ` +
        (end > fileSize ? "truncated" : "bytes that belong to no tensor"),
    );
  return { tensors: new Map(entries), metadata };
}

/** Name, dtype and shape of a tensor to write. */
export interface SafetensorsSpecification {
  /** Name of the tensor, unique in the file. */
  readonly name: string;
  /** Dtype of the elements. */
  readonly dtype: SafetensorsDType;
  /** Sizes of the dimensions. */
  readonly shape: readonly number[];
}

/**
 * Returns the bytes of the header, and the tensors in the order in which their bytes must follow. Dtypes with the
 * largest elements come first, so that every tensor is aligned to its elements; tensors of the same element size are
 * sorted by name.
 *
 * @throws ERR_ARGUMENT if the format cannot store a name, shape, dtype or metadata.
 */
export function serializeSafetensorsHeader<T extends SafetensorsSpecification>(
  tensors: Iterable<T>,
  metadata: ReadonlyMap<string, string>,
): { bytes: Uint8Array; ordered: T[] } {
  const ordered = [...tensors].sort(
    (a, b) => safetensorsDTypes[b.dtype] - safetensorsDTypes[a.dtype] || (a.name < b.name ? -1 : 1),
  );
  const members: string[] = [];
  for (const [key, text] of metadata)
    if (typeof text !== "string" || hasLoneSurrogate(key + text))
      throw new HeedError(
        "ERR_ARGUMENT",
        `safetensors: expected metadata to be strings, got ${show(text)} for ${show(key)}`,
      );
  if (metadata.size > 0) {
    const texts = [...metadata].map(([key, text]) => `${JSON.stringify(key)}:${JSON.stringify(text)}`);
    members.push(`"__metadata__":{${texts.join(",")}}`);
  }
  const names = new Set(["__metadata__"]);
  let offset = 0;
  for (const { name, dtype, shape } of ordered) {
    const length = tensorBytes(dtype, shape);
    if (typeof name !== "string" || hasLoneSurrogate(name) || names.has(name))
      throw new HeedError("ERR_ARGUMENT", `safetensors: expected unique names of valid Unicode, got ${show(name)}`);
    if (!shape.every(isCount) || !Number.isSafeInteger(offset + length))
      throw new HeedError(
        "ERR_ARGUMENT",
        `safetensors: expected a known dtype and a shape that fits a file for ${show(name)}, got ${dtype} ${show(shape)}`,
      );
    names.add(name);
    const entry = { dtype, shape, data_offsets: [offset, offset + length] };
    members.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`);
    offset += length;
  }
  const json = new TextEncoder().encode(`{${members.join(",")}}`);
  const length = Math.ceil(json.length / 8) * 8;
  if (length > maxHeaderLength)
    throw new HeedError(
      "ERR_ARGUMENT",
      `safetensors: expected a header of at most ${maxHeaderLength} bytes, got ${length}`,
    );
  const bytes = new Uint8Array(8 + length).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(json, 8);
  return { bytes, ordered };
}

/** Returns the number of bytes of a tensor. The result is not a safe integer if the product overflows. */
export function tensorBytes(dtype: SafetensorsDType, shape: readonly number[]): number {
  return shape.reduce((bytes, size) => bytes * size, safetensorsDTypes[dtype]);
}

function parseEntry(name: string, value: unknown, dataOffset: number, file: string): SafetensorsEntry {
  const label = `tensor ${JSON.stringify(name)}`;
  if (!isObject(value)) throw fault(file, `${label}: expected an object with dtype, shape and data_offsets`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== "string" || !Object.hasOwn(safetensorsDTypes, dtype))
    throw fault(file, `${label}: expected dtype to be ${oneOf(Object.keys(safetensorsDTypes))}, got ${show(dtype)}`);
  if (!Array.isArray(shape) || !shape.every(isCount))
    throw fault(file, `${label}: expected a shape of integers of at least 0, got ${show(shape)}`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount) || offsets[0]! > offsets[1]!)
    throw fault(file, `${label}: expected data_offsets [begin, end] of integers of at least 0, got ${show(offsets)}`);
  const byteLength = offsets[1]! - offsets[0]!;
  const expected = tensorBytes(dtype as SafetensorsDType, shape);
  if (byteLength !== expected)
    throw fault(file, `${label}: expected ${expected} bytes for ${dtype} ${show(shape)}, got ${byteLength}`);
  return { dtype: dtype as SafetensorsDType, shape, byteOffset: dataOffset + offsets[0]!, byteLength };
}

function parseJson(bytes: Uint8Array, file: string): unknown {
  if (bytes[0] !== 0x7b) throw fault(file, "expected the header to start with {");
  try {
    return parseStrictJson(bytes, maxDepth);
  } catch (cause) {
    throw fault(file, `header: ${(cause as Error).message}`, cause);
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function hasLoneSurrogate(text: string): boolean {
  return /\p{Surrogate}/u.test(text);
}

/** Formats a value from a file for an error message, in at most about 100 characters. */
function show(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}

function fault(file: string, message: string, cause?: unknown): HeedError {
  return new HeedError("ERR_FORMAT", `${file}: ${message}`, cause === undefined ? undefined : { cause });
}
