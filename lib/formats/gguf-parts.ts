// Reads a GGUF model from several files, the form in which llama.cpp's gguf-split writes large models:
// name-00001-of-00003.gguf and so on. The first file has the metadata of the whole model. Each file has its number
// ("split.no", from 0), the number of files ("split.count"), and some of the tensors.
import { describe, HeedError } from "../util/errors.js";
import { type GgufFile, readGguf } from "./gguf.js";
import type { GgufEntry } from "./gguf-header.js";
import type { GgufValue } from "./gguf-values.js";
import { entryOf, type PieceMemory, type StoredPiece, type WeightFile } from "./weights.js";

/** An open GGUF model, in one or several files. */
export interface GgufWeights extends WeightFile {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufEntry>;
}

/** Most parts of a model; real models have far fewer. */
const mostParts = 1000;

/** Returns the names of all parts of a model, given the name of any part. Returns null if the name has another form. */
export function partsOfGguf(file: string): string[] | null {
  const [, start, number, count] = /^(.*-)(\d{5})-of-(\d{5})\.gguf$/s.exec(file) ?? [];
  const all = Number(count);
  if (start === undefined || Number(number) < 1 || Number(number) > all || all > mostParts) return null;
  return Array.from({ length: all }, (_, i) => `${start}${String(i + 1).padStart(5, "0")}-of-${count}.gguf`);
}

/** The open files of one GGUF model. Close them, or declare them with `await using`. */
export class GgufParts implements GgufWeights {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufEntry>;
  readonly #files: readonly GgufFile[];
  readonly #places: ReadonlyMap<string, GgufFile>;

  /** @internal `files` are in order, and `places` maps the name of each tensor to its file. */
  constructor(
    readonly path: string,
    files: readonly GgufFile[],
    places: ReadonlyMap<string, GgufFile>,
  ) {
    this.metadata = files[0]!.metadata;
    this.tensors = new Map([...places].map(([name, file]) => [name, file.tensors.get(name)!]));
    this.#files = files;
    this.#places = places;
  }

  async readFloats(name: string): Promise<Float32Array> {
    return entryOf(this.path, this.#places, name).readFloats(name);
  }

  async *readPieces(name: string): AsyncGenerator<Float32Array> {
    yield* entryOf(this.path, this.#places, name).readPieces(name);
  }

  /** @internal */
  async *readStored(name: string, memory?: PieceMemory): AsyncGenerator<StoredPiece> {
    yield* entryOf(this.path, this.#places, name).readStored(name, memory);
  }

  /** @internal */
  async *readBytes(name: string, memory?: PieceMemory): AsyncGenerator<Uint8Array> {
    yield* entryOf(this.path, this.#places, name).readBytes(name, memory);
  }

  async close(): Promise<void> {
    await closeAll(this.#files);
  }

  /** Does the same as `close()`, at the end of the block that declares it with `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * Opens a GGUF model, given its file or any of its parts. All parts must be in the same folder and have the names that
 * gguf-split gives them.
 *
 * @throws ERR_IO if a file cannot be read; the message names it.
 * @throws ERR_FORMAT if a file is malformed, or the files are not the parts of one model; the message names the file.
 */
export async function openGguf(path: string): Promise<GgufWeights> {
  const names = partsOfGguf(path);
  if (!names || names.length === 1) {
    const file = await readGguf(path);
    const count = file.metadata.get("split.count") ?? 1;
    if (count === 1) return file;
    await file.close();
    throw new HeedError(
      "ERR_FORMAT",
      `${path}: expected a whole model, got one of ${describe(count)} parts; parts need names like name-00001-of-0000N.gguf`,
    );
  }
  const files: GgufFile[] = [];
  try {
    for (const name of names) files.push(await readGguf(name));
    return new GgufParts(names[0]!, files, placesOf(files));
  } catch (error) {
    await closeAll(files);
    throw error;
  }
}

/**
 * Returns the file of each tensor.
 *
 * @throws ERR_FORMAT if the files are not the parts of one model, in order.
 */
function placesOf(files: readonly GgufFile[]): Map<string, GgufFile> {
  const places = new Map<string, GgufFile>();
  for (const [i, file] of files.entries()) {
    const check = (key: string, expected: number): void => {
      const value = file.metadata.get(key);
      if (value !== expected)
        throw new HeedError("ERR_FORMAT", `${file.path}: expected ${key} to be ${expected}, got ${describe(value)}`);
    };
    check("split.no", i);
    check("split.count", files.length);
    for (const name of file.tensors.keys()) {
      if (places.has(name))
        throw new HeedError(
          "ERR_FORMAT",
          `${file.path}: expected each tensor in one part only, got ${JSON.stringify(name)} again`,
        );
      places.set(name, file);
    }
  }
  const all = files[0]!.metadata.get("split.tensors.count");
  if (all !== undefined && all !== places.size)
    throw new HeedError(
      "ERR_FORMAT",
      `${files[0]!.path}: expected ${describe(all)} tensors in its parts, got ${places.size}`,
    );
  return places;
}

async function closeAll(files: readonly GgufFile[]): Promise<void> {
  for (const file of files) await file.close();
}
