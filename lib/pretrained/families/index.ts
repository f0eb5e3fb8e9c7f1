// The models that loadPretrained knows, by what they are for: a new family is an entry here and a file beside this one.
import type { GPT } from "../../models/gpt.js";
import type { Llama } from "../../models/llama.js";
import type { Family } from "./family.js";
import { gptFamily } from "./gpt.js";
import { llamaFamily } from "./llama.js";

export interface PretrainedKinds {
  /** Models that predict the next token. */
  causal: GPT | Llama;
}

export const families: { readonly [K in keyof PretrainedKinds]: readonly Family[] } = {
  causal: [gptFamily, llamaFamily],
};
