import { test } from "vitest";
import { pool, type Pooling } from "../../lib/nn/pooling.js";
import { zeros } from "../../lib/core/creation.js";
import { expectError } from "../support/errors.js";
import { type Nd, normal } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { onEachDevice } from "../support/targets.js";

const random = new Random(43);

interface Options {
  pooling: Pooling;
  lengths: number[];
}

/** Computes the definition, one sequence and one dimension after the other. */
function reference({ states }: { states: Nd }, _: unknown, { pooling, lengths }: Options): Nd {
  const [batch, tokens, width] = states.shape as [number, number, number];
  const data = Float64Array.from({ length: batch * width }, (_, i) => {
    const [b, c] = [Math.floor(i / width), i % width];
    const values = Array.from({ length: lengths[b]! }, (_, t) => states.data[(b * tokens + t) * width + c]!);
    if (pooling === "cls") return values[0]!;
    if (pooling === "last") return values.at(-1)!;
    return pooling === "max" ? Math.max(...values) : values.reduce((a, x) => a + x, 0) / values.length;
  });
  return { shape: [batch, width], data };
}

opTest<"states", never, Options>({
  name: "pool",
  cases: (["cls", "last", "mean", "max"] as const).flatMap((pooling) =>
    [
      { shape: [3, 5, 7], lengths: [5, 1, 3] },
      { shape: [1, 1, 33], lengths: [1] },
      { shape: [2, 31, 17], lengths: [31, 31] },
    ].map(({ shape, lengths }) => ({
      name: `${pooling} of ${shape.join(" × ")}`,
      inputs: { states: normal(random, shape) },
      options: { pooling, lengths },
    })),
  ),
  ours: ({ states }, _, { pooling, lengths }) => pool(states, lengths, pooling),
  reference,
  // A mean is a quotient of a sum of up to 31 terms that cancel.
  tolerance: { out: { relative: 2, absolute: 16 }, grad: { relative: 4, absolute: 0 } },
  outDType: "f32",
  single: false,
});

onEachDevice((device) => {
  test("refuses invalid input", () => {
    using states = zeros([2, 3, 4], { device });
    expectError(() => pool(states, [3, 3], "first" as "cls"), "ERR_ARGUMENT", /cls, last, mean or max, got "first"/);
    expectError(() => pool(states, [3], "mean"), "ERR_SHAPE", /2 sequences, got 1/);
    expectError(() => pool(states, [3, 0], "max"), "ERR_RANGE", /lengths\[1\]/);
    expectError(() => pool(states, [3, 4], "mean"), "ERR_RANGE");
    expectError(() => pool(states, null!, "mean"), "ERR_ARGUMENT");
    using flat = zeros([2, 3], { device });
    expectError(() => pool(flat, [3, 3], "mean"), "ERR_SHAPE");
  });
});
