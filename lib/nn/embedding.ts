import { embedding } from "../ops/embedding.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import type { Initializer } from "./init.js";
import { Module } from "./module.js";

/** A table of vectors, one for each id. */
export class Embedding extends Module {
  readonly weight: FloatTensor;

  constructor({ count, width, std = 0.02 }: { count: number; width: number; std?: number }, init: Initializer) {
    super();
    this.weight = init.normal([count, width], std);
  }

  /** ids [...] → [..., C] */
  forward(ids: IntTensor): FloatTensor {
    return embedding(ids, this.weight);
  }
}
