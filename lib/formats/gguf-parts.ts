// A GGUF model in several files, as llama.cpp's gguf-split writes large ones: name-00001-of-00003.gguf and so on. The first
// has the metadata of the whole; each has its number ("split.no", from 0), how many there are ("split.count"), and tensors
// of its own.
import { describe, HeedError } from "../errors.js";
import { type GgufFile, readGguf } from "./gguf.js";
import type { GgufEntry } from "./gguf-header.js";
import type { GgufValue } from "./gguf-values.js";
import { entryOf, type PieceMemory, type StoredPiece, type WeightFile } from "./weights.js";

/** A GGUF model that is open, in one file or in several. */
export interface GgufWeights extends WeightFile {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufEntry>;
}

/** Far more parts than models have. */
const mostParts = 1000;

/** The names of all parts of a model, by the name of any of them; null for a name of another form. */
export function partsOfGguf(file: string): string[] | null {
  const [, start, number, count] = /^(.*-)(\d{5})-of-(\d{5})\.gguf$/s.exec(file) ?? [];
  const all = Number(count);
  if (start === undefined || Number(number) < 1 || Number(number) > all || all > mostParts) return null;
  return Array.from({ length: all }, (_, i) => `${start}${String(i + 1).padStart(5, "0")}-of-${count}.gguf`);
}

/** The files of a model, open as one. Close them, or declare them with `await using`. */
export class GgufParts implements GgufWeights {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufEntry>;
  readonly #files: readonly GgufFile[];
  readonly #places: ReadonlyMap<string, GgufFile>;

  /** @internal The files in order, with what file each tensor is in. */
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

  async close(): Promise<void> {
    await closeAll(this.#files);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * Opens the model that a GGUF file is, or is a part of: all parts must lie beside it, under the names that gguf-split gives
 * them. Throws ERR_IO or ERR_FORMAT with the file's name.
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
      `${path}: expected a whole model, got one of ${describe(count)} parts, which must be called name-00001-of-0000N.gguf`,
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

/** The file that each tensor is in. Throws ERR_FORMAT where files are not the parts of one model, in order. */
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
          `${file.path}: expected tensors that no other part has, got ${JSON.stringify(name)}`,
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
