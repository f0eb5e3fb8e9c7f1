/**
 * Windows that slide over images [B, H, W, C]: the options of convolutions and pooling, as the kernels take
 * them.
 */
import { HeedError } from "../util/errors.js";
import { formatShape, type Shape } from "../core/shape.js";
import type { FloatTensor } from "../core/tensor.js";
import { checkInteger, checkObject, describe } from "./check.js";

/** A number for both directions, or [vertical, horizontal]. */
export type Pair = number | readonly [number, number];

/**
 * Padding around an image: a number for all sides, [vertical, horizontal], or [top, bottom, left, right]. What is padded
 * counts as zeros in a convolution, and not at all in pooling.
 */
export type Padding = Pair | readonly [number, number, number, number];

/** Options of a window that slides over an image. */
export interface WindowOptions {
  /** Steps from one place of the window to the next. @default 1 */
  stride?: Pair;
  /** Padding around the image. @default 0 */
  padding?: Padding;
  /** Distance of neighbouring taps of the window in the image. @default 1 */
  dilation?: Pair;
}

/** Options of a window as the operations of the native side take them. */
export interface Windows {
  strideH: number;
  strideW: number;
  padTop: number;
  padLeft: number;
  dilationH: number;
  dilationW: number;
}

/** Largest stride, padding and dilation: no sum of positions in an image can overflow. */
const most = 2 ** 30;

function numbers(op: string, name: string, value: unknown, lengths: readonly number[], low: number): number[] {
  const list = typeof value === "number" ? [value, value] : value;
  if (!Array.isArray(list) || !lengths.includes(list.length))
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected ${name} to be a number or an array of ${lengths.join(" or ")} numbers, got ${describe(value)}`,
    );
  for (const one of list) checkInteger(op, name, one, low, most);
  return list as number[];
}

/** @internal Returns a size of a window, [height, width]. */
export function checkPair(op: string, name: string, value: unknown, low = 1): [number, number] {
  return numbers(op, name, value, [2], low) as [number, number];
}

/** @internal Checks the options of a window and returns them with the padding below and to the right. */
export function checkWindows(
  op: string,
  options: WindowOptions,
): { windows: Windows; padBottom: number; padRight: number } {
  checkObject(op, "options", options);
  const [strideH, strideW] = checkPair(op, "stride", options.stride ?? 1);
  const [dilationH, dilationW] = checkPair(op, "dilation", options.dilation ?? 1);
  const padding = numbers(op, "padding", options.padding ?? 0, [2, 4], 0);
  const [padTop, padBottom, padLeft, padRight] = (
    padding.length === 4 ? padding : [padding[0], padding[0], padding[1], padding[1]]
  ) as [number, number, number, number];
  return { windows: { strideH, strideW, padTop, padLeft, dilationH, dilationW }, padBottom, padRight };
}

/**
 * @internal Returns the numbers of places of a window [height, width] on an image of that size, and the options for the
 * native side.
 *
 * @throws ERR_SHAPE if the window is larger than the padded image; ERR_ARGUMENT or ERR_RANGE for other options.
 */
export function slide(
  op: string,
  image: readonly [number, number],
  window: readonly [number, number],
  options: WindowOptions,
): { places: [number, number]; windows: Windows } {
  const { windows, padBottom, padRight } = checkWindows(op, options);
  if (window[0] < 1 || window[1] < 1)
    throw new HeedError("ERR_SHAPE", `${op}: expected a window with at least one tap, got ${formatShape(window)}`);
  const { strideH, strideW, padTop, padLeft, dilationH, dilationW } = windows;
  const padded = [image[0] + padTop + padBottom, image[1] + padLeft + padRight] as const;
  const extent = [(window[0] - 1) * dilationH + 1, (window[1] - 1) * dilationW + 1] as const;
  if (extent[0] > padded[0] || extent[1] > padded[1])
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected a window of at most ${formatShape(padded)}, the padded image, got one that covers ` +
        formatShape(extent),
    );
  const places: [number, number] = [
    Math.floor((padded[0] - extent[0]) / strideH) + 1,
    Math.floor((padded[1] - extent[1]) / strideW) + 1,
  ];
  return { places, windows };
}

/**
 * @internal Checks that a tensor is a batch of images [B, H, W, C]; a size of -1 in `expected` allows any.
 *
 * @throws ERR_SHAPE if it is not.
 */
export function checkImages(op: string, name: string, x: FloatTensor, expected: Shape = [-1, -1, -1, -1]): void {
  const { shape } = x;
  if (shape.length === 4 && shape.every((n, i) => expected[i] === -1 || expected[i] === n)) return;
  const sizes = expected.map((n, i) => (n === -1 ? "BHWC"[i]! : String(n)));
  throw new HeedError("ERR_SHAPE", `${op}: expected ${name} of shape [${sizes.join(", ")}], got ${formatShape(shape)}`);
}
