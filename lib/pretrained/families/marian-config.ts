// Reads and writes the config.json of Marian's models (Junczys-Dowmunt et al. 2018) in Hugging Face's format.
import { describe, HeedError } from "../../util/errors.js";
import type { EncoderDecoderConfig } from "../../models/encoder-decoder-config.js";
import {
  activationOf,
  booleanOf,
  configOf,
  expectEntry,
  nameOfActivation,
  numberOf,
  positiveInteger,
} from "./huggingface-config.js";

/** Alternative names of entries that transformers accepts. */
const aliases = {
  hidden_size: "d_model",
  num_attention_heads: "encoder_attention_heads",
  num_hidden_layers: "encoder_layers",
};

/** Entries that have the same value for every Marian. Older files contain them. */
const plain = {
  static_position_embeddings: true,
  normalize_before: false,
  normalize_embedding: false,
  add_final_layer_norm: false,
};

/**
 * Returns the configuration in the config.json of a Marian.
 *
 * @throws ERR_FORMAT if an entry has a wrong type, or asks for something that heed's `EncoderDecoder` does not have.
 */
export function fromHuggingFaceMarianConfig(json: unknown): EncoderDecoderConfig {
  const config = configOf(json, ["marian"], aliases);
  const integer = (name: string): number => positiveInteger(config, name);
  const token = (name: string): number => {
    const value = config[name];
    if (Number.isSafeInteger(value) && (value as number) >= 0) return value as number;
    throw new HeedError("ERR_FORMAT", `config: expected ${name} to be a token's id, got ${describe(value)}`);
  };
  /** Returns an integer that must be the same for encoder and decoder. */
  const same = (name: string): number => {
    const [encoder, decoder] = [integer(`encoder_${name}`), integer(`decoder_${name}`)];
    if (encoder === decoder) return encoder;
    throw new HeedError(
      "ERR_FORMAT",
      `config: expected the same ${name} for encoder and decoder, got ${encoder} and ${decoder}`,
    );
  };
  for (const [name, expected] of Object.entries(plain)) expectEntry(config, name, expected);
  return {
    sourceVocabularySize: integer("vocab_size"),
    targetVocabularySize: config.decoder_vocab_size == null ? integer("vocab_size") : integer("decoder_vocab_size"),
    shared: booleanOf(config, "share_encoder_decoder_embeddings", true),
    contextLength: integer("max_position_embeddings"),
    layers: integer("encoder_layers"),
    decoderLayers: integer("decoder_layers"),
    heads: same("attention_heads"),
    width: integer("d_model"),
    feedForwardWidth: same("ffn_dim"),
    startToken: token("decoder_start_token_id"),
    endToken: token("eos_token_id"),
    // Marian begins targets with the padding token, which it never generates.
    suppressedTokens: [token("pad_token_id")],
    dropout: numberOf(config, "dropout", 0.1),
    attentionDropout: numberOf(config, "attention_dropout", 0),
    activation: activationOf(config, "activation_function", "gelu"),
    sinusoids: { layout: "halves" },
    scaleEmbeddings: booleanOf(config, "scale_embedding", false),
    tied: booleanOf(config, "tie_word_embeddings", true),
    logitsBias: true,
  };
}

/**
 * Returns the config.json of a Marian.
 *
 * @throws ERR_ARGUMENT if the encoder–decoder has options that Marian does not have.
 */
export function toHuggingFaceMarianConfig(config: Required<EncoderDecoderConfig>): Record<string, unknown> {
  const { sinusoids, suppressedTokens } = config;
  const kept: [string, unknown, unknown][] = [
    ["norm", config.norm, "post"],
    ["finalNorms", config.finalNorms, false],
    ["eps", config.eps, 1e-5],
    ["bias", config.bias, true],
    ["positions", config.positions, "sinusoidal"],
    ["sinusoids.layout", sinusoids.layout, "halves"],
    ["sinusoids.inclusive", sinusoids.inclusive, false],
    ["sinusoids.first", sinusoids.first, 0],
    ["logitsBias", config.logitsBias, true],
    ["the number of suppressedTokens (the padding token)", suppressedTokens.length, 1],
  ];
  for (const [name, given, expected] of kept)
    if (given !== expected)
      throw new HeedError(
        "ERR_ARGUMENT",
        `config: expected ${name} to be ${describe(expected)}, as in Marian, got ${describe(given)}`,
      );
  const both = (name: string, value: number): Record<string, number> => ({
    [`encoder_${name}`]: value,
    [`decoder_${name}`]: value,
  });
  return {
    model_type: "marian",
    architectures: ["MarianMTModel"],
    is_encoder_decoder: true,
    vocab_size: config.sourceVocabularySize,
    decoder_vocab_size: config.targetVocabularySize,
    share_encoder_decoder_embeddings: config.shared,
    tie_word_embeddings: config.tied,
    max_position_embeddings: config.contextLength,
    encoder_layers: config.layers,
    decoder_layers: config.decoderLayers,
    ...both("attention_heads", config.heads),
    ...both("ffn_dim", config.feedForwardWidth),
    d_model: config.width,
    activation_function: nameOfActivation(config.activation),
    dropout: config.dropout,
    attention_dropout: config.attentionDropout,
    activation_dropout: 0,
    scale_embedding: config.scaleEmbeddings,
    ...plain,
    pad_token_id: suppressedTokens[0],
    eos_token_id: config.endToken,
    forced_eos_token_id: config.endToken,
    decoder_start_token_id: config.startToken,
  };
}
