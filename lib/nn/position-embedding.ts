import { add } from "../ops/binary.js";
import { checkInteger } from "../ops/check.js";
import { embedding } from "../ops/embedding.js";
import { sinusoidalTable, type Sinusoids } from "../ops/sinusoidal-table.js";
import { narrow, reshape } from "../ops/views.js";
import { keep } from "../scope.js";
import { type FloatTensor, tensor } from "../tensor.js";
import type { Initializer } from "./init.js";
import type { KvCache } from "./kv-cache.js";
import { Module } from "./module.js";

export interface PositionEmbeddingConfig {
  /** The most positions. */
  length: number;
  width: number;
  /** Which sinusoids to add (Vaswani et al. 2017, §3.5); a learned table where it is null. */
  sinusoids: Sinusoids | null;
  /** Of the learned table. */
  std?: number;
}

/** Adds to each token's vector that of its position. */
export class PositionEmbedding extends Module {
  /** [positions, C]; a parameter where it is learned. */
  readonly weight: FloatTensor;

  constructor(config: PositionEmbeddingConfig, init: Initializer) {
    super();
    const { length, width, sinusoids, std = 0.02 } = config;
    checkInteger("PositionEmbedding", "length", length, 1);
    checkInteger("PositionEmbedding", "width", width, 1);
    this.weight = sinusoids
      ? keep(sinusoidalTable({ ...sinusoids, length, width, device: init.device }))
      : init.normal([length, width], std);
  }

  /** x [B, T, C] → [B, T, C]; with a cache, whose pass has begun, x goes on where the sequences stand. */
  forward(x: FloatTensor, cache: KvCache | null = null): FloatTensor {
    const [batch, tokens] = x.shape as [number, number, number];
    const { dtype } = x;
    if (!cache) return add(x, narrow(this.weight, 0, 0, tokens).to(dtype)); // [T, C]
    const ids = tokens === 1 ? reshape(cache.starts, [batch, 1]) : this.#behind(cache, tokens);
    return add(x, embedding(ids, this.weight, { dtype })); // [B, T, C]
  }

  /** The positions of the next tokens, [B, T]; padding may point anywhere. */
  #behind({ lengths, batch }: KvCache, tokens: number) {
    const last = this.weight.shape[0]! - 1;
    const positions = Int32Array.from({ length: batch * tokens }, (_, i) =>
      Math.min(lengths[Math.floor(i / tokens)]! + (i % tokens), last),
    );
    return tensor(positions, [batch, tokens], { device: this.weight.device });
  }
}
