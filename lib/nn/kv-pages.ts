import { checkChoice, checkInteger, checkObject } from "../util/check.js";
import { type Device, device as deviceOf } from "../core/device.js";
import { type DType, elementBytes, type FloatDType } from "../core/dtype.js";
import { HeedError } from "../util/errors.js";
import { ops } from "../core/native.js";
import { attentionInto, type AttentionOptions } from "../ops/attention.js";
import { cacheWriteInto } from "../ops/cache-write.js";
import { type StoredKeys, tensorsOf } from "../ops/quantized-keys.js";
import { narrow } from "../ops/views.js";
import { scope } from "../core/scope.js";
import type { Shape } from "../core/shape.js";
import { allocate, type FloatTensor, type IntTensor, type Tensor } from "../core/tensor.js";
import type { AttentionCache } from "./attention-cache.js";

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
  /** Type in which keys and values are stored instead of the dtype; see `KvType`. @default the dtype */
  kvType?: KvType | null;
}

/**
 * Types in which keys and values may be stored instead of the dtype of the model: "f16" and "bf16" round those of a model
 * in f32 to 16 bits, and change nothing for a model that has 16 bits; "int8" rounds to 8 bits, with a scale for each head of
 * a token.
 */
export type KvType = "f16" | "bf16" | "int8";

/** @internal Names of the types. */
export const kvTypes: readonly KvType[] = ["f16", "bf16", "int8"];

/** @internal Checks the type of keys and values; null stands for the dtype of the model. */
export function checkKvType(op: string, value: unknown): void {
  if (value !== null) checkChoice(op, "kvType", value, kvTypes);
}

/** @internal Returns the type in which a model of this dtype stores keys and values. */
export function storedType(dtype: FloatDType, kvType: KvType | null): FloatDType | "int8" {
  return kvType === "int8" || (kvType !== null && dtype === "f32") ? kvType : dtype;
}

/** @internal Returns the bytes of one head of keys or values with D numbers. */
export function bytesOfHead(headSize: number, dtype: FloatDType, kvType: KvType | null): number {
  const stored = storedType(dtype, kvType);
  return stored === "int8" ? headSize + 4 : headSize * elementBytes(stored);
}

/** Keys and values of a layer. */
export interface LayerPages {
  readonly keys: StoredKeys;
  readonly values: StoredKeys;
}

/**
 * Memory for the keys and values of many sequences, in pages of S tokens: [N, S, Hkv, D] in each layer. A sequence is a
 * list of pages, and sequences may share pages. What a page holds is known to the caller only.
 */
export class KvPages implements Disposable {
  readonly layers: LayerPages[];
  /** N, the number of pages. */
  readonly pages: number;
  /** S, the number of tokens of a page. */
  readonly pageSize: number;
  /** Bytes of all pages. */
  readonly bytes: number;
  readonly #config: KvPagesConfig;
  readonly #device: Device;

  /** @param smaller is internal: memory of fewer pages, which the new one takes over. */
  constructor(config: KvPagesConfig, smaller: KvPages | null = null) {
    checkObject("KvPages", "config", config);
    const { layers, pages, pageSize, heads, headSize, dtype = "f32", kvType = null } = config;
    for (const [name, value] of Object.entries({ layers, pages, pageSize, heads, headSize }))
      checkInteger("KvPages", name, value, 1);
    const device = deviceOf(config.device);
    checkKvType("KvPages", kvType);
    const rows = [pages, pageSize, heads];
    const tensorOf = <D extends DType>(shape: Shape, type: D): Tensor<D> => allocate(shape, type, device, false);
    const stored = storedType(dtype, kvType);
    const make = (): StoredKeys =>
      stored === "int8"
        ? { codes: tensorOf([...rows, headSize], "u8"), scales: tensorOf(rows, "f32") }
        : tensorOf<FloatDType>([...rows, headSize], stored);
    this.#config = { ...config };
    this.#device = device;
    this.pages = pages;
    this.pageSize = pageSize;
    this.bytes = 2 * layers * pages * pageSize * heads * bytesOfHead(headSize, dtype, kvType);
    this.layers = Array.from({ length: layers }, (_, layer) => {
      const made = pairOf(make);
      if (smaller) smaller.#moveLayer(layer, made);
      return made;
    });
  }

  /**
   * Returns memory of `pages` pages, more than there are, which begins with these pages, and frees this memory. That
   * happens layer by layer, and the system gets back what was freed, so that there is hardly ever more memory than the
   * larger number of pages takes.
   *
   * @throws ERR_OOM if there is too little memory. Some layers then have more pages than before, and the content is the
   * same; recorded work that reads or writes this memory must not run again.
   */
  grown(pages: number): KvPages {
    const more = new KvPages({ ...this.#config, pages }, this);
    this.#giveBack();
    return more;
  }

  /**
   * Bytes of the first `pages` pages as far as they take memory: the system of a CPU gives memory when a page is first
   * written, in pieces of up to 2 MiB.
   */
  residentBytes(pages: number): number {
    if (this.#device.kind !== "cpu") return this.bytes;
    const piece = 2 ** 21;
    return this.parts().reduce((sum, { size, dtype }) => {
      const bytes = size * elementBytes(dtype);
      const written = Math.ceil((bytes * Math.min(pages, this.pages)) / this.pages);
      return sum + (bytes < piece ? written : Math.min(bytes, piece * Math.ceil(written / piece)));
    }, 0);
  }

  /** Returns all tensors, each with the pages along its first axis. */
  parts(): Tensor[] {
    return this.layers.flatMap(partsOf);
  }

  /** Copies a layer to the beginning of a larger one, which it has from now on, and frees what it had. */
  #moveLayer(layer: number, to: LayerPages): void {
    const into = partsOf(to);
    const from = partsOf(this.layers[layer]!);
    try {
      for (const [i, inp] of from.entries())
        scope(() => ops.copy({ out: narrow(into[i]!, 0, 0, this.pages), inp: narrow(inp, 0, 0, this.pages) }));
    } catch (error) {
      for (const part of into) part.dispose();
      throw error;
    }
    for (const part of from) part.dispose();
    this.layers[layer] = to;
    // What is freed would otherwise stay with the allocator, and it is too small for the next layer.
    if (this.bytes / this.layers.length >= 2 ** 23) this.#giveBack();
  }

  /** Lets the system have what the device's allocator keeps, once the copies have run. */
  #giveBack(): void {
    this.#device.emptyCache().catch(() => undefined);
  }

  /** Frees the memory. */
  dispose(): void {
    for (const part of this.parts()) part.dispose();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Returns new keys and values. If there is memory for the keys alone, it is freed. */
function pairOf(make: () => StoredKeys): LayerPages {
  const keys = make();
  try {
    return { keys, values: make() };
  } catch (error) {
    for (const part of tensorsOf(keys)) part.dispose();
    throw error;
  }
}

function partsOf({ keys, values }: LayerPages): Tensor[] {
  return [...tensorsOf(keys), ...tensorsOf(values)];
}

/** Places to which the tokens of a pass go. */
export interface PassPlaces {
  /** Number of earlier tokens of each sequence, i32 [G]. */
  readonly starts: IntTensor;
  /** Number of tokens of each sequence after the pass, i32 [G]. */
  readonly keyLengths: IntTensor;
  /** Pages of each sequence, i32 [G, P]; null if the memory is one piece for each sequence, [G, S, Hkv, D]. */
  readonly pages: IntTensor | null;
}

/** Sequences of a pass that have the same number T of tokens in it. Their tokens lie one sequence after the other. */
export interface PassGroup extends PassPlaces {
  /** T, the number of new tokens of each sequence. */
  readonly tokens: number;
}

/** Queries [G, T, H, D], keys and values [G, T, Hkv, D] of the tokens of a pass. */
interface NewTokens {
  readonly q: FloatTensor;
  readonly k: FloatTensor;
  readonly v: FloatTensor;
}

/** Adds a layer's new keys and values to its memory. */
export function store({ keys, values }: LayerPages, { k, v }: Omit<NewTokens, "q">, places: PassPlaces): void {
  const { starts, pages } = places;
  cacheWriteInto(keys, k, starts, pages);
  cacheWriteInto(values, v, starts, pages);
}

/**
 * Adds a layer's new keys and values to its memory, and returns the attention of the queries to their own sequences'
 * keys, [G, T, H, D], which is written to `into` unless it is null.
 */
export function storeAndAttend(
  into: FloatTensor | null,
  memory: LayerPages,
  tokens: NewTokens,
  places: PassPlaces,
  masks: AttentionOptions,
): FloatTensor {
  store(memory, tokens, places);
  const { starts: queryStarts, keyLengths, pages } = places;
  return attentionInto(into, tokens.q, memory.keys, memory.values, { ...masks, keyLengths, queryStarts, pages });
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
    const memory = this.#memory.layers[layer]!;
    const out: FloatTensor = allocate(q.shape, q.dtype, q.device);
    let first = 0;
    for (const group of this.#groups) {
      const sequences = group.starts.shape[0]!;
      const part = (x: FloatTensor): FloatTensor => groupOf(x, first, sequences, group.tokens);
      storeAndAttend(part(out), memory, { q: part(q), k: part(k), v: part(v) }, group, masks);
      first += sequences * group.tokens;
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
