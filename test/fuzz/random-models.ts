/** Small models of random configurations, with weights that make every part matter. */
import fc from "fast-check";
import { noGrad } from "../../lib/core/autograd.js";
import { Bert } from "../../lib/models/bert.js";
import { BertForMaskedLM, BertForSequenceClassification } from "../../lib/models/bert-heads.js";
import { EncoderDecoder } from "../../lib/models/encoder-decoder.js";
import { GPT } from "../../lib/models/gpt.js";
import { Llama } from "../../lib/models/llama.js";
import type { LlamaConfig } from "../../lib/models/llama-config.js";
import { T5 } from "../../lib/models/t5.js";
import type { Module } from "../../lib/nn/module.js";
import { activations } from "../../lib/ops/activation.js";
import type { PretrainedKinds } from "../../lib/pretrained/families/index.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { shaken } from "../support/shaken.js";

/** Draws one value after the other: a value of `fc.gen()`. */
export type Draw = fc.GeneratorValue;

export interface RandomModel {
  model: Module;
  kind: keyof PretrainedKinds;
  /** The vocabulary size V. */
  vocabularySize: number;
  /**
   * True if the rows of queries and keys have another order in a folder, so that sums are computed in another order.
   */
  reordered: boolean;
  /** Returns the model's results for token ids: logits, or the states of an encoder. */
  run: (model: Module, ids: readonly number[]) => Promise<Float32Array>;
  /** Token ids that fit into the context. */
  ids: number[];
}

const integer = (draw: Draw, min: number, max: number): number => draw(fc.integer, { min, max });
const either = (draw: Draw): boolean => draw(fc.boolean);
/** Returns true in one of `n` cases. */
const rarely = (draw: Draw, n: number): boolean => integer(draw, 1, n) === n;
function pick<T>(draw: Draw, values: readonly T[]): T {
  return values[integer(draw, 0, values.length - 1)]!;
}

async function read(body: () => FloatTensor): Promise<Float32Array> {
  using out = noGrad(() => scope(body));
  return await out.data();
}
const int = (ids: readonly number[]): IntTensor => tensor(Int32Array.from(ids), [1, ids.length], { device: "cpu" });
const forward = (model: Module, ids: readonly number[]) =>
  read(() => (model as unknown as { forward: (ids: IntTensor) => FloatTensor }).forward(int(ids)));
const translate = (model: Module, ids: readonly number[]) =>
  read(() => (model as T5 | EncoderDecoder).forward(int(ids), int([...ids].reverse())));

/** Returns the sizes that every model has; `T5` and others ignore some of them. */
function sizesOf(draw: Draw) {
  const heads = pick(draw, [1, 2, 4]);
  const headSize = 2 * integer(draw, 1, 5);
  return {
    vocabularySize: integer(draw, 5, 20),
    contextLength: integer(draw, 8, 24),
    layers: integer(draw, 1, 3),
    heads,
    width: heads * headSize,
    feedForwardWidth: integer(draw, 3, 24),
  };
}

function made(
  draw: Draw,
  kind: RandomModel["kind"],
  model: Module,
  { vocabularySize, contextLength }: { vocabularySize: number; contextLength: number },
  more: Partial<RandomModel> = {},
): RandomModel {
  shaken(model, { seed: integer(draw, 1, 1000) }).eval();
  const ids = Array.from({ length: Math.min(contextLength, 12) }, () => integer(draw, 0, vocabularySize - 1));
  return { model, kind, vocabularySize, reordered: false, run: forward, ids, ...more };
}

export function randomGpt(draw: Draw, plain = either(draw)): RandomModel {
  const sizes = sizesOf(draw);
  const beyond = plain
    ? {}
    : {
        positions: pick(draw, ["learned", "sinusoidal", "rotary", "alibi", "none"] as const),
        window: pick(draw, [0, 3]),
        softcap: pick(draw, [0, 2.5]),
        qkNorm: either(draw),
        gated: either(draw),
        normalization: pick(draw, ["layer", "rms"] as const),
        embeddingScale: pick(draw, [1, 3]),
        kvHeads: pick(draw, [1, sizes.heads]),
      };
  const config = {
    ...sizes,
    ...beyond,
    bias: !rarely(draw, 3),
    tied: !rarely(draw, 3),
    activation: rarely(draw, 2) ? pick(draw, activations) : ("gelu" as const),
    eps: pick(draw, [1e-5, 1e-3]),
    scaleAttention: !rarely(draw, 4),
    scaleAttentionByLayer: rarely(draw, 4),
  };
  return made(draw, "causal", new GPT(config, { device: "cpu" }), sizes);
}

function randomScaling(draw: Draw, pairs: number, contextLength: number): LlamaConfig["rotaryScaling"] {
  const factor = pick(draw, [1, 1.5, 4, 8]);
  const originalLength = integer(draw, 7, contextLength);
  switch (pick(draw, ["none", "none", "linear", "ntk", "dynamic", "yarn", "llama3", "factors"] as const)) {
    case "none":
      return null;
    case "linear":
      return { type: "linear", factor };
    case "ntk":
      return { type: "ntk", factor };
    case "dynamic":
      return { type: "dynamic", factor, originalLength };
    case "yarn":
      return {
        type: "yarn",
        factor,
        originalLength,
        ...(rarely(draw, 3) && { betaFast: 8, betaSlow: 2 }),
        ...(rarely(draw, 3) && { attentionFactor: 1.25 }),
        ...(rarely(draw, 3) && { truncate: false }),
      };
    case "llama3":
      return { type: "llama3", factor, originalLength, ...(either(draw) && { highFrequencyFactor: 3 }) };
    case "factors":
      return { type: "factors", factors: Array.from({ length: pairs }, () => 1 + integer(draw, 0, 6) / 2) };
  }
}

export function randomLlama(draw: Draw): RandomModel {
  const sizes = sizesOf(draw);
  const headSize = rarely(draw, 3) ? 2 * integer(draw, 1, 5) : sizes.width / sizes.heads;
  const rotarySize = rarely(draw, 6) ? 2 * integer(draw, 1, headSize / 2) : headSize;
  const window = rarely(draw, 3) ? integer(draw, 1, 26) : 0;
  const type = () => pick(draw, ["sliding", "full"] as const);
  const parts = pick<() => Partial<LlamaConfig>>(draw, [
    () => ({}),
    () => ({ attentionBias: true, outputBias: true, feedForwardBias: either(draw) }),
    () => ({ attentionBias: true }),
    () => ({ qkNorm: true }),
    () => ({ qkNorm: true, attentionBias: true, outputBias: true }),
    () => ({
      attentionBias: either(draw),
      outputBias: either(draw),
      feedForwardBias: either(draw),
      qkNorm: either(draw),
    }),
  ])();
  const config: LlamaConfig = {
    ...sizes,
    ...parts,
    headSize,
    rotarySize,
    kvHeads: pick(draw, [1, sizes.heads]),
    eps: pick(draw, [1e-6, 1e-5, 1e-3]),
    tied: either(draw),
    activation: rarely(draw, 4) ? pick(draw, activations) : "silu",
    window,
    ...(window > 0 && either(draw) && { layerTypes: Array.from({ length: sizes.layers }, type) }),
    rotaryBase: pick(draw, [10_000, 500, 12_345.678]),
    rotaryScaling: randomScaling(draw, rotarySize / 2, sizes.contextLength) ?? null,
    interleaved: rarely(draw, 4),
  };
  const model = new Llama(config, { device: "cpu" });
  return made(draw, "causal", model, sizes, { reordered: config.interleaved! });
}

export function randomBert(draw: Draw): RandomModel {
  const sizes = sizesOf(draw);
  const family = pick(draw, ["bert", "roberta", "xlm-roberta", "distilbert"] as const);
  const config = {
    ...sizes,
    family,
    activation: pick(draw, activations),
    ...(rarely(draw, 4) && { tokenTypes: integer(draw, 0, 3) }),
    ...(rarely(draw, 4) && { firstPosition: integer(draw, 0, 6) }),
    ...(rarely(draw, 4) && { pooler: either(draw) }),
    ...(rarely(draw, 4) && { eps: 1e-5 }),
  };
  const bert = new Bert(config, { device: "cpu" });
  const labels = integer(draw, 1, 4);
  switch (pick(draw, ["encoder", "masked", "classifier"] as const)) {
    case "encoder":
      return made(draw, "encoder", bert, sizes);
    case "masked":
      return made(draw, "masked", new BertForMaskedLM(bert), sizes);
    case "classifier":
      return made(draw, "classifier", new BertForSequenceClassification(bert, { labels }), sizes);
  }
}

export function randomT5(draw: Draw): RandomModel {
  const sizes = sizesOf(draw);
  const config = {
    ...sizes,
    decoderLayers: integer(draw, 1, 3),
    headSize: integer(draw, 1, 6),
    buckets: 2 * integer(draw, 2, 6),
    furthest: integer(draw, 8, 30),
    eps: pick(draw, [1e-6, 1e-3]),
    activation: pick(draw, activations),
    gated: either(draw),
    tied: either(draw),
    scaleOutput: either(draw),
    startToken: integer(draw, 0, 4),
    endToken: integer(draw, 0, 4),
  };
  return made(draw, "encoder-decoder", new T5(config, { device: "cpu" }), sizes, { run: translate });
}

export function randomMarian(draw: Draw): RandomModel {
  const { vocabularySize: sourceVocabularySize, ...sizes } = sizesOf(draw);
  const marian = {
    finalNorms: false,
    eps: 1e-5,
    bias: true,
    positions: "sinusoidal",
    sinusoids: { layout: "halves" },
    logitsBias: true,
    suppressedTokens: [2],
  } as const;
  const shared = either(draw);
  const config = {
    sourceVocabularySize,
    targetVocabularySize: shared ? sourceVocabularySize : integer(draw, 5, 20),
    shared,
    ...sizes,
    decoderLayers: integer(draw, 1, 3),
    activation: pick(draw, activations),
    scaleEmbeddings: either(draw),
    tied: either(draw),
    startToken: 2,
    endToken: 0,
    ...marian,
    ...(rarely(draw, 8) && { norm: "pre" as const }),
    ...(rarely(draw, 8) && { eps: 1e-3 }),
    ...(rarely(draw, 8) && { bias: false }),
    ...(rarely(draw, 8) && { positions: "learned" as const }),
    ...(rarely(draw, 8) && { logitsBias: false }),
  };
  const vocabularySize = Math.min(sourceVocabularySize, config.targetVocabularySize);
  const model = new EncoderDecoder(config, { device: "cpu" });
  return made(draw, "encoder-decoder", model, { ...sizes, vocabularySize }, { run: translate });
}
