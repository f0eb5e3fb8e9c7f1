// Reads a model from several safetensors files, the format of large models on Hugging Face. The "weight_map" in
// model.safetensors.index.json maps the name of each tensor to its file.
import path from "node:path";
import { describe, HeedError } from "../util/errors.js";
import { readJsonFile } from "../util/files.js";
import { readSafetensors, type SafetensorsFile } from "./safetensors.js";
import type { SafetensorsEntry } from "./safetensors-header.js";
import { entryOf, type PieceMemory, type StoredPiece, type WeightFile } from "./weights.js";

/**
 * The open safetensors files of one model. Close them, or declare them with `await using`.
 *
 * @example
 * await savePretrained("whale-in-shards", gpt, { shardBytes: 20_000 });
 * await using weights = await readShardedSafetensors("whale-in-shards/model.safetensors.index.json");
 * const embedding = await weights.readFloats("wte.weight"); // 256 · 16 numbers
 */
export class ShardedSafetensors implements WeightFile {
  /** Dtype, shape and position of every tensor, by name. `byteOffset` refers to the file that contains the tensor. */
  readonly tensors: ReadonlyMap<string, SafetensorsEntry>;
  readonly #shards: ReadonlyMap<string, SafetensorsFile>;

  /** @internal `shards` maps the name of each tensor to its file. */
  constructor(
    readonly path: string,
    shards: ReadonlyMap<string, SafetensorsFile>,
  ) {
    this.#shards = shards;
    this.tensors = new Map([...shards].map(([name, shard]) => [name, shard.tensors.get(name)!]));
  }

  /**
   * Reads the bytes of a tensor, little-endian and row-major, into `into` or into new memory.
   *
   * @throws ERR_ARGUMENT if there is no tensor of that name.
   * @throws ERR_RANGE if `into` has another length in bytes than the tensor.
   * @throws ERR_FORMAT or ERR_IO if the file has become shorter or cannot be read.
   */
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

  /** @internal */
  async *readBytes(name: string, memory?: PieceMemory): AsyncGenerator<Uint8Array> {
    yield* entryOf(this.path, this.#shards, name).readBytes(name, memory);
  }

  /** Closes all files. */
  async close(): Promise<void> {
    await closeAll(new Set(this.#shards.values()));
  }

  /** Does the same as `close()`, at the end of the block that declares it with `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * Opens the files that an index lists and checks their headers: every tensor of the index must be in its file, and
 * every tensor of a file must be in the index.
 *
 * @example
 * await savePretrained("sharded", gpt, { shardBytes: 20_000 });
 * await using weights = await readShardedSafetensors("sharded/model.safetensors.index.json");
 * const names = [...weights.tensors.keys()]; // "wte.weight", …
 *
 * @throws ERR_IO if the index or a file cannot be read; the message names it.
 * @throws ERR_FORMAT if the index or a file is malformed, or they contradict each other; the message names the file.
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
          `${file.path}: expected tensor ${JSON.stringify(tensor)}, which the index places in this file, got none`,
        );
      shards.set(tensor, file);
    }
    for (const [name, file] of files)
      for (const tensor of file.tensors.keys())
        if (map.get(tensor) !== name)
          throw new HeedError(
            "ERR_FORMAT",
            `${file.path}: expected only tensors that the index places in this file, got ${JSON.stringify(tensor)}`,
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
    throw new HeedError("ERR_FORMAT", `${index}: expected weight_map to be an object, got ${describe(map)}`);
  const entries = Object.entries(map as Record<string, unknown>);
  for (const [tensor, name] of entries)
    // The index may come from anywhere: it must not name files outside its folder.
    if (typeof name !== "string" || !/^[\w.-]+$/.test(name) || name.startsWith("."))
      throw new HeedError(
        "ERR_FORMAT",
        `${index}: expected the name of a file in the same folder for ${JSON.stringify(tensor)}, got ${describe(name)}`,
      );
  return new Map(entries as [string, string][]);
}

async function closeAll(files: Iterable<SafetensorsFile>): Promise<void> {
  for (const file of files) await file.close();
}
