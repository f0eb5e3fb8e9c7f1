import { add } from "../ops/binary.js";
import { checkInteger } from "../ops/check.js";
import { embedding } from "../ops/embedding.js";
import { sinusoidalTable, type Sinusoids } from "../ops/sinusoidal-table.js";
import { narrow, reshape } from "../ops/views.js";
import { keep } from "../scope.js";
import { tensor } from "../creation.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import { checkComputed, type Initializer } from "./init.js";
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
    if (sinusoids) checkComputed([length, width]);
    this.weight = sinusoids
      ? keep(sinusoidalTable({ ...sinusoids, length, width, device: init.device }))
      : init.normal([length, width], std);
  }

  /**
   * x [B, T, C] → [B, T, C]. With a cache, whose pass has begun, x goes on where the sequences stand; where sequences are
   * packed from documents of the given lengths, positions start again with each.
   */
  forward(
    x: FloatTensor,
    {
      cache = null,
      documents = null,
    }: { cache?: KvCache | null; documents?: readonly ArrayLike<number>[] | null } = {},
  ): FloatTensor {
    const [batch, tokens] = x.shape as [number, number, number];
    const { dtype } = x;
    if (!cache && !documents) return add(x, narrow(this.weight, 0, 0, tokens).to(dtype)); // [T, C]
    if (cache && tokens === 1) return this.#added(x, reshape(cache.starts, [batch, 1]));
    const positions = documents ? inDocuments(documents, tokens) : this.#behind(cache!, tokens);
    return this.#added(x, tensor(positions, [batch, tokens], { device: this.weight.device }));
  }

  /** positions i32 [B, T] */
  #added(x: FloatTensor, positions: IntTensor): FloatTensor {
    return add(x, embedding(positions, this.weight, { dtype: x.dtype })); // [B, T, C]
  }

  /** Each sequence goes on where it stood; padding may point anywhere. */
  #behind({ lengths, batch }: KvCache, tokens: number): Int32Array {
    const last = this.weight.shape[0]! - 1;
    return Int32Array.from({ length: batch * tokens }, (_, i) =>
      Math.min(lengths[Math.floor(i / tokens)]! + (i % tokens), last),
    );
  }
}

/** Each document begins at position 0. */
function inDocuments(documents: readonly ArrayLike<number>[], tokens: number): Int32Array {
  const positions = new Int32Array(documents.length * tokens);
  for (const [b, lengths] of documents.entries()) {
    let at = b * tokens;
    for (const length of Array.from(lengths)) for (let t = 0; t < length; t++) positions[at++] = t;
  }
  return positions;
}
