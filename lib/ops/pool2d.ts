import { record } from "../core/autograd.js";
import { ops } from "../core/native.js";
import { allocate, type FloatTensor } from "../core/tensor.js";
import { checkBoolean, checkFloat, checkObject } from "./check.js";
import { contiguous } from "./views.js";
import { checkImages, checkPair, type Pair, slide, type WindowOptions, type Windows } from "./windows.js";

/** Options of `maxPool2d`. */
export interface PoolOptions extends WindowOptions {
  /** Size of the window. */
  window: Pair;
  /** Steps from one place of the window to the next. By default it is the size of the window. */
  stride?: Pair;
}

/** Options of `avgPool2d`. */
export interface AvgPoolOptions extends PoolOptions {
  /** Counts the padding as zeros. By default the mean is taken over the numbers within the image alone. @default false */
  countPadding?: boolean;
}

interface Pooling {
  /** Numbers of places of the window. */
  places: [number, number];
  window: { windowH: number; windowW: number };
  windows: Windows;
}

function pooling(op: string, size: readonly [number, number], options: PoolOptions): Pooling {
  checkObject(op, "options", options);
  const window = checkPair(op, "window", options.window);
  const { places, windows } = slide(op, size, window, { ...options, stride: options.stride ?? window });
  return { places, windows, window: { windowH: window[0], windowW: window[1] } };
}

function poolingOf(op: string, x: FloatTensor, options: PoolOptions): Pooling {
  checkFloat(op, "x", x);
  checkImages(op, "x", x);
  return pooling(op, [x.shape[1]!, x.shape[2]!], options);
}

function countPaddingOf(op: string, { countPadding = false }: AvgPoolOptions): boolean {
  checkBoolean(op, "countPadding", countPadding);
  return countPadding;
}

/**
 * Returns the largest number of each channel within a window that slides over images: x [B, H, W, C] → [B, OH, OW, C].
 * Sizes follow from stride, padding and dilation as for `conv2d`. Padding is never the largest. NaN is ignored, as in
 * `argmax`, so that a window without any number gives −∞. Among equal numbers the first of a window, in the order of its
 * rows, gets the gradient.
 *
 * @example
 * const images = randn([2, 8, 8, 16], { seed: 1 });
 * const y = maxPool2d(images, { window: 2 }); // [2, 4, 4, 16]
 *
 * @throws ERR_SHAPE if the window is larger than the padded image; ERR_ARGUMENT or ERR_RANGE for options that are no
 *   such numbers.
 */
export function maxPool2d(x: FloatTensor, options: PoolOptions): FloatTensor {
  const op = "maxPool2d";
  const { places, window, windows } = poolingOf(op, x, options);
  const inp = contiguous(x);
  const out: FloatTensor = allocate([x.shape[0]!, ...places, x.shape[3]!], x.dtype, x.device);
  ops.max_pool2d({ out, inp, ...window, ...windows });
  record(op, out, [inp], { inp }, ({ dout, gradient, saved }) => {
    const { out: dinp, accumulate } = gradient(0);
    ops.max_pool2d_backward({ dinp, dout, inp: saved.inp, ...window, ...windows, accumulate });
  });
  if (inp !== x) inp.dispose();
  return out;
}

/**
 * Returns the mean of each channel within a window that slides over images: x [B, H, W, C] → [B, OH, OW, C]. Sizes follow
 * from stride, padding and dilation as for `conv2d`. A window that lies in the padding alone gives 0.
 *
 * @example
 * const images = randn([2, 8, 8, 16], { seed: 1 });
 * const y = avgPool2d(images, { window: 3, stride: 2, padding: 1 }); // [2, 4, 4, 16]
 *
 * @throws ERR_SHAPE if the window is larger than the padded image; ERR_ARGUMENT or ERR_RANGE for options that are no
 *   such values.
 */
export function avgPool2d(x: FloatTensor, options: AvgPoolOptions): FloatTensor {
  const op = "avgPool2d";
  const { places, window, windows } = poolingOf(op, x, options);
  const countPadding = countPaddingOf(op, options);
  const inp = contiguous(x);
  const out: FloatTensor = allocate([x.shape[0]!, ...places, x.shape[3]!], x.dtype, x.device);
  ops.avg_pool2d({ out, inp, ...window, ...windows, countPadding });
  record(op, out, [inp], {}, ({ dout, gradient }) => {
    const { out: dinp, accumulate } = gradient(0);
    ops.avg_pool2d_backward({ dinp, dout, ...window, ...windows, countPadding, accumulate });
  });
  if (inp !== x) inp.dispose();
  return out;
}

/** @internal Returns the gradient of the images x of `maxPool2d`, from the gradient dy of its result; not recorded. */
export function maxPool2dGradient(dy: FloatTensor, x: FloatTensor, options: PoolOptions): FloatTensor {
  const op = "maxPool2dGradient";
  const { places, window, windows } = poolingOf(op, x, options);
  checkFloat(op, "dy", dy, x);
  checkImages(op, "dy", dy, [x.shape[0]!, ...places, x.shape[3]!]);
  const inp = contiguous(x);
  const dout = contiguous(dy);
  const dinp: FloatTensor = allocate(x.shape, x.dtype, x.device);
  ops.max_pool2d_backward({ dinp, dout, inp, ...window, ...windows });
  if (inp !== x) inp.dispose();
  if (dout !== dy) dout.dispose();
  return dinp;
}

/**
 * @internal Returns the gradient of the images [B, H, W, C] of `avgPool2d`, from the gradient dy of its result; not
 * recorded. `size` is [H, W].
 */
export function avgPool2dGradient(
  dy: FloatTensor,
  size: readonly [number, number],
  options: AvgPoolOptions,
): FloatTensor {
  const op = "avgPool2dGradient";
  checkFloat(op, "dy", dy);
  const image = checkPair(op, "size", size, 0);
  const { places, window, windows } = pooling(op, image, options);
  const countPadding = countPaddingOf(op, options);
  checkImages(op, "dy", dy, [-1, ...places, -1]);
  const dout = contiguous(dy);
  const dinp: FloatTensor = allocate([dy.shape[0]!, ...image, dy.shape[3]!], dy.dtype, dy.device);
  ops.avg_pool2d_backward({ dinp, dout, ...window, ...windows, countPadding });
  if (dout !== dy) dout.dispose();
  return dinp;
}
