/** Kernels of TensorFlow.js with odd axes, sizes and paddings: heed gives what tfjs-backend-cpu gives. */
import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-layers"; // it registers the gradients
import fc from "fast-check";
import { beforeAll, describe, expect } from "vitest";
import { register } from "../../lib/plugins/tfjs/index.js";
import { devicesTested } from "../support/targets.js";
import { fuzz } from "./fuzz.js";

const operations = [
  ...([
    "stack",
    "concat",
    "unstack",
    "gather",
    "expandDims",
    "squeeze",
    "slice",
    "reverse",
    "pad",
    "mirrorPad",
  ] as const),
  ...(["stridedSlice", "split", "transpose", "tile", "spaceToBatch", "batchToSpace", "sum", "argMax"] as const),
  ...(["cumsum", "softmax", "oneHot", "topk"] as const),
] as const;

/** Draws a call of an operation, and returns a function that makes it. */
function drawn(g: fc.GeneratorValue, op: (typeof operations)[number]): () => tf.Tensor | tf.Tensor[] {
  const int = (min: number, max: number): number => g(fc.integer, { min, max });
  const one = <T>(...options: T[]): T => options[int(0, options.length - 1)]!;
  const shape = Array.from({ length: int(1, 4) }, () => int(op === "topk" ? 1 : 0, 4));
  const dtype = one<"float32" | "int32" | "bool">("float32", "float32", "int32", "bool");
  const rank = shape.length;
  const axis = int(-rank - 1, rank);
  const make = (of: number[] = shape, first = 1): tf.Tensor => {
    const size = of.reduce((product, n) => product * n, 1);
    const value = (i: number): number => (dtype === "bool" ? (first + i) % 2 : first + i);
    return tf.tensor(
      Array.from({ length: size }, (_, i) => value(i)),
      of,
      dtype,
    );
  };
  const each = <T>(of: (size: number) => T): T[] => shape.map((size) => of(size));
  switch (op) {
    case "stack": {
      const count = int(1, 3);
      return () =>
        tf.stack(
          Array.from({ length: count }, (_, i) => make(shape, 10 * i)),
          axis,
        );
    }
    case "concat": {
      const sizes = Array.from({ length: int(1, 3) }, () => int(0, 3));
      const at = axis < 0 ? axis + rank : axis;
      return () =>
        tf.concat(
          sizes.map((size, i) =>
            make(
              shape.map((n, d) => (d === at ? size : n)),
              10 * i,
            ),
          ),
          axis,
        );
    }
    case "unstack":
      return () => tf.unstack(make(), axis);
    case "gather": {
      const size = shape.at(axis) ?? 1;
      const indices = Array.from({ length: int(1, 4) }, () => int(0, Math.max(0, size - 1)));
      return () => tf.gather(make(), tf.tensor1d(indices, "int32"), axis);
    }
    case "expandDims":
      return () => tf.expandDims(make(), axis);
    case "squeeze":
      return () => tf.squeeze(make(), [axis]);
    case "slice": {
      const begin = each((size) => int(0, size));
      const sizes = shape.map((size, d) => one(-1, 0, Math.max(0, size - begin[d]!), 1));
      return () => tf.slice(make(), begin, sizes);
    }
    case "reverse":
      return () => tf.reverse(make(), axis);
    case "pad": {
      const paddings = each((): [number, number] => [int(-2, 2), int(-2, 2)]);
      const value = one(0, 1, 7);
      return () => tf.pad(make(), paddings, dtype === "bool" ? 1 : value);
    }
    case "mirrorPad": {
      const paddings = each((size): [number, number] => [int(-1, size), int(0, size)]);
      const mode = one<"reflect" | "symmetric">("reflect", "symmetric");
      return () => tf.mirrorPad(make(), paddings, mode);
    }
    case "stridedSlice": {
      const [begin, end] = [each((size) => int(-size - 1, size + 1)), each((size) => int(-size - 1, size + 1))];
      const strides = each(() => one(1, 1, 2, 3, -1, -2));
      const masks = Array.from({ length: 5 }, () => one(0, 0, 0, 1, 2)) as [number, number, number, number, number];
      // With steps, the other backend forgets the dimensions that are left out, and reads other elements.
      if (strides.some((step) => step !== 1)) masks[4] = 0;
      return () => tf.stridedSlice(make(), begin, end, strides, ...masks);
    }
    case "split": {
      const parts = one<number | number[]>(1, 2, [1, -1], [0, -1], [2, 1]);
      return () => tf.split(make(), parts, axis);
    }
    case "transpose": {
      const order = g(
        fc.shuffledSubarray<number>,
        shape.map((_, i) => i),
        { minLength: rank, maxLength: rank },
      );
      return () => tf.transpose(make(), order);
    }
    case "tile": {
      const times = each(() => int(0, 3));
      return () => tf.tile(make(), times);
    }
    case "spaceToBatch":
    case "batchToSpace": {
      const [block, crop] = [[int(1, 2), int(1, 2)], [0, 1].map(() => [int(0, 1), int(0, 2)])];
      const whole = [int(1, 2) * (op === "batchToSpace" ? block[0]! * block[1]! : 1), int(2, 4), int(2, 4), int(1, 2)];
      return op === "spaceToBatch"
        ? () => tf.spaceToBatchND(make(whole), block, crop)
        : () => tf.batchToSpaceND(make(whole), block, crop);
    }
    case "sum": {
      const keep = one(true, false);
      return () => tf.sum(make(), axis, keep);
    }
    case "argMax":
      return () => tf.argMax(make(), axis);
    case "cumsum":
      // The other backend does not look at the axis of an empty tensor.
      return () => tf.cumsum(make(), Math.max(-rank, Math.min(axis, rank - 1)));
    case "softmax":
      return () => tf.softmax(make(), axis);
    case "oneHot": {
      const depth = int(1, 4);
      return () => tf.oneHot(tf.cast(make(), "int32"), depth, 5, -1);
    }
    case "topk": {
      const count = int(1, 3);
      return () => Object.values(tf.topk(make(), count));
    }
  }
}

interface Outcome {
  readonly shape: readonly number[];
  readonly dtype: string;
  readonly values: readonly number[];
}

/** Resolves to the results of a call, or to null if it throws. */
async function outcome(backend: string, call: () => tf.Tensor | tf.Tensor[]): Promise<Outcome[] | null> {
  await tf.setBackend(backend);
  let tensors: tf.Tensor[];
  try {
    tensors = tf.tidy(() => [call()].flat());
  } catch {
    return null;
  }
  const read = async (one: tf.Tensor): Promise<Outcome> => {
    const values = Array.from((await one.data()) as Float32Array, (value) => Math.round(value * 1e4) / 1e4);
    return { shape: one.shape, dtype: one.dtype, values };
  };
  const results = await Promise.all(tensors.map(read));
  tf.dispose(tensors);
  return results;
}

describe.each(devicesTested)("on $name", ({ device }) => {
  beforeAll(async () => {
    register(tf, { device });
    await tf.setBackend("heed");
  });

  const cases = device === "cpu" ? { ci: 400, nightly: 20_000 } : { ci: 40, nightly: 500 };
  fuzz("odd arguments have the results that they have on TensorFlow.js' own backend", fc.gen(), cases, async (g) => {
    const op = operations[g(fc.nat, { max: operations.length - 1 })]!;
    const call = drawn(g, op);
    const [expected, given] = [await outcome("cpu", call), await outcome("heed", call)];
    // What the other backend refuses, or gives a size that it does not have, has no expected result.
    if (expected === null || expected.some(({ shape, values }) => shape.reduce((a, b) => a * b, 1) !== values.length))
      return;
    expect(given, op).toEqual(expected);
  });
});
