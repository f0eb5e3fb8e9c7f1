// Names and layout of adapters in PEFT's files. A tensor is called base_model.model.LAYER.lora_A.weight, where LAYER is
// the layer's name in Hugging Face's transformers.
import { Linear } from "../nn/linear.js";
import type { Module } from "../nn/module.js";
import { describe, HeedError } from "../util/errors.js";
import type { FamilySaving } from "./families/family.js";
import { savingOf } from "./families/saving.js";

/** Parts of an adapter in a layer, by the ends of their names in a file. */
export const peftParts = {
  lora_A: "lora_A.weight",
  lora_B: "lora_B.weight",
  lora_magnitude_vector: "lora_magnitude_vector",
} as const;
/** Name of a part of an adapter in a layer. */
export type PeftPart = keyof typeof peftParts;

const prefix = "base_model.model.";
const tensorName = new RegExp(
  `^${prefix.replaceAll(".", String.raw`\.`)}(.+)\\.(lora_[AB]|lora_magnitude_vector)(\\.weight)?$`,
);

/** Returns the layer and part that a parameter of an adapter belongs to; null if it is a parameter of another kind. */
export function partOfParameter(parameter: string): { layer: string; part: PeftPart } | null {
  const [, layer, part] = /^(.+)\.adapter\.[\w-]+\.(lora_[AB]|lora_magnitude_vector)$/.exec(parameter) ?? [];
  return layer === undefined ? null : { layer, part: part as PeftPart };
}

/** Conversion between the adapters of a model and PEFT's files. */
export interface PeftNames {
  /** Returns PEFT's name of a layer: its name in transformers. */
  layerInFile(layer: string): string;
  /** Returns the name of a tensor in the file. */
  tensor(layer: string, part: PeftPart): string;
  /** Returns the name in the file of a parameter of the model itself, which is saved with an adapter. */
  parameter(name: string): string;
  /** Returns the layer and part that a tensor of a file belongs to; null if the model has no such layer. */
  find(tensor: string): { layer: string; part: PeftPart } | null;
  /** Returns the values of a part as the file has them. */
  toFile(layer: string, part: PeftPart, values: Float32Array): Float32Array;
  /** Returns the values of a part as the model has them. */
  fromFile(layer: string, part: PeftPart, values: Float32Array): Float32Array;
}

/**
 * Returns the names of a model's adapters in PEFT's files.
 *
 * @throws ERR_ARGUMENT if PEFT's layout does not describe the layers of this model.
 */
export function peftNames(op: string, model: Module): PeftNames {
  const saving = savingOf(op, model, { adapted: true });
  if (!saving.layerInTransformers)
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected a model whose layers PEFT's files can name, such as a GPT, a Llama or a BertForSequenceClassification, got ${describe(model)}`,
    );
  const layers = [...model.modules()].filter((entry): entry is [string, Linear] => entry[1] instanceof Linear);
  const layerInFile = (layer: string): string => saving.layerInTransformers!(layer, model);
  const inModel = new Map(layers.map(([name]) => [layerInFile(name), name]));
  const outputs = new Map(layers.map(([name, layer]) => [name, layer.outputs]));
  /** Returns, for each row of a part in the file, its row in the model; null if they are the same. */
  const rows = (layer: string, part: PeftPart): Float32Array | null =>
    part === "lora_A" ? null : orderOf(saving, model, `${layer}.weight`, outputs.get(layer)!);
  return {
    layerInFile,
    tensor: (layer, part) => `${prefix}${layerInFile(layer)}.${peftParts[part]}`,
    parameter: (name) => `${prefix}${saving.nameInFile?.(model, name) ?? name}`,
    find(tensor) {
      const [, name, part] = tensorName.exec(tensor) ?? [];
      const layer = name === undefined ? undefined : inModel.get(name);
      return layer === undefined ? null : { layer, part: part as PeftPart };
    },
    toFile(layer, part, values) {
      const order = rows(layer, part);
      return order ? permuted(values, order, (file, own) => [own, file]) : values;
    },
    fromFile(layer, part, values) {
      const order = rows(layer, part);
      return order ? permuted(values, order, (file, own) => [file, own]) : values;
    },
  };
}

/** Returns the order in which a file has the rows of a weight: the family's rule, applied to the rows' numbers. */
function orderOf(saving: FamilySaving, model: Module, weight: string, rows: number): Float32Array | null {
  return (
    saving.values?.(
      model,
      weight,
      Float32Array.from({ length: rows }, (_, row) => row),
    ) ?? null
  );
}

function permuted(
  values: Float32Array,
  order: Float32Array,
  move: (inFile: number, inModel: number) => [from: number, to: number],
): Float32Array {
  const width = values.length / order.length;
  const out = new Float32Array(values.length);
  for (const [inFile, inModel] of order.entries()) {
    const [from, to] = move(inFile, inModel);
    out.set(values.subarray(from * width, (from + 1) * width), to * width);
  }
  return out;
}
