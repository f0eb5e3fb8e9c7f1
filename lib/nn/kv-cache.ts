import { checkInteger, checkObject, checkValues } from "../check.js";
import { type Device, device as deviceOf } from "../device.js";
import type { FloatDType } from "../dtype.js";
import { HeedError } from "../errors.js";
import { largest } from "../largest.js";
import { ops } from "../native.js";
import { attention, type AttentionOptions } from "../ops/attention.js";
import { cacheWrite } from "../ops/cache-write.js";
import { embedding } from "../ops/embedding.js";
import { narrow, reshape } from "../ops/views.js";
import { scope } from "../scope.js";
import { tensor } from "../creation.js";
import { allocate, type FloatTensor, type IntTensor } from "../tensor.js";
import type { AttentionCache, LayerCache } from "./attention-cache.js";
import type { CrossMemory } from "./cross-memory.js";

/** Configuration of a `KvCache`. */
export interface KvCacheConfig {
  /** Number of attention layers. */
  layers: number;
  /** B, the number of sequences. */
  batch: number;
  /** Tmax, the largest number of tokens in a sequence. */
  length: number;
  /** Hkv, the number of heads of keys and values. */
  heads: number;
  /** D, the size of a head. */
  headSize: number;
  /** Device that holds the cache. */
  device: Device;
  /** Dtype of keys and values. @default "f32" */
  dtype?: FloatDType;
  /**
   * Encoded sources that a decoder attends to, one row per sequence. The cache owns and disposes them.
   * @default null
   */
  memory?: CrossMemory | null;
  /**
   * True if keys and values start as zeros, for attention that reads the whole cache, unwritten places included.
   * @default false
   */
  zeroed?: boolean;
}

/**
 * Keys and values of the tokens seen so far, for every layer, so that a new token can attend to earlier ones without
 * computing them again.
 *
 * The sequences of a batch may have different lengths. A forward pass of T tokens first calls `begin` with the number
 * of real tokens in each sequence (the others are padding at the end), then `write` once in each layer, then `advance`.
 * A model's `createCache` returns a cache that fits it, and its `forward(ids, { cache })` makes these calls.
 *
 * @example
 * using cache = gpt.createCache(1);
 * noGrad(() => gpt.forward(tensor([[72, 101, 108]], [1, 3], { dtype: "i32" }), { cache }));
 * cache.lengths; // Int32Array [3]
 */
export class KvCache implements AttentionCache, Disposable {
  readonly layers: LayerCache[];
  /** Number of tokens in each sequence. */
  readonly lengths: Int32Array;
  readonly batch: number;
  readonly length: number;
  readonly memory: CrossMemory | null;
  #pending: { tokens: number; next: Int32Array } | null = null;
  // These two are overwritten in place for each pass, because a recorded pass reads the same memory every time.
  readonly #starts: IntTensor;
  readonly #keyLengths: IntTensor;
  readonly #config: KvCacheConfig;

  constructor(config: KvCacheConfig) {
    checkObject("KvCache", "config", config);
    const { layers, batch, length, heads, headSize, dtype = "f32", zeroed = false } = config;
    for (const [name, value] of Object.entries({ layers, batch, length, heads, headSize }))
      checkInteger("KvCache", name, value, 1);
    this.batch = batch;
    this.length = length;
    this.memory = config.memory ?? null;
    const device = deviceOf(config.device);
    this.lengths = new Int32Array(batch);
    this.#config = { ...config, device };
    const make = (): FloatTensor => {
      const part: FloatTensor = allocate([batch, length, heads, headSize], dtype, device, false);
      if (zeroed) ops.fill({ out: part, value: 0 });
      return part;
    };
    this.layers = Array.from({ length: layers }, () => ({ keys: make(), values: make() }));
    this.#starts = allocate([batch], "i32", device, false);
    this.#keyLengths = allocate([batch], "i32", device, false);
  }

  /**
   * Position of each sequence's next token, i32 [B] on the device. It can be read only during a pass.
   *
   * @throws ERR_ARGUMENT if no pass has begun.
   */
  get starts(): IntTensor {
    this.#expectBegun();
    return this.#starts;
  }

  /**
   * Number of tokens of each sequence after the current pass, i32 [B] on the device. It can be read only during a pass.
   *
   * @throws ERR_ARGUMENT if no pass has begun.
   */
  get keyLengths(): IntTensor {
    this.#expectBegun();
    return this.#keyLengths;
  }

  #expectBegun(): { tokens: number; next: Int32Array } {
    if (!this.#pending) throw new HeedError("ERR_ARGUMENT", "KvCache: expected begin() before a forward pass");
    return this.#pending;
  }

  /**
   * Starts a pass of `tokens` positions. In sequence b, counts[b] of them are real; without `counts`, all are. It does
   * nothing if the same pass has already begun: when the forward pass is recorded, the caller must call begin() before
   * the recording starts.
   *
   * @throws ERR_RANGE if the tokens do not fit into the cache or a count is not from 1 to `tokens`.
   * @throws ERR_SHAPE if `counts` does not have one count for each sequence.
   */
  begin(tokens: number, counts?: ArrayLike<number>): void {
    checkInteger("KvCache", "tokens", tokens, 1, this.length);
    if (counts) {
      if (counts.length !== this.batch)
        throw new HeedError("ERR_SHAPE", `KvCache: expected counts for ${this.batch} sequences, got ${counts.length}`);
      for (let b = 0; b < this.batch; b++) checkInteger("KvCache", `counts[${b}]`, counts[b], 1, tokens);
    }
    const next = Int32Array.from({ length: this.batch }, (_, b) => this.lengths[b]! + (counts?.[b] ?? tokens));
    const furthest = largest(this.lengths) + tokens;
    if (furthest > this.length)
      throw new HeedError("ERR_RANGE", `KvCache: expected at most ${this.length} tokens, got ${furthest}`);
    const begun = this.#pending;
    if (begun?.tokens === tokens && begun.next.every((length, b) => length === next[b])) return;
    this.#starts.set(this.lengths);
    this.#keyLengths.set(next);
    this.#pending = { tokens, next };
  }

  /** Stores a layer's new keys and values [B, T, Hkv, D] after the earlier ones and returns the layer's whole cache. */
  write(layer: number, keys: FloatTensor, values: FloatTensor): LayerCache {
    const cache = this.#layerCache(layer);
    cacheWrite(cache.keys, keys, this.starts);
    cacheWrite(cache.values, values, this.starts);
    return cache;
  }

  #layerCache(layer: number): LayerCache {
    const cache = this.layers[layer];
    if (!cache) throw new HeedError("ERR_RANGE", `KvCache: expected a layer below ${this.layers.length}, got ${layer}`);
    return cache;
  }

  /** Places of the pass's tokens: the starts. It can be read only during a pass. */
  get places(): { starts: IntTensor } {
    return { starts: this.starts };
  }

  /** Number of keys of each sequence, and position of its first query, during a pass. */
  get masks(): { keyLengths: IntTensor; queryStarts: IntTensor } {
    return { keyLengths: this.keyLengths, queryStarts: this.starts };
  }

  /**
   * Returns the position of each token of the pass, i32 [B, T], which continue each sequence. Those of padding are at
   * most `last`.
   */
  positions(tokens: number, last: number): IntTensor {
    const { batch, lengths } = this;
    if (tokens === 1) return reshape(this.starts, [batch, 1]);
    const positions = Int32Array.from({ length: batch * tokens }, (_, i) =>
      Math.min(lengths[Math.floor(i / tokens)]! + (i % tokens), last),
    );
    return tensor(positions, [batch, tokens], { device: this.#starts.device });
  }

  /** Stores a layer's new keys and values, and returns the attention of queries q [B, T, H, D] to the whole cache. */
  attend(layer: number, q: FloatTensor, k: FloatTensor, v: FloatTensor, masks: AttentionOptions): FloatTensor {
    const { keys, values } = this.write(layer, k, v);
    return attention(q, keys, values, { ...masks, ...this.masks });
  }

  /**
   * Stores a layer's new keys and values, and returns all of them up to the longest sequence's end after this pass,
   * [B, S, Hkv, D], for attention that reads all of them. Beyond the end of a shorter sequence they repeat its last token (or are zeros, in a
   * `zeroed` cache), so that no place is uninitialised.
   */
  written(layer: number, k: FloatTensor, v: FloatTensor): LayerCache {
    const { tokens } = this.#expectBegun();
    const { keys, values } = this.write(layer, k, v);
    const used = largest(this.lengths) + tokens;
    const { zeroed = false } = this.#config;
    if (zeroed || this.lengths.every((length) => length + tokens === used))
      return { keys: narrow(keys, 1, 0, used), values: narrow(values, 1, 0, used) };
    const rows = this.lengths.map((_, row) => row);
    const ends = this.lengths.map((length) => length + tokens);
    const ids = tensor(this.#places(rows, ends, used), [this.batch, used], { device: this.#starts.device });
    return { keys: gathered(keys, ids), values: gathered(values, ids) };
  }

  /** Ends the pass and adds its tokens to the lengths of the sequences. */
  advance(): void {
    this.lengths.set(this.#expectBegun().next);
    this.#pending = null;
  }

  /**
   * Returns a new cache with copies of the sequences rows[0], rows[1], … of this one; a row may be named several times.
   * Beam search forks its beams and drops ended sequences with it. It only enqueues work and does not wait for the
   * device.
   *
   * @example
   * using cache = gpt.createCache(2);
   * using beams = cache.take([0, 0, 1]);
   * beams.batch; // 3
   *
   * @throws ERR_ARGUMENT if a pass has begun and not ended.
   * @throws ERR_RANGE if there is no sequence with the number of a row.
   */
  take(rows: ArrayLike<number>): KvCache {
    const taken = this.fresh(rows);
    for (let i = 0; i < rows.length; i++) taken.lengths[i] = this.lengths[rows[i]!]!;
    const used = largest(taken.lengths);
    if (used === 0) return taken;
    scope(() => {
      const ids = tensor(this.#places(rows, this.lengths, used), [rows.length, used], { device: this.#starts.device });
      for (const [i, { keys, values }] of this.layers.entries()) {
        cacheWrite(taken.layers[i]!.keys, gathered(keys, ids));
        cacheWrite(taken.layers[i]!.values, gathered(values, ids));
      }
    });
    return taken;
  }

  /** @internal Returns the cache that `take` returns, without its tokens; each row keeps its source. */
  fresh(rows: ArrayLike<number>): KvCache {
    checkValues("take", rows);
    for (let i = 0; i < rows.length; i++) checkInteger("take", `rows[${i}]`, rows[i], 0, this.batch - 1);
    if (this.#pending)
      throw new HeedError("ERR_ARGUMENT", "take: expected no forward pass to be using the cache, got one in progress");
    const memory = this.memory?.take(rows) ?? null;
    return new KvCache({ ...this.#config, batch: rows.length, memory });
  }

  /**
   * Returns the places of the first `used` tokens of these sequences in the flattened cache, [R, used]. lengths[row]
   * tokens of a sequence are written; places beyond them repeat the last written one.
   */
  #places(rows: ArrayLike<number>, lengths: Int32Array, used: number): Int32Array {
    const places = new Int32Array(rows.length * used);
    const written = Array.from(rows).find((row) => lengths[row]! > 0)!;
    for (let i = 0; i < rows.length; i++) {
      const row = lengths[rows[i]!]! > 0 ? rows[i]! : written;
      const last = lengths[row]! - 1;
      for (let t = 0; t < used; t++) places[i * used + t] = row * this.length + Math.min(t, last);
    }
    return places;
  }

  /** Forgets every token, so that the cache can be used for new sequences. */
  reset(): void {
    this.#pending = null;
    this.lengths.fill(0);
  }

  /** Frees the cache and its `memory`. */
  dispose(): void {
    this.#starts.dispose();
    this.#keyLengths.dispose();
    this.memory?.dispose();
    for (const { keys, values } of this.layers) {
      keys.dispose();
      values.dispose();
    }
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Gathers keys or values [B, Tmax, H, D] at places of the flattened [B·Tmax]: ids [R, T] → [R, T, H, D]. */
function gathered(part: FloatTensor, ids: IntTensor): FloatTensor {
  const [batch, length, heads, size] = part.shape as [number, number, number, number];
  const out = embedding(ids, reshape(part, [batch * length, heads * size]));
  return reshape(out, [...ids.shape, heads, size]);
}
