// POST /v1/embeddings: vectors that represent texts.
import { ApiError } from "./api-error.js";
import { endpoint } from "./endpoint.js";
import { embed } from "./embed.js";
import { MappedArray } from "./json-parts.js";
import { mostTokens, object, optional, textSchema, tokensSchema } from "./json-schema.js";
import { ignoredSchemas } from "./sampling.js";
import type { ServedEmbeddingModel } from "./served-models.js";
import { modelSchema, truncateSchema } from "./shared-parameters.js";

interface Body {
  model?: string | null;
  input: string | number[] | (string | number[])[];
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
          tokensSchema,
          {
            ...{ type: "array", minItems: 1, maxItems: mostTexts },
            items: { anyOf: [{ ...textSchema, minLength: 1 }, tokensSchema], description: "a text, or its tokens" },
          },
        ],
        description: `a text, the tokens of a text, or an array of at most ${mostTexts} of them`,
        "x-cost": "a pass over its tokens; texts wait for each other in batches",
      },
      encoding_format: { enum: ["float", "base64", null], default: "float" },
      truncate: truncateSchema,
      ...ignoredSchemas,
      dimensions: optional({
        ...{ type: "integer", minimum: 1, maximum: mostTokens },
        description: "Numbers of a vector: all of the model's, or fewer if it was trained for that.",
      }),
    },
    ["input"],
  ),
  async run({ model, input, encoding_format: format, truncate, dimensions }, call) {
    const served = call.models.embedding(model);
    const texts = textsOf(input);
    checkDimensions(served, dimensions);
    const { result, tokens } = await embed(served, texts, truncate, call);
    const vectors = typeof dimensions === "number" ? result.map((vector) => shortened(vector, dimensions)) : result;
    // OpenAI's own clients ask for base64: the bytes of f32, little-endian, as they lie in memory.
    const written = format === "base64" ? base64 : numbers;
    const data = new MappedArray([...vectors.entries()], ([index, vector]) => ({
      ...{ object: "embedding", index, embedding: written(vector) },
    }));
    return { object: "list", data, model: served.id, usage: { prompt_tokens: tokens, total_tokens: tokens } };
  },
});

function textsOf(input: Body["input"]): (string | Int32Array)[] {
  const isOne = typeof input === "string" || typeof input[0] === "number";
  const texts = (isOne ? [input] : input) as (string | number[])[];
  return texts.map((text) => (typeof text === "string" ? text : Int32Array.from(text)));
}

function checkDimensions({ model }: ServedEmbeddingModel, dimensions: number | null | undefined): void {
  const { width } = model.model.config;
  const { matryoshka = [] } = model.recipe;
  if (typeof dimensions !== "number" || dimensions === width) return;
  if (dimensions < width && (matryoshka === true || matryoshka.includes(dimensions))) return;
  const [fewer, numbers] = matryoshka === true ? [" or fewer", ""] : ["", [...matryoshka, ""].join(", ")];
  const text = `dimensions: expected ${numbers}${width}${fewer}, as the model's vectors have, got ${dimensions}.`;
  throw new ApiError(400, text, { param: "dimensions", code: "unsupported_parameter" });
}

/** Returns the beginning of a vector, with the length 1 as OpenAI's have it. */
function shortened(vector: Float32Array, dimensions: number): Float32Array {
  if (dimensions === vector.length) return vector;
  const part = vector.slice(0, dimensions);
  const length = Math.sqrt(part.reduce((sum, value) => sum + value * value, 0));
  return length === 0 ? part : part.map((value) => value / length);
}

function base64({ buffer, byteOffset, byteLength }: Float32Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString("base64");
}

function numbers(vector: Float32Array): number[] {
  return Array.from(vector);
}
