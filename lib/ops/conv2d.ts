import { ops } from "../core/native.js";
import type { FloatTensor } from "../core/tensor.js";
import { checkFloat, checkObject, checkParameter, checkRank, checkShapeIs } from "./check.js";
import {
  type ConvolutionKernels,
  type ConvolutionOptions,
  convolve,
  convolveTransposed,
  filterGradient,
} from "./convolution.js";
import { checkImages, checkPair, type WindowOptions } from "./windows.js";

const kernels: ConvolutionKernels = {
  forward: (operands) => ops.conv2d(operands),
  input: (operands) => ops.conv2d_input(operands),
  filter: (operands) => ops.conv2d_filter(operands),
};

/** Options of `convTranspose2d`. */
export interface ConvTranspose2dOptions extends WindowOptions {
  /** Size of the result, [height, width]: a convolution with these options turns it into the size of x. */
  size: readonly [number, number];
}

/**
 * Returns activation(x ∗ filter + bias), the convolution of images x [B, H, W, C] with a filter [kh, kw, C, N] → [B, OH,
 * OW, N]:
 *
 * y[b, p, q, n] = Σ x[b, p·stride + i·dilation − top, q·stride + j·dilation − left, c] · filter[i, j, c, n],
 *
 * where the padding counts as zeros and OH = ⌊(H + top + bottom − (kh − 1)·dilation − 1) / stride⌋ + 1. As in all
 * libraries for neural networks, the filter is not mirrored.
 *
 * If x is bf16 or f16, filter and bias may be f32. The filter is then rounded to the dtype of x, and the gradients of
 * filter and bias are sums in f32.
 *
 * @example
 * const images = randn([2, 8, 8, 3], { seed: 1 });
 * const filter = parameter(randn([3, 3, 3, 16], { seed: 2, std: 0.2 }));
 * const y = conv2d(images, filter, { padding: 1, stride: 2, activation: "relu" }); // [2, 4, 4, 16]
 *
 * @throws ERR_SHAPE if the shapes do not fit, or the filter is larger than the padded image; ERR_ARGUMENT or ERR_RANGE
 *   for options that are no such numbers.
 * @see Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285.
 */
export function conv2d(x: FloatTensor, filter: FloatTensor, options: ConvolutionOptions = {}): FloatTensor {
  const op = "conv2d";
  checkObject(op, "options", options);
  checkFloat(op, "x", x);
  checkImages(op, "x", x);
  checkParameter(op, "filter", filter, x);
  checkShapeIs(op, "filter", filter, [-1, -1, x.shape[3]!, -1]);
  return convolve(op, kernels, x, filter, filter.shape[3]!, options);
}

/**
 * Returns the transposed convolution of x [B, OH, OW, N] with a filter [kh, kw, C, N] → [B, H, W, C]. It is the gradient
 * that `conv2d` with the same options has with respect to its images, so that it turns the sizes around: with a stride of
 * 2 it doubles them. `size` says which of the sizes that `conv2d` would turn into that of x the result has.
 *
 * @example
 * const small = randn([2, 4, 4, 16], { seed: 1 });
 * const filter = parameter(randn([2, 2, 3, 16], { seed: 2, std: 0.2 }));
 * const y = convTranspose2d(small, filter, { size: [8, 8], stride: 2 }); // [2, 8, 8, 3]
 *
 * @throws ERR_SHAPE if the shapes do not fit; ERR_ARGUMENT or ERR_RANGE for options that are no such numbers.
 * @see Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285.
 */
export function convTranspose2d(x: FloatTensor, filter: FloatTensor, options: ConvTranspose2dOptions): FloatTensor {
  const op = "convTranspose2d";
  checkObject(op, "options", options);
  checkFloat(op, "x", x);
  checkImages(op, "x", x);
  checkParameter(op, "filter", filter, x);
  checkShapeIs(op, "filter", filter, [-1, -1, -1, x.shape[3]!]);
  const size = checkPair(op, "size", options.size, 0);
  return convolveTransposed(op, kernels, x, filter, size, filter.shape[2]!, options);
}

/**
 * @internal Returns the gradient of the filter [kh, kw, C, N] of `conv2d`, from its images x and the gradient dy of its
 * result. `size` is [kh, kw].
 */
export function conv2dFilterGradient(
  x: FloatTensor,
  dy: FloatTensor,
  size: readonly [number, number],
  options: WindowOptions = {},
): FloatTensor {
  const op = "conv2dFilterGradient";
  checkFloat(op, "x", x);
  checkImages(op, "x", x);
  checkFloat(op, "dy", dy, x);
  checkRank(op, "dy", dy, 4);
  const shape = [...checkPair(op, "size", size), x.shape[3]!, dy.shape[3]!];
  return filterGradient(op, kernels, x, dy, shape, options);
}
