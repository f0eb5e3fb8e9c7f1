// The architectures of GGUF files that models are made of: a new one is an entry here and a file beside this one.
import type { GgufArchitecture } from "./architecture.js";
import { gptArchitecture } from "./gpt.js";
import { llamaArchitecture } from "./llama.js";

export const architectures: readonly GgufArchitecture[] = [llamaArchitecture, gptArchitecture];

export const architectureNames: readonly string[] = architectures.flatMap(({ names }) => names);
