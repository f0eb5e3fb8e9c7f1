/** Arrays in float64 and the few operations that references need: slow, plain, and independent of heed. */
import { broadcastShapes, contiguousStrides, numel, sameShape, type Shape } from "../../lib/core/shape.js";
import type { Random } from "./random.js";

export interface Nd {
  shape: Shape;
  data: Float64Array;
}

export function nd(shape: Shape, data: ArrayLike<number>): Nd {
  if (data.length !== numel(shape)) throw new Error(`nd: expected ${numel(shape)} values, got ${data.length}`);
  return { shape, data: Float64Array.from(data) };
}

/** Returns an array whose element i is value(i), rounded to float32 so that both sides begin with the same numbers. */
export function generate(shape: Shape, value: (i: number) => number): Nd {
  return { shape, data: Float64Array.from({ length: numel(shape) }, (_, i) => Math.fround(value(i))) };
}

export function normal(random: Random, shape: Shape, { scale = 1, offset = 0 } = {}): Nd {
  return generate(shape, () => offset + scale * random.normal());
}

/** Returns normal numbers that are at least `distance` away from 0, for functions with a kink or a pole there. */
export function nonZero(random: Random, shape: Shape, { scale = 1, distance = 0.05 } = {}): Nd {
  return generate(shape, () => {
    const x = scale * random.normal();
    return x < 0 ? x - distance : x + distance;
  });
}

/** Returns log-normal numbers. */
export function positive(random: Random, shape: Shape, scale = 1): Nd {
  return generate(shape, () => Math.exp(scale * random.normal()));
}

/** Returns distinct values with gaps of 1/16 in a random order, for maxima. */
export function distinct(random: Random, shape: Shape): Nd {
  const n = numel(shape);
  const values = Array.from({ length: n }, (_, i) => (i - n / 2) / 16);
  for (let i = n - 1; i > 0; i--) {
    const j = random.integer(i + 1);
    [values[i], values[j]] = [values[j]!, values[i]!];
  }
  return nd(shape, values);
}

/** Returns integers from 0 to limit − 1. */
export function integers(random: Random, shape: Shape, limit: number): Nd {
  return generate(shape, () => random.integer(limit));
}

export function map(x: Nd, f: (value: number, i: number) => number): Nd {
  return { shape: x.shape, data: x.data.map((value, i) => f(value, i)) };
}

/** Returns f(a, b) with NumPy's broadcasting. */
export function zip(a: Nd, b: Nd, f: (a: number, b: number) => number): Nd {
  if (sameShape(a.shape, b.shape)) return { shape: a.shape, data: a.data.map((value, i) => f(value, b.data[i]!)) };
  const shape = broadcastShapes("zip", a.shape, b.shape);
  const [left, right] = [stretched(a.shape, shape), stretched(b.shape, shape)];
  const data = new Float64Array(left.length);
  for (let i = 0; i < data.length; i++) data[i] = f(a.data[left[i]!]!, b.data[right[i]!]!);
  return { shape, data };
}

/** Returns the places of the elements of a shape in memory, in row-major order, from the strides of its dimensions. */
function positions(shape: Shape, strides: readonly number[]): Int32Array {
  let all = Int32Array.of(0);
  for (const [d, size] of shape.entries()) {
    const before = all;
    all = new Int32Array(before.length * size);
    for (let i = 0, n = 0; i < before.length; i++)
      for (let j = 0; j < size; j++) all[n++] = before[i]! + j * strides[d]!;
  }
  return all;
}

/** Returns, for each element of `shape`, its position in the shape that was stretched to it. */
function stretched(from: Shape, shape: Shape): Int32Array {
  const own = contiguousStrides(from);
  const missing = shape.length - from.length;
  return positions(
    shape,
    shape.map((_, d) => (d < missing || from[d - missing] === 1 ? 0 : own[d - missing]!)),
  );
}

/** Applies f to each row of the last dimension. */
export function mapRows(x: Nd, f: (row: Float64Array, index: number) => Float64Array): Nd {
  const width = x.shape.at(-1)!;
  const data = new Float64Array(x.data.length);
  for (let r = 0; r * width < data.length; r++) data.set(f(x.data.subarray(r * width, (r + 1) * width), r), r * width);
  return { shape: x.shape, data };
}

export function transpose(x: Nd, order: readonly number[] = swapLast(x.shape.length)): Nd {
  const shape = order.map((axis) => x.shape[axis]!);
  const strides = contiguousStrides(x.shape);
  const from = positions(
    shape,
    order.map((axis) => strides[axis]!),
  );
  const data = new Float64Array(from.length);
  for (let i = 0; i < data.length; i++) data[i] = x.data[from[i]!]!;
  return { shape, data };
}

function swapLast(rank: number): number[] {
  return [...Array.from({ length: rank - 2 }, (_, i) => i), rank - 1, rank - 2];
}

export function reshape(x: Nd, shape: Shape): Nd {
  return nd(shape, x.data);
}

/** Returns the matrix product [..., M, K] · [..., K, N] with broadcast leading dimensions. */
export function matmul(a: Nd, b: Nd): Nd {
  const [M, K] = a.shape.slice(-2) as [number, number];
  const N = b.shape.at(-1)!;
  const batch = broadcastShapes("matmul", a.shape.slice(0, -2), b.shape.slice(0, -2));
  const left = stretched(a.shape.slice(0, -2), batch);
  const right = stretched(b.shape.slice(0, -2), batch);
  const data = new Float64Array(numel(batch) * M * N);
  for (let p = 0; p < numel(batch); p++) {
    const [i0, j0] = [left[p]! * M * K, right[p]! * K * N];
    for (let i = 0; i < M; i++)
      for (let k = 0; k < K; k++) {
        const x = a.data[i0 + i * K + k]!;
        for (let j = 0; j < N; j++) data[(p * M + i) * N + j]! += x * b.data[j0 + k * N + j]!;
      }
  }
  return { shape: [...batch, M, N], data };
}

export function add(a: Nd, b: Nd): Nd {
  return zip(a, b, (x, y) => x + y);
}

export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

export function maxAbs(values: ArrayLike<number>): number {
  return Array.prototype.reduce.call(values, (a, b) => Math.max(a as number, Math.abs(b as number)), 0) as number;
}
