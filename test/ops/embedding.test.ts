import { expect, test } from "vitest";
import { parameter } from "../../lib/core/autograd.js";
import { mul } from "../../lib/ops/binary.js";
import { embedding } from "../../lib/ops/embedding.js";
import { sum } from "../../lib/ops/reduce.js";
import { scope } from "../../lib/core/scope.js";
import { ones, tensor } from "../../lib/core/creation.js";
import { formatShape } from "../../lib/core/shape.js";
import { fixtureTest } from "../support/fixtures.js";
import { roundTo } from "../support/dtypes.js";
import { expectError } from "../support/errors.js";
import { generate, integers, type Nd, normal } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { devicesTested, targets } from "../support/targets.js";

const random = new Random(8);

function reference(ids: Nd, weight: Nd): Nd {
  const width = weight.shape[1]!;
  const data = Float64Array.from({ length: ids.data.length * width }, (_, i) => {
    const id = ids.data[Math.floor(i / width)]!;
    return weight.data[id * width + (i % width)]!;
  });
  return { shape: [...ids.shape, width], data };
}

const cases: [number[], number, number][] = [
  [[1], 1, 1],
  [[], 5, 3],
  [[3], 2, 17],
  [[2, 9], 5, 33],
  [[17], 257, 31],
  [[3, 2, 5], 7, 65],
  [[100], 3, 257],
  [[4], 3, 4097],
  [[300], 1, 5],
  [[0], 4, 5],
  [[5], 4, 0],
];

opTest({
  name: "embedding",
  cases: cases.map(([shape, count, width]) => ({
    name: `${formatShape(shape)} of [${count}, ${width}]`,
    inputs: { weight: normal(random, [count, width]) },
    ints: { ids: integers(random, shape, count) },
  })),
  ours: ({ weight }, { ids }) => embedding(ids, weight),
  reference: ({ weight }, { ids }) => reference(ids, weight),
  // The output is a copy; the gradient adds up to a hundred rows.
  tolerance: { out: { relative: 0, absolute: 0 }, grad: { relative: 8, absolute: 8 } },
  roundings: { out: { relative: 0, absolute: 0 } },
});

fixtureTest("embedding", ({ weight }, { ids }) => embedding(ids!, weight!));

test.for(targets)("an id out of range rejects the next read on $name", async ({ select, device }) => {
  select();
  using weight = ones([5, 4], { device });
  for (const id of [5, -1, 2 ** 31 - 1, -(2 ** 31)]) {
    using ids = tensor(Int32Array.of(0, id), [2], { device });
    using out = embedding(ids, weight);
    await expect(out.data()).rejects.toMatchObject({
      code: "ERR_RANGE",
      message: expect.stringMatching(/embedding.*expected .* got /),
    });
    // The device still works.
    expect([...(await weight.data())]).toEqual(Array(20).fill(1));
  }
});

test.for(devicesTested)("an f32 table read and trained in a 16-bit type on $name", async ({ select, device }) => {
  select();
  const table = normal(random, [5, 33]);
  const ids = Int32Array.of(3, 0, 3, 4);
  for (const dtype of ["bf16", "f16"] as const) {
    const upstream = generate([4, 33], () => random.integer(64) / 32 - 1);
    using weight = parameter(tensor(table.data, table.shape, { device }));
    using index = tensor(ids, [4], { device });
    using out = embedding(index, weight, { dtype });
    expect(out.dtype).toBe(dtype);
    expect([...(await out.data())]).toEqual(
      [...ids].flatMap((id) => [...table.data.subarray(id * 33, (id + 1) * 33)].map((x) => roundTo(dtype, x))),
    );
    scope(() => sum(mul(out, tensor(upstream.data, upstream.shape, { device, dtype }))).backward());
    expect(weight.grad!.dtype).toBe("f32");
    const expected = new Float32Array(5 * 33);
    ids.forEach((id, row) => {
      for (let c = 0; c < 33; c++) expected[id * 33 + c]! += upstream.data[row * 33 + c]!;
    });
    expect(await weight.grad!.data()).toEqual(expected);
  }
});

test("a dtype that the table's numbers cannot be rounded to throws ERR_DTYPE", () => {
  using weight = ones([5, 4], { dtype: "bf16" });
  using ids = tensor(Int32Array.of(0), [1]);
  for (const dtype of ["f16", "f32", "i32"] as never[])
    expectError(() => embedding(ids, weight, { dtype }), "ERR_DTYPE", /expected dtype bf16 for parameters of bf16/);
});
