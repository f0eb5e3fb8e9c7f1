import { HeedError } from "../errors.js";
import { BertForMaskedLM, BertForSequenceClassification } from "../models/bert-heads.js";
import { EncoderDecoder } from "../models/encoder-decoder.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { PretrainedKinds } from "./families/index.js";

/** Throws `code`, naming what was loaded, for a tokenizer with ids for which the model has no vectors. */
export function checkTokenizer(
  name: string,
  tokenizer: Tokenizer | null,
  model: PretrainedKinds[keyof PretrainedKinds],
  code: "ERR_FORMAT" | "ERR_ARGUMENT" = "ERR_FORMAT",
): void {
  const rows = rowsOf(model);
  if (tokenizer && tokenizer.vocabularySize > rows)
    throw new HeedError(
      code,
      `${name}: expected a vocabulary of at most the model's ${rows}, got a tokenizer of ${tokenizer.vocabularySize}`,
    );
}

/** Returns the number of tokens in a model's vocabulary. */
function rowsOf(model: PretrainedKinds[keyof PretrainedKinds]): number {
  if (model instanceof EncoderDecoder) return model.config.sourceVocabularySize;
  const headed = model instanceof BertForMaskedLM || model instanceof BertForSequenceClassification;
  return (headed ? model.bert : model).config.vocabularySize;
}
