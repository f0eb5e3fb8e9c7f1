// Finds the parameters that Muon is made for: the matrices of a model's hidden layers.
import { Embedding } from "../nn/embedding.js";
import { Linear } from "../nn/linear.js";
import { Module } from "../nn/module.js";
import { PositionEmbedding } from "../nn/position-embedding.js";
import { RelativePositionBias } from "../nn/relative-position-bias.js";
import type { FloatTensor } from "../core/tensor.js";
import type { Trained } from "./parameter-groups.js";

/** Names of embeddings and of layers that project to logits, as heed's and Hugging Face's models call them. */
const notHidden = /(^|[._])(\w*embed\w*|wte|wpe|shared|lm_head|head|classifier|score|relative_attention_bias)(\.|$)/;

/** Matrices of a model that are neither embeddings nor projections to logits. */
export interface HiddenMatrices {
  /** Returns true if a parameter is one of them. */
  has: (name: string, parameter: FloatTensor) => boolean;
  /** Returns true if a parameter is stored as [in, out] and not as [out, in]. */
  isTransposed: (parameter: FloatTensor) => boolean;
}

/**
 * Returns the hidden matrices of a model: parameters of two dimensions, except those of embeddings and of layers that
 * project to logits. The latter, and embeddings outside of a model, are recognised by their names.
 */
export function hiddenMatrices(model: Trained): HiddenMatrices {
  const tables = new Set<FloatTensor>();
  const transposed = new Set<FloatTensor>();
  for (const [, layer] of model instanceof Module ? model.modules() : [])
    if (layer instanceof Embedding || layer instanceof PositionEmbedding || layer instanceof RelativePositionBias)
      tables.add(layer.weight);
    else if (layer instanceof Linear && layer.layout === "io") transposed.add(layer.weight);
  return {
    has: (name, parameter) => parameter.shape.length === 2 && !tables.has(parameter) && !notHidden.test(name),
    isTransposed: (parameter) => transposed.has(parameter),
  };
}
