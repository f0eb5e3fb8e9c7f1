// Blocks of T5's encoder and decoder (Raffel et al. 2020). Classes and parameters have the names of Hugging Face's
// files.
import { largest } from "../util/largest.js";
import { isRecording } from "../core/autograd.js";
import { tensor } from "../core/creation.js";
import type { FloatDType } from "../core/dtype.js";
import { attend, type AttentionContext, type AttentionRules, wantsScores } from "../nn/attend.js";
import {
  type AttentionProjections,
  type Block,
  type BlockParts,
  type BlockStack,
  type FeedForwardProjections,
  wholeLayer,
} from "../nn/block-parts.js";
import type { CrossSource } from "../nn/cross-attention.js";
import type { EncodedSource } from "../nn/cross-memory.js";
import { Dropout, type DropoutSeeds } from "../nn/dropout.js";
import { splitHeads } from "../nn/heads.js";
import type { Initializer } from "../nn/init.js";
import { Linear } from "../nn/linear.js";
import { Module } from "../nn/module.js";
import { type Observer, see } from "../nn/observer.js";
import { projectHeads } from "../nn/project-heads.js";
import { RelativePositionBias } from "../nn/relative-position-bias.js";
import { ResidualStream } from "../nn/residual-stream.js";
import { RmsNorm } from "../nn/rms-norm.js";
import { activate, type Activation } from "../ops/activation.js";
import { add, less } from "../ops/binary.js";
import { gated } from "../ops/gated.js";
import { log } from "../ops/unary.js";
import { reshape } from "../ops/views.js";
import { scope } from "../core/scope.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import type { KvCache } from "../nn/kv-cache.js";
import type { DecoderContext } from "./sequence-to-sequence.js";
import type { T5Config } from "./t5-config.js";

type FullConfig = Required<T5Config>;
type Residual = FloatTensor | null;

/** Description of a pass that self-attention receives. */
interface SelfContext extends Pick<AttentionContext, "cache" | "layer" | "observer" | "causal" | "keyLengths"> {
  /** Bias of the distances, f32 [H, 2·furthest + 1]; null if it needs a gradient. */
  relative: FloatTensor | null;
  /** Bias of the positions, [B or 1, H, T, Tk]; null if no layer needs it. */
  bias: FloatTensor | null;
}

/** Attention without a scale of its scores: the initial weights of the queries are smaller by 1/√D instead. */
class T5Attention extends Module implements AttentionRules {
  readonly scale = 1;
  readonly q: Linear;
  readonly k: Linear;
  readonly v: Linear;
  readonly o: Linear;
  /** Bias of positions, which the first block holds for its whole stack; null in the other blocks. */
  readonly relative_attention_bias: RelativePositionBias | null;
  readonly dropout: Dropout;
  readonly heads: number;

  constructor(config: FullConfig, bias: RelativePositionBias | null, init: Initializer, seeds: DropoutSeeds) {
    super();
    const { width, heads, headSize, dropout } = config;
    const inner = heads * headSize;
    const project = (std: number): Linear => new Linear({ inputs: width, outputs: inner, bias: false, std }, init);
    this.q = project((width * headSize) ** -0.5);
    this.k = project(width ** -0.5);
    this.v = project(width ** -0.5);
    this.o = new Linear({ inputs: inner, outputs: width, bias: false, std: inner ** -0.5 }, init);
    this.relative_attention_bias = bias;
    this.dropout = new Dropout(dropout, seeds);
    this.heads = heads;
  }

  /** Projections by role. */
  get projections(): AttentionProjections {
    const { q, k, v, o, heads } = this;
    return { q: wholeLayer(q), k: wholeLayer(k), v: wholeLayer(v), o: wholeLayer(o), heads, kvHeads: heads };
  }

  /** Returns the self-attention [B, T, C] of x [B, T, C], plus `residual` if there is one. */
  self(x: FloatTensor, context: SelfContext, residual: Residual): FloatTensor {
    const [q, k, v] = [this.#split(this.q, x), this.#split(this.k, x), this.#split(this.v, x)];
    return this.#project(attend(q, k, v, this, context), residual, context.observer?.at("attn"));
  }

  /** Returns the keys and values [B, S, H, D] of an encoded source [B, S, C]. */
  remember(encoded: FloatTensor): EncodedSource["layers"][number] {
    return { keys: this.#split(this.k, encoded), values: this.#split(this.v, encoded) };
  }

  /** Returns the attention [B, T, C] of x [B, T, C] to an encoded source, plus `residual` if there is one. */
  cross(x: FloatTensor, { keys, values, ...context }: CrossSource, residual: Residual): FloatTensor {
    const rules = { scale: this.scale, part: "cross_attn", dropout: this.dropout };
    const z = attend(this.#split(this.q, x), keys, values, rules, context); // [B, T, H·D]
    return this.#project(z, residual, context.observer?.at("cross_attn"));
  }

  #project(z: FloatTensor, residual: Residual, observer: Observer | null | undefined): FloatTensor {
    return projectHeads(z, this.o, { heads: this.heads, residual, observer });
  }

  /** Projects x [B, T, C] to heads [B, T, H, D]. */
  #split(projection: Linear, x: FloatTensor): FloatTensor {
    return splitHeads(projection.forward(x), this.heads);
  }
}

/** Feed-forward layers, plain (`wi`, `wo`) or gated (`wi_0`, `wi_1`, `wo`). */
class T5Dense extends Module {
  readonly wi: Linear | null;
  /** Gate of the gated form. */
  readonly wi_0: Linear | null;
  /** Layer that the gate multiplies. */
  readonly wi_1: Linear | null;
  readonly wo: Linear;
  readonly dropout: Dropout;
  readonly activation: Activation;

  constructor(config: FullConfig, init: Initializer, seeds: DropoutSeeds) {
    super();
    const { width, feedForwardWidth: hidden, dropout, activation } = config;
    const up = (): Linear => new Linear({ inputs: width, outputs: hidden, bias: false, std: width ** -0.5 }, init);
    this.wi = config.gated ? null : up();
    this.wi_0 = config.gated ? up() : null;
    this.wi_1 = config.gated ? up() : null;
    this.wo = new Linear({ inputs: hidden, outputs: width, bias: false, std: hidden ** -0.5 }, init);
    this.dropout = new Dropout(dropout, seeds);
    this.activation = activation;
  }

  /** Projections by role. */
  get projections(): FeedForwardProjections {
    const { wi, wi_0, wi_1, wo } = this;
    const down = wholeLayer(wo);
    if (wi) return { gate: null, up: wholeLayer(wi), down };
    return { gate: wholeLayer(wi_0!), up: wholeLayer(wi_1!), down };
  }

  /** Returns the output [B, T, C] for x [B, T, C], plus `residual` if there is one. */
  forward(x: FloatTensor, residual: Residual, observer: Observer | null): FloatTensor {
    const hidden = this.wi ? this.#plain(this.wi, x, observer) : this.#gated(x, observer);
    return this.wo.forward(this.dropout.forward(see(observer, "hook_post", hidden)), { residual });
  }

  #plain(wi: Linear, x: FloatTensor, observer: Observer | null): FloatTensor {
    const { activation } = this;
    const listener = observer?.listener("hook_pre");
    return listener ? activate(listener(wi.forward(x)), activation) : wi.forward(x, { activation });
  }

  #gated(x: FloatTensor, observer: Observer | null): FloatTensor {
    const gate = see(observer, "hook_pre", this.wi_0!.forward(x));
    return gated(gate, see(observer, "hook_pre_linear", this.wi_1!.forward(x)), this.activation);
  }
}

/** Base class of a block's parts: x + dropout(part(norm(x))). */
abstract class T5Part extends Module {
  readonly layer_norm: RmsNorm;
  readonly dropout: Dropout;

  constructor({ width, eps, dropout }: FullConfig, init: Initializer, seeds: DropoutSeeds) {
    super();
    this.layer_norm = new RmsNorm({ width, eps }, init);
    this.dropout = new Dropout(dropout, seeds);
  }

  /** @param names names of the part, of its norm and of the sum for an observer of the block */
  protected add(
    x: FloatTensor,
    part: (normed: FloatTensor, residual: Residual) => FloatTensor,
    [name, norm, place]: readonly ["attn" | "cross_attn" | "mlp", string, string],
    observer: Observer | null | undefined,
  ): FloatTensor {
    return scope(() => {
      const normed = this.layer_norm.forward(x, observer?.at(norm));
      return new ResidualStream(this.dropout, observer).add(name, place, x, (residual) => part(normed, residual));
    });
  }
}

class T5SelfAttention extends T5Part {
  readonly SelfAttention: T5Attention;

  constructor(config: FullConfig, bias: RelativePositionBias | null, init: Initializer, seeds: DropoutSeeds) {
    super(config, init, seeds);
    this.SelfAttention = new T5Attention(config, bias, init, seeds);
  }

  forward(x: FloatTensor, context: SelfContext): FloatTensor {
    const part = (normed: FloatTensor, residual: Residual): FloatTensor =>
      this.SelfAttention.self(normed, context, residual);
    return this.add(x, part, ["attn", "ln1", "mid"], context.observer);
  }
}

class T5CrossAttention extends T5Part {
  readonly EncDecAttention: T5Attention;

  constructor(config: FullConfig, init: Initializer, seeds: DropoutSeeds) {
    super(config, init, seeds);
    this.EncDecAttention = new T5Attention(config, null, init, seeds);
  }

  forward(x: FloatTensor, source: CrossSource): FloatTensor {
    const part = (normed: FloatTensor, residual: Residual): FloatTensor =>
      this.EncDecAttention.cross(normed, source, residual);
    return this.add(x, part, ["cross_attn", "ln2", "mid_cross"], source.observer);
  }
}

class T5FeedForward extends T5Part {
  readonly DenseReluDense: T5Dense;

  constructor(config: FullConfig, init: Initializer, seeds: DropoutSeeds) {
    super(config, init, seeds);
    this.DenseReluDense = new T5Dense(config, init, seeds);
  }

  /** @param norm name of the norm for an observer of the block */
  forward(x: FloatTensor, norm: string, observer: Observer | null): FloatTensor {
    const part = (normed: FloatTensor, residual: Residual): FloatTensor =>
      this.DenseReluDense.forward(normed, residual, observer?.at("mlp") ?? null);
    return this.add(x, part, ["mlp", norm, "post"], observer);
  }
}

class T5Block extends Module implements Block {
  readonly layer: [T5SelfAttention, T5FeedForward] | [T5SelfAttention, T5CrossAttention, T5FeedForward];

  constructor(
    config: FullConfig,
    bias: RelativePositionBias | null,
    decoder: boolean,
    init: Initializer,
    seeds: DropoutSeeds,
  ) {
    super();
    const attend = new T5SelfAttention(config, bias, init, seeds);
    const cross = decoder ? ([new T5CrossAttention(config, init, seeds)] as const) : ([] as const);
    this.layer = [attend, ...cross, new T5FeedForward(config, init, seeds)];
  }

  /** Parts by role. */
  get parts(): BlockParts {
    const [self, crossing] = this.layer;
    const cross = crossing instanceof T5CrossAttention ? crossing : null;
    const last = this.layer.at(-1) as T5FeedForward;
    return {
      attention: { ...self.SelfAttention.projections, norm: self.layer_norm },
      crossAttention: cross && { ...cross.EncDecAttention.projections, norm: cross.layer_norm },
      feedForward: { ...last.DenseReluDense.projections, norm: last.layer_norm },
      rotary: false,
      norms: "pre",
      residualScale: 1,
    };
  }

  /** Returns the keys and values that a decoder's block attends to, for an encoded source [B, S, C]. */
  remember(encoded: FloatTensor): EncodedSource["layers"][number] {
    return (this.layer[1] as T5CrossAttention).EncDecAttention.remember(encoded);
  }

  /** Returns the block's output [B, T, C] for x [B, T, C]. A decoder's block needs the `source` that it attends to. */
  forward(x: FloatTensor, context: SelfContext, source: CrossSource | null): FloatTensor {
    const [attend, ...rest] = this.layer;
    const { observer = null } = context;
    return scope(() => {
      x = attend.forward(see(observer, "hook_resid_pre", x), context);
      for (const part of rest)
        x =
          part instanceof T5FeedForward ? part.forward(x, `ln${rest.length + 1}`, observer) : part.forward(x, source!);
      return x;
    });
  }
}

/**
 * Description of a pass that a stack receives. A decoder needs no `keyLengths`: the padding at a target's end comes after
 * its real tokens, which therefore do not see it.
 */
export interface T5Context extends DecoderContext {
  /** Cache of the earlier tokens. @default null */
  cache?: KvCache | null;
}

/** Encoder or decoder of a T5: its blocks and the norm after them. */
export class T5Stack extends Module implements BlockStack {
  readonly block: T5Block[];
  readonly final_layer_norm: RmsNorm;
  readonly dropout: Dropout;
  /** False, because positions are biases of the scores. */
  readonly addsPositions = false;
  /** True if a token does not see the tokens after it. */
  readonly #causal: boolean;

  constructor(config: FullConfig, decoder: boolean, init: Initializer, seeds: DropoutSeeds) {
    super();
    this.#causal = decoder;
    const { layers, decoderLayers, heads, buckets, furthest, width, eps, dropout } = config;
    const bias = { heads, buckets, furthest, bothSides: !decoder, std: width ** -0.5 };
    this.block = Array.from({ length: decoder ? decoderLayers : layers }, (_, i) => {
      return new T5Block(config, i === 0 ? new RelativePositionBias(bias, init) : null, decoder, init, seeds);
    });
    this.final_layer_norm = new RmsNorm({ width, eps }, init);
    this.dropout = new Dropout(dropout, seeds);
  }

  get blocks(): readonly T5Block[] {
    return this.block;
  }

  get finalNorm(): RmsNorm {
    return this.final_layer_norm;
  }

  /** Returns the keys and values that each of a decoder's blocks attends to, for an encoded source [B, S, C]. */
  remember(encoded: FloatTensor, lengths: IntTensor | null): EncodedSource {
    return { layers: this.block.map((block) => block.remember(encoded)), lengths };
  }

  /** Returns the last block's output [B, T, C] for embedded words [B, T, C]. A decoder needs the encoded `source`. */
  forward(words: FloatTensor, source: EncodedSource | null, context: T5Context): FloatTensor {
    let x = this.dropout.forward(words);
    const { cache = null } = context;
    const causal = this.#causal;
    const keyLengths = causal ? null : (context.keyLengths ?? null);
    // Only the unfused attention has a gradient of the bias and scores to observe.
    const trains = isRecording();
    const observed = this.block.some((_, layer) => wantsScores(context.observer?.at(`${layer}.attn`) ?? null));
    const relative = trains ? null : this.#positions.table();
    const bias = trains || observed ? this.#bias(x, context) : null;
    for (const [layer, block] of this.block.entries()) {
      const observer = context.observer?.at(String(layer)) ?? null;
      const seen = source && { ...source.layers[layer]!, keyLengths: source.lengths, observer };
      const next = block.forward(x, { relative, bias, causal, keyLengths, cache, layer, observer }, seen);
      x.dispose();
      x = next;
    }
    return x;
  }

  /** Returns dropout(norm(x)) for the last block's output x [..., C]. `observer` is that of the norm. */
  finish(x: FloatTensor, observer: Observer | null | undefined): FloatTensor {
    return this.dropout.forward(this.final_layer_norm.forward(x, observer));
  }

  /** Returns the bias of positions for every block, [B or 1, H, T, Tk]. */
  #bias(x: FloatTensor, { cache = null, keyLengths = null }: T5Context): FloatTensor {
    const tokens = x.shape[1]!;
    const lengths = cache?.lengths ?? [0];
    const starts = lengths.every((length) => length === lengths[0]) ? lengths.slice(0, 1) : lengths;
    const bias = this.#positions.forward(starts, tokens, largest(starts) + tokens, x.dtype);
    return keyLengths && !this.#causal ? add(bias, paddingMask(keyLengths, tokens, x.dtype)) : bias;
  }

  get #positions(): RelativePositionBias {
    return this.block[0]!.layer[0].SelfAttention.relative_attention_bias!;
  }
}

/** Returns a mask [B, 1, 1, S] that is 0 for the first lengths[b] tokens and −∞ for padding. */
function paddingMask(lengths: IntTensor, tokens: number, dtype: FloatDType): FloatTensor {
  const positions = tensor(
    Float32Array.from({ length: tokens }, (_, t) => t),
    [tokens],
    { device: lengths.device },
  );
  const real = less(positions, reshape(lengths.to("f32"), [-1, 1, 1, 1]));
  return log(real).to(dtype);
}
