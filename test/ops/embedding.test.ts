import { expect, test } from "vitest";
import { embedding } from "../../lib/ops/embedding.js";
import { ones, tensor } from "../../lib/tensor.js";
import { formatShape } from "../../lib/shape.js";
import { fixtureTest } from "../support/fixtures.js";
import { integers, type Nd, normal } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { targets } from "../support/targets.js";

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
  // A copy; the gradient adds up to a hundred rows.
  tolerance: { out: { relative: 0, absolute: 0 }, grad: { relative: 8, absolute: 8 } },
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
    // The device goes on.
    expect([...(await weight.data())]).toEqual(Array(20).fill(1));
  }
});
