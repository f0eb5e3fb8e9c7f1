/** The cases that are measured on the CPU and on a CUDA card, and small ones that show only that a suite works. */
import { type BertConfig, gpt2Sizes, type GptConfig } from "heed";
import type { Case, Setting } from "./case.js";
import { adamw } from "./cases/adamw.js";
import { attention } from "./cases/attention.js";
import { crossEntropyCase } from "./cases/cross-entropy.js";
import { decode, prefill } from "./cases/decode.js";
import { encoder } from "./cases/encoder.js";
import { gemm } from "./cases/gemm.js";
import { norm } from "./cases/layer-norm.js";
import { lionOrMuon } from "./cases/lion-and-muon.js";
import { projectedCrossEntropy } from "./cases/projected-cross-entropy.js";
import { smallOps } from "./cases/small-ops.js";
import { adapterStep, lstmTrainingStep, trainingStep } from "./cases/training-step.js";

const gpt2Config: GptConfig = { vocabularySize: 50257, contextLength: 1024, ...gpt2Sizes.gpt2 };
const gpt2 = { label: "gpt2", config: gpt2Config };
const smallGpt = { vocabularySize: 65, contextLength: 256, layers: 6, heads: 6, width: 384 };
const bertSmall: BertConfig = { vocabularySize: 30522, contextLength: 512, layers: 4, heads: 8, width: 512 };

/** Returns the cases of the CPU, with the goals of each row. */
export function cpuSuite(device: string): Case[] {
  const both: Setting[] = [
    { device, dtype: "f32" },
    { device, dtype: "bf16" },
  ];
  const [f32, bf16] = both as [Setting, Setting];
  const product = { best: 1, peak: 0.88 };
  const products = both.flatMap((setting) => [
    ...[512, 1024, 2048].map((n) =>
      gemm(setting, [n, n, n], { goals: n === 1024 ? { ...product, scaling: 1.8 } : product, scaling: n === 1024 }),
    ),
    // Products of GPT-2 with 1024 tokens: forward, the gradient of an input and the gradient of a weight.
    gemm(setting, [1024, 768, 2304], { goals: product }),
    gemm(setting, [1024, 768, 3072], { goals: product }),
    gemm(setting, [1024, 3072, 768], { goals: product }),
    gemm(setting, [1024, 768, 50257], { layout: "nt", goals: product }),
    gemm(setting, [1024, 3072, 768], { layout: "nt", goals: product }),
    gemm(setting, [768, 1024, 3072], { layout: "tn", goals: product }),
  ]);
  const heads = { batch: 1, heads: 12, size: 64, causal: true };
  const attentions = both.flatMap((setting) =>
    [1024, 4096, 16384].flatMap((length) =>
      [false, true].map((backward) => {
        const scaling = length === 4096 && !backward;
        const goals = { best: setting.dtype === "f32" ? 1.4 : 2, ...(scaling && { scaling: 1.8 }) };
        return attention(setting, { ...heads, length, backward }, { goals, scaling });
      }),
    ),
  );
  // Scores that spread so much that many probabilities are below the smallest normal number.
  const spread = both.flatMap((setting) =>
    [false, true].map((backward) => attention(setting, { ...heads, length: 1024, backward, deviation: 8 })),
  );
  // The longest sequence runs on heed alone and shows its memory.
  const longest = attention(bf16, { ...heads, length: 32768, backward: false });
  const step = { eager: 1.3, compiled: 1.1, memory: 0.8 };
  return [
    ...products,
    ...attentions,
    ...spread,
    { ...longest, peers: [] },
    ...both.flatMap((setting) => [
      norm(setting, 4096, 768, "forward", { compiled: 1.2 }),
      norm(setting, 4096, 768, "backward", { compiled: 1.2 }),
      norm(setting, 4096, 768, "add + forward", { compiled: 1.5 }),
      norm(setting, 4096, 768, "add + backward", { compiled: 1.5 }),
    ]),
    // With 1024 tokens the weight's gradient alone takes a quarter of PyTorch's memory.
    ...both.flatMap((setting) =>
      [1024, 4096].map((tokens) => projectedCrossEntropy(setting, tokens, 768, 50257, { best: 1.3, memory: 0.25 })),
    ),
    ...both.flatMap((setting) => [
      trainingStep(setting, "6 layers, 6 heads, 384 wide", 16, smallGpt, step),
      trainingStep(setting, "gpt2", 2, { ...gpt2Config, contextLength: 256 }, step),
    ]),
    // What is trained beside the full model: an adapter, over the model as it is and over its blocks in 4 bits.
    ...both.flatMap((setting) =>
      ([undefined, 4] as const).map((bits) => {
        const goals = setting.dtype === "f32" ? step : { eager: 1.5, compiled: 1.5, memory: 0.8 };
        return adapterStep(setting, "gpt2", 2, { ...gpt2Config, contextLength: 256 }, { ...(bits && { bits }), goals });
      }),
    ),
    lionOrMuon(f32, "Lion", 12, 768),
    ...both.map((setting) => lionOrMuon(setting, "Muon", 2, 768)),
    lstmTrainingStep(f32, "2 layers of 224", 16, { vocabularySize: 65, contextLength: 128, layers: 2, width: 224 }),
    ...both.flatMap((setting) => [
      decode(setting, gpt2, { prompt: 64, count: 33 }, { best: 1.1, peak: 0.9 }),
      decode(setting, gpt2, { prompt: 960, count: 33 }, { best: 1.1 }),
      decode(setting, gpt2, { batch: 8, prompt: 64, count: 17 }, { best: 1.2 }),
      decode(setting, gpt2, { batch: 32, prompt: 64, count: 17 }, { best: 1.2 }),
      prefill(setting, gpt2, 512, { best: 1.2 }),
      encoder(setting, "bert-small", bertSmall, { batch: 32, length: 128 }, { best: 1.1 }),
    ]),
    decode(bf16, gpt2, { prompt: 64, count: 33, bits: 8 }, { best: 1.1, peak: 0.9 }),
    decode(bf16, gpt2, { prompt: 64, count: 33, bits: 4 }, { best: 1.1 }),
    smallOps(f32, 32, 20000, { rate: 500e3 }),
  ];
}

/** Returns the cases of a CUDA card. */
export function cudaSuite(device: string): Case[] {
  const bf16: Setting = { device, dtype: "bf16" };
  const f32: Setting = { device, dtype: "f32" };
  // Every case has 16k tokens and a width of 2048, whatever the length and the head size.
  const attentions = [64, 128].flatMap((size) =>
    [true, false].flatMap((causal) =>
      [1024, 2048, 4096, 8192, 16384].flatMap((length) =>
        [false, true].map((backward) =>
          attention(bf16, { batch: 16384 / length, heads: 2048 / size, length, size, causal, backward }),
        ),
      ),
    ),
  );
  return [
    ...[1024, 2048, 4096, 8192].map((size) => gemm(bf16, [size, size, size])),
    // These are the products of a training step of GPT-2 124M with 8×1024 tokens.
    gemm(bf16, [8192, 768, 2304]),
    gemm(bf16, [8192, 768, 3072]),
    gemm(bf16, [8192, 3072, 768]),
    gemm(bf16, [8192, 3072, 768], { layout: "nt" }),
    gemm(bf16, [768, 8192, 3072], { layout: "tn" }),
    gemm(bf16, [8192, 768, 50257], { layout: "nt" }),
    gemm(bf16, [1, 768, 3072]),
    gemm(f32, [2048, 2048, 2048]),
    ...attentions,
    ...[768, 4096].flatMap((width) =>
      (["forward", "add + forward", "backward"] as const).map((pass) => norm(bf16, 16384, width, pass)),
    ),
    crossEntropyCase(bf16, 8192, 50257),
    crossEntropyCase(f32, 8192, 50257),
    projectedCrossEntropy(bf16, 8192, 768, 50257),
    adamw(f32, 12, 768),
    lionOrMuon(f32, "Lion", 12, 768),
    lionOrMuon(f32, "Muon", 12, 768),
    lionOrMuon(bf16, "Muon", 12, 768),
    trainingStep(bf16, "gpt2", 8, gpt2Config),
    trainingStep(f32, "gpt2", 8, gpt2Config),
    adapterStep(bf16, "gpt2", 8, gpt2Config),
    adapterStep(bf16, "gpt2", 8, gpt2Config, { bits: 4 }),
    decode(bf16, gpt2, { prompt: 64, count: 257 }),
    decode(f32, gpt2, { prompt: 64, count: 257 }),
    decode(bf16, gpt2, { batch: 32, prompt: 64, count: 257 }),
  ];
}

/** Returns one case of each kind, of a size that the software CUDA device runs in seconds. */
export function smokeSuite(device: string): Case[] {
  const sizes = { vocabularySize: 50, layers: 1, heads: 2, width: 32 };
  const tiny = { label: "tiny", config: { ...sizes, contextLength: 32 } };
  const shape = { batch: 2, heads: 2, length: 33, size: 16 };
  return (["f32", "bf16"] as const).flatMap((dtype) => {
    const setting: Setting = { device, dtype };
    return [
      ...(["nn", "nt", "tn"] as const).map((layout) => gemm(setting, [33, 40, 50], { layout })),
      attention(setting, { ...shape, causal: true, backward: false }),
      attention(setting, { ...shape, causal: false, backward: true }),
      attention(setting, { ...shape, causal: true, backward: false, deviation: 8 }),
      ...(["forward", "backward", "add + forward", "add + backward"] as const).map((p) => norm(setting, 5, 100, p)),
      crossEntropyCase(setting, 6, 101),
      projectedCrossEntropy(setting, 64, 32, 5000),
      adamw({ device, dtype: "f32" }, 1, 8),
      ...(dtype === "f32" ? [lionOrMuon(setting, "Lion", 1, 8)] : []),
      lionOrMuon(setting, "Muon", 1, 32),
      trainingStep(setting, "tiny", 2, tiny.config),
      adapterStep(setting, "tiny", 2, tiny.config),
      adapterStep(setting, "tiny", 2, tiny.config, { bits: 4 }),
      lstmTrainingStep(setting, "tiny", 2, { vocabularySize: 50, contextLength: 9, layers: 1, width: 32 }),
      decode(setting, tiny, { batch: 2, prompt: 5, count: 4 }),
      decode(setting, tiny, { prompt: 5, count: 4, bits: 8 }),
      prefill(setting, tiny, 7),
      encoder(setting, "tiny-bert", { ...sizes, contextLength: 16 }, { batch: 2, length: 9 }),
      smallOps(setting, 32, 10),
    ];
  });
}
