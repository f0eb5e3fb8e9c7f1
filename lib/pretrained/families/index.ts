// The models that loadPretrained knows, by what they are for: a new family is an entry here and a file beside this one.
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

export interface PretrainedKinds {
  /** Models that predict the next token. */
  causal: GPT | Llama;
  /** Models whose tokens all see each other: a state of every token, of which a text's vector is made. */
  encoder: Bert;
  /** Encoders with the head they were pretrained with, which says what stands at masked positions. */
  masked: BertForMaskedLM;
  /** Encoders with a head for classes of texts. */
  classifier: BertForSequenceClassification;
  /** Models that make one sequence of another. */
  "encoder-decoder": EncoderDecoder | T5;
}

export const families: { readonly [K in keyof PretrainedKinds]: readonly Family[] } = {
  causal: [gptFamily, llamaFamily],
  encoder: [bertFamily],
  masked: [maskedFamily],
  classifier: [classifierFamily],
  "encoder-decoder": [marianFamily, t5Family],
};
