/**
 * Models for the tests of generation: a small GPT whose next token depends on all tokens before it, and a model whose
 * next token is fixed.
 */
import { isRecording } from "../../lib/core/autograd.js";
import type { CausalModel } from "../../lib/generate/causal-model.js";
import type { PassOptions } from "../../lib/models/pass.js";
import { type Device, device as deviceOf } from "../../lib/core/device.js";
import { GPT } from "../../lib/models/gpt.js";
import type { GptConfig } from "../../lib/models/gpt-config.js";
import { KvCache } from "../../lib/nn/kv-cache.js";
import { embedding } from "../../lib/ops/embedding.js";
import { reshape } from "../../lib/ops/views.js";
import { tensor, zeros } from "../../lib/core/creation.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { Random } from "../support/random.js";
import { targets } from "../support/targets.js";

/** The devices, with the absent CUDA device if there is none (test/support/targets.ts). */
export const devices: readonly string[] = [...new Set(targets.map(({ device }) => device))];

/**
 * Returns a GPT with weights much larger than training begins with, especially those of the blocks. Its logits differ
 * by several units, and its next token depends on the whole context. It is in training mode, with dropout, which
 * generation has to turn off.
 */
export function smallGpt(device: string, config: Partial<GptConfig> = {}): GPT {
  const size = { vocabularySize: 61, contextLength: 24, layers: 2, heads: 4, width: 32, dropout: 0.3 };
  const model = new GPT({ ...size, ...config }, { device });
  const random = new Random(5);
  for (const [name, weight] of model.namedParameters()) {
    const std = name.startsWith("h.") ? 0.5 : 0.3;
    if (weight.shape.length === 2) weight.set(Array.from({ length: weight.size }, () => std * random.normal()));
  }
  return model.train();
}

/** Returns token ids below `limit` that look random. */
export function someTokens(length: number, seed: number, limit = 61): number[] {
  const random = new Random(seed);
  return Array.from({ length }, () => random.integer(limit));
}

/** A model that follows each token by a fixed next one, and records its calls. */
export class RoteModel implements CausalModel, Disposable {
  readonly config: { contextLength: number; vocabularySize: number };
  readonly device: Device;
  training = false;
  /** Shape of the ids of every forward pass. */
  readonly passes: number[][] = [];
  /** True if a pass was to be recorded for `backward()`. */
  recorded = false;
  /** The logits after each token: [V, V]. */
  readonly table: FloatTensor;

  constructor(next: readonly number[], device: string, contextLength = 32) {
    const vocabularySize = next.length;
    this.config = { contextLength, vocabularySize };
    this.device = deviceOf(device);
    const logits = new Float32Array(vocabularySize ** 2);
    for (const [token, follower] of next.entries()) logits[token * vocabularySize + follower] = 100;
    this.table = tensor(logits, [vocabularySize, vocabularySize], { device });
  }

  train(): void {
    this.training = true;
  }

  eval(): void {
    this.training = false;
  }

  createCache(batch: number, length = this.config.contextLength): KvCache {
    return new KvCache({ layers: 1, batch, length, heads: 1, headSize: 1, device: this.device });
  }

  forward(ids: IntTensor, { cache, counts, lastOnly }: PassOptions = {}): FloatTensor {
    const [batch, length] = ids.shape as [number, number];
    this.passes.push([batch, length]);
    this.recorded ||= isRecording();
    cache?.begin(length, counts);
    cache?.write(
      0,
      zeros([batch, length, 1, 1], { device: this.device }),
      zeros([batch, length, 1, 1], { device: this.device }),
    );
    cache?.advance();
    const logits = embedding(ids, this.table); // [B, T, V]
    if (!lastOnly) return logits;
    const rows = Int32Array.from({ length: batch }, (_, b) => b * length + (counts?.[b] ?? length) - 1);
    const flat = reshape(logits, [batch * length, this.config.vocabularySize]);
    return embedding(tensor(rows, [batch], { device: this.device }), flat);
  }

  [Symbol.dispose](): void {
    this.table.dispose();
  }
}

/** Returns the next tokens of 0 → 1 → … → n − 1 → 0. */
export function circle(n: number): number[] {
  return Array.from({ length: n }, (_, token) => (token + 1) % n);
}
