// Lists the architectures of GGUF files that heed supports. A new one is an entry here and a file in this folder.
import type { GgufArchitecture } from "./architecture.js";
import { gptArchitecture } from "../families/gguf-gpt.js";
import { llamaArchitecture } from "../families/gguf-llama.js";

export const architectures: readonly GgufArchitecture[] = [llamaArchitecture, gptArchitecture];

export const architectureNames: readonly string[] = architectures.flatMap(({ names }) => names);
