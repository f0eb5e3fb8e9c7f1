// The operations of random graphs: each in heed and in float64, with arguments that are valid for it.
import { detach } from "../../lib/core/autograd.js";
import type { FloatDType } from "../../lib/core/dtype.js";
import { add, div, maximum, minimum, mul, type Operand, pow, sub } from "../../lib/ops/binary.js";
import { crossEntropy } from "../../lib/ops/cross-entropy.js";
import { embedding } from "../../lib/ops/embedding.js";
import { gated, packedGated } from "../../lib/ops/gated.js";
import { addLayerNorm, layerNorm } from "../../lib/ops/layer-norm.js";
import { linear } from "../../lib/ops/linear.js";
import { linearCrossEntropy } from "../../lib/ops/linear-cross-entropy.js";
import { matmul } from "../../lib/ops/matmul.js";
import { max, mean, sum } from "../../lib/ops/reduce.js";
import { addRmsNorm, rmsNorm } from "../../lib/ops/rms-norm.js";
import { softmax } from "../../lib/ops/softmax.js";
import * as unary from "../../lib/ops/unary.js";
import { cast, contiguous, narrow, reshape, transpose } from "../../lib/ops/views.js";
import { broadcastShapes, numel, sameShape, type Shape } from "../../lib/core/shape.js";
import { tensor } from "../../lib/core/creation.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { geluErf, geluTanh, logSoftmax, relu, sigmoid, silu } from "../support/functions.js";
import * as nd from "../support/nd.js";
import type { Nd } from "../support/nd.js";

/** A value of the graph at the point at which gradients are computed. */
export interface Value {
  nd: Nd;
  dtype: FloatDType;
}

/** An operation whose arguments have been chosen. */
export interface Choice {
  name: string;
  /** Indices of the arguments among the values. */
  args: number[];
  /** Dtypes of the results. */
  dtypes: FloatDType[];
  ours: (...args: FloatTensor[]) => FloatTensor[];
  reference: (...args: Nd[]) => Nd[];
  /** True if gradients stop there. */
  constant?: true;
}

/** Draws a number from 0 to n − 1. */
export type Draw = (n: number) => number;

/** Chooses arguments among the values, the first of which is at `first`; returns null if none are valid. */
export type Operation = (values: readonly Value[], first: number, draw: Draw) => Choice | null;

/** Most elements of a result; more would make a case slow. */
export const mostElements = 64;

/** Distance from kinks and ties, well above the steps of the differences. */
const apart = 0.02;

const same = (shape: Shape) => (value: Value) => sameShape(value.nd.shape, shape);

/** Returns the index of a value of `dtype` that is valid, if any. */
function find(values: readonly Value[], draw: Draw, dtypes: FloatDType[], suits: (value: Value) => boolean): number {
  const places = [...values.keys()].filter((i) => dtypes.includes(values[i]!.dtype) && suits(values[i]!));
  return places.length === 0 ? -1 : places[draw(places.length)]!;
}

function view(name: string, change: (x: Value, draw: Draw) => [(x: FloatTensor) => FloatTensor, (x: Nd) => Nd] | null) {
  return (values: readonly Value[], first: number, draw: Draw): Choice | null => {
    const x = values[first]!;
    const changed = change(x, draw);
    if (!changed) return null;
    const [ours, reference] = changed;
    return {
      name,
      args: [first],
      dtypes: [x.dtype],
      ours: (x) => [ours(x)],
      reference: (x) => [reference(x)],
    };
  };
}

function narrowed(x: Nd, axis: number, start: number, length: number): Nd {
  const inner = numel(x.shape.slice(axis + 1));
  const size = x.shape[axis]!;
  const data = x.data.filter((_, i) => {
    const at = Math.floor(i / inner) % size;
    return at >= start && at < start + length;
  });
  return nd.nd(x.shape.with(axis, length), data);
}

const views: Operation[] = [
  view("reshape", ({ nd: x }, draw) => {
    const n = x.data.length;
    const shapes = [[n], [n, 1], [1, n], ...[2, 3, 4].filter((k) => n % k === 0).map((k) => [k, n / k])];
    const shape = shapes[draw(shapes.length)]!;
    return [(x) => reshape(x, shape), (x) => nd.reshape(x, shape)];
  }),
  view("transpose", ({ nd: x }, draw) => {
    const rank = x.shape.length;
    if (rank < 2) return null;
    const order = [...Array(rank).keys()];
    const [a, b] = [draw(rank), draw(rank)];
    [order[a], order[b]] = [order[b]!, order[a]!];
    return [(x) => transpose(x, order), (x) => nd.transpose(x, order)];
  }),
  view("narrow", ({ nd: x }, draw) => {
    if (x.shape.length === 0) return null;
    const axis = draw(x.shape.length);
    const size = x.shape[axis]!;
    const start = draw(size);
    const length = 1 + draw(size - start);
    return [(x) => narrow(x, axis, start, length), (x) => narrowed(x, axis, start, length)];
  }),
  // A contiguous tensor would be its own result.
  view("contiguous", () => [(x) => (x.contiguous ? cast(x, x.dtype) : contiguous(x)), (x) => x]),
];

const casts: Operation = (_, first, draw) => {
  const dtype = (["f32", "f32", "bf16", "f16"] as const)[draw(4)]!;
  return { name: "cast", args: [first], dtypes: [dtype], ours: (x) => [cast(x, dtype)], reference: (x) => [x] };
};

type Unary = [name: string, ours: (x: FloatTensor) => FloatTensor, reference: (x: number) => number, from?: Domain];
type Domain = (x: number) => boolean;
const positive: Domain = (x) => x > 0.3;
const nonZero: Domain = (x) => Math.abs(x) > apart;

const unaries: Unary[] = [
  ["neg", unary.neg, (x) => -x],
  ["exp", unary.exp, Math.exp, (x) => x < 1],
  ["log", unary.log, Math.log, positive],
  ["sqrt", unary.sqrt, Math.sqrt, positive],
  ["rsqrt", unary.rsqrt, (x) => 1 / Math.sqrt(x), positive],
  ["square", unary.square, (x) => x * x],
  ["abs", unary.abs, Math.abs, nonZero],
  ["tanh", unary.tanh, Math.tanh],
  ["sigmoid", unary.sigmoid, sigmoid],
  ["eluPlusOne", unary.eluPlusOne, (x) => (x > 0 ? x + 1 : Math.exp(x)), nonZero],
  ["relu", unary.relu, relu, nonZero],
  ["silu", unary.silu, silu],
  ["sin", unary.sin, Math.sin],
  ["cos", unary.cos, Math.cos],
  ["reciprocal", unary.reciprocal, (x) => 1 / x, positive],
  ["gelu", (x) => unary.gelu(x), geluTanh],
  ["geluErf", (x) => unary.gelu(x, "erf"), geluErf],
];

const elementwise: Operation = (values, first, draw) => {
  const [name, ours, reference, domain = () => true] = unaries[draw(unaries.length)]!;
  const x = values[first]!;
  if (!x.nd.data.every(domain)) return null;
  return {
    name,
    args: [first],
    dtypes: [x.dtype],
    ours: (x) => [ours(x)],
    reference: (x) => [nd.map(x, reference)],
  };
};

type Binary = [
  name: string,
  ours: (a: Operand, b: Operand) => FloatTensor,
  reference: (a: number, b: number) => number,
  from?: (a: number, b: number) => boolean,
];
const different = (a: number, b: number): boolean => Math.abs(a - b) > apart;

const binaries: Binary[] = [
  ["add", add, (a, b) => a + b],
  ["sub", sub, (a, b) => a - b],
  ["mul", mul, (a, b) => a * b],
  ["div", div, (a, b) => a / b, (_, b) => Math.abs(b) > 0.3],
  ["maximum", maximum, Math.max, different],
  ["minimum", minimum, Math.min, different],
  ["pow", pow, (a, b) => a ** b, (a) => a > 0.3],
];
const numbers = [0.5, 1, 2, -1.5, 0.7];

/** The sum of two values of one shape passes its gradient to both. */
export const shared: Operation = (values, first, draw) => {
  const { nd: x, dtype } = values[first]!;
  return {
    name: "add",
    args: [first, find(values, draw, [dtype], same(x.shape))],
    dtypes: [dtype],
    ours: (a, b) => [add(a, b)],
    reference: (a, b) => [nd.add(a, b)],
  };
};

const broadcast: Operation = (values, first, draw) => {
  const [name, ours, reference, domain = () => true] = binaries[draw(binaries.length)]!;
  const x = values[first]!;
  const fits = ({ nd: { shape } }: Value): boolean => {
    try {
      return numel(broadcastShapes(name, shape, x.nd.shape)) <= mostElements;
    } catch {
      return false;
    }
  };
  const second = find(values, draw, [x.dtype], fits);
  const suits = (a: Nd, b: Nd): boolean => nd.zip(a, b, (a, b) => Number(domain(a, b))).data.every(Boolean);
  const number = draw(3) === 0 || second < 0 ? numbers[draw(numbers.length)]! : null;
  if (number === null) {
    if (!suits(x.nd, values[second]!.nd)) return null;
    return {
      name,
      args: [first, second],
      dtypes: [x.dtype],
      ours: (a, b) => [ours(a, b)],
      reference: (a, b) => [nd.zip(a, b, reference)],
    };
  }
  const scalar = nd.nd([], [number]);
  const left = draw(2) === 0;
  if (!(left ? suits(scalar, x.nd) : suits(x.nd, scalar))) return null;
  return {
    name: `${name} of a number`,
    args: [first],
    dtypes: [x.dtype],
    ours: (x) => [left ? ours(number, x) : ours(x, number)],
    reference: (x) => [left ? nd.zip(scalar, x, reference) : nd.zip(x, scalar, reference)],
  };
};

const products: Operation = (values, first, draw) => {
  const { nd: x, dtype } = values[first]!;
  if (x.shape.length < 2) return null;
  const columns = x.shape.at(-1)!;
  const batched = (shape: Shape): boolean => {
    const fits = ({ length }: Shape): boolean => length <= 2;
    return fits(shape) || fits(x.shape) || sameShape(shape.slice(0, -2), x.shape.slice(0, -2));
  };
  const second = find(
    values,
    draw,
    [dtype],
    ({ nd: { shape } }) => shape.length >= 2 && shape.at(-2) === columns && batched(shape),
  );
  if (second < 0) return null;
  return {
    name: "matmul",
    args: [first, second],
    dtypes: [dtype],
    ours: (a, b) => [matmul(a, b)],
    reference: (a, b) => [nd.matmul(a, b)],
  };
};

/** Computes x · wᵀ + b with w [out, in]. */
const projected = (x: Nd, w: Nd, b: Nd | null): Nd => {
  const rows = nd.reshape(x, [x.data.length / w.shape[1]!, w.shape[1]!]);
  const product = nd.reshape(nd.matmul(rows, nd.transpose(w)), [...x.shape.slice(0, -1), w.shape[0]!]);
  return b ? nd.add(product, b) : product;
};

const linears: Operation = (values, first, draw) => {
  const { nd: x, dtype } = values[first]!;
  if (x.shape.length === 0) return null;
  const parameters: FloatDType[] = [dtype, "f32"];
  const weight = find(
    values,
    draw,
    parameters,
    ({ nd: { shape } }) => shape.length === 2 && shape[1] === x.shape.at(-1),
  );
  if (weight < 0) return null;
  const outputs = values[weight]!.nd.shape[0]!;
  const bias = find(values, draw, parameters, same([outputs]));
  const residual = find(values, draw, [dtype], same([...x.shape.slice(0, -1), outputs]));
  const args = [first, weight, ...(bias < 0 ? [] : [bias]), ...(residual < 0 ? [] : [residual])];
  const optional = <T>(rest: T[]): [T | null, T | null] => [
    bias < 0 ? null : rest[0]!,
    residual < 0 ? null : rest[bias < 0 ? 0 : 1]!,
  ];
  const activation = draw(2) === 0 ? "none" : "silu";
  return {
    name: "linear",
    args,
    dtypes: [dtype],
    ours: (x, w, ...rest) => {
      const [bias, residual] = optional(rest);
      return [linear(x, w, { bias, residual, activation })];
    },
    reference: (x, w, ...rest) => {
      const [bias, residual] = optional(rest);
      const y = projected(x, w, bias);
      const out = activation === "silu" ? nd.map(y, silu) : y;
      return [residual ? nd.add(out, residual) : out];
    },
  };
};

const softmaxes: Operation = (values, first) => {
  const { nd: x, dtype } = values[first]!;
  if (x.shape.length === 0) return null;
  return {
    name: "softmax",
    args: [first],
    dtypes: [dtype],
    ours: (x) => [softmax(x)],
    reference: (x) => [nd.mapRows(x, (row) => Float64Array.from(logSoftmax(row), Math.exp))],
  };
};

/** Large enough for a row of equal elements not to magnify roundings. */
const eps = 0.1;

function normalised(x: Nd, rms: boolean, weight: Nd | null): Nd {
  const rows = nd.mapRows(x, (row) => {
    const mean = rms ? 0 : row.reduce((a, b) => a + b, 0) / row.length;
    const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / row.length;
    return row.map((value) => (value - mean) / Math.sqrt(variance + eps));
  });
  return weight ? nd.zip(rows, weight, (a, b) => a * b) : rows;
}

const norms: Operation = (values, first, draw) => {
  const { nd: x, dtype } = values[first]!;
  if (x.shape.length === 0) return null;
  const rms = draw(2) === 0;
  const found = find(values, draw, [dtype, "f32"], same([x.shape.at(-1)!]));
  const weights = found < 0 || draw(3) === 0 ? [] : [found];
  const residual = find(values, draw, [dtype], same(x.shape));
  if (draw(2) === 0)
    return {
      name: rms ? "rmsNorm" : "layerNorm",
      args: [first, ...weights],
      dtypes: [dtype],
      ours: (x, weight = null!) => [(rms ? rmsNorm : layerNorm)(x, { weight, eps })],
      reference: (x, weight) => [normalised(x, rms, weight ?? null)],
    };
  return {
    name: rms ? "addRmsNorm" : "addLayerNorm",
    args: [first, residual, ...weights],
    dtypes: [dtype, dtype],
    ours: (x, residual, weight = null!) => {
      const { sum, out } = (rms ? addRmsNorm : addLayerNorm)(x, residual, { weight, eps });
      return [sum, out];
    },
    reference: (x, residual, weight) => {
      const sum = nd.add(x, residual);
      return [sum, normalised(sum, rms, weight ?? null)];
    },
  };
};

const reductions: Operation = (values, first, draw) => {
  const { nd: x, dtype } = values[first]!;
  const axes = [...x.shape.keys()].filter(() => draw(2) === 0);
  const keepDims = draw(2) === 0;
  const name = (["sum", "mean", "max"] as const)[draw(3)]!;
  const kept = x.shape.map((size, i) => (axes.includes(i) ? 1 : size));
  const shape = keepDims ? kept : x.shape.filter((_, i) => !axes.includes(i));
  const rows = (x: Nd): number[][] => {
    // First the axes that stay, then those that are reduced.
    const order = [...[...x.shape.keys()].filter((i) => !axes.includes(i)), ...axes];
    const sorted = nd.transpose(x, order).data;
    const width = sorted.length / numel(shape);
    return Array.from({ length: numel(shape) }, (_, i) => [...sorted.slice(i * width, (i + 1) * width)]);
  };
  const total = (row: number[]): number => row.reduce((a, b) => a + b, 0);
  const of = { sum: total, mean: (row: number[]) => total(row) / row.length, max: (row: number[]) => Math.max(...row) };
  if (name === "max")
    for (const row of rows(x)) {
      const [largest, next] = row.toSorted((a, b) => b - a);
      if (next !== undefined && largest! - next < apart) return null;
    }
  return {
    name,
    args: [first],
    dtypes: [dtype],
    ours: (x) => [{ sum, mean, max }[name](x, { axes, keepDims })],
    reference: (x) => [nd.nd(shape, rows(x).map(of[name]))],
  };
};

const gates: Operation = (values, first, draw) => {
  const { nd: x, dtype } = values[first]!;
  if (draw(2) === 0) {
    const up = find(values, draw, [dtype], same(x.shape));
    return {
      name: "gated",
      args: [first, up],
      dtypes: [dtype],
      ours: (gate, up) => [gated(gate, up)],
      reference: (gate, up) => [nd.zip(gate, up, (a, b) => silu(a) * b)],
    };
  }
  const width = (x.shape.at(-1) ?? 1) / 2;
  if (width % 1 !== 0) return null;
  return {
    name: "packedGated",
    args: [first],
    dtypes: [dtype],
    ours: (x) => [packedGated(x)],
    reference: (x) => {
      const half = (i: number): Nd => narrowed(x, x.shape.length - 1, i * width, width);
      return [nd.zip(half(0), half(1), (a, b) => silu(a) * b)];
    },
  };
};

function withInts(values: number[], shape: Shape, of: (ints: IntTensor) => FloatTensor): FloatTensor[] {
  using ints = tensor(Int32Array.from(values), shape);
  return [of(ints)];
}

const embeddings: Operation = (values, first, draw) => {
  const { nd: x, dtype } = values[first]!;
  const [rows, width] = x.shape as [number, number];
  if (x.shape.length !== 2) return null;
  const ids = Array.from({ length: 3 }, () => draw(rows));
  return {
    name: "embedding",
    args: [first],
    dtypes: [dtype],
    ours: (table) => withInts(ids, [3], (ids) => embedding(ids, table)),
    reference: (table) => [
      nd.nd(
        [3, width],
        ids.flatMap((id) => [...table.data.slice(id * width, (id + 1) * width)]),
      ),
    ],
  };
};

/** Returns the mean of the rows' losses. */
function lossOf(logits: Nd, targets: readonly number[]): Nd {
  const width = logits.shape.at(-1)!;
  const losses = targets.map((target, i) => -logSoftmax(logits.data.slice(i * width, (i + 1) * width))[target]!);
  return nd.nd([], [losses.reduce((a, b) => a + b, 0) / losses.length]);
}

const losses: Operation = (values, first, draw) => {
  const { nd: x, dtype } = values[first]!;
  if (x.shape.length === 0) return null;
  const leading = x.shape.slice(0, -1);
  const targetsOf = (width: number): number[] => Array.from({ length: numel(leading) }, () => draw(width));
  const weight =
    draw(2) === 0
      ? -1
      : find(values, draw, [dtype, "f32"], ({ nd: { shape } }) => shape.length === 2 && shape[1] === x.shape.at(-1));
  if (weight < 0) {
    const targets = targetsOf(x.shape.at(-1)!);
    return {
      name: "crossEntropy",
      args: [first],
      dtypes: ["f32"],
      ours: (x) => withInts(targets, leading, (targets) => crossEntropy(x, targets)),
      reference: (x) => [lossOf(x, targets)],
    };
  }
  const targets = targetsOf(values[weight]!.nd.shape[0]!);
  const chunkRows = 1 + draw(3);
  return {
    name: "linearCrossEntropy",
    args: [first, weight],
    dtypes: ["f32"],
    ours: (x, w) => withInts(targets, leading, (targets) => linearCrossEntropy(x, w, targets, { chunkRows })),
    reference: (x, w) => [lossOf(projected(x, w, null), targets)],
  };
};

export const stop: Operation = (values, first) => ({
  name: "detach",
  args: [first],
  dtypes: [values[first]!.dtype],
  ours: (x) => [detach(x)],
  reference: (x) => [x],
  constant: true,
});

/** An operation is chosen as often as it is listed. */
export const operations: readonly Operation[] = [
  ...[...views, views[0]!, views[0]!],
  casts,
  ...[shared, shared, shared, elementwise, elementwise, broadcast, broadcast],
  ...[products, linears, softmaxes, norms, norms, reductions, gates, embeddings, losses, stop],
];
