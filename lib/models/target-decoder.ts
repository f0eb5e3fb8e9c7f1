import { noGrad } from "../core/autograd.js";
import type { Device } from "../core/device.js";
import type { FloatDType } from "../core/dtype.js";
import { HeedError } from "../util/errors.js";
import { CrossMemory, type EncodedSource } from "../nn/cross-memory.js";
import { KvCache } from "../nn/kv-cache.js";
import { checkInteger } from "../ops/check.js";
import { scope } from "../core/scope.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import type { PassOptions } from "./pass.js";

/** Model with a decoder that attends to encoded sources. */
export interface SourceModel {
  /** Device that holds the model. */
  readonly device: Device;
  /** Dtype of the activations and logits. */
  readonly dtype: FloatDType;
  /** True if dropout is on. */
  readonly training: boolean;
  /** Turns dropout on. */
  train(): unknown;
  /** Turns dropout off. */
  eval(): unknown;
  /**
   * Returns the logits of the next token after each of ids i32 [B, T], of which sequence b is a target of source b. The
   * logits are [B, T, V], or [B, V] with `lastOnly`.
   */
  decode(ids: IntTensor, source: EncodedSource, options?: PassOptions): FloatTensor;
}

/**
 * Decoder of an encoder–decoder model together with the encoded sources that it attends to. It predicts the next token
 * of each target and is a `CausalModel`, so that it works with every function that generates or scores tokens.
 *
 * A cache holds a source for each of its sequences: for k·B sequences of B sources, sequence b belongs to source ⌊b/k⌋.
 * `KvCache.take` takes the sources along.
 *
 * @example
 * const model = new T5({ vocabularySize: 100, layers: 1, heads: 2, width: 16 });
 * using decoder = model.decoderFor(tensor([[7, 8, 9, 1]], [1, 4], { dtype: "i32" }));
 * using cache = decoder.createCache(1);
 * const start = tensor([[0]], [1, 1], { dtype: "i32" });
 * noGrad(() => decoder.forward(start, { cache, lastOnly: true })).shape; // [1, 100]
 */
export class TargetDecoder implements Disposable {
  readonly config: { readonly contextLength: number; readonly vocabularySize: number };
  /** True: generation may record a pass of one token and replay it; see `CausalModel.recordable`. */
  readonly recordable = true;
  readonly #model: SourceModel;
  readonly #memory: CrossMemory;

  /** @param encode is called once, by the constructor, with dropout off and without recording */
  constructor(
    model: SourceModel,
    encode: () => EncodedSource,
    config: { contextLength: number; vocabularySize: number },
  ) {
    this.config = config;
    this.#model = model;
    const { training } = model;
    if (training) model.eval();
    try {
      this.#memory = noGrad(() => scope(() => CrossMemory.of(encode())));
    } finally {
      if (training) model.train();
    }
  }

  /** Number of sources. */
  get sources(): number {
    return this.#memory.batch;
  }

  /** Device that holds the model. */
  get device(): Device {
    return this.#model.device;
  }

  /** True if the model's dropout is on. */
  get training(): boolean {
    return this.#model.training;
  }

  /** Turns the model's dropout on. */
  train(): this {
    this.#model.train();
    return this;
  }

  /** Turns the model's dropout off. */
  eval(): this {
    this.#model.eval();
    return this;
  }

  /** Returns the logits of the next token after each of ids i32 [B, T]: [B, T, V], or [B, V] with `lastOnly`. */
  forward(ids: IntTensor, options: PassOptions = {}): FloatTensor {
    return this.#model.decode(ids, options.cache?.memory ?? this.#memory, options);
  }

  /**
   * Returns an empty cache for `batch` sequences of up to `length` tokens, by default `contextLength`.
   *
   * @throws ERR_SHAPE if `batch` is not a multiple of the number of sources.
   * @throws ERR_RANGE if `length` is not from 1 to `contextLength`.
   */
  createCache(batch: number, length = this.config.contextLength): KvCache {
    checkInteger("TargetDecoder", "batch", batch, 1);
    checkInteger("TargetDecoder", "length", length, 1, this.config.contextLength);
    const each = batch / this.sources;
    if (!Number.isInteger(each))
      throw new HeedError("ERR_SHAPE", `TargetDecoder: expected a multiple of ${this.sources} sequences, got ${batch}`);
    const { layers } = this.#memory;
    const [, , heads, headSize] = layers[0]!.keys.shape as [number, number, number, number];
    const memory = this.#memory.take(Int32Array.from({ length: batch }, (_, row) => Math.floor(row / each)));
    const { device, dtype } = this.#model;
    return new KvCache({ layers: layers.length, batch, length, heads, headSize, device, dtype, memory });
  }

  /** Frees the encoded sources; the model stays. */
  dispose(): void {
    this.#memory.dispose();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Checks that there is a source for each sequence of ids [B, T].
 *
 * @throws ERR_SHAPE if there is not.
 */
export function checkSources(op: string, ids: IntTensor, source: EncodedSource): void {
  const rows = source.layers[0]!.keys.shape[0]!;
  if (rows !== ids.shape[0])
    throw new HeedError("ERR_SHAPE", `${op}: expected ids for ${rows} sources, got ${ids.shape[0]}`);
}
