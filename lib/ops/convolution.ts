/**
 * Autograd of all kinds of convolution. A convolution is linear in the image and in the filter, so each of its
 * three kernels (the convolution, and its gradients by image and by filter) has the other two as its gradients.
 */
import { needsGrad, record } from "../core/autograd.js";
import type { Ops } from "../core/native-ops.js";
import { allocate, type FloatTensor } from "../core/tensor.js";
import { type Activation, activationBackward, activationIndex } from "./activation.js";
import { checkParameter, checkShapeIs } from "./check.js";
import { ops } from "../core/native.js";
import { rounded } from "./precision.js";
import { contiguous } from "./views.js";
import { checkImages, slide, type WindowOptions } from "./windows.js";

/** Options of `conv2d` and `depthwiseConv2d`. */
export interface ConvolutionOptions extends WindowOptions {
  /** Bias, one number for each channel of the result. @default null */
  bias?: FloatTensor | null;
  /** Activation of the sums with their bias. @default "none" */
  activation?: Activation;
}

/** The native operations of a kind of convolution. */
export interface ConvolutionKernels {
  forward: Ops["conv2d"];
  input: Ops["conv2d_input"];
  filter: Ops["conv2d_filter"];
}

type Size = readonly [number, number];

/** Returns the sizes that a convolution turns into each other: of the image, of the window and of the result. */
const sizeOf = ({ shape }: FloatTensor): Size => [shape[1]!, shape[2]!];
const windowOf = ({ shape }: FloatTensor): Size => [shape[0]!, shape[1]!];

/** Returns activation(convolution of x and filter + bias), with `outputs` channels. */
export function convolve(
  op: string,
  kernels: ConvolutionKernels,
  x: FloatTensor,
  filter: FloatTensor,
  outputs: number,
  options: ConvolutionOptions,
): FloatTensor {
  const { places, windows } = slide(op, sizeOf(x), windowOf(filter), options);
  const { bias = null, activation = "none" } = options;
  if (bias) {
    checkParameter(op, "bias", bias, x);
    checkShapeIs(op, "bias", bias, [outputs]);
  }
  const kind = activationIndex(op, activation);
  const shape = [x.shape[0]!, ...places, outputs];

  const image = contiguous(x);
  const taps = contiguous(filter);
  using operand = rounded(taps, x.dtype);
  const out: FloatTensor = allocate(shape, x.dtype, x.device);
  const preact = kind && needsGrad([image, taps, bias]) ? allocate(shape, x.dtype, x.device, false) : null;
  kernels.forward({ out, inp: image, filter: operand, bias, preact, activation: kind, ...windows });
  // Only the filter's gradient needs the image.
  const kept = taps.requiresGrad ? image : null;
  record(op, out, [image, taps, bias], { image: kept, filter: operand, preact }, (context) => {
    const { dout, needs, gradient, saved } = context;
    using dy = saved.preact ? activationBackward(dout, saved.preact, activation) : dout.alias();
    if (needs(0)) {
      const { out: dinp, accumulate } = gradient(0);
      kernels.input({ dinp, dout: dy, filter: saved.filter, ...windows, accumulate });
    }
    if (needs(1)) {
      const { out: dfilter, accumulate } = gradient(1);
      kernels.filter({ dfilter, inp: saved.image!, dout: dy, ...windows, accumulate });
    }
    if (needs(2)) {
      const { out: dbias, accumulate } = gradient(2);
      ops.bias_backward({ dbias, dout: dy, accumulate });
    }
  });
  preact?.dispose();
  if (image !== x) image.dispose();
  if (taps !== filter) taps.dispose();
  return out;
}

/**
 * Returns the gradient of an image of `size` with `channels` channels, from the gradient x of a convolution of it: the
 * transposed convolution.
 */
export function convolveTransposed(
  op: string,
  kernels: ConvolutionKernels,
  x: FloatTensor,
  filter: FloatTensor,
  size: Size,
  channels: number,
  options: WindowOptions,
): FloatTensor {
  const { places, windows } = slide(op, size, windowOf(filter), options);
  checkImages(op, "x", x, [-1, ...places, -1]);
  const image = contiguous(x);
  const taps = contiguous(filter);
  using operand = rounded(taps, x.dtype);
  const out: FloatTensor = allocate([x.shape[0]!, ...size, channels], x.dtype, x.device);
  kernels.input({ dinp: out, dout: image, filter: operand, ...windows });
  const kept = taps.requiresGrad ? image : null;
  record(op, out, [image, taps], { image: kept, filter: operand }, ({ dout, needs, gradient, saved }) => {
    if (needs(0)) {
      const { out: dx, accumulate } = gradient(0);
      kernels.forward({ out: dx, inp: dout, filter: saved.filter, ...windows, accumulate });
    }
    if (needs(1)) {
      const { out: dfilter, accumulate } = gradient(1);
      kernels.filter({ dfilter, inp: dout, dout: saved.image!, ...windows, accumulate });
    }
  });
  if (image !== x) image.dispose();
  if (taps !== filter) taps.dispose();
  return out;
}

/** Returns the gradient of a filter of `shape`, from the image x and the gradient dy of their convolution. */
export function filterGradient(
  op: string,
  kernels: ConvolutionKernels,
  x: FloatTensor,
  dy: FloatTensor,
  shape: readonly number[],
  options: WindowOptions,
): FloatTensor {
  const { places, windows } = slide(op, sizeOf(x), [shape[0]!, shape[1]!], options);
  checkImages(op, "dy", dy, [x.shape[0]!, ...places, -1]);
  const image = contiguous(x);
  const upstream = contiguous(dy);
  const out: FloatTensor = allocate(shape, x.dtype, x.device);
  kernels.filter({ dfilter: out, inp: image, dout: upstream, ...windows });
  const saved = { image: dy.requiresGrad ? image : null, dy: x.requiresGrad ? upstream : null };
  record(op, out, [image, upstream], saved, ({ dout, needs, gradient, saved }) => {
    if (needs(0)) {
      const { out: dinp, accumulate } = gradient(0);
      kernels.input({ dinp, dout: saved.dy!, filter: dout, ...windows, accumulate });
    }
    if (needs(1)) {
      const { out: ddy, accumulate } = gradient(1);
      kernels.forward({ out: ddy, inp: saved.image!, filter: dout, ...windows, accumulate });
    }
  });
  if (image !== x) image.dispose();
  if (upstream !== dy) upstream.dispose();
  return out;
}
