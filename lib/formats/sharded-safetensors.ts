// A model in several safetensors files, as Hugging Face writes large ones: model.safetensors.index.json says in its
// "weight_map" which file a tensor is in.
import path from "node:path";
import { describe, HeedError } from "../errors.js";
import { readJsonFile } from "../files.js";
import { readSafetensors, type SafetensorsFile } from "./safetensors.js";
import type { SafetensorsEntry } from "./safetensors-header.js";
import { entryOf, type PieceMemory, type StoredPiece, type WeightFile } from "./weights.js";

/** The files of an index, open. Close them, or declare them with `await using`. */
export class ShardedSafetensors implements WeightFile {
  readonly tensors: ReadonlyMap<string, SafetensorsEntry>;
  readonly #shards: ReadonlyMap<string, SafetensorsFile>;

  /** @internal `shards` by the names of their tensors. */
  constructor(
    readonly path: string,
    shards: ReadonlyMap<string, SafetensorsFile>,
  ) {
    this.#shards = shards;
    this.tensors = new Map([...shards].map(([name, shard]) => [name, shard.tensors.get(name)!]));
  }

  /** As `SafetensorsFile.read`. */
  async read<T extends ArrayBufferView = Uint8Array>(name: string, into?: T): Promise<T> {
    return entryOf(this.path, this.#shards, name).read(name, into);
  }

  async readFloats(name: string): Promise<Float32Array> {
    return entryOf(this.path, this.#shards, name).readFloats(name);
  }

  async *readPieces(name: string): AsyncGenerator<Float32Array> {
    yield* entryOf(this.path, this.#shards, name).readPieces(name);
  }

  /** @internal */
  async *readStored(name: string, memory?: PieceMemory): AsyncGenerator<StoredPiece> {
    yield* entryOf(this.path, this.#shards, name).readStored(name, memory);
  }

  async close(): Promise<void> {
    await closeAll(new Set(this.#shards.values()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * Opens the files of an index and checks their headers against it: every tensor of the index must be in its file, and
 * every tensor of a file in the index. Throws ERR_IO or ERR_FORMAT with the file's name.
 */
export async function readShardedSafetensors(index: string): Promise<ShardedSafetensors> {
  const map = weightMap(await readJsonFile(index), index);
  const files = new Map<string, SafetensorsFile>();
  try {
    for (const name of new Set(map.values()))
      files.set(name, await readSafetensors(path.join(path.dirname(index), name)));
    const shards = new Map<string, SafetensorsFile>();
    for (const [tensor, name] of map) {
      const file = files.get(name)!;
      if (!file.tensors.has(tensor))
        throw new HeedError(
          "ERR_FORMAT",
          `${file.path}: expected tensor ${JSON.stringify(tensor)} of the index, got none`,
        );
      shards.set(tensor, file);
    }
    for (const [name, file] of files)
      for (const tensor of file.tensors.keys())
        if (map.get(tensor) !== name)
          throw new HeedError(
            "ERR_FORMAT",
            `${file.path}: expected tensors that the index has in it, got ${JSON.stringify(tensor)}`,
          );
    return new ShardedSafetensors(index, shards);
  } catch (error) {
    await closeAll(files.values());
    throw error;
  }
}

function weightMap(json: unknown, index: string): Map<string, string> {
  const map = (json as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== "object" || map === null || Array.isArray(map))
    throw new HeedError("ERR_FORMAT", `${index}: expected an object weight_map, got ${describe(map)}`);
  const entries = Object.entries(map as Record<string, unknown>);
  for (const [tensor, name] of entries)
    // A file from elsewhere must not name one outside of its folder.
    if (typeof name !== "string" || !/^[\w.-]+$/.test(name) || name.startsWith("."))
      throw new HeedError(
        "ERR_FORMAT",
        `${index}: expected the name of a file beside it for ${JSON.stringify(tensor)}, got ${describe(name)}`,
      );
  return new Map(entries as [string, string][]);
}

async function closeAll(files: Iterable<SafetensorsFile>): Promise<void> {
  for (const file of files) await file.close();
}
