import type { InferenceFlags } from "./inference-options.js";

/** The flags of `heed translate`. */
export interface TranslateFlags extends InferenceFlags {
  model: string;
  beam: number;
  nBest: number;
  lengthPenalty: number;
  maxTokens: number;
  batchSize: number;
}
