import { type Device, device as deviceOf } from "../device.js";
import { HeedError } from "../errors.js";
import { ops } from "../native.js";
import { checkFloat, checkInteger, checkObject, checkShapeIs } from "../ops/check.js";
import { type FeatureMap, linearAttention, type LinearState, retentionDecay } from "../ops/linear-attention.js";
import { keep } from "../scope.js";
import { zeros } from "../creation.js";
import type { FloatTensor } from "../tensor.js";
import { cutHeads, headSizeOf, joinHeads } from "./heads.js";
import type { Initializer } from "./init.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";

export interface LinearAttentionConfig {
  width: number;
  heads: number;
  bias?: boolean;
  /** Of queries and keys; "elu" unless given. */
  featureMap?: FeatureMap;
  /** Divides by the sum of the weights; true unless given. */
  normalize?: boolean;
  /** Weights fall with the distance, at each head's own rate (RetNet, Sun et al. 2023); false unless given. */
  retention?: boolean;
  layout?: "oi" | "io";
  std?: number;
  /** Standard deviation of the output projection. */
  outputStd?: number;
}

export interface LinearAttentionContext {
  /** Earlier tokens; the new ones are added to it. Without gradients. */
  cache?: LinearAttentionCache | null;
  /** Which of the cache's layers this is. */
  layer?: number;
}

/** Causal linear multi-head self-attention (Katharopoulos et al. 2020), with the parameters of `Attention`. */
export class LinearAttention extends Module {
  readonly c_attn: Linear;
  readonly c_proj: Linear;
  readonly heads: number;
  readonly featureMap: FeatureMap;
  readonly normalize: boolean;
  /** f32 [heads] */
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

  /** x [B, T, C] → [B, T, C], with `residual` added if given. */
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

export interface LinearAttentionCacheConfig {
  layers: number;
  batch: number;
  heads: number;
  headSize: number;
  device: Device;
}

/** What linear attention keeps of the tokens seen so far, for every layer: as much after a million as after one. */
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

  layerState(layer: number): LinearState {
    const state = this.layers[layer];
    if (!state)
      throw new HeedError(
        "ERR_RANGE",
        `LinearAttentionCache: expected a layer below ${this.layers.length}, got ${layer}`,
      );
    return state;
  }

  /** Forgets every token. */
  reset(): void {
    for (const { sums, normalizer } of this.layers)
      for (const x of [sums, normalizer]) {
        ops.fill({ out: x, value: 0 });
        x.overwritten();
      }
  }

  dispose(): void {
    for (const { sums, normalizer } of this.layers) for (const x of [sums, normalizer]) x.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
