import { checkInteger, checkObject } from "../ops/check.js";
import { embedding, type EmbeddingOptions } from "../ops/embedding.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import type { Initializer } from "./init.js";
import { Module } from "./module.js";

/** A table of vectors, one for each id. */
export class Embedding extends Module {
  readonly weight: FloatTensor;

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
    return embedding(ids, this.weight, options);
  }
}
