// Models of CTranslate2 (github.com/OpenNMT/CTranslate2), binary version 2, little-endian: u32 version, the name of the
// architecture, u32 its revision, u32 number of variables; each variable has its name, u8 rank, u32 sizes, u8 bytes of an
// item, u32 number of items, and the items. A string is its u16 length, a final zero byte counted in, and its bytes. Then
// there may be aliases: u32 their number, and for each its own name and that of its variable.
import type { FileHandle } from "node:fs/promises";
import { HeedError } from "../errors.js";
import { formatShape, maxRank, numel } from "../shape.js";
import { F32File, type Place } from "./f32-file.js";
import { opening, readFully } from "./whole-io.js";

/** What an architecture is called, and which version of it this is. */
export interface CTranslate2Spec {
  name: string;
  revision: number;
}

/** An open model. Close it, or declare it with `await using`. */
export class CTranslate2File extends F32File {
  /** @internal */
  constructor(
    path: string,
    readonly spec: CTranslate2Spec,
    tensors: ReadonlyMap<string, Place>,
    handle: FileHandle,
  ) {
    super(path, tensors, handle);
  }
}

/** What an item of so many bytes is. */
const dtypes: Record<number, string> = { 1: "I8", 2: "I16", 4: "F32" };

/** Of a variable: an empty name, no sizes, and the counts. */
const leastBytes = 2 + 1 + 1 + 1 + 4;

/** Opens a model and reads what its variables are called and where they are. Throws ERR_IO or ERR_FORMAT, naming it. */
export async function readCTranslate2(path: string): Promise<CTranslate2File> {
  return opening(path, async (handle, size) => {
    const reader = new Reader(handle, path, size);
    const version = await reader.u32("a version");
    if (version !== 2)
      throw new HeedError("ERR_FORMAT", `${path}: expected binary version 2 of CTranslate2, got ${version}`);
    const spec = { name: await reader.string("the architecture"), revision: await reader.u32("a revision") };
    const tensors = await readVariables(reader);
    if (reader.left > 0) await readAliases(reader, tensors);
    if (reader.left > 0) throw reader.fault(`the end of the file, got ${reader.left} bytes more`);
    return new CTranslate2File(path, spec, tensors, handle);
  });
}

async function readVariables(reader: Reader): Promise<Map<string, Place>> {
  const count = await reader.u32("the number of variables");
  if (count * leastBytes > reader.left)
    throw reader.fault(`${count} variables, got ${reader.left} bytes for them: truncated`);
  const tensors = new Map<string, Place>();
  for (let i = 0; i < count; i++) {
    const name = await reader.string(`the name of variable ${i}`);
    if (tensors.has(name)) throw reader.fault(`variables of different names, got two of ${name}`);
    const rank = await reader.u8(`the rank of ${name}`);
    if (rank > maxRank) throw reader.fault(`${name} of at most ${maxRank} dimensions, got ${rank}`);
    const shape: number[] = [];
    for (let axis = 0; axis < rank; axis++) shape.push(await reader.u32(`the shape of ${name}`));
    const itemBytes = await reader.u8(`the size of an item of ${name}`);
    const dtype = dtypes[itemBytes];
    if (dtype === undefined) throw reader.fault(`items of 1, 2 or 4 bytes in ${name}, got ${itemBytes}`);
    const items = await reader.u32(`the number of items of ${name}`);
    if (items !== numel(shape))
      throw reader.fault(`as many items in ${name} as ${formatShape(shape)} has, got ${items}`);
    tensors.set(name, { dtype, shape, byteOffset: reader.position });
    reader.skip(items * itemBytes, name);
  }
  return tensors;
}

/** The most bytes that aliases may add up to, in multiples of the file's size. Real files alias embeddings up to three times. */
const mostAliased = 4;

async function readAliases(reader: Reader, tensors: Map<string, Place>): Promise<void> {
  const count = await reader.u32("the number of aliases");
  let aliased = 0;
  for (let i = 0; i < count; i++) {
    const alias = await reader.string(`alias ${i}`);
    const name = await reader.string(`what ${alias} stands for`);
    const place = tensors.get(name);
    if (!place) throw reader.fault(`${alias} to stand for a variable, got ${name}`);
    if (tensors.has(alias)) throw reader.fault(`an alias of a name of its own, got ${alias}`);
    aliased += 4 * numel(place.shape);
    if (aliased > mostAliased * reader.size)
      throw reader.fault(`aliases of at most ${mostAliased} times the file, got more with ${alias}`);
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

  /** Passes over the items of a variable. */
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
