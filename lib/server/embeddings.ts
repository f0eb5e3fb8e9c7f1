// POST /v1/embeddings: vectors that represent texts.
import { endpoint } from "./endpoint.js";
import { embed } from "./embed.js";
import { MappedArray } from "./json-parts.js";
import { object, textSchema, unsupported } from "./json-schema.js";
import { ignoredSchemas } from "./sampling.js";
import { modelSchema, truncateSchema } from "./shared-parameters.js";

interface Body {
  model?: string | null;
  input: string | string[];
  encoding_format?: "float" | "base64" | null;
  truncate?: boolean | null;
}

/** Largest number of texts of a request. */
const mostTexts = 2048;

export const embeddings = endpoint<Body>({
  url: "/v1/embeddings",
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
      dimensions: unsupported(),
    },
    ["input"],
  ),
  async run({ model, input, encoding_format: format, truncate }, call) {
    const served = call.models.embedding(model);
    const texts = typeof input === "string" ? [input] : input;
    const { result: vectors, tokens } = await embed(served, texts, truncate === true, call);
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
