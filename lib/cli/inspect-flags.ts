import type { InferenceFlags } from "./inference-options.js";

/** The flags of `heed inspect`. */
export interface InspectFlags extends InferenceFlags {
  model: string;
  out: string;
  ablations: boolean;
  neurons: number;
  maxTokens: number;
}
