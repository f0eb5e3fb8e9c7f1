import { checkInteger, checkObject } from "../ops/check.js";
import { embedding, type EmbeddingOptions } from "../ops/embedding.js";
import { quantizedEmbedding } from "../ops/quantize.js";
import type { Device } from "../device.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import type { Initializer } from "./init.js";
import { WeightLayer } from "./weight-layer.js";

export interface EmbeddingConfig {
  count: number;
  width: number;
  /** Standard deviation of the first weights. @default 0.02 */
  std?: number;
  /** Whether `quantize` puts the table into few bits. @default true */
  quantizable?: boolean;
}

/** A table of vectors, one for each id. */
export class Embedding extends WeightLayer {
  readonly weight: FloatTensor;
  readonly layout = "oi";

  constructor(config: EmbeddingConfig, init: Initializer) {
    checkObject("Embedding", "config", config);
    super(config.quantizable);
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
}
