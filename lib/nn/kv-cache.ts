import { HeedError } from "../errors.js";
import { type Device, device as deviceOf } from "../device.js";
import { cacheWrite } from "../ops/cache-write.js";
import { checkInteger, checkObject } from "../ops/check.js";
import { allocate, type FloatTensor, type IntTensor } from "../tensor.js";

/** What one attention layer remembers: keys and values [B, Tmax, Hkv, D]. */
export interface LayerCache {
  keys: FloatTensor;
  values: FloatTensor;
}

export interface KvCacheConfig {
  layers: number;
  batch: number;
  /** The most tokens a sequence may have. */
  length: number;
  heads: number;
  headSize: number;
  device: Device;
}

/**
 * Keys and values of the tokens seen so far, for every layer, so that a new token attends without computing them again.
 *
 * Sequences of a batch may have different lengths. A forward pass of T tokens calls `begin` with how many of them are
 * real in each sequence (the others are padding at the end), then lets each layer `write`, then `advance`s.
 */
export class KvCache implements Disposable {
  readonly layers: LayerCache[];
  /** Tokens in each sequence. */
  readonly lengths: Int32Array;
  readonly batch: number;
  readonly length: number;
  readonly #device: Device;
  #pending: Int32Array | null = null;
  #starts: IntTensor | null = null;
  #keyLengths: IntTensor | null = null;

  constructor(config: KvCacheConfig) {
    checkObject("KvCache", "config", config);
    const { layers, batch, length, heads, headSize } = config;
    for (const [name, value] of Object.entries({ layers, batch, length, heads, headSize }))
      checkInteger("KvCache", name, value, 1);
    this.batch = batch;
    this.length = length;
    const device = (this.#device = deviceOf(config.device));
    this.lengths = new Int32Array(batch);
    const make = (): FloatTensor => allocate([batch, length, heads, headSize], "f32", device, false);
    this.layers = Array.from({ length: layers }, () => ({ keys: make(), values: make() }));
  }

  /** Position of each sequence's next token, on the device: [B]. */
  get starts(): IntTensor {
    return this.#require(this.#starts);
  }

  /** Tokens of each sequence once the pass is done, on the device: [B]. */
  get keyLengths(): IntTensor {
    return this.#require(this.#keyLengths);
  }

  #require(tensor: IntTensor | null): IntTensor {
    if (!tensor) throw new HeedError("ERR_ARGUMENT", "KvCache: expected begin() before a forward pass");
    return tensor;
  }

  /** Starts a pass of `tokens` positions, of which counts[b] (all of them unless given) are real in sequence b. */
  begin(tokens: number, counts?: ArrayLike<number>): void {
    const next = Int32Array.from({ length: this.batch }, (_, b) => this.lengths[b]! + (counts?.[b] ?? tokens));
    const furthest = Math.max(...this.lengths) + tokens;
    if (furthest > this.length)
      throw new HeedError("ERR_RANGE", `KvCache: expected at most ${this.length} tokens, got ${furthest}`);
    this.#end();
    const upload = (values: Int32Array): IntTensor => {
      const tensor = allocate([this.batch], "i32", this.#device, false);
      tensor.set(values);
      return tensor;
    };
    this.#starts = upload(this.lengths);
    this.#keyLengths = upload(next);
    this.#pending = next;
  }

  /** Stores a layer's new keys and values [B, T, Hkv, D] behind those it has. */
  write(layer: number, keys: FloatTensor, values: FloatTensor): LayerCache {
    const cache = this.layers[layer];
    if (!cache) throw new HeedError("ERR_RANGE", `KvCache: expected a layer below ${this.layers.length}, got ${layer}`);
    cacheWrite(cache.keys, keys, this.starts);
    cacheWrite(cache.values, values, this.starts);
    return cache;
  }

  /** Ends the pass: its tokens are part of the sequences now. */
  advance(): void {
    this.#require(this.#starts);
    this.lengths.set(this.#pending!);
    this.#end();
  }

  #end(): void {
    this.#starts?.dispose();
    this.#keyLengths?.dispose();
    this.#starts = this.#keyLengths = this.#pending = null;
  }

  /** Forgets every token. */
  reset(): void {
    this.#end();
    this.lengths.fill(0);
  }

  dispose(): void {
    this.#end();
    for (const { keys, values } of this.layers) {
      keys.dispose();
      values.dispose();
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
