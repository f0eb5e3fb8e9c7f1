import { noGrad } from "../core/autograd.js";
import { scope } from "../core/scope.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import type { InspectedDecoder } from "./hook-names.js";
import { type RunOptions, runWithCache } from "./run.js";

/**
 * Returns what a decoder would predict if each block were its last: the logits [B, T, V] of the residual stream before
 * each block, and of the whole model at the end, so layers + 1 tensors. Dispose them.
 *
 * @example
 * const ids = tensor([[72, 101, 108]], [1, 3], { dtype: "i32" });
 * const logits = logitLens(gpt, ids);
 * logits.length; // 3, for a model of 2 blocks
 *
 * @throws the errors of `run`.
 * @see nostalgebraist 2020, "interpreting GPT: the logit lens".
 */
export function logitLens(
  model: InspectedDecoder,
  ids: IntTensor,
  options?: Omit<RunOptions<InspectedDecoder>, "stopAtLayer">,
): FloatTensor[] {
  const given = { ...options, names: /hook_resid_pre$/ };
  return noGrad(() =>
    scope(() => {
      using cache = runWithCache(model, ids, given);
      return [...[...cache].map(([, stream]) => model.unembed(stream)), cache.output.alias()];
    }),
  );
}
