/** Float64 references of convolutions and pooling, by the definitions: one loop for each index. */
import type { Nd } from "./nd.js";

export interface Slide {
  stride?: [number, number];
  /** [top, bottom, left, right] */
  padding?: [number, number, number, number];
  dilation?: [number, number];
}

/** Calls visit(output, input, tap) with the positions of each pair of pixels and the number of the tap between them. */
export function overWindows(
  image: readonly number[],
  window: readonly number[],
  { stride = [1, 1], padding = [0, 0, 0, 0], dilation = [1, 1] }: Slide,
  visit: (output: number, input: number, tap: number) => void,
): [number, number] {
  const [B, H, W] = image as [number, number, number];
  const [kh, kw] = window as [number, number];
  const OH = Math.floor((H + padding[0] + padding[1] - (kh - 1) * dilation[0] - 1) / stride[0]) + 1;
  const OW = Math.floor((W + padding[2] + padding[3] - (kw - 1) * dilation[1] - 1) / stride[1]) + 1;
  for (let b = 0; b < B; b++)
    for (let p = 0; p < OH; p++)
      for (let q = 0; q < OW; q++)
        for (let i = 0; i < kh; i++)
          for (let j = 0; j < kw; j++) {
            const [y, x] = [p * stride[0] + i * dilation[0] - padding[0], q * stride[1] + j * dilation[1] - padding[2]];
            if (y >= 0 && y < H && x >= 0 && x < W) visit((b * OH + p) * OW + q, (b * H + y) * W + x, i * kw + j);
          }
  return [OH, OW];
}

/** Returns the convolution of x [B, H, W, C] with a filter [kh, kw, C, N], plus the bias. */
export function convolve(x: Nd, filter: Nd, bias: Nd | undefined, slide: Slide): Nd {
  const [kh, kw, C, N] = filter.shape as [number, number, number, number];
  const [OH, OW] = overWindows(x.shape, [kh, kw], slide, () => undefined);
  const data = new Float64Array(x.shape[0]! * OH * OW * N);
  if (bias) for (let i = 0; i < data.length; i++) data[i] = bias.data[i % N]!;
  overWindows(x.shape, [kh, kw], slide, (output, input, tap) => {
    for (let c = 0; c < C; c++) {
      const value = x.data[input * C + c]!;
      for (let n = 0; n < N; n++) data[output * N + n]! += value * filter.data[(tap * C + c) * N + n]!;
    }
  });
  return { shape: [x.shape[0]!, OH, OW, N], data };
}

/** Returns the convolution of each channel of x [B, H, W, C] with its own filters, [kh, kw, C, M]. */
export function convolveDepthwise(x: Nd, filter: Nd, bias: Nd | undefined, slide: Slide): Nd {
  const [kh, kw, C, M] = filter.shape as [number, number, number, number];
  const [OH, OW] = overWindows(x.shape, [kh, kw], slide, () => undefined);
  const data = new Float64Array(x.shape[0]! * OH * OW * C * M);
  if (bias) for (let i = 0; i < data.length; i++) data[i] = bias.data[i % (C * M)]!;
  overWindows(x.shape, [kh, kw], slide, (output, input, tap) => {
    for (let c = 0; c < C; c++)
      for (let m = 0; m < M; m++)
        data[(output * C + c) * M + m]! += x.data[input * C + c]! * filter.data[(tap * C + c) * M + m]!;
  });
  return { shape: [x.shape[0]!, OH, OW, C * M], data };
}

/** Returns the transposed convolution of x [B, OH, OW, N] with a filter [kh, kw, C, N], an image of `size`. */
export function convolveTransposed(x: Nd, filter: Nd, size: readonly [number, number], slide: Slide): Nd {
  const [kh, kw, C, N] = filter.shape as [number, number, number, number];
  const shape = [x.shape[0]!, ...size, C];
  const data = new Float64Array(x.shape[0]! * size[0] * size[1] * C);
  overWindows(shape, [kh, kw], slide, (output, input, tap) => {
    for (let c = 0; c < C; c++)
      for (let n = 0; n < N; n++) data[input * C + c]! += x.data[output * N + n]! * filter.data[(tap * C + c) * N + n]!;
  });
  return { shape, data };
}

/** Returns the gradient of the filter from x [B, H, W, C] and the gradient of their convolution, [B, OH, OW, N]. */
export function filterGradient(x: Nd, dy: Nd, window: readonly [number, number], slide: Slide): Nd {
  const [C, N] = [x.shape[3]!, dy.shape[3]!];
  const shape = [...window, C, N];
  const data = new Float64Array(window[0] * window[1] * C * N);
  overWindows(x.shape, window, slide, (output, input, tap) => {
    for (let c = 0; c < C; c++)
      for (let n = 0; n < N; n++) data[(tap * C + c) * N + n]! += x.data[input * C + c]! * dy.data[output * N + n]!;
  });
  return { shape, data };
}

/** Returns the largest numbers of each window, without NaN; -Infinity where there are none. */
export function maxPool(x: Nd, window: readonly [number, number], slide: Slide): Nd {
  const C = x.shape[3]!;
  const [OH, OW] = overWindows(x.shape, window, slide, () => undefined);
  const data = new Float64Array(x.shape[0]! * OH * OW * C).fill(-Infinity);
  overWindows(x.shape, window, slide, (output, input) => {
    for (let c = 0; c < C; c++) {
      const value = x.data[input * C + c]!;
      if (value > data[output * C + c]!) data[output * C + c] = value;
    }
  });
  return { shape: [x.shape[0]!, OH, OW, C], data };
}

/** Returns the means of each window: of what lies within the image, or over the whole window. */
export function avgPool(x: Nd, window: readonly [number, number], slide: Slide, countPadding: boolean): Nd {
  const C = x.shape[3]!;
  const [OH, OW] = overWindows(x.shape, window, slide, () => undefined);
  const data = new Float64Array(x.shape[0]! * OH * OW * C);
  const counts = new Int32Array(x.shape[0]! * OH * OW);
  overWindows(x.shape, window, slide, (output, input) => {
    counts[output]!++;
    for (let c = 0; c < C; c++) data[output * C + c]! += x.data[input * C + c]!;
  });
  for (let i = 0; i < data.length; i++)
    data[i]! /= countPadding ? window[0] * window[1] : Math.max(1, counts[Math.floor(i / C)]!);
  return { shape: [x.shape[0]!, OH, OW, C], data };
}
