// Loads and saves Marian's encoder–decoders. The projections of queries, keys and values, which files store separately,
// are one matrix in heed, and files may contain copies of shared embeddings.
import type { WeightFile } from "../../formats/weights.js";
import { EncoderDecoder } from "../../models/encoder-decoder.js";
import { checkEncoderDecoderConfig } from "../../models/encoder-decoder-config.js";
import { fromHuggingFaceMarianConfig, toHuggingFaceMarianConfig } from "./marian-config.js";
import type { Family } from "./family.js";

/** Modules of a block by heed's names, with Marian's names. heed joins several of Marian's modules into one. */
const parts: Record<string, readonly string[]> = {
  ln_1: ["self_attn_layer_norm"],
  "attn.c_attn": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
  "attn.c_proj": ["self_attn.out_proj"],
  ln_cross: ["encoder_attn_layer_norm"],
  "cross.q_attn": ["encoder_attn.q_proj"],
  "cross.c_attn": ["encoder_attn.k_proj", "encoder_attn.v_proj"],
  "cross.c_proj": ["encoder_attn.out_proj"],
  ln_2: ["final_layer_norm"],
  "mlp.c_fc": ["fc1"],
  "mlp.c_proj": ["fc2"],
};

const own = { encoder: "model.encoder.embed_tokens.weight", decoder: "model.decoder.embed_tokens.weight" };
/** Names under which files store an embedding that all parts share: one of these, or several equal copies. */
const copies = ["model.shared.weight", own.encoder, own.decoder, "lm_head.weight"];
const tables = ["model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight"];

export const marianFamily: Family<EncoderDecoder> = {
  types: ["marian"],
  fromConfig(json) {
    const config = checkEncoderDecoderConfig(fromHuggingFaceMarianConfig(json));
    const { width, layers, feedForwardWidth: hidden, sourceVocabularySize, shared } = config;
    return {
      make: (options) => new EncoderDecoder(config, options),
      sizes: (file) => [
        [embedding(file, shared), [sourceVocabularySize, width]],
        [`model.encoder.layers.${layers - 1}.fc1.weight`, [hidden, width]],
      ],
    };
  },
  weights: ({ config }, file) => ({
    nameInFile: (parameter) => nameInFile(parameter, embedding(file, config.shared)),
    ignored: [...tables, ...(config.shared || config.tied ? copies : [])],
  }),
  saving: {
    owns: (model) => model instanceof EncoderDecoder,
    toConfig: ({ config }) => toHuggingFaceMarianConfig(config),
    tensors({ config }, parameter, shape) {
      if (parameter === "logits_bias") return [{ name: "final_logits_bias", shape: [1, ...shape] }];
      const names = [nameInFile(parameter, config.shared ? copies[0]! : own.encoder)].flat();
      return names.map((name) => ({ name, shape: [shape[0]! / names.length, ...shape.slice(1)] }));
    },
  },
};

/** Returns the name of the tensor that holds the source's embedding. */
function embedding({ tensors }: WeightFile, shared: boolean): string {
  return shared ? (copies.find((name) => tensors.has(name)) ?? copies[0]!) : own.encoder;
}

function nameInFile(parameter: string, source: string): string | string[] {
  const outer: Record<string, string> = {
    "source.weight": source,
    "target.weight": own.decoder,
    "head.weight": "lm_head.weight",
    logits_bias: "final_logits_bias",
  };
  if (Object.hasOwn(outer, parameter)) return outer[parameter]!;
  const [, side, layer, part, kind] = /^(\w+)\.h\.(\d+)\.(.+)\.(weight|bias)$/.exec(parameter)!;
  return parts[part!]!.map((name) => `model.${side}.layers.${layer}.${name}.${kind}`);
}
