/** What is measured: on the CPU, on a CUDA card, and in small to see that a suite works at all. */
import { gpt2Sizes, type GptConfig } from "heed";
import type { Case, Setting } from "./case.js";
import { adamw } from "./cases/adamw.js";
import { attention } from "./cases/attention.js";
import { crossEntropyCase } from "./cases/cross-entropy.js";
import { decode } from "./cases/decode.js";
import { gemm } from "./cases/gemm.js";
import { norm } from "./cases/layer-norm.js";
import { lstmTrainingStep, trainingStep } from "./cases/training-step.js";

const gpt2: GptConfig = { vocabularySize: 50257, contextLength: 1024, ...gpt2Sizes.gpt2 };

export function cpuSuite(device: string): Case[] {
  const f32: Setting = { device, dtype: "f32" };
  const heads64 = { heads: 12, size: 64, causal: true };
  const small = { vocabularySize: 65, heads: 6, width: 384 };
  return [
    gemm(f32, 512, 512, 512),
    gemm(f32, 1024, 1024, 1024),
    gemm(f32, 2048, 2048, 2048),
    // The products of a 384-wide GPT's training step: forward, and the gradients of the input and of the weight.
    gemm(f32, 4096, 384, 1536),
    gemm(f32, 4096, 1536, 384, "nt"),
    gemm(f32, 384, 4096, 1536, "tn"),
    // Decoding: one row.
    gemm(f32, 1, 768, 3072),
    gemm(f32, 1, 768, 50257, "nt"),
    attention(f32, { ...heads64, batch: 16, heads: 6, length: 256, backward: false }),
    attention(f32, { ...heads64, batch: 16, heads: 6, length: 256, backward: true }),
    attention(f32, { ...heads64, batch: 1, length: 1024, backward: false }),
    attention(f32, { ...heads64, batch: 1, length: 1024, backward: true }),
    attention(f32, { ...heads64, batch: 1, length: 4096, backward: false }),
    norm(f32, 4096, 768, "forward"),
    norm(f32, 4096, 768, "add + forward"),
    norm(f32, 4096, 384, "add + forward"),
    trainingStep(f32, "6 layers, 6 heads, 384 wide", 16, { ...small, contextLength: 256, layers: 6 }),
    trainingStep(f32, "1 layer, 6 heads, 384 wide", 4, { ...small, contextLength: 128, layers: 1 }),
    lstmTrainingStep(f32, "2 layers of 224", 16, { vocabularySize: 65, contextLength: 128, layers: 2, width: 224 }),
    decode(f32, "gpt2", gpt2, { prompt: 64, count: 16 }),
  ];
}

export function cudaSuite(device: string): Case[] {
  const bf16: Setting = { device, dtype: "bf16" };
  const f32: Setting = { device, dtype: "f32" };
  // 16k tokens and a width of 2048, whatever the length and the head size.
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
    ...[1024, 2048, 4096, 8192].map((size) => gemm(bf16, size, size, size)),
    // The products of GPT-2 124M's training step of 8×1024 tokens.
    gemm(bf16, 8192, 768, 2304),
    gemm(bf16, 8192, 768, 3072),
    gemm(bf16, 8192, 3072, 768),
    gemm(bf16, 8192, 3072, 768, "nt"),
    gemm(bf16, 768, 8192, 3072, "tn"),
    gemm(bf16, 8192, 768, 50257, "nt"),
    gemm(bf16, 1, 768, 3072),
    gemm(f32, 2048, 2048, 2048),
    ...attentions,
    ...[768, 4096].flatMap((width) =>
      (["forward", "add + forward", "backward"] as const).map((pass) => norm(bf16, 16384, width, pass)),
    ),
    crossEntropyCase(bf16, 8192, 50257),
    crossEntropyCase(f32, 8192, 50257),
    adamw(f32, 12, 768),
    trainingStep(bf16, "gpt2", 8, gpt2),
    trainingStep(f32, "gpt2", 8, gpt2),
    decode(bf16, "gpt2", gpt2, { prompt: 64, count: 256 }),
    decode(f32, "gpt2", gpt2, { prompt: 64, count: 256 }),
    decode(bf16, "gpt2", gpt2, { batch: 32, prompt: 64, count: 256 }),
  ];
}

/** One of each kind, in sizes that the software CUDA device manages in seconds. */
export function smokeSuite(device: string): Case[] {
  const tiny: GptConfig = { vocabularySize: 50, contextLength: 32, layers: 1, heads: 2, width: 32 };
  const shape = { batch: 2, heads: 2, length: 33, size: 16 };
  return (["f32", "bf16"] as const).flatMap((dtype) => {
    const setting: Setting = { device, dtype };
    return [
      gemm(setting, 33, 40, 50),
      gemm(setting, 33, 40, 50, "nt"),
      gemm(setting, 33, 40, 50, "tn"),
      attention(setting, { ...shape, causal: true, backward: false }),
      attention(setting, { ...shape, causal: false, backward: true }),
      ...(["forward", "add + forward", "backward"] as const).map((pass) => norm(setting, 5, 100, pass)),
      crossEntropyCase(setting, 6, 101),
      adamw({ device, dtype: "f32" }, 1, 8),
      trainingStep(setting, "tiny", 2, tiny),
      lstmTrainingStep(setting, "tiny", 2, { vocabularySize: 50, contextLength: 9, layers: 1, width: 32 }),
      decode(setting, "tiny", tiny, { batch: 2, prompt: 5, count: 4 }),
    ];
  });
}
