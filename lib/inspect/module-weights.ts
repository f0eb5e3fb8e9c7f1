// Gives the weights of any family as plain f32 matrices that rows multiply from the left, [in, out].
import { noGrad } from "../core/autograd.js";
import { checkChoice, checkInteger } from "../util/check.js";
import { tensor } from "../core/creation.js";
import { HeedError } from "../util/errors.js";
import { SequenceToSequence } from "../models/sequence-to-sequence.js";
import type { AttentionProjections, Block, Projection, StreamNorm } from "../nn/block-parts.js";
import { LayerNorm } from "../nn/layer-norm.js";
import type { Linear } from "../nn/linear.js";
import { mul, sub } from "../ops/binary.js";
import { embedding } from "../ops/embedding.js";
import { mean } from "../ops/reduce.js";
import { narrow, reshape, transpose } from "../ops/views.js";
import { scope } from "../core/scope.js";
import type { FloatTensor } from "../core/tensor.js";
import { type InspectedDecoder, type InspectedModel, stackOf } from "./hook-names.js";
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

/** Returns the matrix of a projection, f32 [in, out], without its bias. */
export function projectionMatrix({ layer, begin, end }: Projection): FloatTensor {
  const matrix = matrixOf(layer);
  return end - begin === layer.outputs ? matrix : narrow(matrix, 1, begin, end - begin);
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
  const { q, k, v, o, heads, kvHeads, norm } = attentionOf(op, model, place);
  const folded = (projection: Projection, reads: boolean): FloatTensor => {
    const matrix = projectionMatrix(projection);
    return foldNorm && norm && reads ? withNorm(matrix, norm) : matrix;
  };
  // Keys and values of an attention to the source read the source, which has its own norm.
  const normsKeys = place.cross !== true;
  return {
    q: cut(folded(q, true), heads),
    k: repeated(cut(folded(k, normsKeys), kvHeads), heads),
    v: repeated(cut(folded(v, normsKeys), kvHeads), heads),
    o: reshape(projectionMatrix(o), [heads, -1, o.layer.outputs]),
  };
}

/** Returns W [C, out] as it applies to the normalised stream before it is multiplied by the norm's weight. */
export function withNorm(matrix: FloatTensor, norm: StreamNorm): FloatTensor {
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

/** Returns the attention of a place, with the norm of what its queries read. */
function attentionOf(
  op: string,
  model: InspectedModel,
  place: AttentionPlace,
): AttentionProjections & { readonly norm: StreamNorm | null } {
  const { layer, cross = false } = place;
  const blocks = blocksOf(op, model, place);
  checkInteger(op, "layer", layer, 0, blocks.length - 1);
  const { attention, crossAttention } = blocks[layer]!.parts;
  return cross ? crossAttention! : attention;
}

function blocksOf(
  op: string,
  model: InspectedModel,
  { stack, cross = false }: Omit<AttentionPlace, "layer">,
): readonly Block[] {
  if (model instanceof SequenceToSequence) {
    const side = stack ?? "decoder";
    checkChoice(op, "stack", side, ["encoder", "decoder"]);
    if (cross && side === "encoder")
      throw new HeedError("ERR_ARGUMENT", `${op}: expected cross for a decoder, got it for an encoder`);
    return model[side].blocks;
  }
  if (stack !== undefined || cross)
    throw new HeedError("ERR_ARGUMENT", `${op}: expected neither stack nor cross for a model of one stack, got one`);
  return stackOf(model).blocks;
}

/** Returns the token embedding of a decoder, f32 [V, C], times the factor that the model gives it. */
export function embeddingMatrix(model: InspectedDecoder): FloatTensor {
  const { embeddingScale: scale } = model;
  const rows = tableOf(model).to("f32");
  return scale === 1 ? rows : mul(rows, scale);
}

/** Returns the projection from normalised states to logits, f32 [C, V]. */
export function unembeddingMatrix(model: InspectedDecoder): FloatTensor {
  if (model.lm_head) return matrixOf(model.lm_head);
  return transpose(tableOf(model).to("f32"));
}

/** Returns the direction of each token's logit in the residual stream before the last norm divides it, f32 [n, C]. */
export function logitDirections(model: InspectedDecoder, tokens: readonly number[]): FloatTensor {
  const ids = tensor(Int32Array.from(tokens), [tokens.length], { device: model.device });
  return noGrad(() =>
    scope(() => {
      const { lm_head } = model;
      const rows = lm_head
        ? embedding(ids, transpose(matrixOf(lm_head))) // [n, C]
        : model.tokens.forward(ids).to("f32");
      return transpose(withNorm(transpose(rows), model.finalNorm));
    }),
  );
}

/** Returns the rows of a decoder's token table, [V, C]. */
function tableOf({ tokens, device, config }: InspectedDecoder): FloatTensor {
  if (!tokens.quantized) return tokens.weight;
  const ids = Int32Array.from({ length: config.vocabularySize }, (_, i) => i);
  return tokens.forward(tensor(ids, [ids.length], { device }));
}
