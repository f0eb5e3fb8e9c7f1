/**
 * The shapes that docs/kernels.md states: as large as it takes for tiles, not tails, to make the figures, as small as the
 * software device allows.
 */
import {
  AdamW,
  crossEntropy,
  DropoutSeeds,
  embedding,
  Initializer,
  layerNorm,
  lstm,
  addLayerNorm,
  addRmsNorm,
  matmul,
  noGrad,
  packedGated,
  quantize,
  type QuantizedBits,
  quantizedLinear,
  parameter,
  rmsNorm,
  rotary,
  rotaryTable,
  setRecompute,
  softmax,
  sum,
  tensor,
  TransformerBlock,
  transpose,
} from "heed";
import { bytesOf } from "../case.js";
import { attentionCase, blockSparseCase, decode, linearAttentionCase } from "./attention-cases.js";
import type { KernelCase } from "./case.js";
import { cuda, done, type DType, floats } from "./device.js";

type Norm = "layer norm" | "RMS norm";

function normForward(norm: Norm, rows: number, width: number, dtype: DType, residual = false): KernelCase {
  const bytes = rows * width * bytesOf[dtype] * (residual ? 2 : 1);
  const parameters = norm === "layer norm" ? 2 : 1;
  return {
    name: `${residual ? "add + " : ""}${norm} forward`,
    shape: `${rows}×${width}`,
    dtype,
    kernels: /^layernorm_forward/,
    least: { loads: bytes + parameters * width * bytesOf[dtype], stores: bytes },
    targets: { bytes: 1.05, loadSectors: 1.001 },
    run() {
      const x = floats([rows, width], dtype, 1);
      const r = floats([rows, width], dtype, 2);
      const [weight, bias] = [floats([width], dtype, 3), floats([width], dtype, 4)];
      const forward =
        norm === "layer norm"
          ? () => (residual ? addLayerNorm(x, r, { weight, bias }) : layerNorm(x, { weight, bias }))
          : () => (residual ? addRmsNorm(x, r, { weight }) : rmsNorm(x, { weight }));
      noGrad(() => void forward());
      return done();
    },
  };
}

function normBackward(norm: Norm, rows: number, width: number, dtype: DType): KernelCase {
  const bytes = rows * width * bytesOf[dtype];
  // Layer norm has a mean beside each row's rstd, and a bias beside the weight.
  const parts = norm === "layer norm" ? 2 : 1;
  return {
    name: `${norm} backward`,
    shape: `${rows}×${width}`,
    dtype,
    kernels: /^layernorm_(?!forward)/,
    least: { loads: 2 * bytes + parts * rows * 4 + width * bytesOf[dtype], stores: bytes + parts * width * 4 },
    targets: { bytes: 1.05, loadSectors: 1.001 },
    run() {
      const x = floats([rows, width], dtype, 1);
      x.requiresGrad = true;
      const [weight, bias] = [parameter(floats([width], "f32", 3)), parameter(floats([width], "f32", 4))];
      sum(norm === "layer norm" ? layerNorm(x, { weight, bias }) : rmsNorm(x, { weight })).backward();
      return done();
    },
  };
}

function crossEntropyCase(rows: number, vocabulary: number, dtype: DType): KernelCase {
  const bytes = rows * vocabulary * bytesOf[dtype];
  return {
    name: "cross-entropy, with its gradient",
    shape: `${rows}×${vocabulary}`,
    dtype,
    kernels: /^cross_entropy/,
    least: { loads: bytes + rows * 4, stores: bytes + 4 },
    targets: { bytes: 1.05, loadSectors: 1.001 },
    run() {
      const logits = floats([rows, vocabulary], dtype, 1);
      logits.requiresGrad = true;
      const targets = tensor(
        Int32Array.from({ length: rows }, (_, i) => (i * 7919) % vocabulary),
        [rows],
        { device: cuda() },
      );
      crossEntropy(logits, targets).backward();
      return done();
    },
  };
}

function softmaxCase(rows: number, width: number, dtype: DType): KernelCase {
  const bytes = rows * width * bytesOf[dtype];
  return {
    name: "softmax forward",
    shape: `${rows}×${width}`,
    dtype,
    kernels: /^softmax_forward/,
    least: { loads: bytes, stores: bytes },
    targets: { bytes: 1.05, loadSectors: 1.001 },
    run() {
      const x = floats([rows, width], dtype, 1);
      noGrad(() => softmax(x));
      return done();
    },
  };
}

/** Makes a case of a gated activation of the two halves of one projection. */
function gatedCase(pass: "forward" | "backward", rows: number, width: number, dtype: DType): KernelCase {
  const bytes = rows * width * bytesOf[dtype];
  return {
    name: `gated ${pass}`,
    shape: `${rows}×${width}`,
    dtype,
    kernels: pass === "forward" ? /^gated_kernel/ : /^gated_backward/,
    least: pass === "forward" ? { loads: 2 * bytes, stores: bytes } : { loads: 3 * bytes, stores: 2 * bytes },
    targets: { bytes: 1.05, loadSectors: 1.001 },
    run() {
      const x = floats([rows, 2 * width], dtype, 1);
      x.requiresGrad = true;
      const out = packedGated(x);
      if (pass === "backward") sum(out).backward();
      return done();
    },
  };
}

function rotaryCase([b, t, h, d]: [number, number, number, number], dtype: DType, interleaved: boolean): KernelCase {
  const bytes = b * t * h * d * bytesOf[dtype];
  return {
    name: interleaved ? "rotary of neighbours" : "rotary of halves",
    shape: `B${b} T${t} H${h} D${d}`,
    dtype,
    kernels: /^rotary/,
    least: { loads: bytes + b * t * d * 4, stores: bytes },
    targets: { bytes: 1.05, loadSectors: 1.001 },
    run() {
      const x = floats([b, t, h, d], dtype, 1);
      const table = rotaryTable({ size: d, length: t, device: cuda() });
      noGrad(() => rotary(x, table, { interleaved }));
      return done();
    },
  };
}

/** Makes a case of the LSTM's cells, without the products between them. */
function lstmCase(pass: "forward" | "backward", steps: number, rows: number, width: number, dtype: DType): KernelCase {
  const forward = pass === "forward";
  const units = steps * rows * width;
  // The next step's gradients of h and c are in f32; the last step has none.
  const later = 2 * 4 * (units - rows * width);
  const [read, written] = forward ? [5, 2] : [7, 4];
  return {
    name: `LSTM cell ${pass}`,
    shape: `T${steps} B${rows} H${width}`,
    dtype,
    kernels: forward ? /^lstm_cell_kernel/ : /^lstm_cell_backward/,
    least: {
      loads: read * units * bytesOf[dtype] + (forward ? 0 : later),
      stores: written * units * bytesOf[dtype] + (forward ? 0 : 4 * units),
    },
    targets: { bytes: 1.05, loadSectors: 1.001 },
    run() {
      const x = floats([steps, rows, 4 * width], dtype, 1);
      x.requiresGrad = true;
      const { h } = lstm(x, floats([4 * width, width], dtype, 2));
      if (!forward) sum(h).backward();
      return done();
    },
  };
}

/** Makes a case of a product. In "tn" the matrix a is stored transposed, in "nt" the matrix b. */
function gemm(m: number, k: number, n: number, layout: "nn" | "nt" | "tn", dtype: DType, share?: number): KernelCase {
  return {
    name: `gemm ${layout}`,
    shape: `${m}×${k}×${n}`,
    dtype,
    kernels: /^gemm/,
    least: { loads: (m * k + k * n) * bytesOf[dtype], stores: m * n * bytesOf[dtype] },
    ...(dtype === "f32" && { multiplyAdds: m * k * n }),
    targets: { wavefronts: 1.05, loadSectors: 1.001, ...(share !== undefined && { share }) },
    run() {
      const a = floats(layout === "tn" ? [k, m] : [m, k], dtype, 1);
      const b = floats(layout === "nt" ? [n, k] : [k, n], dtype, 2);
      noGrad(() => matmul(layout === "tn" ? transpose(a) : a, layout === "nt" ? transpose(b) : b));
      return done();
    },
  };
}

function embeddingCase(pass: "forward" | "backward", tokens: number, vocabulary: number, width: number): KernelCase {
  const bytes = tokens * width * 4;
  return {
    name: `embedding ${pass}`,
    shape: `${tokens} of ${vocabulary}×${width}`,
    dtype: "f32",
    kernels: pass === "forward" ? /^embedding_(copy|forward)/ : /^embedding_(?!copy|forward)/,
    targets: { loadSectors: 1.1 },
    ...(pass === "forward" && { least: { loads: bytes + tokens * 4, stores: bytes } }),
    run() {
      const weight = parameter(floats([vocabulary, width], "f32", 1));
      const ids = tensor(
        Int32Array.from({ length: tokens }, (_, i) => (i * 7919) % vocabulary),
        [tokens],
        { device: cuda() },
      );
      sum(embedding(ids, weight)).backward();
      return done();
    },
  };
}

/** Makes a case of decoding, which reads a weight once for up to 4 rows. */
function quantizedCase(bits: QuantizedBits, rows: number, inputs: number, outputs: number): KernelCase {
  return {
    name: `product of a weight in ${bits} bits`,
    shape: `${rows}×${inputs}×${outputs}`,
    dtype: "bf16",
    kernels: /^gemm_quantized/,
    targets: { loadSectors: 1.1 },
    least: { loads: inputs * outputs * (bits / 8 + 2 / 32) + rows * inputs * 2, stores: rows * outputs * 2 },
    run() {
      const weight = quantize(floats([outputs, inputs], "f32", 1), { bits });
      noGrad(() => quantizedLinear(floats([rows, inputs], "bf16", 2), weight));
      return done();
    },
  };
}

/** Makes a case of the gradient through a weight in 8 or 4 bits, which is decoded while its tiles are loaded. */
function quantizedGradientCase(bits: QuantizedBits, rows: number, inputs: number, outputs: number): KernelCase {
  return {
    name: `gradient through a weight in ${bits} bits`,
    shape: `${rows}×${outputs}×${inputs}`,
    dtype: "bf16",
    kernels: /^gemm_decoded/,
    targets: { launches: 1 },
    least: { loads: inputs * outputs * (bits / 8 + 2 / 32) + rows * outputs * 2, stores: rows * inputs * 2 },
    run() {
      const weight = quantize(floats([outputs, inputs], "f32", 1), { bits });
      const x = parameter(floats([rows, inputs], "bf16", 2));
      sum(quantizedLinear(x, weight)).backward();
      return done();
    },
  };
}

function adamw(count: number): KernelCase {
  return {
    name: "AdamW",
    shape: `${count} parameters`,
    dtype: "f32",
    kernels: /^(adamw|norm_)/,
    least: { loads: count * 5 * 4, stores: count * 3 * 4 },
    targets: { bytes: 1.05, loadSectors: 1.001 },
    run() {
      const weight = parameter(floats([count], "f32", 1));
      const optimizer = new AdamW([["weight", weight]], { maxNorm: 1 });
      sum(weight).backward();
      optimizer.step();
      return done();
    },
  };
}

/** Largest numbers of launches of a GPT block. */
const forwardLaunches = 7;
const backwardLaunches = 15;
/** Launches that compute two norms again; setRecompute(false) keeps the norms instead. */
const recomputing = 2;
/** Launches before the block: the input and four weights are drawn, and the weights of two layer norms are filled. */
const preparing = 5 + 2;
/** Launches after the block: two for the sum of the output, and two that fill and copy its gradient. */
const summing = 2 + 2;

/** Makes cases of a pre-norm GPT block, whose launches are counted. */
function block(pass: "forward" | "backward", tokens: number, width: number, recomputes = true): KernelCase {
  const forward = pass === "forward";
  return {
    name: `GPT block ${pass}${forward || recomputes ? "" : ", setRecompute(false)"}`,
    shape: `B1 T${tokens} C${width}`,
    dtype: "f32",
    kernels: /./,
    targets: { launches: forward ? forwardLaunches : backwardLaunches + (recomputes ? recomputing : 0) },
    besides: forward ? preparing : preparing + forwardLaunches + summing,
    run() {
      setRecompute(recomputes);
      const init = new Initializer(1, cuda());
      const config = { width, heads: width / 64, causal: true, layout: "io" } as const;
      const model = new TransformerBlock(config, init, new DropoutSeeds(1));
      const x = floats([1, tokens, width], "f32", 2);
      if (pass === "forward") noGrad(() => model.forward(x));
      else {
        x.requiresGrad = true;
        sum(model.forward(x)).backward();
      }
      return done();
    },
  };
}

export const kernelCases: KernelCase[] = [
  // There are enough rows for the tensors that each block accesses once: the weight and its part of the weight's gradient.
  normForward("layer norm", 8192, 768, "f32"),
  normForward("layer norm", 8192, 768, "f32", true),
  normForward("layer norm", 8192, 768, "bf16", true),
  normBackward("layer norm", 8192, 768, "f32"),
  normBackward("layer norm", 8192, 768, "bf16"),
  normForward("RMS norm", 8192, 768, "f32"),
  normForward("RMS norm", 8192, 768, "bf16", true),
  normBackward("RMS norm", 8192, 768, "f32"),
  normBackward("RMS norm", 8192, 768, "bf16"),
  softmaxCase(256, 1024, "f32"),
  gatedCase("forward", 1024, 2048, "f32"),
  gatedCase("forward", 1024, 2048, "bf16"),
  gatedCase("backward", 1024, 2048, "f32"),
  gatedCase("backward", 1024, 2048, "bf16"),
  // There are enough tokens for all heads to share a reading of the table.
  rotaryCase([1, 8192, 12, 64], "f32", false),
  rotaryCase([1, 8192, 12, 64], "bf16", false),
  rotaryCase([1, 8192, 12, 64], "bf16", true),
  crossEntropyCase(32, 50304, "f32"),
  crossEntropyCase(32, 50304, "bf16"),
  gemm(256, 256, 256, "nn", "f32"),
  gemm(512, 512, 512, "nn", "bf16"),
  gemm(512, 512, 512, "nt", "bf16"),
  gemm(512, 512, 512, "tn", "bf16"),
  gemm(1, 768, 3072, "nn", "bf16"),
  // The products are large enough for large tiles, and are not cut along K.
  gemm(2048, 1024, 2048, "nn", "bf16", 0.45),
  gemm(2048, 1024, 2048, "nt", "bf16", 0.45),
  gemm(2048, 1024, 2048, "tn", "bf16", 0.45),
  gemm(1024, 1024, 1024, "nn", "f32", 0.8),
  attentionCase("forward", [1, 2, 256, 64], "f32"),
  attentionCase("forward", [1, 4, 512, 64], "bf16"),
  attentionCase("forward", [1, 4, 512, 128], "bf16"),
  attentionCase("forward", [1, 8, 2048, 64], "bf16"),
  attentionCase("forward", [1, 8, 2048, 128], "bf16"),
  attentionCase("forward", [1, 8, 2048, 128], "bf16", false),
  attentionCase("backward", [1, 2, 256, 64], "f32"),
  attentionCase("backward", [1, 4, 512, 64], "bf16"),
  attentionCase("backward", [1, 4, 512, 128], "bf16"),
  attentionCase("backward", [1, 4, 1024, 64], "bf16"),
  attentionCase("backward", [1, 4, 1024, 128], "bf16"),
  decode(2, 12, 1024, 64, "bf16"),
  blockSparseCase("forward", [1, 2, 512, 64], "f32"),
  blockSparseCase("forward", [1, 4, 2048, 64], "bf16"),
  blockSparseCase("backward", [1, 4, 1024, 64], "bf16"),
  linearAttentionCase("forward", [1, 2, 512, 64], "f32"),
  linearAttentionCase("forward", [1, 4, 1024, 64], "bf16"),
  linearAttentionCase("backward", [1, 2, 512, 64], "f32"),
  lstmCase("forward", 2, 64, 1024, "f32"),
  lstmCase("forward", 2, 64, 1024, "bf16"),
  lstmCase("backward", 2, 64, 1024, "f32"),
  lstmCase("backward", 2, 64, 1024, "bf16"),
  embeddingCase("forward", 1024, 2048, 768),
  embeddingCase("backward", 1024, 2048, 768),
  quantizedCase(8, 1, 768, 768),
  quantizedCase(4, 1, 768, 768),
  quantizedCase(8, 4, 768, 768),
  quantizedGradientCase(8, 256, 768, 768),
  quantizedGradientCase(4, 256, 768, 768),
  adamw(1 << 20),
  block("forward", 256, 384),
  block("backward", 256, 384),
  block("backward", 256, 384, false),
];
