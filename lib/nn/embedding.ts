import { checkInteger, checkObject } from "../ops/check.js";
import { embedding, type EmbeddingOptions } from "../ops/embedding.js";
import { quantizedEmbedding, type QuantizeOptions } from "../ops/quantize.js";
import type { Device } from "../device.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import type { Initializer } from "./init.js";
import { Module } from "./module.js";
import { QuantizedWeight } from "./quantized-weight.js";

/** A table of vectors, one for each id. */
export class Embedding extends Module {
  readonly weight: FloatTensor;
  /** What has taken the weight's place, if it was quantised. */
  quantized: QuantizedWeight | null = null;

  constructor(config: { count: number; width: number; std?: number }, init: Initializer) {
    super();
    checkObject("Embedding", "config", config);
    const { count, width, std = 0.02 } = config;
    checkInteger("Embedding", "count", count, 1);
    checkInteger("Embedding", "width", width, 1);
    this.weight = init.normal([count, width], std);
  }

  /** ids [...] → [..., C] */
  forward(ids: IntTensor, options: EmbeddingOptions = {}): FloatTensor {
    const { weight, quantized } = this;
    return quantized
      ? quantizedEmbedding(ids, quantized, { dtype: weight.dtype, ...options })
      : embedding(ids, weight, options);
  }

  get device(): Device {
    return (this.quantized?.codes ?? this.weight).device;
  }

  override quantize(options: QuantizeOptions = {}): this {
    if (this.quantized) return this;
    this.quantized = new QuantizedWeight(this.weight, options);
    this.weight.dispose();
    return this;
  }
}
