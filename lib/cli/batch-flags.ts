import type { EngineFlags } from "./inference-options.js";
import type { ServedFlags } from "./served-models.js";

/** The flags of `heed batch`. */
export interface BatchFlags extends ServedFlags, EngineFlags {
  concurrency: number;
  rawControlTokens?: boolean;
}
