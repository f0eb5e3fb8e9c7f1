// Takes the residual stream of a decoder apart into what its parts add, and the logits into what these contribute.
import { zeros } from "../core/creation.js";
import { Observer } from "../nn/observer.js";
import { add, mul, sub } from "../ops/binary.js";
import { sum } from "../ops/reduce.js";
import { reshape, transpose } from "../ops/views.js";
import type { FloatTensor } from "../core/tensor.js";
import type { DecoderHookName, InspectedDecoder } from "./hook-names.js";

/** Names of the values from which the parts follow, and of the last norm's scale. */
export const partNames = /^hook_|hook_result$|hook_(attn|mlp)_out$|^ln_final.hook_scale$/;

/** Parts of one kind, and what they add to the residual stream at N tokens: [parts, N, C]. */
export interface StreamParts {
  names: string[];
  added: FloatTensor;
}

/**
 * Returns the parts of the residual stream after the last block. `at` returns a value [B, t, …] of `partNames`, at all
 * positions or some; N is B·t.
 */
export function streamParts(
  model: InspectedDecoder,
  at: (name: DecoderHookName) => FloatTensor,
  hasPositions: boolean,
): StreamParts[] {
  /** Returns a single part, whose x [B, t, C] becomes [1, N, C]. */
  const one = (name: string, x: FloatTensor): StreamParts => ({
    names: [name],
    added: reshape(x, [1, -1, x.shape.at(-1)!]),
  });
  const blocks = model.blocks.flatMap(({ parts }, layer) => {
    const block = `blocks.${layer}` as const;
    const heads = mul(at(`${block}.attn.hook_result`), parts.residualScale); // [B, t, H, C]
    const [batch, tokens, count, width] = heads.shape as [number, number, number, number];
    const bias = sub(at(`${block}.hook_attn_out`), sum(heads, { axes: [2] }));
    return [
      {
        names: Array.from({ length: count }, (_, head) => `${block}.attn.head.${head}`),
        added: transpose(reshape(heads, [batch * tokens, count, width]), [1, 0, 2]),
      },
      one(`${block}.attn.bias`, bias),
      one(`${block}.mlp`, at(`${block}.hook_mlp_out`)),
    ];
  });
  const positions = hasPositions ? [one("pos_embed", at("hook_pos_embed"))] : [];
  return [one("embed", at("hook_embed")), ...positions, ...blocks];
}

/**
 * Returns what parts contribute to all logits, f32 [parts, N, V], and the contribution of the last norm's bias,
 * [1, N, V]. The last norm divides all of them by `scale`, which has N elements.
 */
export function partLogits(
  model: InspectedDecoder,
  scale: FloatTensor,
  parts: readonly FloatTensor[],
): { parts: FloatTensor[]; bias: FloatTensor } {
  const logitsOf = (x: FloatTensor): FloatTensor => {
    // The hook's result has the shape of the part's own scale, [parts, N, 1].
    const fixed = (own: FloatTensor): FloatTensor => add(mul(own, 0), reshape(scale, [1, -1, 1]));
    const observer = new Observer({ "ln_final.hook_scale": fixed });
    return model.unembed(x, { observer }).to("f32");
  };
  const shape = [1, scale.size, model.config.width];
  const bias = logitsOf(zeros(shape, { device: model.device, dtype: model.dtype }));
  return { parts: parts.map((added) => sub(logitsOf(added), bias)), bias };
}
