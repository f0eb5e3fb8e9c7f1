import { noGrad } from "../core/autograd.js";
import type { Block } from "../nn/block-parts.js";
import { div, mul } from "../ops/binary.js";
import { matmul } from "../ops/matmul.js";
import { sum } from "../ops/reduce.js";
import { narrow, reshape, transpose } from "../ops/views.js";
import { scope } from "../core/scope.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import type { ActivationCache } from "./activation-cache.js";
import { type AttributionOptions, checkAttribution } from "./attribution.js";
import type { DecoderHookName, InspectedDecoder } from "./hook-names.js";
import { logitDirections, projectionMatrix } from "./module-weights.js";
import { runWithCache } from "./run.js";

/**
 * Returns what each neuron adds to the logit of a token, a tensor f32 [B, F] for each block. F is the number of neurons of
 * its feed-forward. They add up to what the feed-forward adds, except for its bias. Dispose the tensors.
 *
 * @example
 * const ids = tensor([[72, 101, 108]], [1, 3], { dtype: "i32" });
 * const [first] = neuronAttribution(gpt, ids, { tokens: [108] });
 * topk(first!, 3).ids; // the neurons of the first block that speak most for the token
 *
 * @throws the errors of `logitAttribution`.
 * @see Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
 */
export function neuronAttribution(model: InspectedDecoder, ids: IntTensor, options: AttributionOptions): FloatTensor[] {
  return attributed("neuronAttribution", model, ids, options, /mlp.hook_post$/, ({ at, directions, layer, block }) => {
    const post = at(`blocks.${layer}.mlp.hook_post`); // [B, 1, F]
    const down = projectionMatrix(block.parts.feedForward.down); // [F, C]
    const effects = matmul(directions, transpose(down)); // [B, F]
    return mul(reshape(post.to("f32"), effects.shape), effects);
  });
}

/**
 * Returns what each head brings from each position to the logit of a token, a tensor f32 [B, H, T] for each block. A
 * head's contributions add up to what it adds. Dispose the tensors.
 *
 * @example
 * const ids = tensor([[72, 101, 108]], [1, 3], { dtype: "i32" });
 * const blocks = sourceAttribution(gpt, ids, { tokens: [108] });
 * await blocks[1]!.toArray(); // [1, 2, 3]: by sequence, head and position
 *
 * @throws the errors of `logitAttribution`.
 * @see Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
 */
export function sourceAttribution(model: InspectedDecoder, ids: IntTensor, options: AttributionOptions): FloatTensor[] {
  return attributed(
    "sourceAttribution",
    model,
    ids,
    options,
    /hook_(pattern|v)$/,
    ({ cache, directions, ...place }) => {
      const { layer, position } = place;
      const pattern = cache.get(`blocks.${layer}.attn.hook_pattern`); // [B, H, T, S]
      const values = cache.get(`blocks.${layer}.attn.hook_v`).to("f32"); // [B, S, Hkv, D]
      const [batch, heads, , sources] = pattern.shape as [number, number, number, number];
      const [, , kvHeads, size] = values.shape as [number, number, number, number];
      const out = projectionMatrix(place.block.parts.attention.o); // [H·D, C]
      const effects = reshape(matmul(directions, transpose(out)), [batch, 1, kvHeads, heads / kvHeads, size]);
      const carried = sum(mul(reshape(values, [batch, sources, kvHeads, 1, size]), effects), { axes: [-1] });
      const weights = reshape(narrow(pattern, 2, position, 1).to("f32"), [batch, heads, sources]);
      return mul(weights, transpose(reshape(carried, [batch, sources, heads])));
    },
  );
}

/** Values from which the contributions of a block follow. */
interface Attributed {
  layer: number;
  block: Block;
  /** Position of the logit, counted from the beginning. */
  position: number;
  cache: ActivationCache<DecoderHookName>;
  /** Returns a value at the position, [B, 1, …]. */
  at: (name: DecoderHookName) => FloatTensor;
  /**
   * Direction of each sequence's logit in what a part of the block returns: in the residual stream, divided by the last
   * norm's scale and times the block's own, f32 [B, C].
   */
  directions: FloatTensor;
}

function attributed(
  op: string,
  model: InspectedDecoder,
  ids: IntTensor,
  options: AttributionOptions,
  wanted: RegExp,
  contributions: (from: Attributed) => FloatTensor,
): FloatTensor[] {
  const { tokens, at, ...rest } = checkAttribution(op, model, ids, options);
  return noGrad(() =>
    scope(() => {
      const names = (name: string): boolean => name === "ln_final.hook_scale" || wanted.test(name);
      using cache = runWithCache(model, ids, { ...rest, names });
      const value = (name: DecoderHookName): FloatTensor => narrow(cache.get(name), 1, at, 1);
      const scale = reshape(value("ln_final.hook_scale"), [-1, 1]); // [B, 1]
      const ofStream = div(logitDirections(model, tokens), scale);
      return model.blocks.map((block, layer) => {
        const directions = mul(ofStream, block.parts.residualScale);
        return contributions({ layer, block, position: at, cache, at: value, directions });
      });
    }),
  );
}
