import { chatCompletions } from "./chat-completions.js";
import { completions } from "./completions.js";
import type { Endpoint } from "./endpoint.js";
import { embeddings } from "./embeddings.js";
import { pooling } from "./pooling.js";
import { rerank } from "./rerank.js";
import { classify, score } from "./score.js";
import { inputTokens, responses } from "./responses.js";
import { detokenize, tokenize } from "./tokenize.js";

/** All endpoints that take a body. */
export const endpoints: readonly Endpoint[] = [
  chatCompletions,
  completions,
  responses,
  inputTokens,
  embeddings,
  pooling,
  rerank,
  score,
  classify,
  tokenize,
  detokenize,
];
