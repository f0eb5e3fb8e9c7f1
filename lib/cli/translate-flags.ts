import type { InferenceFlags } from "./inference-options.js";

export interface TranslateFlags extends InferenceFlags {
  model: string;
  beam: number;
  nBest: number;
  lengthPenalty: number;
  maxTokens: number;
  batchSize: number;
}
