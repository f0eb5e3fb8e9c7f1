import type { FloatDType } from "../core/dtype.js";
import { HeedError } from "../util/errors.js";
import { attend, type AttentionContext, type AttentionRules } from "../nn/attend.js";
import { type AttentionProjections, type Block, type BlockParts, wholeLayer } from "../nn/block-parts.js";
import { Dropout, type DropoutSeeds } from "../nn/dropout.js";
import { Embedding } from "../nn/embedding.js";
import { twoLayers } from "../nn/feed-forward.js";
import { splitHeads } from "../nn/heads.js";
import type { Initializer } from "../nn/init.js";
import { LayerNorm } from "../nn/layer-norm.js";
import { Linear } from "../nn/linear.js";
import { Module } from "../nn/module.js";
import { type Observer, see } from "../nn/observer.js";
import { projectHeads } from "../nn/project-heads.js";
import { ResidualStream } from "../nn/residual-stream.js";
import type { Activation } from "../ops/activation.js";
import { add, mul } from "../ops/binary.js";
import { checkDType, checkObject, checkShapeIs, checkTensor } from "../ops/check.js";
import { tanh } from "../ops/unary.js";
import { narrow, reshape } from "../ops/views.js";
import { scope } from "../core/scope.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import { type BertConfig, checkBertConfig } from "./bert-config.js";
import { Encoder, type EncoderForwardOptions } from "./encoder.js";
import { checkPass } from "./pass.js";
import { initializerOf, type ModelOptions } from "./model.js";

type BertContext = Pick<AttentionContext, "keyLengths" | "observer">;

/** Linear layer inside a module, which gives its parameters the names of the published files. */
class Dense extends Module {
  readonly dense: Linear;

  constructor(inputs: number, outputs: number, init: Initializer) {
    super();
    this.dense = new Linear({ inputs, outputs }, init);
  }
}

/**
 * Second part of each half of a layer: a linear layer back to width C, the residual connection and the norm
 * (post-norm).
 */
class BertOutput extends Module {
  readonly dense: Linear;
  readonly LayerNorm: LayerNorm;
  readonly dropout: Dropout;

  constructor(inputs: number, { width, eps, dropout }: Required<BertConfig>, init: Initializer, seeds: DropoutSeeds) {
    super();
    this.dense = new Linear({ inputs, outputs: width }, init);
    this.LayerNorm = new LayerNorm({ width, eps }, init);
    this.dropout = new Dropout(dropout, seeds);
  }

  /**
   * Returns the norm of residual + dropout(part). Without dropout, `part` receives the residual and adds it itself,
   * fused into its last product; with dropout it receives null.
   *
   * @param names names of the part, of the norm and of the sum for an observer of the layer
   */
  join(
    residual: FloatTensor,
    part: (residual: FloatTensor | null) => FloatTensor,
    [name, norm, place]: readonly ["attn" | "mlp", string, string],
    observer: Observer | null | undefined,
  ): FloatTensor {
    const { training, p } = this.dropout;
    if (!observer && training && p > 0) return this.LayerNorm.add(this.dropout.forward(part(null)), residual).out;
    const sum = new ResidualStream(this.dropout, observer).add(name, place, residual, part);
    return this.LayerNorm.forward(sum, observer?.at(norm));
  }
}

/**
 * Self-attention with separate products for queries, keys and values, as in the published files. One packed product
 * would not be faster: on the CPU, at B 32, T 128, C 384, it takes as long.
 */
class BertSelfAttention extends Module implements AttentionRules {
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly dropout: Dropout;
  readonly heads: number;

  constructor(config: Required<BertConfig>, init: Initializer, seeds: DropoutSeeds) {
    super();
    const { width, heads } = config;
    this.query = new Linear({ inputs: width, outputs: width }, init);
    this.key = new Linear({ inputs: width, outputs: width }, init);
    this.value = new Linear({ inputs: width, outputs: width }, init);
    this.dropout = new Dropout(config.attentionDropout, seeds);
    this.heads = heads;
  }

  /** Projections by role, without that of the output, which is in another module. */
  get projections(): Omit<AttentionProjections, "o"> {
    const { query, key, value, heads } = this;
    return { q: wholeLayer(query), k: wholeLayer(key), v: wholeLayer(value), heads, kvHeads: heads };
  }

  /** Returns the attention [B, T, C] of x [B, T, C], before the output projection. */
  forward(x: FloatTensor, context: BertContext): FloatTensor {
    const [q, k, v] = [this.query, this.key, this.value].map((part) => splitHeads(part.forward(x), this.heads));
    return attend(q!, k!, v!, this, context); // q, k, v: [B, T, H, D]
  }
}

class BertAttention extends Module {
  readonly self: BertSelfAttention;
  readonly output: BertOutput;

  constructor(config: Required<BertConfig>, init: Initializer, seeds: DropoutSeeds) {
    super();
    this.self = new BertSelfAttention(config, init, seeds);
    // A DistilBERT drops nothing of what its attention adds.
    const dropout = config.family === "distilbert" ? 0 : config.dropout;
    this.output = new BertOutput(config.width, { ...config, dropout }, init, seeds);
  }

  /** Returns the normalised sum [B, T, C] of x [B, T, C] and its attention. */
  forward(x: FloatTensor, context: BertContext): FloatTensor {
    const y = this.self.forward(x, context);
    const { heads } = this.self;
    const { dense } = this.output;
    const { observer } = context;
    const project = (residual: FloatTensor | null): FloatTensor =>
      projectHeads(y, dense, { heads, residual, observer: observer?.at("attn") });
    return this.output.join(x, project, ["attn", "ln1", "mid"], observer);
  }
}

/** Layer of attention and feed-forward, each followed by a residual connection and a layer norm. */
class BertLayer extends Module implements Block {
  readonly attention: BertAttention;
  readonly intermediate: Dense;
  readonly output: BertOutput;
  readonly activation: Activation;

  constructor(config: Required<BertConfig>, init: Initializer, seeds: DropoutSeeds) {
    super();
    this.attention = new BertAttention(config, init, seeds);
    this.intermediate = new Dense(config.width, config.feedForwardWidth, init);
    this.output = new BertOutput(config.feedForwardWidth, config, init, seeds);
    this.activation = config.activation;
  }

  /** Parts by role. */
  get parts(): BlockParts {
    const { self, output } = this.attention;
    const [up, down] = [wholeLayer(this.intermediate.dense), wholeLayer(this.output.dense)];
    return {
      attention: { ...self.projections, o: wholeLayer(output.dense), norm: null },
      crossAttention: null,
      feedForward: { gate: null, up, down, norm: null },
      rotary: false,
      norms: "post",
      residualScale: 1,
    };
  }

  /** Returns the layer's output [B, T, C] for x [B, T, C]. */
  forward(x: FloatTensor, context: BertContext): FloatTensor {
    const { activation } = this;
    const layers = { up: this.intermediate.dense, down: this.output.dense };
    const { observer } = context;
    return scope(() => {
      const h = this.attention.forward(see(observer, "hook_resid_pre", x), context);
      const part = (residual: FloatTensor | null): FloatTensor =>
        twoLayers(h, layers, { activation, residual, observer: observer?.at("mlp") });
      return see(observer, "hook_normalized_resid_post", this.output.join(h, part, ["mlp", "ln2", "post"], observer));
    });
  }
}

/** Normalised sum of the vectors of a token, of its position and of its type. */
class BertEmbeddings extends Module {
  readonly word_embeddings: Embedding;
  readonly position_embeddings: Embedding;
  /** Vectors of the token types; null if the model has no token types. */
  readonly token_type_embeddings: Embedding | null;
  readonly LayerNorm: LayerNorm;
  readonly dropout: Dropout;
  readonly firstPosition: number;

  constructor(config: Required<BertConfig>, init: Initializer, seeds: DropoutSeeds) {
    super();
    const { vocabularySize, contextLength, firstPosition, tokenTypes, width, eps } = config;
    this.word_embeddings = new Embedding({ count: vocabularySize, width }, init);
    // Only the table of tokens is quantised, because the others are small.
    const small = { width, quantizable: false };
    this.position_embeddings = new Embedding({ ...small, count: firstPosition + contextLength }, init);
    this.token_type_embeddings = tokenTypes > 0 ? new Embedding({ ...small, count: tokenTypes }, init) : null;
    this.LayerNorm = new LayerNorm({ width, eps }, init);
    this.dropout = new Dropout(config.dropout, seeds);
    this.firstPosition = firstPosition;
  }

  /**
   * Returns the normalised vectors [B, T, C] of ids i32 [B, T]. An observer sees hook_embed, hook_pos_embed and
   * hook_token_type_embed, all [B, T, C], and the norm `ln`.
   */
  forward(
    ids: IntTensor,
    tokenTypes: IntTensor | null,
    dtype: FloatDType,
    observer: Observer | null = null,
  ): FloatTensor {
    const { position_embeddings: positions, token_type_embeddings: types, firstPosition } = this;
    const rows = (table: Embedding, first: number, count: number): FloatTensor => {
      const cut = narrow(table.weight, 0, first, count);
      return cut.dtype === dtype ? cut : cut.to(dtype);
    };
    const words = see(observer, "hook_embed", this.word_embeddings.forward(ids, { dtype }));
    /** Returns vectors as the hook of this name receives and replaces them, [B, T, C]. */
    const seen = (name: string, vectors: FloatTensor): FloatTensor => {
      const listener = observer?.listener(name);
      return listener ? listener(add(vectors, mul(words, 0))) : vectors;
    };
    let x = add(words, seen("hook_pos_embed", rows(positions, firstPosition, ids.shape[1]!)));
    if (types)
      x = add(x, seen("hook_token_type_embed", tokenTypes ? types.forward(tokenTypes, { dtype }) : rows(types, 0, 1)));
    return this.dropout.forward(this.LayerNorm.forward(x, observer?.at("ln")));
  }
}

class BertEncoder extends Module {
  readonly layer: BertLayer[];

  constructor(config: Required<BertConfig>, init: Initializer, seeds: DropoutSeeds) {
    super();
    this.layer = Array.from({ length: config.layers }, () => new BertLayer(config, init, seeds));
  }
}

/**
 * BERT (Devlin et al. 2019): a post-norm encoder in which all tokens see each other. Its configuration also covers
 * RoBERTa (Liu et al. 2019), XLM-RoBERTa, DistilBERT and MiniLM. Parameters have the names and layouts of Hugging
 * Face's BERT; for the other families, `bertFileName` maps them to the names in the files.
 *
 * @example
 * const bert = new Bert({ vocabularySize: 100, contextLength: 16, layers: 2, heads: 2, width: 16 });
 * const ids = tensor([[7, 8, 9]], [1, 3], { dtype: "i32" });
 * const states = bert.forward(ids); // [1, 3, 16]
 * bert.pooled(states).shape; // [1, 16]
 *
 * @see https://arxiv.org/abs/1810.04805
 */
export class Bert extends Encoder {
  readonly embeddings: BertEmbeddings;
  readonly encoder: BertEncoder;
  /** Dense layer of `pooled`; null if the configuration has no pooler. */
  readonly pooler: Dense | null;
  /** Complete configuration, with every default filled in. */
  readonly config: Required<BertConfig>;
  readonly finalNorm = null;
  readonly addsPositions = true;

  constructor(config: BertConfig, options: ModelOptions = {}) {
    super("Bert", options);
    this.config = checkBertConfig(config);
    const init = initializerOf(options);
    this.embeddings = new BertEmbeddings(this.config, init, this.dropoutSeeds);
    this.encoder = new BertEncoder(this.config, init, this.dropoutSeeds);
    const { pooler, width } = this.config;
    this.pooler = pooler ? new Dense(width, width, init) : null;
  }

  get tokens(): Embedding {
    return this.embeddings.word_embeddings;
  }

  get blocks(): readonly Block[] {
    return this.encoder.layer;
  }

  /**
   * Returns the states [B, T, C] of the tokens ids i32 [B, T].
   *
   * @throws ERR_SHAPE if T is 0 or above `contextLength`, or an option's shape does not fit.
   * @throws ERR_ARGUMENT if `tokenTypes` are given to a model without token types.
   */
  forward(ids: IntTensor, options: EncoderForwardOptions = {}): FloatTensor {
    checkObject("Bert", "options", options);
    const { tokenTypes = null, keyLengths = null, observer = null } = options;
    checkPass("Bert", ids, { observer }, this.config.contextLength);
    if (tokenTypes) this.#checkTokenTypes(tokenTypes, ids);
    return scope(() => {
      const embedded = this.embeddings.forward(ids, tokenTypes, this.dtype, observer?.at("embed")); // [B, T, C]
      let x = see(observer, "hook_full_embed", embedded);
      for (const [i, layer] of this.encoder.layer.entries()) {
        const next = layer.forward(x, { keyLengths, observer: observer?.at(`blocks.${i}`) ?? null });
        x.dispose();
        x = next;
      }
      return x;
    });
  }

  /**
   * Returns tanh(pooler(state of the first token)) for each sequence, [B, C], from the states [B, T, C].
   *
   * @throws ERR_ARGUMENT if the model has no pooler.
   */
  pooled(states: FloatTensor): FloatTensor {
    const { pooler } = this;
    if (!pooler) throw new HeedError("ERR_ARGUMENT", "Bert: expected a model with a pooler, got one without");
    checkTensor("Bert", "states", states);
    checkShapeIs("Bert", "states", states, [-1, -1, this.config.width]);
    return scope(() => tanh(pooler.dense.forward(firstTokens(states))));
  }

  #checkTokenTypes(tokenTypes: IntTensor, ids: IntTensor): void {
    if (this.config.tokenTypes === 0)
      throw new HeedError("ERR_ARGUMENT", "Bert: expected no tokenTypes for a model without token types, got some");
    checkTensor("Bert", "tokenTypes", tokenTypes, ids);
    checkDType("Bert", "tokenTypes", tokenTypes, "i32");
    checkShapeIs("Bert", "tokenTypes", tokenTypes, ids.shape);
  }
}

/** Returns the state of each sequence's first token, [B, C], from the states [B, T, C]. */
export function firstTokens(states: FloatTensor): FloatTensor {
  const [batch, , width] = states.shape as [number, number, number];
  return reshape(narrow(states, 1, 0, 1), [batch, width]);
}
