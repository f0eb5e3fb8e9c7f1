// POST /v1/score: how well pairs of texts match, and POST /v1/classify: the labels of texts, in vLLM's forms.
import { randomUUID } from "node:crypto";
import { ApiError } from "./api-error.js";
import { classify as labelsOf, scorePairs } from "./embed.js";
import { endpoint } from "./endpoint.js";
import { object, type Schema, textSchema } from "./json-schema.js";
import { ignoredSchemas } from "./sampling.js";
import { modelSchema, truncateSchema } from "./shared-parameters.js";

type Texts = string | string[];

interface Common {
  model?: string | null;
  truncate?: boolean | null;
}

const text = { ...textSchema, minLength: 1 };
const mostTexts = 1024;

const textsSchema: Schema = {
  anyOf: [text, { type: "array", minItems: 1, maxItems: mostTexts, items: text }],
  description: `a text, or an array of at most ${mostTexts} texts`,
  "x-cost": "a pass over each text or pair; those of all requests share batches",
};

export const score = endpoint<Common & { text_1: Texts; text_2: Texts }>({
  url: "/v1/score",
  aliases: ["/score"],
  summary: "Say how well pairs of texts match",
  schema: object(
    {
      ...{ model: modelSchema, text_1: textsSchema, text_2: textsSchema, truncate: truncateSchema },
      user: ignoredSchemas.user!,
    },
    ["text_1", "text_2"],
  ),
  async run({ model, text_1: one, text_2: other, truncate }, call) {
    const served = call.models.ranking(model);
    const [ones, others] = [[one].flat(), [other].flat()];
    if (ones.length !== 1 && ones.length !== others.length) {
      const text = `text_1: expected one text, or ${others.length} as text_2 has, got ${ones.length}.`;
      throw new ApiError(400, text, { param: "text_1", code: "invalid_value" });
    }
    const pairs = others.map((text, i) => [ones.length === 1 ? ones[0]! : ones[i]!, text] as const);
    const { result, tokens } = await scorePairs(served, pairs, truncate, call);
    const data = result.map((score, index) => ({ index, object: "score", score }));
    return answer("score", served.id, data, tokens);
  },
});

export const classify = endpoint<Common & { input: Texts }>({
  url: "/v1/classify",
  aliases: ["/classify"],
  summary: "Tell the labels of texts",
  schema: object(
    {
      ...{ model: modelSchema, input: textsSchema, truncate: truncateSchema },
      user: ignoredSchemas.user!,
    },
    ["input"],
  ),
  async run({ model, input, truncate }, call) {
    const served = call.models.classifier(model);
    const { labels } = served.model.model;
    const { result, tokens } = await labelsOf(served, [input].flat(), truncate, call);
    const data = result.map((found, index) => {
      const scores = new Map(found.map(({ label, score }) => [label, score]));
      const probs = labels.map((label) => scores.get(label)!);
      return { index, label: found[0]!.label, probs, num_classes: labels.length };
    });
    return answer("classify", served.id, data, tokens);
  },
});

function answer(kind: "score" | "classify", model: string, data: readonly object[], tokens: number): object {
  const created = Math.floor(Date.now() / 1000);
  const usage = { prompt_tokens: tokens, completion_tokens: 0, total_tokens: tokens };
  return { id: `${kind}-${randomUUID()}`, object: "list", created, model, data, usage };
}
