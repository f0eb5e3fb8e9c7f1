// Parameters and fields of answers that several endpoints share.
import type { Usage } from "./answers.js";
import { version } from "../util/version.js";
import { ApiError } from "./api-error.js";
import { idle, nameSchema, object, optional, type Schema } from "./json-schema.js";

/** Name of the software that computes the answers, for clients that compare those of different days. */
export const fingerprint = `heed-${version()}`;

export const modelSchema = optional({ ...nameSchema, description: "Name of a model; the first by default." });

export const truncateSchema = optional({ type: "boolean", description: "heed's own: cut texts that are too long." });

/** Parameters of a stream. */
export interface StreamParameters {
  stream?: boolean | null;
  stream_options?: { include_usage?: boolean | null; continuous_usage_stats?: boolean | null } | null;
}

export const streamSchemas: Readonly<Record<keyof StreamParameters, Schema>> = {
  stream: optional({ type: "boolean", description: "Send the answer in parts, as server-sent events." }),
  stream_options: optional(
    object({
      include_usage: optional({ type: "boolean", description: "End the stream with the numbers of tokens." }),
      continuous_usage_stats: optional({
        ...{ type: "boolean", description: "heed's own, and vLLM's: each event has the numbers of tokens so far." },
      }),
      include_obfuscation: idle({ type: "boolean" }),
    }),
  ),
};

/** Parameters of what an answer tells about tokens. */
export interface TokenParameters {
  return_token_ids?: boolean | null;
  prompt_logprobs?: number | null;
}

export const tokenSchemas: Readonly<Record<keyof TokenParameters, Schema>> = {
  return_token_ids: optional({
    ...{ type: "boolean", description: "heed's own, and vLLM's: give the tokens of the prompt and of the answer." },
  }),
  prompt_logprobs: optional({
    ...{ type: "integer", minimum: 0, maximum: 20 },
    description: "heed's own, and vLLM's: number of the most likely tokens at each place of the prompt to tell.",
    "x-cost": "as many numbers for each token of the prompt",
  }),
};

/** Places of a stream that have the numbers of tokens: its end, or each event as well. */
export interface Streamed {
  readonly usage: boolean;
  readonly continuous: boolean;
}

/** Returns null if the answer is not streamed. */
export function streams({ stream, stream_options: options }: StreamParameters): Streamed | null {
  const { include_usage: usage, continuous_usage_stats: continuous } = options ?? {};
  if (stream) return { usage: usage === true, continuous: usage === true && continuous === true };
  if (options)
    throw new ApiError(400, "stream_options: expected stream to be true.", {
      ...{ param: "stream_options", code: "invalid_value" },
    });
  return null;
}

/** Returns the numbers of tokens in OpenAI's form. */
export function usageOf({ promptTokens, cachedTokens, completionTokens, reasoningTokens }: Usage): object {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
    ...(reasoningTokens > 0 && { completion_tokens_details: { reasoning_tokens: reasoningTokens } }),
  };
}
