// Gives the weights of any family as plain f32 matrices that rows multiply from the left, [in, out].
import { noGrad } from "../autograd.js";
import { checkChoice, checkInteger } from "../check.js";
import { tensor } from "../creation.js";
import { HeedError } from "../errors.js";
import type { Bert } from "../models/bert.js";
import { BertForMaskedLM, BertForSequenceClassification } from "../models/bert-heads.js";
import { EncoderDecoder } from "../models/encoder-decoder.js";
import { GPT } from "../models/gpt.js";
import { Llama } from "../models/llama.js";
import { T5 } from "../models/t5.js";
import type { Device } from "../device.js";
import { LayerNorm } from "../nn/layer-norm.js";
import type { Linear } from "../nn/linear.js";
import type { RmsNorm } from "../nn/rms-norm.js";
import { mul, sub } from "../ops/binary.js";
import { embedding } from "../ops/embedding.js";
import { mean } from "../ops/reduce.js";
import { narrow, reshape, transpose } from "../ops/views.js";
import { scope } from "../scope.js";
import type { FloatTensor } from "../tensor.js";
import type { InspectedDecoder, InspectedModel } from "./hook-names.js";
import type { PairStack } from "./patching.js";

/** Attention of a model: its layer, and in an encoder–decoder also its stack and whether it attends to the source. */
export interface AttentionPlace {
  /** Index of the block. */
  layer: number;
  /** Stack of an encoder–decoder. @default "decoder" */
  stack?: PairStack;
  /** True for the attention of a decoder to its source. @default false */
  cross?: boolean;
}

/** Projections of an attention: f32 [H or Hkv, C, D] for q, k and v, and [H, D, C] for o. */
export interface HeadMatrices {
  q: FloatTensor;
  k: FloatTensor;
  v: FloatTensor;
  o: FloatTensor;
}

/** Norm before a part of a block. */
export type InputNorm = LayerNorm | RmsNorm;

/** Parts of an attention module, before they are cut into heads. */
interface Projections {
  q: () => FloatTensor;
  k: () => FloatTensor;
  v: () => FloatTensor;
  o: Linear;
  heads: number;
  kvHeads: number;
  /** Norm of what q, k and v read; null if they read the residual stream itself. */
  norm: InputNorm | null;
  /** False if keys and values read the source, which has its own norm. */
  normsKeys: boolean;
}

/**
 * Returns the matrix of a linear layer, f32 [in, out], without its bias. It is exact for quantised weights and with
 * adapters.
 */
export function matrixOf(linear: Linear): FloatTensor {
  const { inputs, layout, bias, weight } = linear;
  if (linear.plain) return (layout === "oi" ? transpose(weight) : weight).to("f32");
  const { device } = linear.quantized ?? weight;
  const ones = Float32Array.from({ length: inputs ** 2 }, (_, i) => Number(i % (inputs + 1) === 0));
  const rows = linear.forward(tensor(ones, [inputs, inputs], { device, dtype: weight.modelDType })).to("f32");
  return bias ? sub(rows, bias.to("f32")) : rows;
}

/**
 * Returns the projections of an attention by head. With `foldNorm`, those that read a norm include its weight and, for a
 * layer norm, the subtraction of the mean.
 *
 * @throws ERR_RANGE if there is no such block; ERR_ARGUMENT if the model has no such stack or attention.
 */
export function headMatrices(
  op: string,
  model: InspectedModel,
  place: AttentionPlace,
  foldNorm: boolean,
): HeadMatrices {
  const { q, k, v, o, heads, kvHeads, norm, normsKeys } = projectionsOf(op, model, place);
  const folded = (matrix: FloatTensor, reads: boolean): FloatTensor =>
    foldNorm && norm && reads ? withNorm(matrix, norm) : matrix;
  return {
    q: cut(folded(q(), true), heads),
    k: repeated(cut(folded(k(), normsKeys), kvHeads), heads),
    v: repeated(cut(folded(v(), normsKeys), kvHeads), heads),
    o: reshape(matrixOf(o), [heads, -1, o.outputs]),
  };
}

/** Returns W [C, out] as it applies to the normalised stream before it is multiplied by the norm's weight. */
export function withNorm(matrix: FloatTensor, norm: InputNorm): FloatTensor {
  const scaled = mul(matrix, reshape(norm.weight.to("f32"), [-1, 1]));
  return norm instanceof LayerNorm ? sub(scaled, mean(scaled, { axes: [0], keepDims: true })) : scaled;
}

/** Cuts a matrix [C, H·D] into heads [H, C, D]. */
function cut(matrix: FloatTensor, heads: number): FloatTensor {
  return transpose(reshape(matrix, [matrix.shape[0]!, heads, -1]), [1, 0, 2]);
}

/** Repeats each head of keys or values for the query heads that share it: [Hkv, C, D] → [H, C, D]. */
function repeated(matrices: FloatTensor, heads: number): FloatTensor {
  const [own, width, size] = matrices.shape as [number, number, number];
  if (own === heads) return matrices;
  const ones = tensor(new Float32Array(heads / own).fill(1), [heads / own, 1, 1], { device: matrices.device });
  return reshape(mul(reshape(matrices, [own, 1, width, size]), ones), [heads, width, size]);
}

/** Cuts a packed projection [C, out] at multiples of `size`: [C, count·size] from the part `first`. */
function packed(linear: Linear, [first, count]: readonly [number, number], size: number): FloatTensor {
  return narrow(matrixOf(linear), 1, first * size, count * size);
}

/** Attention with one packed projection of queries, keys and values. */
interface PackedAttention {
  c_attn: Linear;
  c_proj: Linear;
  heads: number;
  kvHeads: number;
  headSize: number;
}

function packedProjections(attn: PackedAttention, norm: InputNorm | null): Projections {
  const { c_attn, c_proj, heads, kvHeads, headSize } = attn;
  return {
    q: () => packed(c_attn, [0, heads], headSize),
    k: () => packed(c_attn, [heads, kvHeads], headSize),
    v: () => packed(c_attn, [heads + kvHeads, kvHeads], headSize),
    ...{ o: c_proj, heads, kvHeads, norm, normsKeys: true },
  };
}

function separate(
  [q, k, v, o]: readonly [Linear, Linear, Linear, Linear],
  rest: Omit<Projections, "q" | "k" | "v" | "o">,
): Projections {
  return { q: () => matrixOf(q), k: () => matrixOf(k), v: () => matrixOf(v), o, ...rest };
}

function projectionsOf(op: string, model: InspectedModel, place: AttentionPlace): Projections {
  const { layer, stack, cross = false } = place;
  const blockOf = <Block>(blocks: readonly Block[]): Block => {
    checkInteger(op, "layer", layer, 0, blocks.length - 1);
    return blocks[layer]!;
  };
  if (model instanceof T5) return t5Projections(op, model, place, blockOf);
  if (model instanceof EncoderDecoder) return pairProjections(op, model, place, blockOf);
  if (stack !== undefined || cross)
    throw new HeedError("ERR_ARGUMENT", `${op}: expected neither stack nor cross for a model of one stack, got one`);
  if (model instanceof GPT) {
    const { attn, ln_1 } = blockOf(model.h);
    return packedProjections(attn, ln_1);
  }
  if (model instanceof Llama) {
    const { self_attn, input_layernorm: norm } = blockOf(model.model.layers);
    const { q_proj, k_proj, v_proj, o_proj, heads, kvHeads } = self_attn;
    return separate([q_proj, k_proj, v_proj, o_proj], { heads, kvHeads, norm, normsKeys: true });
  }
  const bert: Bert =
    model instanceof BertForMaskedLM || model instanceof BertForSequenceClassification ? model.bert : model;
  const { self, output } = blockOf(bert.encoder.layer).attention;
  const { query, key, value, heads } = self;
  // A post-norm block reads the residual stream, which the norm before has replaced.
  return separate([query, key, value, output.dense], { heads, kvHeads: heads, norm: null, normsKeys: true });
}

type BlockOf = <Block>(blocks: readonly Block[]) => Block;

function stackOf(op: string, { stack = "decoder", cross = false }: AttentionPlace): PairStack {
  checkChoice(op, "stack", stack, ["encoder", "decoder"]);
  if (cross && stack === "encoder")
    throw new HeedError("ERR_ARGUMENT", `${op}: expected cross for a decoder, got it for an encoder`);
  return stack;
}

function t5Projections(op: string, model: T5, place: AttentionPlace, blockOf: BlockOf): Projections {
  const [self, crossing] = blockOf(model[stackOf(op, place)].block).layer;
  const cross = place.cross && "EncDecAttention" in crossing ? crossing : null;
  const { q, k, v, o, heads } = cross ? cross.EncDecAttention : self.SelfAttention;
  const norm = (cross ?? self).layer_norm;
  return separate([q, k, v, o], { heads, kvHeads: heads, norm, normsKeys: !cross });
}

function pairProjections(op: string, model: EncoderDecoder, place: AttentionPlace, blockOf: BlockOf): Projections {
  const pre = model.config.norm === "pre";
  const stack = stackOf(op, place);
  if (!place.cross) {
    const { attn, ln_1 } = stack === "encoder" ? blockOf(model.encoder.h) : blockOf(model.decoder.h);
    return packedProjections(attn, pre ? ln_1 : null);
  }
  const { cross, ln_cross } = blockOf(model.decoder.h);
  const { q_attn, c_attn, c_proj, heads, headSize } = cross;
  return {
    q: () => matrixOf(q_attn),
    k: () => packed(c_attn, [0, heads], headSize),
    v: () => packed(c_attn, [heads, heads], headSize),
    ...{ o: c_proj, heads, kvHeads: heads, norm: pre ? ln_cross : null, normsKeys: false },
  };
}

/** Returns the norm before the logits of a decoder. */
export function finalNormOf(model: InspectedDecoder): InputNorm {
  return model instanceof GPT ? model.ln_f : model.model.norm;
}

/** Returns the token embedding of a decoder, f32 [V, C], times the factor that the model gives it. */
export function embeddingMatrix(model: InspectedDecoder): FloatTensor {
  const table = model instanceof GPT ? model.wte : model.model.embed_tokens;
  const rows = (table.quantized ? table.forward(counting(model.config.vocabularySize, model.device)) : table.weight).to(
    "f32",
  );
  const scale = model instanceof GPT ? model.config.embeddingScale : 1;
  return scale === 1 ? rows : mul(rows, scale);
}

/** Returns the projection from normalised states to logits, f32 [C, V]. */
export function unembeddingMatrix(model: InspectedDecoder): FloatTensor {
  if (model.lm_head) return matrixOf(model.lm_head);
  const table = model instanceof GPT ? model.wte : model.model.embed_tokens;
  const rows = table.quantized ? table.forward(counting(model.config.vocabularySize, model.device)) : table.weight;
  return transpose(rows.to("f32"));
}

/** Returns the direction of each token's logit in the residual stream before the last norm divides it, f32 [n, C]. */
export function logitDirections(model: InspectedDecoder, tokens: readonly number[]): FloatTensor {
  const ids = tensor(Int32Array.from(tokens), [tokens.length], { device: model.device });
  const table = model instanceof GPT ? model.wte : model.model.embed_tokens;
  return noGrad(() =>
    scope(() => {
      const { lm_head } = model;
      const rows = lm_head
        ? embedding(ids, transpose(matrixOf(lm_head))) // [n, C]
        : table.forward(ids).to("f32");
      return transpose(withNorm(transpose(rows), finalNormOf(model)));
    }),
  );
}

function counting(count: number, device: Device): ReturnType<typeof tensor<"i32">> {
  return tensor(
    Int32Array.from({ length: count }, (_, i) => i),
    [count],
    { device },
  );
}
