import type { InferenceFlags } from "./inference-options.js";

/** The flags of `heed eval`. */
export interface EvalFlags extends InferenceFlags {
  model: string;
  adapter?: string;
  perplexity?: string[];
  context?: number;
  stride?: number;
  numFewshot?: number;
  limit?: number;
  seed?: number;
  batchTokens?: number;
  batchSize: number;
  json?: boolean;
  output?: string;
  samples?: string;
}
