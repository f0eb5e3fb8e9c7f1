import { record } from "../autograd.js";
import type { Device } from "../device.js";
import type { DType, FloatDType } from "../dtype.js";
import { describe, HeedError } from "../errors.js";
import { ops } from "../native.js";
import { formatShape } from "../shape.js";
import { allocate, type FloatTensor, type IntTensor, type Tensor } from "../tensor.js";
import { type Activation, activationIndex } from "./activation.js";
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
import { asInOut, asMatrix, checkResidual, type Layout, layouts } from "./projection.js";
import { contiguous } from "./views.js";

/** Bits of a weight. */
export type QuantizedBits = 8 | 4;
export const quantizedBits: readonly QuantizedBits[] = [8, 4];
/** Inputs that share a scale. */
export const groupSizes = [32, 64, 128, 256] as const;

/**
 * A projection's weight, `inputs` × `outputs`, in 8 or 4 bits: each number is about code · scale, rounded to nearest, with
 * a scale for every group of inputs of each output. How they lie is the kernels' own (native/core/quantized.h).
 */
export interface QuantizedTensors {
  readonly codes: Tensor<"u8">;
  readonly scales: Tensor<"bf16">;
  readonly inputs: number;
  readonly outputs: number;
  readonly bits: QuantizedBits;
}

export interface QuantizeOptions {
  /** 8 unless given. */
  bits?: QuantizedBits;
  /** Inputs that share a scale: 32 unless given, 64, 128 or 256. */
  groupSize?: (typeof groupSizes)[number];
}

/** Throws ERR_ARGUMENT unless they are options of {@link quantize}; fills them in. */
export function checkQuantizeOptions(options: QuantizeOptions): Required<QuantizeOptions> {
  const op = "quantize";
  checkObject(op, "options", options);
  const { bits = 8, groupSize = 32 } = options;
  if (!quantizedBits.includes(bits))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected bits of 8 or 4, got ${describe(bits)}`);
  if (!groupSizes.includes(groupSize))
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected a groupSize of ${groupSizes.join(", ")}, got ${describe(groupSize)}`,
    );
  return { bits, groupSize };
}

/**
 * The weight [out, in] of a projection, or of `layout` "io" [in, out], in few bits. No number is further from its own than
 * half its group's scale: the largest |w| of the group / 127 in 8 bits, about / 7.5 in 4.
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

/** Outputs whose codes lie together. */
const panelOutputs = 16;

/** @internal A quantised weight that is all still to be set by {@link quantizePart}. */
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

/** @internal How many rows of a weight of that layout are quantised together: its parts are multiples, but for the last. */
export function rowsTogether({ codes, scales, bits }: QuantizedTensors, layout: Layout): number {
  const groupSize = (codes.shape[1]! * 32) / bits / scales.shape[1]!;
  return layout === "oi" ? panelOutputs : groupSize;
}

/**
 * @internal Sets the part of a quantised weight that stands for rows of the weight from the `first`-th on: outputs [n, in] in
 * layout "oi", inputs [n, out] in "io". `first` is a multiple of {@link rowsTogether}.
 */
export function quantizePart(target: QuantizedTensors, rows: FloatTensor, layout: Layout, first: number): void {
  const { bits } = target;
  const together = rowsTogether(target, layout);
  const filled = Math.ceil(rows.shape[0]! / together) * together;
  const axis = layout === "oi" ? 0 : 1;
  /** The part of codes or scales, of which each index along the axis is of `count` rows. */
  const partOf = <D extends DType>(x: Tensor<D>, count: number): Tensor<D> => {
    const shape = x.shape.map((size, i) => (i === axis ? filled / count : size));
    return x.viewAs(shape, x.strides, (first / count) * x.strides[axis]!, false);
  };
  using weight = asInOut(rows, layout);
  using codes = partOf(target.codes, layout === "oi" ? together : 32 / bits);
  using scales = partOf(target.scales, together);
  if (layout === "oi") return ops.quantize({ codes, scales, weight, bits });
  // Codes of some inputs of all outputs do not lie in one piece, as the kernel's have to.
  using ownCodes = allocate(codes.shape, "u8", codes.device, false);
  using ownScales = allocate(scales.shape, "bf16", scales.device, false);
  ops.quantize({ codes: ownCodes, scales: ownScales, weight, bits });
  ops.copy({ out: codes, inp: ownCodes });
  ops.copy({ out: scales, inp: ownScales });
}

function checkQuantized(op: string, weight: QuantizedTensors, like?: Tensor): void {
  checkObject(op, "weight", weight);
  checkTensor(op, "weight.codes", weight.codes, like);
  checkTensor(op, "weight.scales", weight.scales, like);
}

/** What the codes stand for: [out, in]. */
export function dequantize(weight: QuantizedTensors, options: { dtype?: FloatDType } = {}): FloatTensor {
  checkQuantized("dequantize", weight);
  checkObject("dequantize", "options", options);
  const { codes, scales, inputs, outputs, bits } = weight;
  const out: FloatTensor = allocate([outputs, inputs], options.dtype ?? "f32", codes.device);
  ops.dequantize({ out, codes, scales, columns: outputs, bits });
  return out;
}

/**
 * Rows of a table that is quantised as a projection onto its rows, [rows, C] in layout "oi": ids [...] → [..., C]. An id
 * outside of it is an error on the device: reading what is computed from the result rejects with ERR_RANGE.
 */
export function quantizedEmbedding(
  ids: IntTensor,
  weight: QuantizedTensors,
  options: { dtype?: FloatDType } = {},
): FloatTensor {
  const op = "quantizedEmbedding";
  checkTensor(op, "ids", ids);
  checkDType(op, "ids", ids, "i32");
  checkQuantized(op, weight, ids);
  checkObject(op, "options", options);
  const { codes, scales, inputs, outputs, bits } = weight;
  const index = contiguous(ids);
  const out: FloatTensor = allocate([...ids.shape, inputs], options.dtype ?? "f32", ids.device);
  ops.dequantize({ out, ids: index, codes, scales, columns: outputs, bits });
  if (index !== ids) index.dispose();
  return out;
}

/**
 * activation(x·Ŵ + b) + residual, as `linear`, of a quantised weight: x [..., in] → [..., out]. Sums are f32. For inference:
 * `backward()` through it throws ERR_AUTOGRAD.
 */
export function quantizedLinear(
  x: FloatTensor,
  weight: QuantizedTensors,
  options: { bias?: FloatTensor | null; activation?: Activation; residual?: FloatTensor | null } = {},
): FloatTensor {
  const op = "quantizedLinear";
  checkObject(op, "options", options);
  const { bias = null, residual = null, activation = "none" } = options;
  checkFloat(op, "x", x);
  checkRank(op, "x", x, 1);
  checkQuantized(op, weight, x);
  const { codes, scales, inputs, outputs, bits } = weight;
  if (x.shape.at(-1) !== inputs)
    throw new HeedError("ERR_SHAPE", `${op}: expected x of shape [..., ${inputs}], got ${formatShape(x.shape)}`);
  if (bias) {
    checkParameter(op, "bias", bias, x);
    checkShapeIs(op, "bias", bias, [outputs]);
  }
  const shape = [...x.shape.slice(0, -1), outputs];
  checkResidual(op, x, residual, shape);
  const kind = activationIndex(op, activation);

  const input = contiguous(x);
  const added = residual && contiguous(residual);
  const out: FloatTensor = allocate(shape, x.dtype, x.device);
  {
    using a = asMatrix(input);
    using y = asMatrix(out);
    using r = added && asMatrix(added);
    ops.gemm_quantized({ out: y, a, codes, scales, bias, residual: r, activation: kind, bits });
  }
  record(op, out, [input, bias, added], {}, () => {
    throw new HeedError(
      "ERR_AUTOGRAD",
      `${op}: expected no backward() through a quantised weight, which is for inference`,
    );
  });
  if (input !== x) input.dispose();
  if (added !== residual) added?.dispose();
  return out;
}
