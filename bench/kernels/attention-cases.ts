/** Cases of attention: dense, by blocks of a mask, linear, and of one query. */
import { attention, type FloatTensor, linearAttention, localBlocks, noGrad, packedAttention, sum } from "heed";
import { bytesOf } from "../case.js";
import type { KernelCase } from "./case.js";
import { cuda, done, type DType, floats } from "./device.js";

export function attentionCase(
  pass: "forward" | "backward",
  [batch, heads, tokens, headSize]: [number, number, number, number],
  dtype: DType,
  causal = true,
): KernelCase {
  return {
    name: `attention ${pass}`,
    shape: `B${batch} H${heads} T${tokens} D${headSize}${causal ? " causal" : ""}`,
    dtype,
    kernels: pass === "forward" ? /^attention_(forward|decode)/ : /^attention_backward/,
    targets: { wavefronts: 1.05, loadSectors: 1.001, launches: pass === "forward" ? 1 : 2 },
    run() {
      const qkv = floats([batch, tokens, 3 * heads * headSize], dtype, 1);
      qkv.requiresGrad = pass === "backward";
      const out = packedAttention(qkv, { heads, causal });
      if (pass === "backward") sum(out).backward();
      return done();
    },
  };
}

/** Makes a case of attention to a band of three blocks of 64 keys and to the first block. */
export function blockSparseCase(
  pass: "forward" | "backward",
  [batch, heads, tokens, headSize]: [number, number, number, number],
  dtype: DType,
): KernelCase {
  return {
    name: `attention by blocks ${pass}`,
    shape: `B${batch} H${heads} T${tokens} D${headSize} causal`,
    dtype,
    kernels: pass === "forward" ? /^attention_(masked_\d|tiles)/ : /^attention_(masked_(queries|keys)|tiles)/,
    // The kernel that finds the tiles runs before each of the others.
    targets: { wavefronts: 1.05, launches: pass === "forward" ? 2 : 5 },
    run() {
      const qkv = floats([batch, tokens, 3 * heads * headSize], dtype, 1);
      qkv.requiresGrad = pass === "backward";
      const blocks = localBlocks({ length: tokens, window: 2, global: 1, causal: true, device: cuda() });
      const out = packedAttention(qkv, { heads, causal: true, blocks });
      if (pass === "backward") sum(out).backward();
      return done();
    },
  };
}

/**
 * Makes a case of linear attention, without the feature map and the denominator, which are other operations. There are few
 * heads, so that tokens are cut into segments: three launches, which read keys and values twice.
 */
export function linearAttentionCase(
  pass: "forward" | "backward",
  [batch, heads, tokens, headSize]: [number, number, number, number],
  dtype: DType,
): KernelCase {
  const bytes = batch * heads * tokens * headSize * bytesOf[dtype];
  return {
    name: `linear attention ${pass}`,
    shape: `B${batch} H${heads} T${tokens} D${headSize}`,
    dtype,
    kernels: /^linear_attention/,
    // Backward also counts its forward pass.
    least: pass === "forward" ? { loads: 3 * bytes, stores: bytes } : { loads: 12 * bytes, stores: 4 * bytes },
    multiplyAdds: (pass === "forward" ? 1 : 4) * batch * heads * tokens * 4 * 64 * headSize,
    targets: { bytes: 2, wavefronts: 1.1, loadSectors: 1.001, launches: pass === "forward" ? 3 : 12 },
    run() {
      const [q, k, v] = [1, 2, 3].map((seed) => floats([batch, tokens, heads, headSize], dtype, seed)) as [
        FloatTensor,
        FloatTensor,
        FloatTensor,
      ];
      for (const x of [q, k, v]) x.requiresGrad = pass === "backward";
      const out = linearAttention(q, k, v, { featureMap: "none", normalize: false });
      if (pass === "backward") sum(out).backward();
      return done();
    },
  };
}

export function decode(batch: number, heads: number, tokens: number, headSize: number, dtype: DType): KernelCase {
  const cache = batch * heads * tokens * headSize * bytesOf[dtype];
  const row = batch * heads * headSize * bytesOf[dtype];
  return {
    name: "attention decode",
    shape: `B${batch} H${heads} T${tokens} D${headSize}`,
    dtype,
    kernels: /^attention/,
    least: { loads: 2 * cache + row, stores: row },
    targets: { loadSectors: 1.001, launches: 1 },
    run() {
      const q = floats([batch, 1, heads, headSize], dtype, 1);
      const [k, v] = [
        floats([batch, tokens, heads, headSize], dtype, 2),
        floats([batch, tokens, heads, headSize], dtype, 3),
      ];
      noGrad(() => attention(q, k, v, { causal: true }));
      return done();
    },
  };
}
