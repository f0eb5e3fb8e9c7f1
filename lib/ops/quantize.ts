import { isRecording, needsGrad, record } from "../core/autograd.js";
import { type BlockFormat, blockFormats } from "../core/block-formats.js";
import type { Device } from "../core/device.js";
import type { DType, FloatDType } from "../core/dtype.js";
import { describe, HeedError, oneOf } from "../util/errors.js";
import { ops } from "../core/native.js";
import { formatShape } from "../core/shape.js";
import { allocate, type FloatTensor, type IntTensor, type Tensor } from "../core/tensor.js";
import { type Activation, activationBackward, activationIndex } from "./activation.js";
import {
  checkChoice,
  checkDType,
  checkFloat,
  checkObject,
  checkParameter,
  checkRank,
  checkShapeIs,
  checkTensor,
} from "./check.js";
import { asInOut, asMatrix, checkResidual, type Layout, layouts, writeProjectionGradients } from "./projection.js";
import { contiguous } from "./views.js";

/** Number of bits of a quantised number. */
export type QuantizedBits = 8 | 4;
/** All numbers of bits. */
export const quantizedBits: readonly QuantizedBits[] = [8, 4];
/** Bits to which a product with a quantised weight may round activations. */
export type ActivationBits = 8 | 16 | 24;
/** All numbers of bits of activations. */
export const activationBits: readonly ActivationBits[] = [8, 16, 24];
/** Numbers of inputs that can share a scale. */
export const groupSizes = [32, 64, 128, 256] as const;

/**
 * Weight of a projection in 8 or 4 bits. Each number is about code · scale, rounded to nearest, and each group of
 * inputs of each output has a scale. Only the kernels know how codes and scales are ordered (native/core/quantized.h).
 */
export interface QuantizedTensors {
  /** Codes of the numbers, in the kernels' order. */
  readonly codes: Tensor<"u8">;
  /** Scales of the groups, in the kernels' order. */
  readonly scales: Tensor<"bf16">;
  /** Number of inputs. */
  readonly inputs: number;
  /** Number of outputs. */
  readonly outputs: number;
  /** Number of bits of each code. */
  readonly bits: QuantizedBits;
  /** Bits to which products may round activations in inference (see `QuantizedLinearOptions`). @default 16 */
  readonly activations?: ActivationBits;
}

/**
 * Weight of a projection as a GGUF file stores it: each output is a row of blocks, whose numbers share scales. The
 * kernels compute with the numbers that the format's formula gives, in f32; nothing is rounded again.
 */
export interface BlockTensors {
  /** Bytes of the file, u8 [out, bytes of a row]. */
  readonly blocks: Tensor<"u8">;
  /** Format of the blocks. */
  readonly format: BlockFormat;
  /** Number of inputs, a multiple of the numbers of a block. */
  readonly inputs: number;
  /** Number of outputs. */
  readonly outputs: number;
  /** Bits to which products may round activations in inference (see `QuantizedLinearOptions`). @default 16 */
  readonly activations?: ActivationBits;
}

/** A weight in fewer bits: heed's own 8 or 4 bits, or the blocks of a GGUF file. */
export type CompressedTensors = QuantizedTensors | BlockTensors;

/** @internal Tensors of a compressed weight, in the form in which a backward pass keeps them. */
interface Stored {
  codes: Tensor<"u8">;
  scales: Tensor<"bf16"> | null;
  /** Number of bits of each code, or the format of the blocks. */
  form: QuantizedBits | BlockFormat;
}

function stored(weight: CompressedTensors): Stored {
  return "blocks" in weight
    ? { codes: weight.blocks, scales: null, form: weight.format }
    : { codes: weight.codes, scales: weight.scales, form: weight.bits };
}

/** Options of `quantize`. */
export interface QuantizeOptions {
  /** Number of bits of each code. @default 8 */
  bits?: QuantizedBits;
  /** Number of inputs that share a scale: 32, 64, 128 or 256. @default 32 */
  groupSize?: (typeof groupSizes)[number];
}

/**
 * Checks options of `quantize` and fills in the defaults.
 *
 * @throws ERR_ARGUMENT if one is not allowed.
 */
export function checkQuantizeOptions(options: QuantizeOptions): Required<QuantizeOptions> {
  const op = "quantize";
  checkObject(op, "options", options);
  const { bits = 8, groupSize = 32 } = options;
  if (!quantizedBits.includes(bits))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected bits to be 8 or 4, got ${describe(bits)}`);
  if (!groupSizes.includes(groupSize))
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected groupSize to be ${oneOf(groupSizes)}, got ${describe(groupSize)}`,
    );
  return { bits, groupSize };
}

/**
 * Returns a projection's weight in 8 or 4 bits. The weight is [out, in], or [in, out] if `layout` is "io". The error of
 * a number is at most half of its group's scale, which is the largest |w| of the group divided by 127 (8 bits) or by
 * about 7.5 (4 bits).
 *
 * @example
 * const weight = quantize(randn([64, 32], { seed: 1 }), { bits: 4 });
 * const y = quantizedLinear(randn([2, 32], { seed: 2 }), weight); // [2, 64]
 *
 * @throws ERR_ARGUMENT for a bad option; ERR_SHAPE if the weight does not have two dimensions.
 */
export function quantize(weight: FloatTensor, options: QuantizeOptions & { layout?: Layout } = {}): QuantizedTensors {
  const { bits, groupSize } = checkQuantizeOptions(options);
  const { layout = "oi" } = options;
  checkChoice("quantize", "layout", layout, layouts);
  checkFloat("quantize", "weight", weight);
  checkShapeIs("quantize", "weight", weight, [-1, -1]);
  using matrix = asInOut(weight, layout);
  const [inputs, outputs] = matrix.shape as [number, number];
  const { device } = weight;
  const quantized = emptyQuantized({ inputs, outputs, device }, { bits, groupSize });
  ops.quantize({ codes: quantized.codes, scales: quantized.scales, weight: matrix, bits });
  return quantized;
}

/** @internal Number of outputs whose codes lie together. */
export const panelOutputs = 16;

/** @internal Returns an uninitialised quantised weight, for `quantizePart` to set. */
export function emptyQuantized(
  { inputs, outputs, device }: { inputs: number; outputs: number; device: Device },
  options: QuantizeOptions,
): QuantizedTensors {
  const { bits, groupSize } = checkQuantizeOptions(options);
  const panels = Math.ceil(outputs / panelOutputs);
  const groups = Math.ceil(inputs / groupSize);
  const codes = allocate([panels, (groups * groupSize * bits) / 32, 64], "u8", device);
  const scales = allocate([panels, groups, panelOutputs], "bf16", device);
  return { codes, scales, inputs, outputs, bits };
}

/**
 * @internal Returns the number of rows of a weight that are quantised together. Every part but the last must have a
 * multiple of it.
 */
export function rowsTogether(weight: QuantizedTensors, layout: Layout): number {
  return layout === "oi" ? panelOutputs : groupSizeOf(weight);
}

/** @internal Returns the number of inputs that share a scale. */
export function groupSizeOf({ codes, scales, bits }: QuantizedTensors): Required<QuantizeOptions>["groupSize"] {
  return ((codes.shape[1]! * 32) / bits / scales.shape[1]!) as Required<QuantizeOptions>["groupSize"];
}

/**
 * @internal Sets the part of a quantised weight that stands for the rows of the weight from row `first`: outputs [n,
 * in] in layout "oi", inputs [n, out] in "io". `first` must be a multiple of `rowsTogether`.
 */
export function quantizePart(target: QuantizedTensors, rows: FloatTensor, layout: Layout, first: number): void {
  const { bits } = target;
  const together = rowsTogether(target, layout);
  const filled = Math.ceil(rows.shape[0]! / together) * together;
  const axis = layout === "oi" ? 0 : 1;
  /** Returns the rows' part of codes or scales; an index along the axis stands for `count` rows. */
  const partOf = <D extends DType>(x: Tensor<D>, count: number): Tensor<D> => {
    const shape = x.shape.map((size, i) => (i === axis ? filled / count : size));
    return x.viewAs(shape, x.strides, (first / count) * x.strides[axis]!, false);
  };
  using weight = asInOut(rows, layout);
  using codes = partOf(target.codes, layout === "oi" ? together : 32 / bits);
  using scales = partOf(target.scales, together);
  if (layout === "oi") return ops.quantize({ codes, scales, weight, bits });
  // The kernel needs contiguous codes, but the codes of some inputs of all outputs are not.
  using ownCodes = allocate(codes.shape, "u8", codes.device, false);
  using ownScales = allocate(scales.shape, "bf16", scales.device, false);
  ops.quantize({ codes: ownCodes, scales: ownScales, weight, bits });
  ops.copy({ out: codes, inp: ownCodes });
  ops.copy({ out: scales, inp: ownScales });
}

function checkCompressed(op: string, weight: CompressedTensors, like?: Tensor): void {
  checkObject(op, "weight", weight);
  if ("blocks" in weight) {
    checkTensor(op, "weight.blocks", weight.blocks, like);
    checkChoice(op, "weight.format", weight.format, Object.keys(blockFormats));
    return;
  }
  checkTensor(op, "weight.codes", weight.codes, like);
  checkTensor(op, "weight.scales", weight.scales, like);
}

/** Sets out [outputs, in], or [..., in] with ids of outputs, to rows of a compressed weight. */
function readRows(out: FloatTensor, weight: CompressedTensors, ids: IntTensor | null): void {
  if ("blocks" in weight) {
    const { blocks, format } = weight;
    return ops.dequantize_blocks({ out, ids, blocks, format: blockFormats[format].kind });
  }
  const { codes, scales, outputs, bits } = weight;
  ops.dequantize({ out, ids, codes, scales, columns: outputs, bits });
}

/**
 * Returns the numbers that a quantised weight, or a weight in blocks of a GGUF file, stands for, [out, in], by default
 * in f32.
 *
 * @example
 * const weight = dequantize(quantize(randn([64, 32], { seed: 1 })), { dtype: "bf16" }); // [64, 32]
 */
export function dequantize(weight: CompressedTensors, options: { dtype?: FloatDType } = {}): FloatTensor {
  checkCompressed("dequantize", weight);
  checkObject("dequantize", "options", options);
  const { inputs, outputs } = weight;
  const out: FloatTensor = allocate([outputs, inputs], options.dtype ?? "f32", stored(weight).codes.device);
  readRows(out, weight, null);
  return out;
}

/**
 * Returns rows of a quantised table: ids i32 [...] → [..., C], by default in f32. The table [rows, C] must have been
 * quantised in layout "oi", or have the blocks of a GGUF file.
 *
 * An id outside the table is an error on the device: reading what is computed from the result rejects with ERR_RANGE.
 *
 * @example
 * const table = quantize(randn([256, 32], { seed: 1 }));
 * const y = quantizedEmbedding(tensor(new Int32Array([72, 105])), table); // [2, 32]
 */
export function quantizedEmbedding(
  ids: IntTensor,
  weight: CompressedTensors,
  options: { dtype?: FloatDType } = {},
): FloatTensor {
  const op = "quantizedEmbedding";
  checkTensor(op, "ids", ids);
  checkDType(op, "ids", ids, "i32");
  checkCompressed(op, weight, ids);
  checkObject(op, "options", options);
  const index = contiguous(ids);
  const out: FloatTensor = allocate([...ids.shape, weight.inputs], options.dtype ?? "f32", ids.device);
  readRows(out, weight, index);
  if (index !== ids) index.dispose();
  return out;
}

/** Options of `quantizedLinear`. */
export interface QuantizedLinearOptions {
  /** Bias [out]. @default null */
  bias?: FloatTensor | null;
  /** Activation of x·Ŵ + b, before the residual is added. @default "none" */
  activation?: Activation;
  /** Tensor of the result's shape that is added to it. @default null */
  residual?: FloatTensor | null;
  /**
   * Bits to which x may be rounded. Where the processor multiplies bytes (AVX512-VNNI), x becomes integers of 1, 2 or 3
   * bytes, so that the products are exact and fewer bytes take less time. Neighbours share a step: 32 of them, or as many
   * as share a scale in heed's own codes. The error of a number is at most 2^-23, 2^-15 or 1/254 of the largest of these
   * neighbours, for 24, 16 and 8 bits. bf16 and f16 take 16 bits at most. With AVX2, x is rounded to 16 or 8 bits where the
   * weight is in blocks of a GGUF file; 8 bits are 16 where codes have 8 bits. Elsewhere, and on a GPU, x is not rounded.
   * @default 24 while operations are recorded for a backward pass, else the weight's `activations`, else 16
   */
  activations?: ActivationBits;
}

/** Returns the bits to which a product rounds activations. */
function activationsOf(op: string, weight: CompressedTensors, activations?: ActivationBits): ActivationBits {
  if (activations !== undefined) return checkActivations(op, activations);
  return isRecording() ? 24 : (weight.activations ?? 16);
}

/**
 * Checks a number of bits of activations.
 *
 * @throws ERR_ARGUMENT if it is not 8, 16 or 24.
 */
export function checkActivations(op: string, activations: ActivationBits): ActivationBits {
  if (activationBits.includes(activations)) return activations;
  throw new HeedError(
    "ERR_ARGUMENT",
    `${op}: expected activations to be ${oneOf(activationBits)}, got ${describe(activations)}`,
  );
}

/**
 * Returns activation(x·Ŵ + b) + residual for a quantised weight Ŵ: x [..., in] → [..., out]. Sums are f32.
 *
 * The weight is a constant. The backward pass is dx = dy·Ŵᵀ and db = Σ dy, where dy has been multiplied by the derivative
 * of the activation. The kernels read the codes. What they turn into floats at a time takes at most 32 MiB, however large
 * the weight is.
 *
 * @example
 * const weight = quantize(randn([4, 8], { seed: 2 }));
 * const y = quantizedLinear(x, weight, { bias: zeros([4]), activation: "relu" }); // [2, 4]
 *
 * @throws ERR_SHAPE if the shapes do not fit; ERR_ARGUMENT for an unknown activation.
 * @see Dettmers et al. 2023, "QLoRA", https://arxiv.org/abs/2305.14314
 */
export function quantizedLinear(
  x: FloatTensor,
  weight: CompressedTensors,
  options: QuantizedLinearOptions = {},
): FloatTensor {
  const op = "quantizedLinear";
  checkObject(op, "options", options);
  const { bias = null, residual = null, activation = "none" } = options;
  checkQuantizedProduct(op, x, weight, bias);
  const { codes, scales, form } = stored(weight);
  const shape = [...x.shape.slice(0, -1), weight.outputs];
  checkResidual(op, x, residual, shape);
  const kind = activationIndex(op, activation);

  const input = contiguous(x);
  const added = residual && contiguous(residual);
  const out: FloatTensor = allocate(shape, x.dtype, x.device);
  const preact = kind && needsGrad([input, bias, added]) ? allocate(shape, x.dtype, x.device, false) : null;
  const epilogue = { bias, residual: added, preact, activation: kind };
  multiply(out, input, { codes, scales, form }, epilogue, activationsOf(op, weight, options.activations));
  record(op, out, [input, bias, added], { preact, codes, scales }, (context) => {
    const { dout, needs, gradient, pass, saved } = context;
    pass(2, dout);
    if (!needs(0) && !needs(1)) return;
    using dy = saved.preact ? activationBackward(dout, saved.preact, activation) : dout.alias();
    if (needs(0)) {
      const { out: dx, accumulate } = gradient(0);
      multiplyTransposed(dx, dy, { codes: saved.codes, scales: saved.scales, form }, accumulate);
    }
    if (!needs(1)) return;
    writeProjectionGradients(null, gradient(1), null, dy, "oi");
  });
  preact?.dispose();
  if (input !== x) input.dispose();
  if (added !== residual) added?.dispose();
  return out;
}

/**
 * @internal Checks the operands of a product with a quantised weight.
 *
 * @throws ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT if they do not fit.
 */
export function checkQuantizedProduct(
  op: string,
  x: FloatTensor,
  weight: CompressedTensors,
  bias: FloatTensor | null,
): void {
  checkFloat(op, "x", x);
  checkRank(op, "x", x, 1);
  checkCompressed(op, weight, x);
  const { inputs, outputs } = weight;
  if (x.shape.at(-1) !== inputs)
    throw new HeedError("ERR_SHAPE", `${op}: expected x of shape [..., ${inputs}], got ${formatShape(x.shape)}`);
  if (!bias) return;
  checkParameter(op, "bias", bias, x);
  checkShapeIs(op, "bias", bias, [outputs]);
}

interface Epilogue {
  bias: FloatTensor | null;
  residual?: FloatTensor | null;
  preact?: FloatTensor | null;
  activation?: number;
}

/**
 * @internal Returns a function that computes out = x·Ŵ + b for contiguous tensors. It rounds x as `quantizedLinear` does
 * at the time of this call, whenever it runs.
 */
export function quantizedProduct(
  op: string,
  weight: CompressedTensors,
  bias: FloatTensor | null,
): (out: FloatTensor, x: FloatTensor) => void {
  const precision = activationsOf(op, weight);
  return (out, x) => multiply(out, x, stored(weight), { bias }, precision);
}

/** @internal Computes dx = dy·Ŵᵀ for contiguous tensors. */
export function multiplyQuantizedTransposed(dx: FloatTensor, dy: FloatTensor, weight: CompressedTensors): void {
  multiplyTransposed(dx, dy, stored(weight), false);
}

function multiply(
  out: FloatTensor,
  x: FloatTensor,
  { codes, scales, form }: Stored,
  epilogue: Epilogue,
  precision: ActivationBits,
): void {
  const { bias, residual, preact, activation } = epilogue;
  using y = asMatrix(out);
  using a = asMatrix(x);
  using r = residual ? asMatrix(residual) : null;
  using before = preact ? asMatrix(preact) : null;
  const operands = { out: y, a, bias, residual: r, preact: before, activation, precision };
  if (typeof form === "number") ops.gemm_quantized({ ...operands, codes, scales: scales!, bits: form });
  else ops.gemm_blocks({ ...operands, blocks: codes, format: blockFormats[form].kind });
}

/** Computes dx (+)= dy·Ŵᵀ for contiguous tensors. */
function multiplyTransposed(
  dx: FloatTensor,
  dy: FloatTensor,
  { codes, scales, form }: Stored,
  accumulate: boolean,
): void {
  using dinp = asMatrix(dx);
  using dout = asMatrix(dy);
  if (typeof form === "number")
    ops.gemm_quantized_backward({ dinp, dout, codes, scales: scales!, accumulate, bits: form });
  else ops.gemm_blocks_backward({ dinp, dout, blocks: codes, accumulate, format: blockFormats[form].kind });
}
