// POST /v1/rerank: sorts documents by how well they answer a query, in the form that Cohere's and Jina's clients know.
// A classifier with one label reads the query and each document together (a cross-encoder). With a model that embeds, the
// relevance is the cosine of the vectors of the query and the document.
import { randomUUID } from "node:crypto";
import { cosine, embed, rank, type Read } from "./embed.js";
import { type Call, endpoint } from "./endpoint.js";
import { mostTokens, object, optional, textSchema } from "./json-schema.js";
import { ServedRankingModel, type ServedEmbeddingModel } from "./served-models.js";
import { modelSchema, truncateSchema } from "./shared-parameters.js";

type Document = string | { text: string };

interface Body {
  model?: string | null;
  query: string;
  documents: Document[];
  top_n?: number | null;
  return_documents?: boolean | null;
  truncate?: boolean | null;
}

const text = { ...textSchema, minLength: 1 };
const mostDocuments = 1024;

export const rerank = endpoint<Body>({
  url: "/v1/rerank",
  aliases: ["/rerank", "/v2/rerank"],
  summary: "Sort documents by their relevance to a query",
  schema: object(
    {
      model: modelSchema,
      query: text,
      documents: {
        type: "array",
        ...{ minItems: 1, maxItems: mostDocuments, "x-cost": "a pass over the query and each document" },
        items: { anyOf: [text, object({ text }, ["text"])], description: "a text, or an object with a text" },
      },
      top_n: optional({
        ...{ type: "integer", minimum: 1, maximum: mostTokens },
        description: "Number of documents to return; all by default.",
      }),
      return_documents: optional({ type: "boolean", default: false }),
      truncate: truncateSchema,
    },
    ["query", "documents"],
  ),
  async run({ model, query, documents, top_n: top, return_documents: withTexts, truncate }, call) {
    const served = call.models.ranking(model);
    const texts = documents.map((document) => (typeof document === "string" ? document : document.text));
    const { result: ranked, tokens } =
      served instanceof ServedRankingModel
        ? await rank(served, query, texts, truncate, call)
        : await byCosine(served, query, texts, truncate, call);
    const results = ranked.slice(0, top ?? undefined).map(({ index, score }) => ({
      ...{ index, relevance_score: score },
      ...(withTexts && { document: { text: texts[index] } }),
    }));
    return {
      id: `rerank-${randomUUID()}`,
      model: served.id,
      results,
      usage: { prompt_tokens: tokens, total_tokens: tokens },
    };
  },
});

async function byCosine(
  served: ServedEmbeddingModel,
  query: string,
  texts: readonly string[],
  truncate: boolean | null | undefined,
  call: Call,
): Promise<Read<{ index: number; score: number }[]>> {
  const { result: vectors, tokens } = await embed(served, [query, ...texts], truncate, call);
  const [wanted, ...found] = vectors as [Float32Array, ...Float32Array[]];
  const result = found
    .map((vector, index) => ({ index, score: cosine(wanted, vector) }))
    .sort((a, b) => b.score - a.score || a.index - b.index);
  return { result, tokens };
}
