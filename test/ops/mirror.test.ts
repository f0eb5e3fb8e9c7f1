import { expect, test } from "vitest";
import { tensor, zeros } from "../../lib/core/creation.js";
import { mirrorPad, reverse } from "../../lib/ops/mirror.js";
import { contiguousStrides, numel } from "../../lib/core/shape.js";
import { type Nd, normal } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";

const random = new Random(34);

/** Returns the elements of x at the positions that `from` gives for each of the result's. */
function picked(x: Nd, shape: readonly number[], from: (at: number, axis: number) => number): Nd {
  const [strides, to] = [contiguousStrides(x.shape), contiguousStrides(shape)];
  const data = Float64Array.from({ length: numel(shape) }, (_, i) => {
    let place = 0;
    for (const [axis, stride] of to.entries())
      place += from(Math.floor(i / stride) % shape[axis]!, axis) * strides[axis]!;
    return x.data[place]!;
  });
  return { shape, data };
}

const exact = { out: { relative: 0, absolute: 0 }, grad: { relative: 2, absolute: 2 } };

opTest({
  name: "reverse",
  cases: [
    { name: "all", inputs: { x: normal(random, [2, 3]) }, options: null },
    { name: "the middle", inputs: { x: normal(random, [2, 3, 17]) }, options: [-2] },
    { name: "none", inputs: { x: normal(random, [3]) }, options: [] },
  ],
  ours: ({ x }, _, axes) => reverse(x, axes),
  reference: ({ x }, _, axes: number[] | null) => {
    const turned = axes?.map((axis) => (axis + x.shape.length) % x.shape.length) ?? [...x.shape.keys()];
    return picked(x, x.shape, (at, axis) => (turned.includes(axis) ? x.shape[axis]! - 1 - at : at));
  },
  tolerance: exact,
  single: false,
});

type Mirror = [padding: [number, number][], mode: "reflect" | "symmetric"];

opTest({
  name: "mirrorPad",
  cases: (
    [
      [[[2, 1]], "reflect"],
      [[[0, 2], [3, 1]], "symmetric"], // prettier-ignore
    ] as Mirror[]
  ).map((options) => ({
    name: options[1],
    inputs: { x: normal(random, options[0].map(([before]) => Math.max(before, 2) + 1)) }, // prettier-ignore
    options,
  })),
  ours: ({ x }, _, [padding, mode]) => mirrorPad(x, padding, mode),
  reference: ({ x }, _, [padding, mode]) => {
    const shape = x.shape.map((size, axis) => size + padding[axis]![0] + padding[axis]![1]);
    return picked(x, shape, (at, axis) => {
      const [size, place] = [x.shape[axis]!, at - padding[axis]![0]];
      const skipped = mode === "reflect" ? 0 : 1;
      return place < 0 ? -place - skipped : place < size ? place : 2 * (size - 1) - place + skipped;
    });
  },
  tolerance: exact,
  // A number that stands several times gets several gradients.
  roundings: { grad: { relative: 2, absolute: 2 } },
  single: false,
});

test("wrong arguments are named", () => {
  const x = tensor([1, 2, 3]);
  const code = (code: string): Error => expect.objectContaining({ code }) as Error;
  expect(() => reverse(x, [1])).toThrow(code("ERR_RANGE"));
  expect(() => mirrorPad(x, [[3, 0]], "reflect")).toThrow(code("ERR_RANGE"));
  expect(() => mirrorPad(x, [], "reflect")).toThrow(code("ERR_SHAPE"));
  expect(() => mirrorPad(x, [1 as never], "reflect")).toThrow(code("ERR_SHAPE"));
  expect(() => mirrorPad(x, [[1, 0]], "wrap" as never)).toThrow(code("ERR_ARGUMENT"));
  expect(() => mirrorPad(zeros([0]), [[1, 0]], "symmetric")).toThrow(code("ERR_RANGE"));
});
