// Lists the model families that `loadPretrained` supports, by kind. A new family is an entry here and a file in this
// folder.
import type { CausalDecoder } from "../../models/causal-decoder.js";
import type { Encoder, MaskedLanguageModel, TextClassifier } from "../../models/encoder.js";
import type { SequenceToSequence } from "../../models/sequence-to-sequence.js";
import { bertFamily, classifierFamily, maskedFamily } from "./bert.js";
import type { Family } from "./family.js";
import { gptFamily } from "./gpt.js";
import { llamaFamily } from "./llama.js";
import { marianFamily } from "./marian.js";
import { t5Family } from "./t5.js";

/** Model classes by kind. */
export interface PretrainedKinds {
  /** Models that predict the next token. */
  causal: CausalDecoder;
  /**
   * Models in which all tokens see each other. They produce a state for every token; a text's vector is computed from
   * these.
   */
  encoder: Encoder;
  /** Encoders with the head of their pretraining, which predicts the tokens at masked positions. */
  masked: MaskedLanguageModel;
  /** Encoders with a head that classifies texts. */
  classifier: TextClassifier;
  /** Models that turn one sequence into another. */
  "encoder-decoder": SequenceToSequence;
}

export const families: { readonly [K in keyof PretrainedKinds]: readonly Family[] } = {
  causal: [gptFamily, llamaFamily],
  encoder: [bertFamily],
  masked: [maskedFamily],
  classifier: [classifierFamily],
  "encoder-decoder": [marianFamily, t5Family],
};
