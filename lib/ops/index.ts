/** The operations that the package exports. */
export { type Activation, activate } from "./activation.js";
export { attention, type AttentionOptions, type BlockMask, packedAttention } from "./attention.js";
export {
  type BlockOptions,
  localBlocks,
  type LocalBlockOptions,
  stridedBlocks,
  type StridedBlockOptions,
} from "./attention-blocks.js";
export {
  alibiSlopes,
  type DocumentOptions,
  documentRanges,
  type MaskOptions,
  type PrefixOptions,
  prefixRanges,
} from "./attention-masks.js";
export { biasedAttention, type BiasedAttentionOptions } from "./biased-attention.js";
export {
  add,
  atan2,
  div,
  equal,
  floorDiv,
  floorMod,
  greater,
  greaterEqual,
  less,
  lessEqual,
  logicalAnd,
  logicalOr,
  maximum,
  minimum,
  mul,
  notEqual,
  type Operand,
  pow,
  squaredDifference,
  sub,
} from "./binary.js";
export { cacheWrite } from "./cache-write.js";
export { argmax, topk } from "./choose.js";
export { conv2d, convTranspose2d, type ConvTranspose2dOptions } from "./conv2d.js";
export type { ConvolutionOptions } from "./convolution.js";
export { cumprod, cumsum, type CumulativeOptions } from "./cumulative.js";
export { depthwiseConv2d } from "./depthwise-conv2d.js";
export { type AvgPoolOptions, avgPool2d, maxPool2d, type PoolOptions } from "./pool2d.js";
export type { Padding, Pair, WindowOptions } from "./windows.js";
export { crossEntropy, type CrossEntropyOptions } from "./cross-entropy.js";
export { linearCrossEntropy, type LinearCrossEntropyOptions } from "./linear-cross-entropy.js";
export { dropout } from "./dropout.js";
export { embedding, type EmbeddingOptions } from "./embedding.js";
export { feedForward, type FeedForwardWeights } from "./feed-forward.js";
export { gated, packedGated } from "./gated.js";
export type { NormOptions } from "./norm.js";
export { addLayerNorm, layerNorm, type LayerNormOptions } from "./layer-norm.js";
export { l2Normalize } from "./l2-normalize.js";
export { linear, type LinearOptions } from "./linear.js";
export {
  type ActivationBits,
  type BlockTensors,
  type CompressedTensors,
  dequantize,
  quantize,
  quantizedEmbedding,
  quantizedLinear,
  type QuantizedLinearOptions,
  type QuantizedBits,
  type QuantizedTensors,
  type QuantizeOptions,
} from "./quantize.js";
export { type QuantizedCrossEntropyOptions, quantizedLinearCrossEntropy } from "./quantized-cross-entropy.js";
export {
  type FeatureMap,
  linearAttention,
  type LinearAttentionOptions,
  type LinearState,
  retentionDecay,
} from "./linear-attention.js";
export { lstm, type LstmOptions, type LstmState } from "./lstm.js";
export { matmul } from "./matmul.js";
export { mirrorPad, reverse } from "./mirror.js";
export { max, mean, type ReduceOptions, sum } from "./reduce.js";
export { addRmsNorm, rmsNorm, type RmsNormOptions } from "./rms-norm.js";
export { rotary, type RotaryOptions } from "./rotary.js";
export { type RotaryScaling, rotaryTable, type RotaryTableOptions } from "./rotary-table.js";
export { logProbabilities, type RowSampling, sample, type SampleInputs, type SamplingOptions } from "./sample.js";
export { sinusoidalTable, type SinusoidalTableOptions, type Sinusoids } from "./sinusoidal-table.js";
export { type PaddedSequences, type PadOptions, padSequences } from "./pad-sequences.js";
export { softmax } from "./softmax.js";
export {
  abs,
  acos,
  acosh,
  asin,
  asinh,
  atan,
  atanh,
  ceil,
  cos,
  cosh,
  elu,
  eluPlusOne,
  erf,
  exp,
  expm1,
  floor,
  gelu,
  isFinite,
  isInf,
  isNan,
  log,
  log1p,
  neg,
  reciprocal,
  relu,
  relu6,
  round,
  rsqrt,
  selu,
  sigmoid,
  sign,
  silu,
  sin,
  sinh,
  softplus,
  sqrt,
  square,
  tan,
  tanh,
} from "./unary.js";
export { cast, contiguous, narrow, reshape, transpose } from "./views.js";
export { where } from "./where.js";
