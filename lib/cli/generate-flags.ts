import type { EngineFlags, InferenceFlags } from "./inference-options.js";

/** The flags of `heed generate`. */
export interface GenerateFlags extends InferenceFlags, EngineFlags {
  model: string;
  adapter?: string;
  ema?: boolean;
  prompt?: string;
  chat?: boolean;
  rawControlTokens?: boolean;
  system?: string;
  maxTokens?: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  typicalP?: number;
  repetitionPenalty?: number;
  presencePenalty?: number;
  frequencyPenalty?: number;
  minTokens?: number;
  seed?: number;
  stop?: string[];
  overflow: "error" | "slide";
  echo: boolean;
}

/** Defaults for options that neither the user nor the model's generation_config.json sets. */
export const samplingDefaults = {
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  typicalP: 1,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
} as const;
