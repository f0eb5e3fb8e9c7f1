// POST /v1/completions: continues texts.
import { randomUUID } from "node:crypto";
import type { JsonSchema } from "../util/json-schema.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { TokenLogprobs } from "../generate/generation.js";
import { type Answer, Answers, type Usage } from "./answers.js";
import { ApiError } from "./api-error.js";
import { type Call, endpoint, EventStream } from "./endpoint.js";
import { choiceEvents, doneText, eventText } from "./event-lines.js";
import type { Items } from "./streamed-json.js";
import { knownTokens } from "./known-tokens.js";
import { mostTokens, object, optional, textSchema, tokensSchema, unsupported } from "./json-schema.js";
import { echoed, textLogprobs, TextOffsets } from "./logprobs.js";
import { checkPromptLogprobs, type PromptScores, promptLogprobs, scorePrompts, withTop } from "./prompt-scores.js";
import { ignoredSchemas, samplingOptions, type SamplingParameters, samplingSchemas } from "./sampling.js";
import type { ServedLanguageModel } from "./served-models.js";
import {
  fingerprint,
  modelSchema,
  type Streamed,
  streams,
  streamSchemas,
  type StreamParameters,
  type TokenParameters,
  tokenSchemas,
  usageOf,
} from "./shared-parameters.js";
import { answerOptions, formatSchema, jsonSchemaFields } from "./structured-output.js";

type Prompt = string | number[];

interface Body extends SamplingParameters, StreamParameters, TokenParameters {
  model?: string | null;
  prompt: Prompt | Prompt[];
  max_tokens?: number | null;
  logprobs?: number | null;
  best_of?: number | null;
  echo?: boolean | null;
  response_format?:
    { type: "text" | "json_object" } | { type: "json_schema"; json_schema: { schema?: JsonSchema } } | null;
}

const schema = object(
  {
    model: modelSchema,
    prompt: {
      anyOf: [
        textSchema,
        { type: "array", minItems: 1, maxItems: 128, items: textSchema },
        tokensSchema,
        { type: "array", minItems: 1, maxItems: 128, items: tokensSchema },
      ],
      description: "a text, an array of at most 128 texts, the tokens of a text, or an array of tokens of texts",
      "x-cost": "its tokens, keys and values, within the context; a sequence for each text",
    },
    max_tokens: optional({
      ...{ type: "integer", minimum: 0, maximum: mostTokens, default: 16 },
      description: "Most tokens to generate; none only with echo.",
      "x-cost": "keys and values of each token, within the context",
    }),
    ...samplingSchemas,
    ...streamSchemas,
    ...ignoredSchemas,
    best_of: optional({
      ...{ type: "integer", minimum: 1, maximum: 128 },
      description: "Number of answers of which the best are returned: as many as n, since heed returns all.",
    }),
    logprobs: optional({
      ...{ type: "integer", minimum: 0, maximum: 20 },
      description: "Number of the most likely tokens at each place to give the log-probabilities of.",
      "x-cost": "as many numbers for each token",
    }),
    echo: optional({
      ...{ type: "boolean", description: "Begin the answer with the prompt, and logprobs with those of its tokens." },
    }),
    ...tokenSchemas,
    response_format: formatSchema({ json_schema: object(jsonSchemaFields), schema: unsupported() }, ["json_schema"]),
    suffix: unsupported(""),
  },
  ["prompt"],
);

export const completions = endpoint<Body>({
  url: "/v1/completions",
  aliases: ["/completions"],
  summary: "Continue texts",
  schema,
  answers: (body) => promptsOf(body).length * (body.n ?? 1),
  async run(body, call) {
    const served = call.models.language(body.model, call.releases);
    const streamed = streams(body);
    checkBestOf(body);
    checkPromptLogprobs(body);
    const texts = promptsOf(body);
    served.checkRoom(texts.length, body.n);
    const tokens = await promptTokens(texts, served);
    const { logprobs = null, response_format: format } = body;
    const maxTokens = body.max_tokens ?? 16;
    if (maxTokens === 0 && !body.echo) throw nothingAsked();
    const limit = { maxTokens, param: "max_tokens", logprobs };
    const form = answerOptions({
      format: format?.type === "json_schema" ? { type: "json_schema", ...format.json_schema } : format,
      tools: [],
    }).format;
    const options = {
      ...samplingOptions(body, limit, call.limits, served.engine.endTokens),
      ...(form && { format: form }),
    };
    const read = (): Promise<ReadPrompt[]> => promptsRead(body, texts, tokens, served, call);
    const prompts = await (maxTokens === 0 ? readOnly(served, call, tokens, read) : read());
    const answers = maxTokens === 0 ? null : await Answers.begin("text_completion", served, call, tokens, options);
    const created = Math.floor(Date.now() / 1000);
    const head = {
      id: `cmpl-${randomUUID()}`,
      object: "text_completion",
      created,
      model: served.id,
      system_fingerprint: fingerprint,
    };
    const shown = { body, prompts, tokenizer: served.tokenizer };
    if (streamed) return new EventStream(events(head, shown, answers, streamed), async () => answers?.leave());
    const generated = (await answers?.all(body.return_token_ids === true)) ?? noAnswers(prompts.length * (body.n ?? 1));
    const choices = generated.map((answer, i) => choiceOf(answer, i, shown));
    return { ...head, choices, usage: usageOf(answers?.usage ?? usageOfPrompts(prompts)) };
  },
});

function nothingAsked(): ApiError {
  return new ApiError(400, "max_tokens: expected at least 1, or echo to be true, got 0.", {
    ...{ param: "max_tokens", code: "invalid_value" },
  });
}

function checkBestOf({ best_of: best, n }: Body): void {
  if ((best ?? 1) <= (n ?? 1)) return;
  const text = `best_of: expected at most n, which is ${n ?? 1}, since heed returns every answer, got ${best}.`;
  throw new ApiError(400, text, { param: "best_of", code: "unsupported_parameter" });
}

function promptsOf({ prompt }: Body): Prompt[] {
  const single = typeof prompt === "string" || typeof prompt[0] === "number";
  return (single ? [prompt] : prompt) as Prompt[];
}

async function promptTokens(prompts: readonly Prompt[], served: ServedLanguageModel): Promise<Int32Array[]> {
  return Promise.all(
    prompts.map(async (one, i) => {
      if (typeof one === "string") return served.textTokens(one);
      const place = prompts.length === 1 ? "prompt" : `prompt.${i}`;
      const known = knownTokens(served.fitting(one, "prompt"), served.vocabularySize, "prompt", place);
      return Int32Array.from(known);
    }),
  );
}

/** A prompt, as far as the answers tell about it. */
interface ReadPrompt {
  readonly tokens: Int32Array;
  /** Text that comes before the answer: the prompt if the request asks for it. */
  readonly text: string;
  /** Log-probabilities of its tokens; null if the request asks for none. */
  readonly scores: PromptScores | null;
}

/** Resolves to what the answers tell about the prompts. */
async function promptsRead(
  { echo, logprobs = null, prompt_logprobs: own = null, cache_salt: salt }: Body,
  texts: readonly Prompt[],
  tokens: readonly Int32Array[],
  served: ServedLanguageModel,
  call: Call,
): Promise<ReadPrompt[]> {
  const tops = [echo ? logprobs : null, own].filter((top) => top !== null);
  const scores =
    tops.length > 0 ? await scorePrompts(served, call, tokens, Math.max(...tops), salt ?? undefined) : null;
  return tokens.map((ids, i) => {
    const prompt = texts[i]!;
    const text = (): string => (typeof prompt === "string" ? prompt : served.tokenizer.decode(prompt));
    return { tokens: ids, text: echo ? text() : "", scores: scores?.[i] ?? null };
  });
}

/** Reads prompts that are not continued, which is a whole request to the model. */
async function readOnly<T>(
  served: ServedLanguageModel,
  { observer }: Call,
  tokens: readonly Int32Array[],
  read: () => Promise<T>,
): Promise<T> {
  const observation = observer.begin("text_completion", served.id);
  const promptTokens = tokens.reduce((sum, { length }) => sum + length, 0);
  try {
    const result = await read();
    observation.end({ promptTokens, completionTokens: 0, finishReasons: tokens.map(() => "length") });
    return result;
  } catch (error) {
    observation.end({ promptTokens: 0, completionTokens: 0, finishReasons: [] }, error);
    throw error;
  }
}

/** Returns the answers to prompts that are not continued. */
function noAnswers(count: number): Answer[] {
  return Array.from({ length: count }, () => {
    return { text: "", reasoning: "", toolCalls: [], tokens: [], finishReason: "length" as const };
  });
}

function usageOfPrompts(prompts: readonly ReadPrompt[]): Usage {
  const promptTokens = prompts.reduce((sum, { tokens }) => sum + tokens.length, 0);
  return { promptTokens, cachedTokens: 0, completionTokens: 0, reasoningTokens: 0 };
}

/** Parts of a request that its choices show. */
interface Shown {
  readonly body: Body;
  readonly prompts: readonly ReadPrompt[];
  readonly tokenizer: Tokenizer;
}

/** Returns what precedes the answer with this index: the text and the log-probabilities of its prompt, and its tokens. */
function beginningOf(index: number, { body, prompts, tokenizer }: Shown) {
  const { tokens, text, scores } = prompts[Math.floor(index / (body.n ?? 1))]!;
  const hasLogprobs = body.echo && typeof body.logprobs === "number";
  return {
    text,
    tokens: hasLogprobs
      ? (rows?: Items<TokenLogprobs>) => echoed(tokens, withTop(scores!, body.logprobs!), rows)
      : null,
    offsets: hasLogprobs ? TextOffsets.of(tokenizer, text, tokens) : new TextOffsets(),
    ids: body.return_token_ids ? { prompt_token_ids: [...tokens] } : {},
    scores: typeof body.prompt_logprobs === "number" ? withTop(scores!, body.prompt_logprobs) : null,
  };
}

function choiceOf({ text, logprobs, tokens = [], finishReason }: Answer, index: number, shown: Shown): object {
  const { body, tokenizer } = shown;
  const { text: before, tokens: all, offsets, ids, scores } = beginningOf(index, shown);
  return {
    index,
    text: before + text,
    logprobs: textLogprobs(tokenizer, all ? all(logprobs) : logprobs, offsets),
    finish_reason: finishReason,
    ...(body.return_token_ids && { ...ids, token_ids: tokens }),
    ...(scores && { prompt_logprobs: promptLogprobs(tokenizer, scores) }),
  };
}

async function* events(
  head: object,
  shown: Shown,
  answers: Answers | null,
  { usage, continuous }: Streamed,
): AsyncGenerator<string, void, undefined> {
  const { body, prompts, tokenizer } = shown;
  const usageNow = (): Usage => answers?.usageSoFar ?? usageOfPrompts(prompts);
  const eventOf = choiceEvents(head, continuous ? () => usageOf(usageNow()) : usage);
  const withIds = body.return_token_ids === true;
  const offsets: TextOffsets[] = [];
  // The prompt is an event of its own, and so are its tokens if the request asks for them.
  for (let index = 0; index < prompts.length * (body.n ?? 1); index++) {
    const { text, tokens, offsets: own, ids } = beginningOf(index, shown);
    offsets[index] = own;
    if (!body.echo && !withIds) continue;
    const logprobs = tokens ? textLogprobs(tokenizer, tokens(), own) : null;
    const finish_reason = answers ? null : "length";
    yield eventOf({ index, text, logprobs, finish_reason, ...(withIds && { ...ids, token_ids: [] }) });
  }
  for (let part = await answers?.next(); part; part = await answers?.next()) {
    const { index, text, logprobs, tokens = [], finishReason } = part;
    if (text === "" && !logprobs && finishReason === null && !(withIds && tokens.length > 0)) continue;
    const probabilities = textLogprobs(tokenizer, logprobs, offsets[index]);
    const choice = { index, text, logprobs: probabilities, finish_reason: finishReason };
    yield eventOf(withIds ? { ...choice, token_ids: tokens } : choice);
  }
  if (usage) yield eventText({ ...head, choices: [], usage: usageOf(answers?.usage ?? usageOfPrompts(prompts)) });
  yield doneText;
}
