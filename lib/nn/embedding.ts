import { checkInteger, checkObject } from "../ops/check.js";
import { embedding, type EmbeddingOptions } from "../ops/embedding.js";
import { quantizedEmbedding } from "../ops/quantize.js";
import type { Device } from "../core/device.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import type { Initializer } from "./init.js";
import { WeightLayer } from "./weight-layer.js";

/** Configuration of an `Embedding`. */
export interface EmbeddingConfig {
  /** Number of ids, and so of vectors. */
  count: number;
  /** C, the width of a vector. */
  width: number;
  /** Standard deviation of the initial weights. @default 0.02 */
  std?: number;
  /** True if `quantize` also quantises this table. @default true */
  quantizable?: boolean;
}

/**
 * Table of vectors, one for each id.
 *
 * @example
 * const table = new Embedding({ count: 256, width: 16 }, new Initializer(1, device()));
 * table.forward(tensor([[72, 105]], [1, 2], { dtype: "i32" })).shape; // [1, 2, 16]
 */
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

  /** Returns the vectors [..., C] of ids i32 [...]. */
  forward(ids: IntTensor, options: EmbeddingOptions = {}): FloatTensor {
    const { weight, quantized } = this;
    return quantized
      ? quantizedEmbedding(ids, quantized, { dtype: weight.modelDType, ...options })
      : embedding(ids, weight, options);
  }

  /** Device that holds the table. */
  get device(): Device {
    return (this.quantized ?? this.weight).device;
  }
}
