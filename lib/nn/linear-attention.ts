import { type Device, device as deviceOf } from "../core/device.js";
import { HeedError } from "../util/errors.js";
import { ops } from "../core/native.js";
import { checkFloat, checkInteger, checkObject, checkShapeIs } from "../ops/check.js";
import { type FeatureMap, linearAttention, type LinearState, retentionDecay } from "../ops/linear-attention.js";
import { keep } from "../core/scope.js";
import { zeros } from "../core/creation.js";
import type { FloatTensor } from "../core/tensor.js";
import { cutHeads, headSizeOf, joinHeads } from "./heads.js";
import type { Initializer } from "./init.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";

/** Configuration of a `LinearAttention` module. */
export interface LinearAttentionConfig {
  /** C, the width of input and output. */
  width: number;
  /** H, the number of heads. */
  heads: number;
  /** True if the projections have biases. @default true */
  bias?: boolean;
  /** Feature map φ of queries and keys. @default "elu" */
  featureMap?: FeatureMap;
  /** True if the output is divided by the sum of the weights. @default true */
  normalize?: boolean;
  /** True if weights fall with the distance, at a fixed rate for each head (RetNet, Sun et al. 2023). @default false */
  retention?: boolean;
  /** Order of the projections' weights in memory: [out, in] ("oi") or [in, out] ("io"). @default "oi" */
  layout?: "oi" | "io";
  /** Standard deviation of the initial weights. @default 0.02 */
  std?: number;
  /** Standard deviation of the output projection's initial weights. @default std */
  outputStd?: number;
}

/** Description of a pass that `LinearAttention` receives. */
export interface LinearAttentionContext {
  /** State of the earlier tokens, to which the new ones are added. It works only inside `noGrad()`. @default null */
  cache?: LinearAttentionCache | null;
  /** Index of this layer in the cache. @default 0 */
  layer?: number;
}

/**
 * Causal linear multi-head self-attention (Katharopoulos et al. 2020). Its parameters have the names and shapes of
 * `Attention`'s.
 *
 * @example
 * const attn = new LinearAttention({ width: 16, heads: 4 }, new Initializer(1, device()));
 * attn.forward(randn([2, 5, 16], { seed: 1 })).shape; // [2, 5, 16]
 *
 * @see https://arxiv.org/abs/2006.16236
 */
export class LinearAttention extends Module {
  readonly c_attn: Linear;
  readonly c_proj: Linear;
  readonly heads: number;
  readonly featureMap: FeatureMap;
  readonly normalize: boolean;
  /** Decay of each head's weights per token, f32 [H]; null without `retention`. */
  readonly decay: FloatTensor | null;

  constructor(config: LinearAttentionConfig, init: Initializer) {
    super();
    checkObject("LinearAttention", "config", config);
    const { width, heads, bias = true, layout = "oi", std = 0.02, outputStd = std } = config;
    const { featureMap = "elu", normalize = true, retention = false } = config;
    headSizeOf("LinearAttention", { width, heads });
    this.heads = heads;
    this.featureMap = featureMap;
    this.normalize = normalize;
    this.c_attn = new Linear({ inputs: width, outputs: 3 * width, bias, std, layout }, init);
    this.c_proj = new Linear({ inputs: width, outputs: width, bias, std: outputStd, layout }, init);
    this.decay = retention ? keep(retentionDecay(heads, { device: init.device })) : null;
  }

  /** Returns the attention's output [B, T, C] for x [B, T, C], plus `residual` [B, T, C] if one is given. */
  forward(x: FloatTensor, context: LinearAttentionContext = {}, residual: FloatTensor | null = null): FloatTensor {
    checkFloat("LinearAttention", "x", x);
    checkShapeIs("LinearAttention", "x", x, [-1, -1, -1]);
    const { heads, featureMap, normalize, decay } = this;
    const [q, k, v] = cutHeads(this.c_attn.forward(x), [heads, heads, heads]); // [B, T, H, D]
    const state = context.cache?.layerState(context.layer ?? 0) ?? null;
    const y = linearAttention(q, k, v, { featureMap, normalize, decay, state }); // [B, T, H, D]
    return this.c_proj.forward(joinHeads(y), { residual });
  }
}

/** Configuration of a `LinearAttentionCache`. */
export interface LinearAttentionCacheConfig {
  /** Number of attention layers. */
  layers: number;
  /** B, the number of sequences. */
  batch: number;
  /** H, the number of heads. */
  heads: number;
  /** D, the size of a head. */
  headSize: number;
  /** Device that holds the cache. */
  device: Device;
}

/**
 * State of linear attention after the tokens seen so far, for every layer. Its size does not depend on the number of
 * tokens.
 *
 * @example
 * const attn = new LinearAttention({ width: 16, heads: 4 }, new Initializer(1, device()));
 * using cache = new LinearAttentionCache({ layers: 1, batch: 2, heads: 4, headSize: 4, device: device() });
 * for (let t = 0; t < 3; t++) noGrad(() => attn.forward(randn([2, 1, 16], { seed: t }), { cache }));
 */
export class LinearAttentionCache implements Disposable {
  readonly layers: (LinearState & { normalizer: FloatTensor })[];

  constructor(config: LinearAttentionCacheConfig) {
    checkObject("LinearAttentionCache", "config", config);
    const { layers, batch, heads, headSize } = config;
    for (const [name, value] of Object.entries({ layers, batch, heads, headSize }))
      checkInteger("LinearAttentionCache", name, value, 1);
    const device = deviceOf(config.device);
    const make = (columns: number): FloatTensor => keep(zeros([batch, heads, headSize, columns], { device }));
    this.layers = Array.from({ length: layers }, () => ({ sums: make(headSize), normalizer: make(1) }));
  }

  /**
   * Returns the state of one layer.
   *
   * @throws ERR_RANGE if the cache has no such layer.
   */
  layerState(layer: number): LinearState {
    const state = this.layers[layer];
    if (!state)
      throw new HeedError(
        "ERR_RANGE",
        `LinearAttentionCache: expected a layer below ${this.layers.length}, got ${layer}`,
      );
    return state;
  }

  /** Forgets every token, so that the cache can be used for new sequences. */
  reset(): void {
    for (const { sums, normalizer } of this.layers)
      for (const x of [sums, normalizer]) {
        ops.fill({ out: x, value: 0 });
        x.overwritten();
      }
  }

  /** Frees the tensors. */
  dispose(): void {
    for (const { sums, normalizer } of this.layers) for (const x of [sums, normalizer]) x.dispose();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
