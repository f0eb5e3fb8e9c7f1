// Reads and writes the config.json of the members of the BERT family.
import { describe, HeedError } from "../../util/errors.js";
import { type BertConfig, bertFamilies, type BertFamily, isRoberta } from "../../models/bert-config.js";
import {
  activationOf,
  configOf,
  expectEntry,
  nameOfActivation,
  numberOf,
  positiveInteger,
} from "./huggingface-config.js";

/** Model types that `fromHuggingFaceBertConfig` reads. */
export const bertTypes: readonly string[] = bertFamilies;

/** DistilBERT's names of entries that the other members call by the names on the left. */
const distilbertNames: Record<string, string> = {
  num_hidden_layers: "n_layers",
  num_attention_heads: "n_heads",
  hidden_size: "dim",
  intermediate_size: "hidden_dim",
  hidden_act: "activation",
  hidden_dropout_prob: "dropout",
  attention_probs_dropout_prob: "attention_dropout",
};

/** Alternative names of entries that transformers accepts for a DistilBERT. */
const distilbertAliases = { hidden_size: "dim", num_attention_heads: "n_heads", num_hidden_layers: "n_layers" };

/**
 * Returns the configuration in the config.json of a BERT, RoBERTa, XLM-RoBERTa or DistilBERT.
 *
 * @example
 * const sizes = { num_hidden_layers: 12, num_attention_heads: 12, hidden_size: 768, intermediate_size: 3072 };
 * const json = { model_type: "bert", vocab_size: 30522, max_position_embeddings: 512, ...sizes };
 * const { layers, width } = fromHuggingFaceBertConfig(json); // 12 and 768
 *
 * @throws ERR_FORMAT if an entry has a wrong type, or asks for something that heed's `Bert` does not have.
 */
export function fromHuggingFaceBertConfig(json: unknown): BertConfig {
  const { model_type: family } = configOf(json, bertTypes) as { model_type: BertFamily };
  const distilled = family === "distilbert";
  const config = configOf(json, bertTypes, distilled ? distilbertAliases : {});
  const named = (name: string): string => (distilled ? (distilbertNames[name] ?? name) : name);
  const integer = (name: string): number => positiveInteger(config, named(name));
  const number = (name: string, otherwise: number): number => numberOf(config, named(name), otherwise);
  expectEntry(config, "position_embedding_type", "absolute");
  expectEntry(config, "is_decoder", false);
  expectEntry(config, "add_cross_attention", false);
  const firstPosition = isRoberta(family) ? number("pad_token_id", 1) + 1 : 0;
  return {
    family,
    vocabularySize: integer("vocab_size"),
    contextLength: integer("max_position_embeddings") - firstPosition,
    layers: integer("num_hidden_layers"),
    heads: integer("num_attention_heads"),
    width: integer("hidden_size"),
    feedForwardWidth: integer("intermediate_size"),
    tokenTypes: distilled ? 0 : number("type_vocab_size", 2),
    firstPosition,
    pooler: family === "bert",
    dropout: number("hidden_dropout_prob", 0.1),
    attentionDropout: number("attention_probs_dropout_prob", 0.1),
    activation: activationOf(config, named("hidden_act"), "gelu"),
    eps: distilled ? 1e-12 : number("layer_norm_eps", 1e-12),
  };
}

/**
 * Returns the config.json of a model, for Hugging Face's tools.
 *
 * @example
 * const bert = new Bert({ vocabularySize: 256, contextLength: 32, layers: 2, heads: 2, width: 16 });
 * const json = toHuggingFaceBertConfig(bert.config); // { model_type: "bert", vocab_size: 256, … }
 *
 * @throws ERR_ARGUMENT if Hugging Face's models of the family do not have an option.
 */
export function toHuggingFaceBertConfig(config: Required<BertConfig>): Record<string, unknown> {
  checkFamily(config);
  const { family, firstPosition } = config;
  const distilled = family === "distilbert";
  const named = (name: string): string => (distilled ? (distilbertNames[name] ?? name) : name);
  const entries: Record<string, unknown> = {
    vocab_size: config.vocabularySize,
    max_position_embeddings: config.contextLength + firstPosition,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    hidden_size: config.width,
    intermediate_size: config.feedForwardWidth,
    hidden_act: nameOfActivation(config.activation),
    hidden_dropout_prob: config.dropout,
    attention_probs_dropout_prob: config.attentionDropout,
  };
  return {
    model_type: family,
    ...Object.fromEntries(Object.entries(entries).map(([name, value]) => [named(name), value])),
    ...(!distilled && { type_vocab_size: config.tokenTypes, layer_norm_eps: config.eps }),
    ...(isRoberta(family) && { pad_token_id: firstPosition - 1 }),
  };
}

/**
 * Checks that Hugging Face's models of the family have the options.
 *
 * @throws ERR_ARGUMENT if they do not have one.
 */
function checkFamily({ family, tokenTypes, firstPosition, pooler, eps, vocabularySize }: Required<BertConfig>): void {
  const expected = (what: string, given: unknown): HeedError =>
    new HeedError("ERR_ARGUMENT", `config: expected a ${family} with ${what}, got ${describe(given)}`);
  if (isRoberta(family)) {
    // The first position follows the id of the padding token.
    if (firstPosition < 1 || firstPosition > vocabularySize)
      throw expected(`firstPosition from 1 to ${vocabularySize}`, firstPosition);
  } else if (firstPosition !== 0) throw expected("firstPosition 0", firstPosition);
  if (family !== "distilbert") {
    if (tokenTypes === 0) throw expected("tokenTypes of at least 1", tokenTypes);
    return;
  }
  if (tokenTypes !== 0) throw expected("tokenTypes 0", tokenTypes);
  if (eps !== 1e-12) throw expected("eps 1e-12", eps);
  if (pooler) throw expected("pooler false", pooler);
}
