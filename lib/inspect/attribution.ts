import { noGrad } from "../autograd.js";
import { checkArray, checkInteger, checkObject } from "../check.js";
import { zeros } from "../creation.js";
import { HeedError } from "../errors.js";
import { GPT } from "../models/gpt.js";
import { Observer } from "../nn/observer.js";
import { add, mul, sub } from "../ops/binary.js";
import { checkTensor } from "../ops/check.js";
import { sum } from "../ops/reduce.js";
import { narrow, reshape, transpose } from "../ops/views.js";
import { scope } from "../scope.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import type { ActivationCache } from "./activation-cache.js";
import type { DecoderHookName, InspectedDecoder } from "./hook-names.js";
import { type RunOptions, runWithCache } from "./run.js";

/** Options of `logitAttribution`. */
export type AttributionOptions = Omit<RunOptions<InspectedDecoder>, "stopAtLayer"> & {
  /** Token whose logit is explained, one for each sequence. */
  tokens: readonly number[];
  /** Position of the logit, which may count from the end. @default -1 */
  position?: number;
};

/** Part of a model that adds to the residual stream, and what it adds to a logit. */
export interface LogitContribution {
  /**
   * Name of the part: `embed`, `pos_embed`, `blocks.0.attn.head.3`, `blocks.0.attn.bias`, `blocks.0.mlp`, or
   * `ln_final.bias` for the bias of the last norm.
   */
  name: string;
  /** Contributions to the logit of each sequence's token. */
  values: Float32Array;
}

/**
 * Resolves to what each part of a decoder adds to the logit of a token (direct logit attribution). The residual stream at
 * the position is taken apart into the embeddings, the output of each head and of each feed-forward; the last norm divides
 * each of them by the scale of the whole stream. The contributions add up to the logit.
 *
 * @example
 * const ids = tensor([[72, 101, 108]], [1, 3], { dtype: "i32" });
 * const parts = await logitAttribution(gpt, ids, { tokens: [108] });
 * parts.find(({ name }) => name === "blocks.1.attn.head.0")!.values; // Float32Array of one number
 *
 * @throws the errors of `run`; ERR_SHAPE if there is not a token for each sequence; ERR_RANGE if there is no such token
 *   or position.
 * @see Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
 */
export async function logitAttribution(
  model: InspectedDecoder,
  ids: IntTensor,
  options: AttributionOptions,
): Promise<LogitContribution[]> {
  const op = "logitAttribution";
  checkTensor(op, "ids", ids);
  checkObject(op, "options", options);
  const { tokens, position = -1, ...rest } = options;
  const [batch, length] = ids.shape as [number, number];
  checkArray(op, "tokens", tokens);
  if (tokens.length !== batch)
    throw new HeedError("ERR_SHAPE", `${op}: expected tokens for ${batch} sequences, got ${tokens.length}`);
  const { vocabularySize: vocabulary } = model.config;
  tokens.forEach((token, b) => checkInteger(op, `tokens[${b}]`, token, 0, vocabulary - 1));
  checkInteger(op, "position", position, -length, length - 1);
  const names = /^hook_|hook_result$|hook_(attn|mlp)_out$|^ln_final.hook_scale$/;
  const parts = noGrad(() =>
    scope(() => {
      using cache = runWithCache(model, ids, { ...rest, names });
      const at = (name: DecoderHookName): FloatTensor => narrow(cache.get(name), 1, (position + length) % length, 1);
      return linearised(model, at("ln_final.hook_scale"), partsOf(model, cache, at));
    }),
  );
  const read = await Promise.all(parts.map(async ({ names, logits }) => ({ names, logits: await logits.data() })));
  for (const { logits } of parts) logits.dispose();
  return read.flatMap(({ names, logits }) =>
    names.map((name, i) => ({
      name,
      values: Float32Array.from(tokens, (token, b) => logits[(i * batch + b) * vocabulary + token]!),
    })),
  );
}

/** Parts of one kind, and what they add to the residual stream: [parts, B, C]. */
interface StreamParts {
  names: string[];
  added: FloatTensor;
}

/** Takes the residual stream at one position apart. */
function partsOf(
  model: InspectedDecoder,
  cache: ActivationCache<DecoderHookName>,
  at: (name: DecoderHookName) => FloatTensor,
): StreamParts[] {
  const scale = model instanceof GPT ? model.config.residualScale : 1;
  /** Returns a single part, whose x [B, 1, C] becomes [1, B, C]. */
  const one = (name: string, x: FloatTensor): StreamParts => ({ names: [name], added: transpose(x, [1, 0, 2]) });
  const blocks = Array.from({ length: model.config.layers }, (_, layer) => {
    const block = `blocks.${layer}` as const;
    const heads = mul(at(`${block}.attn.hook_result`), scale); // [B, 1, H, C]
    const [batch, , count, width] = heads.shape as [number, number, number, number];
    const bias = sub(at(`${block}.hook_attn_out`), sum(heads, { axes: [2] }));
    return [
      {
        names: Array.from({ length: count }, (_, head) => `${block}.attn.head.${head}`),
        added: transpose(reshape(heads, [batch, count, width]), [1, 0, 2]),
      },
      one(`${block}.attn.bias`, bias),
      one(`${block}.mlp`, at(`${block}.hook_mlp_out`)),
    ];
  }).flat();
  const positions = cache.has("hook_pos_embed") ? [one("pos_embed", at("hook_pos_embed"))] : [];
  return [one("embed", at("hook_embed")), ...positions, ...blocks];
}

/** Returns what parts add to all logits, [parts, B, V], where the last norm divides by `scale` [B, 1, 1]. */
function linearised(
  model: InspectedDecoder,
  scale: FloatTensor,
  parts: StreamParts[],
): { names: string[]; logits: FloatTensor }[] {
  const [batch] = scale.shape as [number];
  const logitsOf = (x: FloatTensor): FloatTensor => {
    // The hook's result has the shape of the part's own scale, [parts, B, 1].
    const fixed = (own: FloatTensor): FloatTensor => add(mul(own, 0), reshape(scale, [1, batch, 1]));
    const observer = new Observer({ "ln_final.hook_scale": fixed });
    return model.unembed(x, { observer }).to("f32");
  };
  const nothing = logitsOf(zeros([1, batch, parts[0]!.added.shape[2]!], { device: model.device, dtype: model.dtype }));
  return [
    ...parts.map(({ names, added }) => ({ names, logits: sub(logitsOf(added), nothing) })),
    { names: ["ln_final.bias"], logits: nothing },
  ];
}
