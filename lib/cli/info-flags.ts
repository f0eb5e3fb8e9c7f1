import type { EngineFlags } from "./inference-options.js";
import type { ServedFlags } from "./served-models.js";

/** The flags of `heed info`. */
export interface InfoFlags extends Omit<ServedFlags, "model" | "name" | "adapter">, EngineFlags {
  model?: string[];
}
