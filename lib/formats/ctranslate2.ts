// Reads models of CTranslate2 (github.com/OpenNMT/CTranslate2), binary versions 2 to 6, little-endian:
//
//   u32 version, string name of the architecture, u32 its revision, u32 number of variables
//   for each variable: string name, u8 rank, u32 sizes, a type, the items
//     up to version 3 the type is: u8 bytes of an item, u32 number of items
//     from version 4 on it is:     u8 number of the dtype, u32 number of bytes
//   u32 number of aliases (optional); for each alias: string its name, string the name of its variable
//
// A string is its length in bytes (u16), which includes a final zero byte, and its bytes. Weights in I8 and I16 are the
// numbers times a scale for each row or for the whole weight. The scale is the variable "<name>_scale".
import type { FileHandle } from "node:fs/promises";
import { HeedError, oneOf } from "../util/errors.js";
import { formatShape, maxRank, numel } from "../core/shape.js";
import { F32File, type Place } from "./f32-file.js";
import { opening, readFully } from "./whole-io.js";
import { asFloats, type Encoding, entryOf, type PieceMemory, readBlocks, type StoredPiece } from "./weights.js";

/** Architecture of a CTranslate2 model. */
export interface CTranslate2Spec {
  /** Name of the architecture, such as "TransformerBase". */
  name: string;
  /** Version of the architecture's definition. */
  revision: number;
}

interface Variable extends Place {
  /** Position of the scales by which quantised items are divided, or null if the file has none. */
  readonly scale: Place | null;
}

/**
 * An open model of CTranslate2. Close it, or declare it with `await using`. The scales of quantised weights are not
 * listed as tensors; `readFloats` applies them.
 *
 * @example
 * // This downloads a model.
 * const folder = await pretrainedFolder("owner/name", { files: (name) => name === "model.bin" });
 * await using file = await readCTranslate2(`${folder}/model.bin`);
 * const embedding = await file.readFloats("encoder/embeddings/weight");
 */
export class CTranslate2File extends F32File {
  readonly #variables: ReadonlyMap<string, Variable>;

  /** @internal */
  constructor(
    path: string,
    /** Architecture of the model. */
    readonly spec: CTranslate2Spec,
    tensors: ReadonlyMap<string, Variable>,
    handle: FileHandle,
  ) {
    super(path, tensors, handle);
    this.#variables = tensors;
  }

  /** @internal */
  override async *readStored(name: string, memory?: PieceMemory): AsyncGenerator<StoredPiece> {
    const variable = entryOf(this.path, this.#variables, name);
    const encoding = encodings[variable.dtype];
    if (!encoding)
      throw new HeedError(
        "ERR_FORMAT",
        `${this.path}: expected ${name} of type ${oneOf(Object.keys(encodings))}, got ${variable.dtype}`,
      );
    const pieces = readBlocks(this, variable, encoding, memory);
    if (!quantized.has(variable.dtype)) {
      yield* pieces;
      return;
    }
    const scales = await this.#scalesOf(name, variable);
    const width = numel(variable.shape) / scales.length;
    let done = 0;
    for await (const piece of asFloats(pieces)) {
      for (let i = 0; i < piece.length; i++) piece[i]! /= scales[Math.floor((done + i) / width)]!;
      done += piece.length;
      yield piece;
    }
  }

  /** Returns the scales of a quantised variable: one scale, or one for each row. */
  async #scalesOf(name: string, { dtype, shape, scale }: Variable): Promise<Float32Array> {
    // Old files in I16 store no scale.
    if (!scale && dtype === "I16") return Float32Array.of(usualScale);
    const fault = (got: string): HeedError =>
      new HeedError(
        "ERR_FORMAT",
        `${this.path}: expected ${name} to have one positive scale, or one for each row, got ${got}`,
      );
    if (!scale) throw fault("none");
    const count = numel(scale.shape);
    if (scale.dtype !== "F32" || (count !== 1 && count !== shape[0]))
      throw fault(`${scale.dtype} of shape ${formatShape(scale.shape)}`);
    const scales = new Float32Array(count);
    let done = 0;
    for await (const piece of asFloats(readBlocks(this, scale, encodings.F32!))) {
      scales.set(piece, done);
      done += piece.length;
    }
    const bad = scales.find((value) => !(value > 0 && value < Infinity));
    if (bad !== undefined) throw fault(String(bad));
    return scales;
  }
}

/** Scale of I16 variables that have none in the file. */
const usualScale = 1000;

/** Dtypes whose items are numbers times a scale. */
const quantized = new Set(["I8", "I16"]);

/** Encoding of each dtype that weights may have. */
const encodings: Record<string, Encoding> = {
  F32: { numbers: 1, bytes: 4, read: "f32" },
  I8: {
    ...{ numbers: 1, bytes: 1 },
    read: (bytes, out) => out.set(new Int8Array(bytes.buffer, bytes.byteOffset, out.length)),
  },
  I16: {
    ...{ numbers: 1, bytes: 2 },
    read: (bytes, out) => out.set(new Int16Array(bytes.buffer, bytes.byteOffset, out.length)),
  },
  F16: { numbers: 1, bytes: 2, read: "f16" },
  BF16: { numbers: 1, bytes: 2, read: "bf16" },
};

/** Dtype of an item with this many bytes, for versions up to 3. */
const dtypesBySize: Record<number, string> = { 1: "I8", 2: "I16", 4: "F32" };
/** Dtypes in the order of their numbers, for versions from 4 on. */
const dtypes = ["F32", "I8", "I16", "I32", "F16", "BF16"];
const bytesOf: Record<string, number> = { F32: 4, I8: 1, I16: 2, I32: 4, F16: 2, BF16: 2 };

/** Least number of bytes of a variable: an empty name, no sizes, and the counts. */
const leastBytes = 2 + 1 + 1 + 1 + 4;

/**
 * Opens a model of CTranslate2 (its model.bin) and reads the names and positions of its variables.
 *
 * @example
 * // This downloads a model.
 * const folder = await pretrainedFolder("owner/name", { files: (name) => name === "model.bin" });
 * await using file = await readCTranslate2(`${folder}/model.bin`);
 * const architecture = file.spec.name; // such as "TransformerBase"
 *
 * @throws ERR_IO if the file cannot be read; the message names it.
 * @throws ERR_FORMAT if the file is not of binary version 2 to 6 or is malformed; the message names it.
 * @see https://github.com/OpenNMT/CTranslate2
 */
export async function readCTranslate2(path: string): Promise<CTranslate2File> {
  return opening(path, async (handle, size) => {
    const reader = new Reader(handle, path, size);
    const version = await reader.u32("a version");
    if (version < 2 || version > 6)
      throw new HeedError("ERR_FORMAT", `${path}: expected binary version 2 to 6 of CTranslate2, got ${version}`);
    const spec = { name: await reader.string("the architecture"), revision: await reader.u32("a revision") };
    const tensors = withScales(await readVariables(reader, version >= 4));
    if (reader.left > 0) await readAliases(reader, tensors);
    if (reader.left > 0) throw reader.fault(`the end of the file, got ${reader.left} bytes more`);
    return new CTranslate2File(path, spec, tensors, handle);
  });
}

async function readVariables(reader: Reader, typed: boolean): Promise<Map<string, Place>> {
  const count = await reader.u32("the number of variables");
  if (count * leastBytes > reader.left)
    throw reader.fault(`${count} variables, got ${reader.left} bytes for them: truncated`);
  const tensors = new Map<string, Place>();
  for (let i = 0; i < count; i++) {
    const name = await reader.string(`the name of variable ${i}`);
    if (tensors.has(name)) throw reader.fault(`unique names of variables, got ${name} twice`);
    const rank = await reader.u8(`the rank of ${name}`);
    if (rank > maxRank) throw reader.fault(`${name} of at most ${maxRank} dimensions, got ${rank}`);
    const shape: number[] = [];
    for (let axis = 0; axis < rank; axis++) shape.push(await reader.u32(`the shape of ${name}`));
    const type = await reader.u8(`the type of ${name}`);
    const dtype = typed ? dtypes[type] : dtypesBySize[type];
    if (dtype === undefined)
      throw reader.fault(
        typed
          ? `the type of ${name} to be 0 to 5, got ${type}`
          : `items of ${name} to have 1, 2 or 4 bytes, got ${type}`,
      );
    const count = await reader.u32(`the number of items of ${name}`);
    const items = typed ? count / bytesOf[dtype]! : count;
    if (items !== numel(shape))
      throw reader.fault(`${numel(shape)} items of ${name} for shape ${formatShape(shape)}, got ${items}`);
    tensors.set(name, { dtype, shape, byteOffset: reader.position });
    reader.skip(items * bytesOf[dtype]!, name);
  }
  return tensors;
}

/** Returns the variables together with their scales, which are then no longer variables themselves. */
function withScales(places: ReadonlyMap<string, Place>): Map<string, Variable> {
  const variables = new Map<string, Variable>();
  const scaled = (name: string): boolean => quantized.has(places.get(name)?.dtype ?? "");
  for (const [name, place] of places) {
    if (name.endsWith("_scale") && scaled(name.slice(0, -"_scale".length))) continue;
    const scale = scaled(name) ? places.get(`${name}_scale`) : undefined;
    variables.set(name, { ...place, scale: scale ?? null });
  }
  return variables;
}

/**
 * Largest total size of the aliased variables, as f32, in multiples of the file's size. Real files alias an embedding
 * up to three times.
 */
export const mostAliased = 4;

async function readAliases(reader: Reader, tensors: Map<string, Variable>): Promise<void> {
  const count = await reader.u32("the number of aliases");
  let aliased = 0;
  for (let i = 0; i < count; i++) {
    const alias = await reader.string(`alias ${i}`);
    const name = await reader.string(`the name that alias ${alias} stands for`);
    const place = tensors.get(name);
    // An alias of a weight's scale is not needed: an alias of the weight has the same scale.
    if (!place && tensors.get(name.replace(/_scale$/, ""))?.scale) continue;
    if (!place) throw reader.fault(`alias ${alias} to stand for a variable, got ${name}`);
    if (tensors.has(alias)) throw reader.fault(`an alias with a name that nothing else has, got ${alias}`);
    aliased += 4 * numel(place.shape);
    if (aliased > mostAliased * reader.size)
      throw reader.fault(
        `aliased variables of at most ${mostAliased} times the size of the file, got more with ${alias}`,
      );
    tensors.set(alias, place);
  }
}

/** Reads a file from its beginning, in pieces large enough for several numbers. */
class Reader {
  position = 0;
  #piece = Buffer.alloc(0);
  #start = 0;

  constructor(
    private readonly handle: FileHandle,
    private readonly path: string,
    readonly size: number,
  ) {}

  get left(): number {
    return this.size - this.position;
  }

  fault(expected: string): HeedError {
    return new HeedError("ERR_FORMAT", `${this.path}: expected ${expected}`);
  }

  async u8(what: string): Promise<number> {
    return (await this.#take(1, what)).readUInt8();
  }

  async u32(what: string): Promise<number> {
    return (await this.#take(4, what)).readUInt32LE();
  }

  async string(what: string): Promise<string> {
    const length = (await this.#take(2, what)).readUInt16LE();
    const bytes = await this.#take(length, what);
    if (length === 0 || bytes.at(-1) !== 0) throw this.fault(`${what} to end with a zero byte, got none`);
    return bytes.toString("utf8", 0, length - 1);
  }

  /** Advances past the items of a variable. */
  skip(length: number, what: string): void {
    this.#check(length, what);
    this.position += length;
  }

  async #take(length: number, what: string): Promise<Buffer> {
    this.#check(length, what);
    const from = this.position - this.#start;
    if (from < 0 || from + length > this.#piece.length) {
      this.#piece = Buffer.alloc(Math.min(Math.max(length, 512), this.left));
      this.#start = this.position;
      await readFully(this.handle, this.#piece, this.position, this.path);
    }
    const start = this.position - this.#start;
    this.position += length;
    return this.#piece.subarray(start, start + length);
  }

  #check(length: number, what: string): void {
    if (length > this.left)
      throw this.fault(`${length} bytes of ${what} at ${this.position}, got ${this.left}: truncated`);
  }
}
