import { add, mul } from "../ops/binary.js";
import { checkInteger } from "../ops/check.js";
import { embedding } from "../ops/embedding.js";
import { sinusoidalTable, type Sinusoids } from "../ops/sinusoidal-table.js";
import { narrow, reshape } from "../ops/views.js";
import { keep } from "../core/scope.js";
import { ones, tensor } from "../core/creation.js";
import type { FloatTensor } from "../core/tensor.js";
import { checkComputed, type Initializer } from "./init.js";
import type { AttentionCache } from "./attention-cache.js";
import { Module } from "./module.js";
import type { Observer } from "./observer.js";

/** Configuration of a `PositionEmbedding`. */
export interface PositionEmbeddingConfig {
  /** Number of positions. */
  length: number;
  /** C, the width of a vector. */
  width: number;
  /** Layout of the sinusoids to add (Vaswani et al. 2017, §3.5); null for a learned table. */
  sinusoids: Sinusoids | null;
  /** Standard deviation of the learned table's initial values. @default 0.02 */
  std?: number;
}

/** Lengths of the documents in each sequence. */
type Documents = readonly ArrayLike<number>[];

interface PositionOptions {
  cache?: AttentionCache | null;
  documents?: Documents | null;
  observer?: Observer | null;
}

/**
 * Table of position vectors, learned or sinusoidal, that are added to the vectors of tokens.
 *
 * @example
 * const positions = new PositionEmbedding({ length: 32, width: 16, sinusoids: null }, new Initializer(1, device()));
 * positions.forward(randn([2, 5, 16], { seed: 1 })).shape; // [2, 5, 16]
 */
export class PositionEmbedding extends Module {
  /** Table [positions, C]; a parameter if it is learned. */
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
   * Returns x [B, T, C] plus the vectors of its positions. With a cache, on which `begin` was called, x continues at
   * the end of each sequence. With `documents`, the lengths of the documents in each sequence, positions restart at 0
   * in each document. An observer sees the vectors of the positions as hook_pos_embed [B, T, C].
   */
  forward(x: FloatTensor, { cache = null, documents = null, observer = null }: PositionOptions = {}): FloatTensor {
    const [batch, tokens] = x.shape as [number, number, number];
    const vectors = this.#vectors(x, cache, documents); // [B, T, C] or [T, C]
    const listener = observer?.listener("hook_pos_embed");
    if (!listener) return add(x, vectors);
    const { device, dtype } = x;
    const each = ones([batch, 1, 1], { device, dtype });
    return add(x, listener(mul(reshape(vectors, [-1, tokens, x.shape[2]!]), each)));
  }

  /** Returns the vectors of the positions of x [B, T, C]: [T, C] if all sequences begin at 0, else [B, T, C]. */
  #vectors({ shape, dtype }: FloatTensor, cache: AttentionCache | null, documents: Documents | null): FloatTensor {
    const [batch, tokens] = shape as [number, number, number];
    if (!cache && !documents) return narrow(this.weight, 0, 0, tokens).to(dtype);
    const positions = documents
      ? tensor(inDocuments(documents, tokens), [batch, tokens], { device: this.weight.device })
      : cache!.positions(tokens, this.weight.shape[0]! - 1);
    return embedding(positions, this.weight, { dtype });
  }
}

/** Returns positions [B, T] that start at 0 in each document. */
function inDocuments(documents: Documents, tokens: number): Int32Array {
  const positions = new Int32Array(documents.length * tokens);
  for (const [b, lengths] of documents.entries()) {
    let at = b * tokens;
    for (const length of Array.from(lengths)) for (let t = 0; t < length; t++) positions[at++] = t;
  }
  return positions;
}
