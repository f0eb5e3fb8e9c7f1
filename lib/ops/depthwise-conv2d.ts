import { ones } from "../core/creation.js";
import { HeedError } from "../util/errors.js";
import { ops } from "../core/native.js";
import { scope } from "../core/scope.js";
import { formatShape } from "../core/shape.js";
import type { FloatTensor } from "../core/tensor.js";
import { mul } from "./binary.js";
import { checkFloat, checkObject, checkParameter, checkRank } from "./check.js";
import {
  type ConvolutionKernels,
  type ConvolutionOptions,
  convolve,
  convolveTransposed,
  filterGradient,
} from "./convolution.js";
import { sum } from "./reduce.js";
import { reshape } from "./views.js";
import { checkImages, checkPair, type WindowOptions } from "./windows.js";

const kernels: ConvolutionKernels = {
  forward: (operands) => ops.depthwise_conv2d(operands),
  input: (operands) => ops.depthwise_conv2d_input(operands),
  filter: (operands) => ops.depthwise_conv2d_filter(operands),
};

/** Checks a filter [kh, kw, C, M] and returns M. */
function multiplierOf(op: string, filter: FloatTensor, channels: number | null): number {
  const { shape } = filter;
  if (shape.length !== 4 || (channels !== null && shape[2] !== channels))
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected filter of shape [kh, kw, ${channels ?? "C"}, M], got ${formatShape(shape)}`,
    );
  return shape[3]!;
}

/** Returns the filter with the channels of the result in one dimension, [kh, kw, C · M]. */
function flat(filter: FloatTensor): FloatTensor {
  const [height, width, channels, multiplier] = filter.shape as [number, number, number, number];
  return reshape(filter, [height, width, channels * multiplier]);
}

/** Returns images in which each channel stands `times` times: [B, H, W, C] → [B, H, W, C · times]. */
function repeated(x: FloatTensor, times: number): FloatTensor {
  if (times === 1) return x;
  const shape = [...x.shape];
  const stretched = mul(reshape(x, [...shape, 1]), ones([times], { device: x.device, dtype: x.dtype }));
  return reshape(stretched, shape.with(3, shape[3]! * times));
}

/** Returns the sums of `times` channels each: [B, H, W, C · times] → [B, H, W, C]. */
function summed(x: FloatTensor, times: number): FloatTensor {
  if (times === 1) return x;
  const shape = x.shape;
  return sum(reshape(x, [...shape.with(3, shape[3]! / times), times]), { axes: [4] });
}

/**
 * Returns activation(x ∗ filter + bias), where each channel of the images x [B, H, W, C] is convolved by M filters of its
 * own, filter [kh, kw, C, M] → [B, OH, OW, C · M]:
 *
 * y[b, p, q, c·M + m] = Σ x[b, p·stride + i·dilation − top, q·stride + j·dilation − left, c] · filter[i, j, c, m].
 *
 * Sizes, padding and dtypes are those of `conv2d`. With M above 1 the images are copied M times.
 *
 * @example
 * const images = randn([2, 8, 8, 16], { seed: 1 });
 * const filter = parameter(randn([3, 3, 16, 1], { seed: 2, std: 0.3 }));
 * const y = depthwiseConv2d(images, filter, { padding: 1 }); // [2, 8, 8, 16]
 *
 * @throws ERR_SHAPE if the shapes do not fit, or the filter is larger than the padded image; ERR_ARGUMENT or ERR_RANGE
 *   for options that are no such numbers.
 * @see Howard et al. 2017, "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
 *   arXiv:1704.04861.
 */
export function depthwiseConv2d(x: FloatTensor, filter: FloatTensor, options: ConvolutionOptions = {}): FloatTensor {
  const op = "depthwiseConv2d";
  checkObject(op, "options", options);
  checkFloat(op, "x", x);
  checkImages(op, "x", x);
  checkParameter(op, "filter", filter, x);
  const times = multiplierOf(op, filter, x.shape[3]!);
  return scope(() => convolve(op, kernels, repeated(x, times), flat(filter), x.shape[3]! * times, options));
}

/**
 * @internal Returns the gradient of the images [B, H, W, C] of `depthwiseConv2d`, from its filter and the gradient dy of
 * its result. `size` is [H, W].
 */
export function depthwiseConv2dInputGradient(
  dy: FloatTensor,
  filter: FloatTensor,
  size: readonly [number, number],
  options: WindowOptions = {},
): FloatTensor {
  const op = "depthwiseConv2dInputGradient";
  checkFloat(op, "dy", dy);
  const times = multiplierOf(op, filter, null);
  const channels = filter.shape[2]! * times;
  checkParameter(op, "filter", filter, dy);
  checkImages(op, "dy", dy, [-1, -1, -1, channels]);
  return scope(() =>
    summed(convolveTransposed(op, kernels, dy, flat(filter), checkPair(op, "size", size, 0), channels, options), times),
  );
}

/**
 * @internal Returns the gradient of the filter [kh, kw, C, M] of `depthwiseConv2d`, from its images x and the gradient
 * dy of its result. `size` is [kh, kw].
 */
export function depthwiseConv2dFilterGradient(
  x: FloatTensor,
  dy: FloatTensor,
  size: readonly [number, number],
  options: WindowOptions = {},
): FloatTensor {
  const op = "depthwiseConv2dFilterGradient";
  checkFloat(op, "x", x);
  checkImages(op, "x", x);
  checkFloat(op, "dy", dy, x);
  checkRank(op, "dy", dy, 4);
  const [channels, outputs] = [x.shape[3]!, dy.shape[3]!];
  const times = channels ? outputs / channels : 0;
  if (!Number.isInteger(times))
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected dy with a multiple of ${channels} channels, got ${formatShape(dy.shape)}`,
    );
  const [height, width] = checkPair(op, "size", size);
  return scope(() => {
    const images = repeated(x, times);
    const gradient = filterGradient(op, kernels, images, dy, [height, width, outputs], options);
    return reshape(gradient, [height, width, channels, times]);
  });
}
