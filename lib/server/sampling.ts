// The parameters of a request that say how tokens are chosen, and the engine's options for them.
import type { EngineRequest } from "../engine/engine-request.js";
import { longestStop, mostStops } from "../generate/stop-texts.js";
import { ApiError } from "./api-error.js";
import type { RequestLimits } from "./endpoint.js";
import { idle, mostTokens, nameSchema, optional, type Schema, unread } from "./json-schema.js";

/** Parameters that all endpoints for generation share. Null is the same as no value. */
export interface SamplingParameters {
  temperature?: number | null;
  top_p?: number | null;
  presence_penalty?: number | null;
  frequency_penalty?: number | null;
  logit_bias?: Record<string, number> | null;
  seed?: number | null;
  stop?: string | string[] | null;
  top_k?: number | null;
  min_p?: number | null;
  typical_p?: number | null;
  repetition_penalty?: number | null;
  min_tokens?: number | null;
  n?: number | null;
  ignore_eos?: boolean | null;
  stop_token_ids?: number[] | null;
  cache_salt?: string | null;
}

const number = (range: Schema, description: string): Schema => optional({ type: "number", ...range, description });
const integer = (range: Schema, description: string): Schema => optional({ type: "integer", ...range, description });

const stopLength = { maxLength: longestStop };

/** Schemas of `SamplingParameters`. */
export const samplingSchemas: Readonly<Record<keyof SamplingParameters, Schema>> = {
  temperature: number({ minimum: 0, maximum: 2 }, "Randomness of the choice; 0 takes the likeliest token."),
  top_p: number(
    { exclusiveMinimum: 0, maximum: 1 },
    "Choose among the likeliest tokens with this probability together.",
  ),
  presence_penalty: number({ minimum: -2, maximum: 2 }, "Subtracted from the logits of tokens that were generated."),
  frequency_penalty: number({ minimum: -2, maximum: 2 }, "Subtracted for each time that a token was generated."),
  logit_bias: {
    type: ["object", "null"],
    propertyNames: { pattern: "^[0-9]+$", maxLength: 10 },
    additionalProperties: { type: "number", minimum: -100, maximum: 100 },
    maxProperties: 2 ** 18,
    "x-cost": "each number is added once for each token",
    description: "Numbers that are added to the logits of tokens, by token id.",
  },
  seed: integer(
    { minimum: -(2 ** 63), exclusiveMaximum: 2 ** 63 },
    "The same seed gives the same text. JSON's numbers tell those of more than 53 bits apart by their first bits.",
  ),
  stop: {
    anyOf: [
      { type: ["string", "null"], ...stopLength },
      { type: "array", items: { type: "string", ...stopLength }, maxItems: mostStops },
    ],
    "x-cost": "each token is compared with all of them",
    description: `a text of at most ${longestStop} characters before which the answer ends, or at most ${mostStops} of them`,
  },
  top_k: integer(
    { minimum: -1, maximum: mostTokens },
    "heed's own: choose among this many of the likeliest tokens; 0 and -1 are off.",
  ),
  min_p: number(
    { minimum: 0, maximum: 1 },
    "heed's own: choose among tokens this many times as likely as the likeliest.",
  ),
  typical_p: number(
    { exclusiveMinimum: 0, maximum: 1 },
    "heed's own: probability of the most typical tokens together.",
  ),
  repetition_penalty: number(
    { exclusiveMinimum: 0, maximum: 1e6 },
    "heed's own: factor against tokens that occurred before.",
  ),
  min_tokens: integer(
    { minimum: 0, maximum: mostTokens },
    "heed's own: number of tokens before which the text does not end.",
  ),
  n: integer(
    { minimum: 1, maximum: 128, "x-cost": "a sequence for each, with keys and values of its own tokens" },
    "Number of answers to each prompt.",
  ),
  ignore_eos: optional({
    ...{ type: "boolean", description: "heed's own, and vLLM's: no token ends the text, as benchmarks need it." },
  }),
  stop_token_ids: optional({
    ...{ type: "array", maxItems: 1024, items: { type: "integer", minimum: 0, maximum: mostTokens } },
    description: "heed's own, and vLLM's: tokens that end the text, besides the model's own.",
  }),
  cache_salt: optional({
    ...{ type: "string", minLength: 1, maxLength: 256 },
    description: "heed's own, and vLLM's: share cached beginnings only with requests that have the same text.",
  }),
};

/** Schema of notes of the client. */
export const metadataSchema: Schema = optional({
  ...{ type: "object", maxProperties: 16, propertyNames: { maxLength: 64 } },
  additionalProperties: { type: "string", maxLength: 512 },
  description: "Notes of the client, which the response has as well.",
});

/** Schemas of parameters that do not change the answer. */
export const ignoredSchemas: Readonly<Record<string, Schema>> = {
  user: idle({ ...nameSchema, description: "Name of the end user. It changes nothing." }),
  safety_identifier: idle({ ...nameSchema, description: "Name of the end user. It changes nothing." }),
  prompt_cache_key: idle({ ...nameSchema, description: "It changes nothing: every beginning is cached." }),
  prompt_cache_retention: idle({ ...nameSchema, description: "It changes nothing: every beginning is cached." }),
  prompt_cache_options: { ...unread, "x-idle": true },
  service_tier: idle(nameSchema),
  metadata: { ...metadataSchema, description: "It changes nothing: nothing is stored.", "x-idle": true },
};

/** Options of the engine for a request. */
export type SamplingOptions = Omit<EngineRequest, "prompt" | "tokens" | "messages">;

/**
 * Returns the engine's options for the parameters. `param` is the parameter that sets `maxTokens`, and `endTokens` are the
 * tokens that end a text of the model by themselves.
 */
export function samplingOptions(
  given: SamplingParameters,
  { maxTokens, param, logprobs }: { maxTokens: number; param: string; logprobs?: number | null },
  limits: RequestLimits,
  endTokens: readonly number[],
): SamplingOptions {
  if (limits.maxTokens !== undefined && maxTokens > limits.maxTokens)
    throw outOfRange(param, `at most ${limits.maxTokens}, the server's limit`, maxTokens);
  const minTokens = given.min_tokens ?? 0;
  if (minTokens > maxTokens)
    throw outOfRange("min_tokens", `at most ${maxTokens}, as many as are generated`, minTokens);
  const options = {
    ...{ maxTokens, minTokens },
    temperature: given.temperature,
    topP: given.top_p,
    topK: given.top_k === -1 ? 0 : given.top_k,
    minP: given.min_p,
    typicalP: given.typical_p,
    repetitionPenalty: given.repetition_penalty,
    presencePenalty: given.presence_penalty,
    frequencyPenalty: given.frequency_penalty,
    logitBias: given.logit_bias,
    seed: seedOf(given.seed),
    stop: stopsOf(given.stop),
    ...stopTokensOf(given, endTokens),
    n: given.n,
    cacheSalt: given.cache_salt,
    logprobs,
  };
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined && value !== null));
}

/** Returns heed's seed, which has 53 bits and is not negative. */
function seedOf(seed: number | null | undefined): number | null | undefined {
  if (typeof seed !== "number" || (seed >= 0 && seed <= Number.MAX_SAFE_INTEGER)) return seed;
  return Number(BigInt.asUintN(53, BigInt(seed)));
}

/** Returns the texts before which an answer ends, if there are any. Some clients send an empty one for none. */
function stopsOf(stop: SamplingParameters["stop"]): string[] | null {
  const texts = [stop ?? []].flat().filter((text) => text !== "");
  return texts.length > 0 ? texts : null;
}

function stopTokensOf(given: SamplingParameters, endTokens: readonly number[]): { stopTokens?: number[] } {
  const { ignore_eos: ignoresEnd, stop_token_ids: own } = given;
  if (!ignoresEnd && !own?.length) return {};
  return { stopTokens: [...(ignoresEnd ? [] : endTokens), ...(own ?? [])] };
}

function outOfRange(param: string, wanted: string, got: number): ApiError {
  return new ApiError(400, `${param}: expected ${wanted}, got ${got}.`, { param, code: "invalid_value" });
}
