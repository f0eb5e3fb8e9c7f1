// POST /pooling: what a model makes of texts before a route gives it a meaning, in vLLM's form: vectors of texts or of their
// tokens, or the probabilities of labels.
import { randomUUID } from "node:crypto";
import { ApiError } from "./api-error.js";
import { classify, embed, embedTokens, type Read } from "./embed.js";
import { type Encoding, encodingSchema, type Input, inputSchema, textsOf, writerOf } from "./embeddings.js";
import { type Call, endpoint } from "./endpoint.js";
import { MappedArray } from "./streamed-json.js";
import { object, optional, unsupported } from "./json-schema.js";
import { ignoredSchemas } from "./sampling.js";
import { ServedEmbeddingModel, type ServedRankingModel } from "./served-models.js";
import { modelSchema, truncateSchema } from "./shared-parameters.js";

interface Body {
  model?: string | null;
  input: Input;
  task?: "embed" | "token_embed" | "classify" | null;
  encoding_format?: Encoding;
  truncate?: boolean | null;
}

export const pooling = endpoint<Body>({
  url: "/pooling",
  aliases: ["/v1/pooling"],
  summary: "Turn texts into vectors, vectors of their tokens, or probabilities of labels",
  schema: object(
    {
      model: modelSchema,
      input: inputSchema,
      task: optional({
        ...{ type: "string", enum: ["embed", "token_embed", "classify", null] },
        description:
          "What is returned of each text: its vector, the vector of each of its tokens, or the probability of each label; by default embed for models that embed, and classify for others.",
        "x-cost": "with token_embed, a vector for each token",
      }),
      encoding_format: encodingSchema,
      truncate: truncateSchema,
      dimensions: unsupported(),
      user: ignoredSchemas.user!,
    },
    ["input"],
  ),
  async run({ input, task, encoding_format: format, truncate, model }, call) {
    const served = call.models.pooling(model);
    const { result, tokens } = await pooled(served, textsOf(input, served), task ?? null, truncate, call);
    const written = writerOf(format);
    const data = new MappedArray([...result.entries()], ([index, found]) => ({
      ...{ index, object: "pooling", data: Array.isArray(found) ? rows(found, format, written) : written(found) },
    }));
    return {
      ...{ id: `pool-${randomUUID()}`, object: "list", created: Math.floor(Date.now() / 1000), model: served.id, data },
      usage: { prompt_tokens: tokens, completion_tokens: 0, total_tokens: tokens },
    };
  },
});

/** Resolves to a row of numbers for each text, or to one for each of its tokens. */
async function pooled(
  served: ServedEmbeddingModel | ServedRankingModel,
  texts: readonly (string | Int32Array)[],
  asked: Body["task"],
  truncate: boolean | null | undefined,
  call: Call,
): Promise<Read<(Float32Array | Float32Array[])[]>> {
  const tasks = served instanceof ServedEmbeddingModel ? ["embed", "token_embed"] : ["classify"];
  const task = asked ?? tasks[0]!;
  if (!tasks.includes(task)) {
    const text = `task: expected ${tasks.join(" or ")}, which the model ${JSON.stringify(served.id)} does, got ${task}.`;
    throw new ApiError(400, text, { param: "task", code: "unsupported_model" });
  }
  if (served instanceof ServedEmbeddingModel)
    return task === "embed" ? embed(served, texts, truncate, call) : embedTokens(served, texts, truncate, call);
  const { result, tokens } = await classify(served, texts, truncate, call);
  const { labels } = served.model.model;
  const rowOf = (found: (typeof result)[number]): Float32Array => {
    const scores = new Map(found.map(({ label, score }) => [label, score]));
    return Float32Array.from(labels, (label) => scores.get(label)!);
  };
  return { result: result.map(rowOf), tokens };
}

/** Returns the vectors of a text's tokens; as base64, the bytes of all of them one after another. */
function rows(
  vectors: readonly Float32Array[],
  format: Encoding | undefined,
  written: (vector: Float32Array) => string | number[],
): unknown {
  if (format !== "base64") return vectors.map(written);
  const all = new Float32Array(vectors.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const vector of vectors) {
    all.set(vector, at);
    at += vector.length;
  }
  return written(all);
}
