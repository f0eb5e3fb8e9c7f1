import { checkInteger, checkObject, checkValues } from "../check.js";
import { type Device, device as deviceOf } from "../device.js";
import type { FloatDType } from "../dtype.js";
import { HeedError } from "../errors.js";
import { largest } from "../largest.js";
import { ops } from "../native.js";
import { cacheWrite } from "../ops/cache-write.js";
import { embedding } from "../ops/embedding.js";
import { narrow, reshape } from "../ops/views.js";
import { scope } from "../scope.js";
import { tensor } from "../creation.js";
import { allocate, type FloatTensor, type IntTensor } from "../tensor.js";
import type { CrossMemory } from "./cross-memory.js";

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
  /** Of keys and values; f32 unless given. */
  dtype?: FloatDType;
  /** The sources of the sequences, where a decoder looks at some; the cache's to dispose. */
  memory?: CrossMemory | null;
  /** Whether keys and values that were never written are zeros, for who reads all of them; false unless given. */
  zeroed?: boolean;
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
  readonly memory: CrossMemory | null;
  #pending: { tokens: number; next: Int32Array } | null = null;
  // Set anew for each pass: a recorded pass finds them where they were.
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

  /** Position of each sequence's next token, on the device: [B]. */
  get starts(): IntTensor {
    this.#expectBegun();
    return this.#starts;
  }

  /** Tokens of each sequence once the pass is done, on the device: [B]. */
  get keyLengths(): IntTensor {
    this.#expectBegun();
    return this.#keyLengths;
  }

  #expectBegun(): { tokens: number; next: Int32Array } {
    if (!this.#pending) throw new HeedError("ERR_ARGUMENT", "KvCache: expected begin() before a forward pass");
    return this.#pending;
  }

  /**
   * Starts a pass of `tokens` positions, of which counts[b] (all of them unless given) are real in sequence b. Does
   * nothing where that very pass has been started: when the forward pass is recorded, the caller must call it before the
   * recording starts. Throws ERR_RANGE unless `tokens` fit into the cache and every count is from 1 to `tokens`, and
   * ERR_SHAPE unless there is a count for each sequence.
   */
  begin(tokens: number, counts?: ArrayLike<number>): void {
    checkInteger("KvCache", "tokens", tokens, 1, this.length);
    if (counts) {
      if (counts.length !== this.batch)
        throw new HeedError("ERR_SHAPE", `KvCache: expected counts of ${this.batch} sequences, got ${counts.length}`);
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

  /** Stores a layer's new keys and values [B, T, Hkv, D] behind those it has. */
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

  /**
   * The keys and values of a layer that the pass has written and those before, [B, S, Hkv, D], for who reads all of them:
   * past the end of a shorter sequence stands something that was written.
   */
  written(layer: number): LayerCache {
    const { tokens } = this.#expectBegun();
    const { keys, values } = this.#layerCache(layer);
    const used = largest(this.lengths) + tokens;
    const { zeroed = false } = this.#config;
    if (zeroed || this.lengths.every((length) => length + tokens === used))
      return { keys: narrow(keys, 1, 0, used), values: narrow(values, 1, 0, used) };
    const rows = this.lengths.map((_, row) => row);
    const ends = this.lengths.map((length) => length + tokens);
    const ids = tensor(this.#places(rows, ends, used), [this.batch, used], { device: this.#starts.device });
    return { keys: gathered(keys, ids), values: gathered(values, ids) };
  }

  /** Ends the pass: its tokens are part of the sequences now. */
  advance(): void {
    this.lengths.set(this.#expectBegun().next);
    this.#pending = null;
  }

  /**
   * A cache of the sequences rows[0], rows[1], … of this one, each as often as it is named: how beams fork and ended
   * sequences leave. Between passes; only enqueues.
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

  /**
   * What `take` gives, without the tokens: each row keeps its source.
   *
   * @internal
   */
  fresh(rows: ArrayLike<number>): KvCache {
    checkValues("take", rows);
    for (let i = 0; i < rows.length; i++) checkInteger("take", `rows[${i}]`, rows[i], 0, this.batch - 1);
    if (this.#pending) throw new HeedError("ERR_ARGUMENT", "take: expected a cache between passes, got one in a pass");
    const memory = this.memory?.take(rows) ?? null;
    return new KvCache({ ...this.#config, batch: rows.length, memory });
  }

  /**
   * Where the first `used` tokens of these sequences lie, of which lengths[row] are written: [R, used]. Past a sequence's
   * end stands one that was written.
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

  /** Forgets every token. */
  reset(): void {
    this.#pending = null;
    this.lengths.fill(0);
  }

  dispose(): void {
    this.#starts.dispose();
    this.#keyLengths.dispose();
    this.memory?.dispose();
    for (const { keys, values } of this.layers) {
      keys.dispose();
      values.dispose();
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Keys or values [B, Tmax, H, D] at these places, counted through the batch: ids [R, T] → [R, T, H, D]. */
function gathered(part: FloatTensor, ids: IntTensor): FloatTensor {
  const [batch, length, heads, size] = part.shape as [number, number, number, number];
  const out = embedding(ids, reshape(part, [batch * length, heads * size]));
  return reshape(out, [...ids.shape, heads, size]);
}
