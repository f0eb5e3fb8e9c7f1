/** heed's own kernels for transformers; transformer-operations.ts has their gradients. */
import { ops } from "../../../core/native.js";
import { floats, kernel, type KernelTable } from "../table.js";

/** Attributes of attention. */
export interface AttentionAttributes {
  causal: boolean;
  window: number;
  softcap: number;
  scale: number;
}

/** Attributes of the norms. */
export interface NormAttributes {
  eps: number;
  rms: boolean;
}

const noDropout = { dropoutP: 0, seed: 0, blockSize: 0 };

export const transformerKernels: KernelTable = {
  // out [B, Tq, H, D] and lse [B, H, Tq]
  HeedAttention: kernel<AttentionAttributes>(floats, (work, { q, k, v }, attrs) => {
    const [batch, queries, heads] = q!.shape as [number, number, number];
    const [out, lse] = [work.make(q!.shape), work.make([batch, heads, queries])];
    const operands = { q: work.input(q!), k: work.input(k!), v: work.input(v!) };
    ops.attention_forward({ out, lse, ...operands, ...attrs, ...noDropout });
    return [work.result(out), work.result(lse)];
  }),
  HeedAttentionGradient: kernel<AttentionAttributes>(floats, (work, { dout, q, k, v, out, lse }, attrs) => {
    const [dq, dk, dv] = [work.make(q!.shape), work.make(k!.shape), work.make(v!.shape)];
    const operands = { q: work.input(q!), k: work.input(k!), v: work.input(v!) };
    const results = { dout: work.input(dout!), out: work.input(out!), lse: work.input(lse!) };
    ops.attention_backward({ dq, dk, dv, ...operands, ...results, ...attrs, ...noDropout });
    return [work.result(dq), work.result(dk), work.result(dv)];
  }),
  // out [..., C], and rstd and mean [...]; the RMS norm has neither mean nor bias
  HeedNorm: kernel<NormAttributes>(floats, (work, { x, weight, bias }, { eps, rms }) => {
    const rows = x!.shape.slice(0, -1);
    const [out, rstd] = [work.make(x!.shape), work.make(rows)];
    const mean = rms ? null : work.make(rows);
    const [inp, factor] = [work.input(x!), work.input(weight!)];
    ops.layernorm_forward({ out, mean, rstd, inp, weight: factor, bias: bias && work.input(bias), eps, rms });
    return [work.result(out), work.result(rstd), ...(mean ? [work.result(mean)] : [])];
  }),
  HeedNormGradient: kernel<NormAttributes>(floats, (work, { dout, x, weight, rstd, mean }) => {
    const [dinp, dweight] = [work.make(x!.shape), work.make(weight!.shape)];
    const dbias = mean ? work.make(weight!.shape) : null;
    ops.layernorm_backward({
      dinp,
      dweight,
      dbias,
      dout: work.input(dout!),
      inp: work.input(x!),
      weight: work.input(weight!),
      mean: mean && work.input(mean),
      rstd: work.input(rstd!),
    });
    return [work.result(dinp), work.result(dweight), ...(dbias ? [work.result(dbias)] : [])];
  }),
};
