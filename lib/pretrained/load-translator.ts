// Models that translate, with what makes their tokens of a text and a text of their tokens.
import { checkObject } from "../check.js";
import type { PretrainedOptions } from "../hub/pretrained-folder.js";
import type { EncoderDecoder } from "../models/encoder-decoder.js";
import type { ModelOptions } from "./families/family.js";
import { loadCTranslate2 } from "./load-ctranslate2.js";

export interface Translator {
  model: EncoderDecoder;
  /** A source's tokens. */
  encode: (text: string) => Int32Array;
  /** A target's text. */
  decode: (tokens: readonly number[]) => string;
}

/**
 * Loads a model that translates texts, for inference: a folder of CTranslate2. Throws ERR_IO or ERR_FORMAT, naming the
 * file, where it is missing or not whole.
 */
export async function loadTranslator(
  name: string,
  options: PretrainedOptions & ModelOptions = {},
): Promise<Translator> {
  checkObject("loadTranslator", "options", options);
  const { model, source, target } = await loadCTranslate2(name, options);
  return { model, encode: (text) => source.encode(text), decode: (tokens) => target.decode(tokens) };
}
