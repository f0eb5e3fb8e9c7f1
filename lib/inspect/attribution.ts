import { noGrad } from "../core/autograd.js";
import { checkArray, checkInteger, checkObject } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import { checkTensor } from "../ops/check.js";
import { narrow } from "../ops/views.js";
import { scope } from "../core/scope.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import type { DecoderHookName, InspectedDecoder } from "./hook-names.js";
import { partLogits, partNames, streamParts } from "./residual-parts.js";
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
  const { tokens, at: position, ...rest } = checkAttribution(op, model, ids, options);
  const [batch] = ids.shape as [number];
  const { vocabularySize: vocabulary } = model.config;
  const parts = noGrad(() =>
    scope(() => {
      using cache = runWithCache(model, ids, { ...rest, names: partNames });
      const at = (name: DecoderHookName): FloatTensor => narrow(cache.get(name), 1, position, 1);
      const found = streamParts(model, at, cache.has("hook_pos_embed"));
      const added = found.map((part) => part.added);
      const { parts, bias } = partLogits(model, at("ln_final.hook_scale"), added);
      const named = found.map(({ names }, i) => ({ names, logits: parts[i]! }));
      return [...named, { names: ["ln_final.bias"], logits: bias }];
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

/**
 * @internal Checks the options of an attribution. `at` is the position, counted from the beginning.
 *
 * @throws ERR_SHAPE if there is not a token for each sequence; ERR_RANGE if there is no such token or position.
 */
export function checkAttribution(
  op: string,
  model: InspectedDecoder,
  ids: IntTensor,
  options: AttributionOptions,
): Omit<AttributionOptions, "position"> & { at: number } {
  checkTensor(op, "ids", ids);
  checkObject(op, "options", options);
  const { tokens, position = -1, ...rest } = options;
  const [batch, length] = ids.shape as [number, number];
  checkArray(op, "tokens", tokens);
  if (tokens.length !== batch)
    throw new HeedError("ERR_SHAPE", `${op}: expected tokens for ${batch} sequences, got ${tokens.length}`);
  tokens.forEach((token, b) => checkInteger(op, `tokens[${b}]`, token, 0, model.config.vocabularySize - 1));
  checkInteger(op, "position", position, -length, length - 1);
  return { ...rest, tokens, at: (position + length) % length };
}
