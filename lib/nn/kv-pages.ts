import { checkInteger, checkObject } from "../check.js";
import { type Device, device as deviceOf } from "../device.js";
import type { FloatDType } from "../dtype.js";
import { HeedError } from "../errors.js";
import { attentionInto, type AttentionOptions } from "../ops/attention.js";
import { cacheWrite } from "../ops/cache-write.js";
import { allocate, type FloatTensor, type IntTensor } from "../tensor.js";
import type { AttentionCache, LayerCache } from "./attention-cache.js";

/** Configuration of `KvPages`. */
export interface KvPagesConfig {
  /** Number of attention layers. */
  layers: number;
  /** N, the number of pages. */
  pages: number;
  /** S, the number of tokens of a page. */
  pageSize: number;
  /** Hkv, the number of heads of keys and values. */
  heads: number;
  /** D, the size of a head. */
  headSize: number;
  /** Device that holds the pages. */
  device: Device;
  /** Dtype of keys and values. @default "f32" */
  dtype?: FloatDType;
}

/**
 * Memory for the keys and values of many sequences, in pages of S tokens: [N, S, Hkv, D] in each layer. A sequence is a
 * list of pages, and sequences may share pages. What a page holds is known to the caller only.
 */
export class KvPages implements Disposable {
  readonly layers: LayerCache[];
  /** N, the number of pages. */
  readonly pages: number;
  /** S, the number of tokens of a page. */
  readonly pageSize: number;

  constructor(config: KvPagesConfig) {
    checkObject("KvPages", "config", config);
    const { layers, pages, pageSize, heads, headSize, dtype = "f32" } = config;
    for (const [name, value] of Object.entries({ layers, pages, pageSize, heads, headSize }))
      checkInteger("KvPages", name, value, 1);
    const device = deviceOf(config.device);
    const make = (): FloatTensor => allocate([pages, pageSize, heads, headSize], dtype, device, false);
    this.pages = pages;
    this.pageSize = pageSize;
    this.layers = Array.from({ length: layers }, () => ({ keys: make(), values: make() }));
  }

  /** Frees the memory. */
  dispose(): void {
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

/** Sequences of a pass that have the same number T of tokens in it. Their tokens lie one sequence after the other. */
export interface PassGroup {
  /** T, the number of new tokens of each sequence. */
  readonly tokens: number;
  /** Number of earlier tokens of each sequence, i32 [G]. */
  readonly starts: IntTensor;
  /** Number of tokens of each sequence after the pass, i32 [G]. */
  readonly keyLengths: IntTensor;
  /** Pages of each sequence, i32 [G, P]. */
  readonly pages: IntTensor;
}

/**
 * Forward pass over tokens of several sequences whose keys and values lie in pages. All tokens form one row of ids
 * [1, N], group after group, so that every operation but attention sees one long sequence.
 */
export class PagedPass implements AttentionCache {
  readonly batch = 1;
  readonly #memory: KvPages;
  readonly #groups: readonly PassGroup[];
  readonly #positions: IntTensor;

  /** Creates a pass. `positions` i32 [1, N] has the position of each token in its sequence. */
  constructor(memory: KvPages, groups: readonly PassGroup[], positions: IntTensor) {
    this.#memory = memory;
    this.#groups = groups;
    this.#positions = positions;
  }

  begin(): void {
    // The groups say everything about the pass.
  }

  advance(): void {
    // The owner of the pages counts the tokens.
  }

  get places(): { positions: IntTensor } {
    return { positions: this.#positions };
  }

  positions(): IntTensor {
    return this.#positions;
  }

  /**
   * Adds a layer's new keys and values [1, N, Hkv, D] to the pages, and returns the attention of queries q [1, N, H, D]
   * to their own sequences' keys, [1, N, H, D].
   */
  attend(layer: number, q: FloatTensor, k: FloatTensor, v: FloatTensor, masks: AttentionOptions): FloatTensor {
    const { keys, values } = this.#memory.layers[layer]!;
    const out: FloatTensor = allocate(q.shape, q.dtype, q.device);
    let first = 0;
    for (const { tokens, starts, keyLengths, pages } of this.#groups) {
      const part = (x: FloatTensor): FloatTensor => groupOf(x, first, starts.shape[0]!, tokens);
      cacheWrite(keys, part(k), starts, pages);
      cacheWrite(values, part(v), starts, pages);
      attentionInto(part(out), part(q), keys, values, { ...masks, keyLengths, queryStarts: starts, pages });
      first += starts.shape[0]! * tokens;
    }
    return out;
  }

  written(): never {
    throw new HeedError("ERR_ARGUMENT", "attention: expected no bias and no hooks of scores over pages, got some");
  }

  get masks(): never {
    return this.written();
  }
}

/** Returns tokens `first` to `first + sequences · tokens` of x [1, N, H, D] as a view [sequences, tokens, H, D]. */
function groupOf(x: FloatTensor, first: number, sequences: number, tokens: number): FloatTensor {
  const [, , heads, size] = x.shape as [number, number, number, number];
  const [, step, ...rest] = x.strides as [number, number, number, number];
  return x.viewAs([sequences, tokens, heads, size], [tokens * step, step, ...rest], first * step);
}
