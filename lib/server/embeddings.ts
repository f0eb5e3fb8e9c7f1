// POST /v1/embeddings: vectors that represent texts.
import { ApiError } from "./api-error.js";
import { endpoint } from "./endpoint.js";
import { embed } from "./embed.js";
import { MappedArray } from "./json-parts.js";
import { mostTokens, object, optional, textSchema } from "./json-schema.js";
import { ignoredSchemas } from "./sampling.js";
import { modelSchema, truncateSchema } from "./shared-parameters.js";

interface Body {
  model?: string | null;
  input: string | string[];
  encoding_format?: "float" | "base64" | null;
  truncate?: boolean | null;
  dimensions?: number | null;
}

/** Largest number of texts of a request. */
const mostTexts = 2048;

export const embeddings = endpoint<Body>({
  url: "/v1/embeddings",
  aliases: ["/embeddings"],
  summary: "Turn texts into vectors",
  schema: object(
    {
      model: modelSchema,
      input: {
        anyOf: [
          { ...textSchema, minLength: 1 },
          { type: "array", minItems: 1, maxItems: mostTexts, items: { ...textSchema, minLength: 1 } },
        ],
        description: `a text, or an array of at most ${mostTexts} texts`,
        "x-cost": "a pass over its tokens; texts wait for each other in batches",
      },
      encoding_format: { enum: ["float", "base64", null], default: "float" },
      truncate: truncateSchema,
      ...ignoredSchemas,
      dimensions: optional({
        ...{ type: "integer", minimum: 1, maximum: mostTokens },
        description: "Numbers of a vector: as many as the model gives.",
      }),
    },
    ["input"],
  ),
  async run({ model, input, encoding_format: format, truncate, dimensions }, call) {
    const served = call.models.embedding(model);
    const texts = typeof input === "string" ? [input] : input;
    const { result: vectors, tokens } = await embed(served, texts, truncate === true, call);
    const { length } = vectors[0]!;
    if (typeof dimensions === "number" && dimensions !== length) {
      const text = `dimensions: expected ${length}, as many as the model's vectors have, got ${dimensions}.`;
      throw new ApiError(400, text, { param: "dimensions", code: "unsupported_parameter" });
    }
    // OpenAI's own clients ask for base64: the bytes of f32, little-endian, as they lie in memory.
    const written = format === "base64" ? base64 : numbers;
    const data = new MappedArray([...vectors.entries()], ([index, vector]) => ({
      ...{ object: "embedding", index, embedding: written(vector) },
    }));
    return { object: "list", data, model: served.id, usage: { prompt_tokens: tokens, total_tokens: tokens } };
  },
});

function base64({ buffer, byteOffset, byteLength }: Float32Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString("base64");
}

function numbers(vector: Float32Array): number[] {
  return Array.from(vector);
}
