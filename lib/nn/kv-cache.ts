import { checkInteger, checkObject, checkValues } from "../util/check.js";
import { type Device, device as deviceOf } from "../core/device.js";
import type { FloatDType } from "../core/dtype.js";
import { HeedError } from "../util/errors.js";
import { largest } from "../util/largest.js";
import { attention, type AttentionOptions } from "../ops/attention.js";
import { cacheWrite } from "../ops/cache-write.js";
import { reshape } from "../ops/views.js";
import { scope } from "../core/scope.js";
import { tensor } from "../core/creation.js";
import { allocate, type FloatTensor, type IntTensor } from "../core/tensor.js";
import type { AttentionCache, LayerCache } from "./attention-cache.js";
import type { CrossMemory } from "./cross-memory.js";
import { type PassPlaces, store, storeAndAttend } from "./kv-pages.js";
import { PageRows } from "./page-rows.js";

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
}

/**
 * Keys and values of the tokens seen so far, for every layer, so that a new token can attend to earlier ones without
 * computing them again.
 *
 * The sequences of a batch may have different lengths. A forward pass of T tokens first calls `begin` with the number
 * of real tokens in each sequence (the others are padding at the end), then `write` once in each layer, then `advance`.
 * A model's `createCache` returns a cache that fits it, and its `forward(ids, { cache })` makes these calls.
 *
 * A sequence is a list of pages. Sequences that `take` returns share the pages of others; a page that several sequences
 * use is copied when one of them is about to write to it. In a new cache the pages of a sequence lie one after the
 * other, so that operations see one piece of memory.
 *
 * @example
 * using cache = gpt.createCache(1);
 * noGrad(() => gpt.forward(tensor([[72, 101, 108]], [1, 3], { dtype: "i32" }), { cache }));
 * cache.lengths; // Int32Array [3]
 */
export class KvCache implements AttentionCache, Disposable {
  /** Number of tokens in each sequence. */
  readonly lengths: Int32Array;
  readonly batch: number;
  readonly length: number;
  /** Dtype of keys and values. */
  readonly dtype: FloatDType;
  readonly memory: CrossMemory | null;
  #pending: { tokens: number; next: Int32Array } | null = null;
  // These two are overwritten in place for each pass, because a recorded pass reads the same memory every time.
  readonly #starts: IntTensor;
  readonly #keyLengths: IntTensor;
  readonly #config: KvCacheConfig;
  readonly #rows: PageRows;

  /** @param rows is internal: pages of sequences of another cache, which the new one takes over. */
  constructor(config: KvCacheConfig, rows: PageRows | null = null) {
    checkObject("KvCache", "config", config);
    const { layers, batch, length, heads, headSize, dtype = "f32" } = config;
    for (const [name, value] of Object.entries({ layers, batch, length, heads, headSize }))
      checkInteger("KvCache", name, value, 1);
    this.batch = batch;
    this.length = length;
    this.dtype = dtype;
    this.memory = config.memory ?? null;
    const device = deviceOf(config.device);
    this.lengths = new Int32Array(batch);
    this.#config = { ...config, device };
    this.#rows = rows ?? PageRows.of({ layers, batch, length, heads, headSize, device, dtype });
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
    this.#rows.makeRoom(this.lengths, tokens);
    this.#starts.set(this.lengths);
    this.#keyLengths.set(next);
    this.#pending = { tokens, next };
  }

  /**
   * Stores a layer's new keys and values [B, T, Hkv, D] after the earlier ones.
   *
   * @throws ERR_ARGUMENT if no pass has begun.
   * @throws ERR_RANGE if there is no such layer.
   */
  write(layer: number, keys: FloatTensor, values: FloatTensor): void {
    store(this.#layer(layer), { k: keys, v: values }, this.#places);
  }

  #layer(layer: number): LayerCache {
    const { layers } = this.#rows.operands;
    const cache = layers[layer];
    if (!cache) throw new HeedError("ERR_RANGE", `KvCache: expected a layer below ${layers.length}, got ${layer}`);
    return cache;
  }

  get #places(): PassPlaces {
    return { ...this.places, keyLengths: this.keyLengths, pages: this.#rows.operands.pages };
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
    const places = this.#places;
    if (!masks.blocks || !places.pages) return storeAndAttend(null, this.#layer(layer), { q, k, v }, places, masks);
    // A mask of blocks has columns for the `length` of the cache, and pages may have room for more keys.
    const { keys, values } = this.written(layer, k, v);
    return attention(q, keys, values, { ...masks, ...this.masks });
  }

  /**
   * Stores a layer's new keys and values, and returns all of them up to the longest sequence's end after this pass,
   * [B, S, Hkv, D], for attention that reads all of them. Beyond the end of a shorter sequence they repeat its last
   * token, so that no place is uninitialised.
   */
  written(layer: number, k: FloatTensor, v: FloatTensor): LayerCache {
    const { tokens } = this.#expectBegun();
    this.write(layer, k, v);
    const used = largest(this.lengths) + tokens;
    const equal = this.lengths.every((length) => length + tokens === used);
    const view = equal ? this.#rows.viewed(layer, used) : null;
    if (view) return view;
    return this.#rows.gathered(layer, [this.batch, used], (i) => {
      const row = Math.floor(i / used);
      return [row, Math.min(i % used, this.lengths[row]! + tokens - 1)];
    });
  }

  /**
   * @internal Returns the keys and values of the last token of each sequence, [B, Hkv, D], or null if no sequence has
   * any. A sequence without tokens gets those of another one. During a pass it returns those from before the pass.
   */
  last(layer: number): LayerCache | null {
    const { lengths } = this;
    const written = lengths.findIndex((tokens) => tokens > 0);
    if (written === -1) return null;
    return this.#rows.gathered(layer, [this.batch], (row) =>
      lengths[row]! > 0 ? [row, lengths[row]! - 1] : [written, 0],
    );
  }

  /** Ends the pass and adds its tokens to the lengths of the sequences. */
  advance(): void {
    this.lengths.set(this.#expectBegun().next);
    this.#pending = null;
  }

  /**
   * Returns a new cache with the sequences rows[0], rows[1], … of this one; a row may be named several times. The caches
   * share the memory of these tokens, and either can be disposed first. Beam search forks its beams and drops ended
   * sequences with it. It does not wait for the device. If a pass fails on the device, all caches that share memory
   * with its cache are spoilt.
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
    const config = this.#configOf(rows);
    const lengths = Int32Array.from(rows, (row) => this.lengths[row]!);
    const taken = new KvCache(config, this.#rows.take(rows, lengths));
    taken.lengths.set(lengths);
    return taken;
  }

  /** @internal Returns an empty cache with memory of its own, for these sequences and their sources. */
  fresh(rows: ArrayLike<number>): KvCache {
    return new KvCache(this.#configOf(rows));
  }

  /** Returns the configuration of a cache of these sequences. */
  #configOf(rows: ArrayLike<number>): KvCacheConfig {
    checkValues("take", rows);
    for (let i = 0; i < rows.length; i++) checkInteger("take", `rows[${i}]`, rows[i], 0, this.batch - 1);
    if (this.#pending)
      throw new HeedError("ERR_ARGUMENT", "take: expected no forward pass to be using the cache, got one in progress");
    checkInteger("KvCache", "batch", rows.length, 1);
    return { ...this.#config, batch: rows.length, memory: this.memory?.take(rows) ?? null };
  }

  /** @internal Replaces a sequence by a copy of one of another cache of the same model. The copy is only enqueued. */
  replace(row: number, from: KvCache, fromRow: number): void {
    const length = from.lengths[fromRow]!;
    scope(() => {
      const { layers, pages } = this.#rows.emptied(row, length);
      for (const [layer, { keys, values }] of layers.entries()) {
        const copy = from.#rows.gathered(layer, [1, length], (token) => [fromRow, token]);
        cacheWrite(keys, copy.keys, null, pages);
        cacheWrite(values, copy.values, null, pages);
      }
    });
    this.lengths[row] = length;
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
    this.#rows.dispose();
    this.memory?.dispose();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
