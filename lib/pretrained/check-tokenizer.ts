import { HeedError } from "../util/errors.js";
import { EncoderHead } from "../models/encoder.js";
import { SequenceToSequence } from "../models/sequence-to-sequence.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { PretrainedKinds } from "./families/index.js";

/**
 * Checks that the model's embedding has a row for every id of the tokenizer. The error message begins with `name`.
 *
 * @throws ERR_FORMAT (or `code`) if the tokenizer's vocabulary is larger than the model's.
 */
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
      `${name}: expected a tokenizer with at most ${rows} tokens, as many as the model has, got ${tokenizer.vocabularySize}`,
    );
}

/** Returns the number of tokens in the vocabulary of a model. */
function rowsOf(model: PretrainedKinds[keyof PretrainedKinds]): number {
  if (model instanceof SequenceToSequence) return model.sourceVocabularySize;
  return (model instanceof EncoderHead ? model.encoder : model).config.vocabularySize;
}
