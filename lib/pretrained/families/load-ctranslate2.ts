// Loads Transformers of CTranslate2 as OpenNMT trained them: with a norm before each part, and sinusoidal positions in
// halves that begin at position 1.
import path from "node:path";
import { checkObject } from "../../util/check.js";
import { HeedError, oneOf } from "../../util/errors.js";
import { exists, inFile } from "../../util/files.js";
import { type CTranslate2File, readCTranslate2 } from "../../formats/ctranslate2.js";
import { EncoderDecoder } from "../../models/encoder-decoder.js";
import type { EncoderDecoderConfig } from "../../models/encoder-decoder-config.js";
import { CharacterList } from "../../tokenizer/character-list.js";
import type { ModelOptions } from "../../models/model.js";
import { loadFrom } from "../load-weights.js";
import { type LoadQuantizedOptions, quantizeOptionsOf } from "../quantize-options.js";
import { type StoredDTypeOptions, withStoredDtype } from "../stored-dtype.js";

/** A model of CTranslate2 with its vocabularies. */
export interface CTranslate2Model {
  /** The model. Dispose it to free its memory. */
  model: EncoderDecoder;
  /** Vocabulary of the source texts. */
  source: CharacterList;
  /** Vocabulary of the target texts. */
  target: CharacterList;
}

/** Options of `loadCTranslate2`. */
export interface CTranslate2Options extends ModelOptions, LoadQuantizedOptions, StoredDTypeOptions {
  /** Longest source and longest target in tokens; the files do not store them. @default 512 */
  contextLength?: number;
}

/** Returns true if a folder has a model that `loadCTranslate2` can read. */
export async function isCTranslate2(folder: string): Promise<boolean> {
  return (await exists(path.join(folder, "model.bin"))) && (await exists(path.join(folder, names.target)));
}

const names = { source: "source_vocabulary.txt", target: "target_vocabulary.txt" };

/**
 * Loads a Transformer of CTranslate2 for inference, with its vocabularies of characters. The folder must contain
 * model.bin, source_vocabulary.txt and target_vocabulary.txt.
 *
 * @example
 * // This downloads a model.
 * const folder = await pretrainedFolder("owner/name", { files: (name) => /\.(bin|txt)$/.test(name) });
 * const { model, source, target } = await loadCTranslate2(folder);
 * const [translations] = await translate(model, [source.encode("آزا")]);
 * const text = target.decode(translations![0]!.tokens);
 *
 * @throws ERR_IO or ERR_FORMAT if a file is missing or malformed; the message names it.
 * @throws ERR_ARGUMENT or ERR_RANGE if an option is invalid.
 */
export async function loadCTranslate2(folder: string, options: CTranslate2Options = {}): Promise<CTranslate2Model> {
  checkObject("loadCTranslate2", "options", options);
  const { contextLength = 512, ...rest } = options;
  const quantize = quantizeOptionsOf("loadCTranslate2", options);
  const targetFile = path.join(folder, names.target);
  const target = await CharacterList.fromFile(targetFile);
  const source = await CharacterList.fromFile(path.join(folder, names.source));
  const [startToken, endToken] = await inFile(targetFile, () => [target.id("<s>"), target.id("</s>")] as const);
  await using weights = await readCTranslate2(path.join(folder, "model.bin"));
  const config = await inFile(weights.path, () => {
    const config = { ...configOf(weights), contextLength, startToken, endToken };
    for (const [side, { tokens }, size] of [
      ["source", source, config.sourceVocabularySize],
      ["target", target, config.targetVocabularySize],
    ] as const)
      if (tokens.length !== size)
        throw new HeedError("ERR_FORMAT", `expected a ${side} vocabulary of ${size} tokens, got ${tokens.length}`);
    return config;
  });
  const made = withStoredDtype(rest, weights);
  const make = (): EncoderDecoder => new EncoderDecoder(config, made);
  const { model } = await loadFrom(weights, make, () => ({
    nameInFile,
    quantize,
    activations: options.activations,
    keepHalves: options.storedDtype ?? false,
  }));
  return { model, source, target };
}

/** Number of heads of the architectures whose files do not store it. */
const headsOf: Record<string, number> = { TransformerBase: 8, TransformerBig: 16 };

function configOf({ spec, tensors }: CTranslate2File) {
  const heads = Object.hasOwn(headsOf, spec.name) ? headsOf[spec.name]! : null;
  if (heads === null)
    throw new HeedError(
      "ERR_FORMAT",
      `expected the architecture to be ${oneOf(Object.keys(headsOf))}, got ${spec.name}`,
    );
  const shapeOf = (name: string): [number, number] => {
    const shape = tensors.get(name)?.shape;
    if (shape?.length !== 2) throw new HeedError("ERR_FORMAT", `expected a matrix ${name}, got none`);
    return shape as [number, number];
  };
  const layersOf = (side: string): number => {
    let layers = 0;
    while (tensors.has(`${side}/layer_${layers}/ffn/linear_0/weight`)) layers++;
    return layers;
  };
  const [sourceVocabularySize, width] = shapeOf("encoder/embeddings/weight");
  const [targetVocabularySize] = shapeOf("decoder/embeddings/weight");
  const [hidden] = shapeOf("encoder/layer_0/ffn/linear_0/weight");
  return {
    ...{ sourceVocabularySize, targetVocabularySize, shared: false, width, heads, feedForwardWidth: hidden },
    layers: layersOf("encoder"),
    decoderLayers: layersOf("decoder"),
    norm: "pre",
    eps: 1e-6,
    sinusoids: { layout: "halves", inclusive: true, first: 1 },
    tied: false,
    logitsBias: tensors.has("decoder/projection/bias"),
  } satisfies Partial<EncoderDecoderConfig>;
}

/** Parts of a block by heed's names and CTranslate2's. */
const parts: Record<string, string> = {
  ln_1: "self_attention/layer_norm",
  "attn.c_attn": "self_attention/linear_0",
  "attn.c_proj": "self_attention/linear_1",
  ln_cross: "attention/layer_norm",
  "cross.q_attn": "attention/linear_0",
  "cross.c_attn": "attention/linear_1",
  "cross.c_proj": "attention/linear_2",
  ln_2: "ffn/layer_norm",
  "mlp.c_fc": "ffn/linear_0",
  "mlp.c_proj": "ffn/linear_1",
};

const outer: Record<string, string> = {
  "source.weight": "encoder/embeddings/weight",
  "target.weight": "decoder/embeddings/weight",
  "encoder.ln_f.weight": "encoder/layer_norm/gamma",
  "encoder.ln_f.bias": "encoder/layer_norm/beta",
  "decoder.ln_f.weight": "decoder/layer_norm/gamma",
  "decoder.ln_f.bias": "decoder/layer_norm/beta",
  "head.weight": "decoder/projection/weight",
  logits_bias: "decoder/projection/bias",
};

function nameInFile(parameter: string): string {
  if (Object.hasOwn(outer, parameter)) return outer[parameter]!;
  const [, side, layer, part, kind] = /^(\w+)\.h\.(\d+)\.(.+)\.(weight|bias)$/.exec(parameter)!;
  const norm = part!.startsWith("ln_");
  const last = norm ? (kind === "weight" ? "gamma" : "beta") : kind;
  return `${side}/layer_${layer}/${parts[part!]}/${last}`;
}
