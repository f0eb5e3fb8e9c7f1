// POST /v1/completions: continues texts.
import { randomUUID } from "node:crypto";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { type Answer, Answers } from "./answers.js";
import { ApiError } from "./api-error.js";
import { endpoint, EventStream } from "./endpoint.js";
import { choiceEvents, doneText, eventText } from "./event-lines.js";
import { mostTokens, object, optional, textSchema, tokensSchema, unsupported } from "./json-schema.js";
import { textLogprobs, TextOffsets } from "./logprobs.js";
import { ignoredSchemas, samplingOptions, type SamplingParameters, samplingSchemas } from "./sampling.js";
import type { ServedLanguageModel } from "./served-models.js";
import {
  modelSchema,
  type Streamed,
  streams,
  streamSchemas,
  type StreamParameters,
  usageOf,
} from "./shared-parameters.js";

type Prompt = string | number[];

interface Body extends SamplingParameters, StreamParameters {
  model?: string | null;
  prompt: Prompt | Prompt[];
  max_tokens?: number | null;
  logprobs?: number | null;
  best_of?: number | null;
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
      ...{ type: "integer", minimum: 1, maximum: mostTokens, description: "Most tokens to generate.", default: 16 },
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
    echo: unsupported(false),
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
    const texts = promptsOf(body);
    served.checkRoom(texts.length, body.n);
    const prompts = await promptTokens(texts, served);
    const { max_tokens: maxTokens, logprobs = null } = body;
    const limit = { maxTokens: maxTokens ?? 16, param: "max_tokens", logprobs };
    const options = samplingOptions(body, limit, call.limits, served.engine.endTokens);
    const answers = await Answers.begin("text_completion", served, call, prompts, options);
    const created = Math.floor(Date.now() / 1000);
    const head = { id: `cmpl-${randomUUID()}`, object: "text_completion", created, model: served.id };
    if (streamed) return new EventStream(events(head, served.tokenizer, answers, streamed), () => answers.leave());
    const choices = (await answers.all()).map((answer, i) => choiceOf(answer, i, served.tokenizer));
    return { ...head, choices, usage: usageOf(answers.usage) };
  },
});

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
    prompts.map(async (one) =>
      typeof one === "string" ? served.textTokens(one) : Int32Array.from(served.fitting(one, "prompt")),
    ),
  );
}

function choiceOf({ text, logprobs, finishReason }: Answer, index: number, tokenizer: Tokenizer): object {
  return { index, text, logprobs: textLogprobs(tokenizer, logprobs), finish_reason: finishReason };
}

async function* events(
  head: object,
  tokenizer: Tokenizer,
  answers: Answers,
  { usage, continuous }: Streamed,
): AsyncGenerator<string, void, undefined> {
  const eventOf = choiceEvents(head, continuous ? () => usageOf(answers.usageSoFar) : usage);
  const offsets: TextOffsets[] = [];
  for (let part = await answers.next(); part; part = await answers.next()) {
    const { index, text, logprobs, finishReason } = part;
    if (text === "" && !logprobs && finishReason === null) continue;
    const probabilities = textLogprobs(tokenizer, logprobs, (offsets[index] ??= new TextOffsets()));
    yield eventOf({ index, text, logprobs: probabilities, finish_reason: finishReason });
  }
  if (usage) yield eventText({ ...head, choices: [], usage: usageOf(answers.usage) });
  yield doneText;
}
