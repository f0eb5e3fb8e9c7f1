// Names of the parameters of `Bert` and its heads in the files of the BERT family.
import type { BertFamily } from "./bert-config.js";

type Renaming = readonly (readonly [RegExp, string])[];

const bert: Renaming = [
  [/^(dense|LayerNorm)\./, "cls.predictions.transform.$1."],
  [/^bias$/, "cls.predictions.bias"],
];

const roberta: Renaming = [
  [/^bert\./, "roberta."],
  [/^dense\./, "lm_head.dense."],
  [/^LayerNorm\./, "lm_head.layer_norm."],
  [/^bias$/, "lm_head.bias"],
  [/^classifier\./, "classifier.out_proj."],
  [/^pre_classifier\./, "classifier.dense."],
];

const distilbert: Renaming = [
  [/^bert\./, "distilbert."],
  [/^dense\./, "vocab_transform."],
  [/^LayerNorm\./, "vocab_layer_norm."],
  [/^bias$/, "vocab_projector.bias"],
  [/\bencoder\.layer\./, "transformer.layer."],
  [/\bself\.(q|k|v)(uery|ey|alue)\./, "$1_lin."],
  [/\battention\.output\.dense\./, "attention.out_lin."],
  [/\battention\.output\.LayerNorm\./, "sa_layer_norm."],
  [/\bintermediate\.dense\./, "ffn.lin1."],
  [/\boutput\.dense\./, "ffn.lin2."],
  [/\boutput\.LayerNorm\./, "output_layer_norm."],
];

const renamings: Record<BertFamily, Renaming> = { bert, roberta, "xlm-roberta": roberta, distilbert };

/** Returns a family's name in files for a parameter of `Bert`, `BertForMaskedLM` or `BertForSequenceClassification`. */
export function bertFileName(family: BertFamily, parameter: string): string {
  return renamings[family].reduce((name, [ours, theirs]) => name.replace(ours, theirs), parameter);
}

/** Returns the prefix of the encoder's names in a family's files of models with a head, such as "roberta.". */
export function bertPrefix(family: BertFamily): string {
  return bertFileName(family, "bert.");
}
