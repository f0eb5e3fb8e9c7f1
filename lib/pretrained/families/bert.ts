import { Bert } from "../../models/bert.js";
import {
  type BertConfig,
  type BertFamily,
  bertTypes,
  checkBertConfig,
  fromHuggingFaceBertConfig,
} from "../../models/bert-config.js";
import { BertForMaskedLM, BertForSequenceClassification } from "../../models/bert-heads.js";
import { bertFileName, bertPrefix } from "../../models/bert-names.js";
import { describe, HeedError } from "../../errors.js";
import type { WeightFile } from "../../formats/weights.js";
import type { Family, ModelOptions } from "./family.js";

type BertModel = Bert | BertForMaskedLM | BertForSequenceClassification;

const configOf = (model: BertModel): Required<BertConfig> => (model instanceof Bert ? model : model.bert).config;

/** Parts of checkpoints beside the encoder, in files that give its tensors no prefix. */
const heads = /^(cls|pooler|lm_head|classifier|pre_classifier|qa_outputs|vocab_(transform|layer_norm|projector))\./;

/** Old files name the scale and shift of layer norms as the paper does. */
const byPaper = (name: string): string =>
  name.replace(/LayerNorm\.(weight|bias)$/, (_, part) => `LayerNorm.${part === "weight" ? "gamma" : "beta"}`);

/** Whether the encoder's names begin with the family's, as they do where a head is with it. */
const isPrefixed = ({ tensors }: WeightFile, family: BertFamily): boolean =>
  [...tensors.keys()].some((name) => name.startsWith(bertPrefix(family)));

/** How the model's parameters are called in this very file. */
function nameInFile(model: BertModel, file: WeightFile): (name: string) => string {
  const { family } = configOf(model);
  const { tensors } = file;
  const prefixed = isPrefixed(file, family);
  return (name) => {
    const own = name.replace(/^bert\./, "");
    const inEncoder = model instanceof Bert || own !== name;
    const whole = bertFileName(family, inEncoder && prefixed ? `bert.${own}` : own);
    return tensors.has(whole) || !tensors.has(byPaper(whole)) ? whole : byPaper(whole);
  };
}

/** Everything of the file that is neither the encoder's nor of the head that was asked for. */
function ignored(model: BertModel, file: WeightFile): string[] {
  const { family } = configOf(model);
  const prefix = bertPrefix(family);
  const prefixed = isPrefixed(file, family);
  const isOther = (name: string): boolean =>
    prefixed ? !name.startsWith(prefix) || name.startsWith(`${prefix}pooler.`) : heads.test(name);
  return [...file.tensors.keys()].filter(isOther);
}

/** A family of models on a BERT, which `make` makes with the parts that the file has. */
function familyOf<M extends BertModel>(
  make: (bert: (pooler: boolean) => Bert, json: Readonly<Record<string, unknown>>, file: WeightFile) => M,
): Family<M> {
  return {
    types: bertTypes,
    fromConfig(json) {
      const config = checkBertConfig(fromHuggingFaceBertConfig(json));
      return (options: ModelOptions, file) =>
        make((pooler) => new Bert({ ...config, pooler }, options), json as Record<string, unknown>, file);
    },
    sizes(json, file) {
      const { family, vocabularySize, layers, width, hidden } = checkBertConfig(fromHuggingFaceBertConfig(json));
      const prefix = isPrefixed(file, family) ? "bert." : "";
      const named = (name: string): string => bertFileName(family, prefix + name);
      return [
        [named("embeddings.word_embeddings.weight"), [vocabularySize, width]],
        [named(`encoder.layer.${layers - 1}.intermediate.dense.weight`), [hidden, width]],
      ];
    },
    weights: (model, file) => ({ nameInFile: nameInFile(model, file), ignored: ignored(model, file) }),
  };
}

/** The encoder alone, with its pooler where the file has one. */
export const bertFamily = familyOf((bert, _, { tensors }) =>
  bert([...tensors.keys()].some((name) => name.endsWith("pooler.dense.weight"))),
);

export const maskedFamily = familyOf((bert, json) => {
  if (json.tie_word_embeddings === false)
    throw new HeedError("ERR_FORMAT", "config: expected tied embeddings (tie_word_embeddings), got untied ones");
  return new BertForMaskedLM(bert(false));
});

export const classifierFamily = familyOf((bert, json) => {
  const names = json.id2label;
  const labels = json.num_labels ?? (names === undefined ? 2 : Object.keys(Object(names) as object).length);
  if (!Number.isSafeInteger(labels) || (labels as number) < 1)
    throw new HeedError("ERR_FORMAT", `config: expected id2label or num_labels, got ${describe(names ?? labels)}`);
  const dropout = json.classifier_dropout ?? json.seq_classif_dropout;
  return new BertForSequenceClassification(bert(json.model_type === "bert"), {
    labels: labels as number,
    ...(typeof dropout === "number" && { dropout }),
  });
});
