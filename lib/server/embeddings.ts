// POST /v1/embeddings: vectors that represent texts.
import { ApiError } from "./api-error.js";
import { endpoint } from "./endpoint.js";
import { embed } from "./embed.js";
import { MappedArray } from "./streamed-json.js";
import { knownTokens } from "./known-tokens.js";
import { mostTokens, object, optional, type Schema, textSchema, tokensSchema } from "./json-schema.js";
import { ignoredSchemas } from "./sampling.js";
import type { ServedEmbeddingModel } from "./served-models.js";
import { modelSchema, truncateSchema } from "./shared-parameters.js";

/** Texts, or their tokens. */
export type Input = string | number[] | (string | number[])[];

/** Form of the numbers of vectors. */
export type Encoding = "float" | "base64" | null;

interface Body {
  model?: string | null;
  input: Input;
  encoding_format?: Encoding;
  truncate?: boolean | null;
  dimensions?: number | null;
}

/** Largest number of texts of a request. */
const mostTexts = 2048;

/** Schema of texts to make vectors of. */
export const inputSchema: Schema = {
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
};

export const encodingSchema: Schema = { enum: ["float", "base64", null], default: "float" };

export const embeddings = endpoint<Body>({
  url: "/v1/embeddings",
  aliases: ["/embeddings"],
  summary: "Turn texts into vectors",
  schema: object(
    {
      model: modelSchema,
      input: inputSchema,
      encoding_format: encodingSchema,
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
    const texts = textsOf(input, served);
    checkDimensions(served, dimensions);
    // A request may ask for more numbers than the recipe keeps.
    const whole = typeof dimensions === "number" ? { dimensions: served.model.model.config.width } : {};
    const { result, tokens } = await embed(served, texts, truncate, call, whole);
    const vectors = typeof dimensions === "number" ? result.map((vector) => shortened(vector, dimensions)) : result;
    const written = writerOf(format);
    const data = new MappedArray([...vectors.entries()], ([index, vector]) => ({
      ...{ object: "embedding", index, embedding: written(vector) },
    }));
    return { object: "list", data, model: served.id, usage: { prompt_tokens: tokens, total_tokens: tokens } };
  },
});

/** Returns the texts of an input for a model. */
export function textsOf(input: Input, { vocabularySize }: { vocabularySize: number }): (string | Int32Array)[] {
  const isOne = typeof input === "string" || typeof input[0] === "number";
  const texts = (isOne ? [input] : input) as (string | number[])[];
  return texts.map((text, i) => {
    if (typeof text === "string") return text;
    return Int32Array.from(knownTokens(text, vocabularySize, "input", isOne ? "input" : `input.${i}`));
  });
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

/** Returns what writes a vector. OpenAI's own clients ask for base64: the bytes of f32, little-endian, as they lie in memory. */
export function writerOf(encoding: Encoding | undefined): (vector: Float32Array) => string | number[] {
  return encoding === "base64" ? base64 : numbers;
}

function base64({ buffer, byteOffset, byteLength }: Float32Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString("base64");
}

function numbers(vector: Float32Array): number[] {
  return Array.from(vector);
}
