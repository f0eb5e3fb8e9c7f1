// Loads and saves the BERT family: the encoder alone, with its masked language head, or with a classifier. Published
// files name the same tensors differently: with or without a prefix, with layer norms' parameters called weight and
// bias or gamma and beta, and with heads that the requested model may not have.
import { Bert } from "../../models/bert.js";
import { type BertConfig, type BertFamily, checkBertConfig } from "../../models/bert-config.js";
import { bertTypes, fromHuggingFaceBertConfig, toHuggingFaceBertConfig } from "./bert-config.js";
import { booleanOf, numberOf } from "./huggingface-config.js";
import { BertForMaskedLM, BertForSequenceClassification } from "../../models/bert-heads.js";
import { bertFileName, bertPrefix } from "../../models/bert-names.js";
import { describe, HeedError } from "../../util/errors.js";
import type { WeightFile } from "../../formats/weights.js";
import type { Module } from "../../nn/module.js";
import type { Family } from "./family.js";

type BertModel = Bert | BertForMaskedLM | BertForSequenceClassification;

const configOf = (model: BertModel): Required<BertConfig> => (model instanceof Bert ? model : model.bert).config;

/** Names of the heads in published files whose encoder tensors have no prefix. */
const heads = /^(cls|pooler|lm_head|classifier|pre_classifier|qa_outputs|vocab_(transform|layer_norm|projector))\./;

/** Returns the name of a layer norm's parameter in old files, which use the paper's terms gamma and beta. */
const byPaper = (name: string): string =>
  name.replace(/LayerNorm\.(weight|bias)$/, (_, part) => `LayerNorm.${part === "weight" ? "gamma" : "beta"}`);

/**
 * Returns true if the names of the encoder's tensors begin with the family's prefix, as they do in files with a head.
 */
const isPrefixed = ({ tensors }: WeightFile, family: BertFamily): boolean =>
  [...tensors.keys()].some((name) => name.startsWith(bertPrefix(family)));

/** Returns a function that maps the names of the model's parameters to the names in this file. */
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

/** Returns the names of the file's tensors that belong neither to the encoder nor to the requested head. */
function ignored(model: BertModel, file: WeightFile): string[] {
  const { family } = configOf(model);
  const prefix = bertPrefix(family);
  const prefixed = isPrefixed(file, family);
  const isOther = (name: string): boolean =>
    prefixed ? !name.startsWith(prefix) || name.startsWith(`${prefix}pooler.`) : heads.test(name);
  return [...file.tensors.keys()].filter(isOther);
}

/** First parts of the names of Hugging Face's classes. */
const classNames: Record<BertFamily, string> = {
  bert: "Bert",
  roberta: "Roberta",
  "xlm-roberta": "XLMRoberta",
  distilbert: "DistilBert",
};

/** A kind of model that is built on a BERT. */
interface Kind<M extends BertModel> {
  /** Last part of the names of Hugging Face's classes. */
  ending: string;
  /** Returns true if a model is of this kind. */
  owns: (model: Module) => model is M;
  /** Makes a model. `bert` makes its encoder, with or without a pooler. */
  make: (bert: (pooler: boolean) => Bert, json: Readonly<Record<string, unknown>>, file: WeightFile) => M;
  /** Returns entries of config.json in addition to the encoder's. */
  more?: (model: M) => Record<string, unknown>;
  /** True if adapters of the model can be saved. @default false */
  adapted?: boolean;
}

function familyOf<M extends BertModel>({ ending, owns, make, more, adapted = false }: Kind<M>): Family<M> {
  return {
    types: bertTypes,
    fromConfig(json) {
      const config = checkBertConfig(fromHuggingFaceBertConfig(json));
      const { family, vocabularySize, layers, width, feedForwardWidth: hidden } = config;
      return {
        make: (options, file) =>
          make((pooler) => new Bert({ ...config, pooler }, options), json as Record<string, unknown>, file),
        sizes(file) {
          const prefix = isPrefixed(file, family) ? "bert." : "";
          const named = (name: string): string => bertFileName(family, prefix + name);
          return [
            [named("embeddings.word_embeddings.weight"), [vocabularySize, width]],
            [named(`encoder.layer.${layers - 1}.intermediate.dense.weight`), [hidden, width]],
          ];
        },
      };
    },
    weights: (model, file) => ({ nameInFile: nameInFile(model, file), ignored: ignored(model, file) }),
    saving: {
      owns,
      toConfig: (model) => ({
        architectures: [classNames[configOf(model).family] + ending],
        ...toHuggingFaceBertConfig(configOf(model)),
        ...more?.(model),
      }),
      nameInFile: (model, parameter) => bertFileName(configOf(model).family, parameter),
      ...(adapted && {
        // Layers are renamed as their parameters are, whose names the rules are written for.
        layerInTransformers: (layer: string, model: M) =>
          bertFileName(configOf(model).family, `${layer}.weight`).replace(/\.weight$/, ""),
      }),
    },
  };
}

/** The encoder without a head. It has a pooler if the file has one. */
export const bertFamily = familyOf<Bert>({
  ending: "Model",
  owns: (model) => model instanceof Bert,
  make: (bert, _, { tensors }) => bert([...tensors.keys()].some((name) => name.endsWith("pooler.dense.weight"))),
});

export const maskedFamily = familyOf<BertForMaskedLM>({
  ending: "ForMaskedLM",
  owns: (model) => model instanceof BertForMaskedLM,
  make(bert, json) {
    if (!booleanOf(json, "tie_word_embeddings", true))
      throw new HeedError("ERR_FORMAT", "config: expected tied embeddings (tie_word_embeddings), got untied ones");
    return new BertForMaskedLM(bert(false));
  },
});

export const classifierFamily = familyOf<BertForSequenceClassification>({
  ending: "ForSequenceClassification",
  adapted: true,
  owns: (model) => model instanceof BertForSequenceClassification,
  make(bert, json) {
    // As in transformers, a DistilBERT's default is a number of its own, and that of the others is the encoder's dropout.
    const distilled = json.model_type === "distilbert";
    const named = distilled ? "seq_classif_dropout" : "classifier_dropout";
    return new BertForSequenceClassification(bert(json.model_type === "bert"), {
      labels: labelsOf(json),
      ...((distilled || json[named] != null) && { dropout: numberOf(json, named, 0.2) }),
    });
  },
  more({ labels, dropout, bert }) {
    const { family, pooler } = bert.config;
    if (family === "bert" && !pooler)
      throw new HeedError(
        "ERR_ARGUMENT",
        "config: expected a pooler, which a classifier of family bert needs, got none",
      );
    return {
      id2label: Object.fromEntries(labels.entries()),
      label2id: Object.fromEntries(labels.map((label, i) => [label, i])),
      [family === "distilbert" ? "seq_classif_dropout" : "classifier_dropout"]: dropout.p,
    };
  },
});

/**
 * Returns the names of the classes in the order of their numbers, or the number of classes if they have no names. The
 * default is 2.
 */
function labelsOf({ id2label, num_labels }: Readonly<Record<string, unknown>>): number | string[] {
  const [names, count] = [id2label ?? null, num_labels ?? 2];
  const given = typeof names === "object" ? (names as Readonly<Record<string, unknown>> | null) : null;
  const named: unknown[] = Object.keys(given ?? {}).map((_, i) => given![i]);
  if (names === null && Number.isSafeInteger(count) && (count as number) > 0) return count as number;
  if (named.length > 0 && named.every((name) => typeof name === "string")) return named;
  throw new HeedError(
    "ERR_FORMAT",
    `config: expected id2label to name the classes 0, 1, … or num_labels to be a positive integer, got ${describe(names ?? count)}`,
  );
}
