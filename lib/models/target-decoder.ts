import { noGrad } from "../autograd.js";
import type { Device } from "../device.js";
import type { FloatDType } from "../dtype.js";
import { HeedError } from "../errors.js";
import { CrossMemory, type EncodedSource } from "../nn/cross-memory.js";
import { KvCache } from "../nn/kv-cache.js";
import { checkInteger } from "../ops/check.js";
import { scope } from "../scope.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import type { PassOptions } from "./pass.js";

/** A model with a decoder that looks at encoded sources. */
export interface SourceModel {
  readonly device: Device;
  readonly dtype: FloatDType;
  readonly training: boolean;
  /**
   * Whether attention is made of operations on the whole of a cache, with masks from the host: caches then begin with
   * zeros, and passes cannot be recorded. false unless given.
   */
  readonly readsWholeCache?: boolean;
  train(): unknown;
  eval(): unknown;
  /** ids i32 [B, T] → logits [B, T, V], or [B, V] with `lastOnly`; in sequence b, what follows for source b. */
  decode(ids: IntTensor, source: EncodedSource, options?: PassOptions): FloatTensor;
}

/**
 * The decoder of an encoder–decoder together with the sources that it is to look at: a model that predicts the next
 * token of each target, as a `CausalModel` does, so that whatever generates with one generates with this.
 *
 * A cache has a source for each sequence: sequence b of k·B that of source ⌊b/k⌋. Where sequences are taken from it, they
 * take their sources with them.
 */
export class TargetDecoder implements Disposable {
  readonly config: { readonly contextLength: number; readonly vocabularySize: number };
  /** See CausalModel. */
  readonly recordable: boolean;
  readonly #model: SourceModel;
  readonly #memory: CrossMemory;

  /** `encode` is called at once, for inference: dropout off and nothing recorded. */
  constructor(
    model: SourceModel,
    encode: () => EncodedSource,
    config: { contextLength: number; vocabularySize: number },
  ) {
    this.config = config;
    this.recordable = !model.readsWholeCache;
    this.#model = model;
    const { training } = model;
    if (training) model.eval();
    try {
      this.#memory = noGrad(() => scope(() => CrossMemory.of(encode())));
    } finally {
      if (training) model.train();
    }
  }

  /** How many sources there are. */
  get sources(): number {
    return this.#memory.batch;
  }

  get device(): Device {
    return this.#model.device;
  }

  get training(): boolean {
    return this.#model.training;
  }

  train(): this {
    this.#model.train();
    return this;
  }

  eval(): this {
    this.#model.eval();
    return this;
  }

  /** ids i32 [B, T] → logits [B, T, V], or [B, V] with `lastOnly`. */
  forward(ids: IntTensor, options: PassOptions = {}): FloatTensor {
    return this.#model.decode(ids, options.cache?.memory ?? this.#memory, options);
  }

  /** Returns an empty cache for `batch` sequences of up to `length` tokens, by default as many as the context has. */
  createCache(batch: number, length = this.config.contextLength): KvCache {
    checkInteger("TargetDecoder", "batch", batch, 1);
    checkInteger("TargetDecoder", "length", length, 1, this.config.contextLength);
    const each = batch / this.sources;
    if (!Number.isInteger(each))
      throw new HeedError("ERR_SHAPE", `TargetDecoder: expected a multiple of ${this.sources} sequences, got ${batch}`);
    const { layers } = this.#memory;
    const [, , heads, headSize] = layers[0]!.keys.shape as [number, number, number, number];
    const memory = this.#memory.take(Int32Array.from({ length: batch }, (_, row) => Math.floor(row / each)));
    const { device, dtype, readsWholeCache: zeroed = false } = this.#model;
    return new KvCache({ layers: layers.length, batch, length, heads, headSize, device, dtype, memory, zeroed });
  }

  dispose(): void {
    this.#memory.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Throws unless there is a source for each sequence of ids [B, T]. */
export function checkSources(op: string, ids: IntTensor, source: EncodedSource): void {
  const rows = source.layers[0]!.keys.shape[0]!;
  if (rows !== ids.shape[0])
    throw new HeedError("ERR_SHAPE", `${op}: expected ids of ${rows} sources, got ${ids.shape[0]}`);
}
