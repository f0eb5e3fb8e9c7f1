// Lists the model families that `loadPretrained` supports, by kind. A new family is an entry here and a file in this
// folder.
import type { Bert } from "../../models/bert.js";
import type { BertForMaskedLM, BertForSequenceClassification } from "../../models/bert-heads.js";
import type { EncoderDecoder } from "../../models/encoder-decoder.js";
import type { GPT } from "../../models/gpt.js";
import type { T5 } from "../../models/t5.js";
import type { Llama } from "../../models/llama.js";
import { bertFamily, classifierFamily, maskedFamily } from "./bert.js";
import type { Family } from "./family.js";
import { gptFamily } from "./gpt.js";
import { llamaFamily } from "./llama.js";
import { marianFamily } from "./marian.js";
import { t5Family } from "./t5.js";

/** Model classes by kind. */
export interface PretrainedKinds {
  /** Models that predict the next token. */
  causal: GPT | Llama;
  /**
   * Models in which all tokens see each other. They produce a state for every token; a text's vector is computed from
   * these.
   */
  encoder: Bert;
  /** Encoders with the head of their pretraining, which predicts the tokens at masked positions. */
  masked: BertForMaskedLM;
  /** Encoders with a head that classifies texts. */
  classifier: BertForSequenceClassification;
  /** Models that turn one sequence into another. */
  "encoder-decoder": EncoderDecoder | T5;
}

export const families: { readonly [K in keyof PretrainedKinds]: readonly Family[] } = {
  causal: [gptFamily, llamaFamily],
  encoder: [bertFamily],
  masked: [maskedFamily],
  classifier: [classifierFamily],
  "encoder-decoder": [marianFamily, t5Family],
};
