// Parameters and fields of answers that several endpoints share.
import type { Usage } from "./answers.js";
import { ApiError } from "./api-error.js";
import { nameSchema, object, optional, type Schema, unsupported } from "./json-schema.js";

export const modelSchema = optional({ ...nameSchema, description: "Name of a model; the first by default." });

export const truncateSchema = optional({ type: "boolean", description: "heed's own: cut texts that are too long." });

/** Parameters of a stream. */
export interface StreamParameters {
  stream?: boolean | null;
  stream_options?: { include_usage?: boolean | null } | null;
}

export const streamSchemas: Readonly<Record<keyof StreamParameters, Schema>> = {
  stream: optional({ type: "boolean", description: "Send the answer in parts, as server-sent events." }),
  stream_options: optional(
    object({
      include_usage: optional({ type: "boolean", description: "End the stream with the numbers of tokens." }),
      include_obfuscation: unsupported(false),
    }),
  ),
};

/** Returns null if the answer is not streamed, and otherwise says if the stream ends with the numbers of tokens. */
export function streams({ stream, stream_options: options }: StreamParameters): { usage: boolean } | null {
  if (stream) return { usage: options?.include_usage === true };
  if (options)
    throw new ApiError(400, "stream_options: expected stream to be true.", {
      ...{ param: "stream_options", code: "invalid_value" },
    });
  return null;
}

/** Returns the numbers of tokens in OpenAI's form. */
export function usageOf({ promptTokens, cachedTokens, completionTokens }: Usage): object {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
  };
}
