// Models that translate, with what makes their tokens of a text and a text of their tokens.
import path from "node:path";
import { checkObject } from "../check.js";
import { HeedError } from "../errors.js";
import { exists, ifThere, readJsonFile } from "../files.js";
import { inspectedFolder } from "../hub/pretrained-folder.js";
import type { PretrainedOptions } from "../hub/pretrained-options.js";
import type { ModelOptions } from "../models/model.js";
import type { PretrainedKinds } from "./families/index.js";
import { isCTranslate2, loadCTranslate2 } from "./load-ctranslate2.js";
import { readBlueprint } from "./load-folder.js";
import { loadPretrained } from "./load-pretrained.js";
import type { LoadQuantizedOptions } from "./quantize-options.js";

export interface Translator {
  model: PretrainedKinds["encoder-decoder"];
  /** A source's tokens; none of an empty text. */
  encode: (text: string) => Promise<Int32Array>;
  /** A target's text. */
  decode: (tokens: readonly number[]) => string;
}

/**
 * Loads a model that makes one text of another, for inference: a folder of CTranslate2, or an encoder–decoder with its
 * tokenizer.json in Hugging Face's format, in a folder or of the hub. Throws ERR_IO or ERR_FORMAT, naming the file, where
 * it is missing or not whole.
 */
export async function loadTranslator(
  name: string,
  options: PretrainedOptions & ModelOptions & LoadQuantizedOptions = {},
): Promise<Translator> {
  checkObject("loadTranslator", "options", options);
  const folder = await inspectedFolder(name, options, async (found) => {
    // CTranslate2's own config.json has no type.
    const config = await ifThere(path.join(found, "config.json"), readJsonFile);
    if ((config as { model_type?: unknown } | null)?.model_type !== undefined)
      await readBlueprint(found, "encoder-decoder");
  });
  if (await isCTranslate2(folder)) {
    const { model, source, target } = await loadCTranslate2(folder, options);
    return {
      model,
      encode: async (text) => Promise.resolve(source.encode(text)),
      decode: (tokens) => target.decode(tokens),
    };
  }
  if (!(await exists(path.join(folder, "config.json"))))
    throw new HeedError(
      "ERR_IO",
      `${folder}: expected CTranslate2's model.bin and target_vocabulary.txt, or config.json, found neither`,
    );
  const { model, tokenizer } = await loadPretrained(folder, { ...options, kind: "encoder-decoder" });
  if (!tokenizer) {
    model.dispose();
    throw new HeedError("ERR_IO", `${folder}: expected tokenizer.json beside the model, found none`);
  }
  return {
    model,
    encode: async (text) => (text === "" ? new Int32Array() : tokenizer.encodeAsync(text)),
    decode: (tokens) => tokenizer.decode(tokens),
  };
}
