import { expect, test } from "vitest";
import { device as deviceOf } from "../../lib/core/device.js";
import { Initializer } from "../../lib/nn/init.js";
import { RelativePositionBias, relativePositionBucket } from "../../lib/nn/relative-position-bias.js";
import { scope } from "../../lib/core/scope.js";
import { expectError } from "../support/errors.js";
import { onEachDevice } from "../support/targets.js";

test("buckets of distances are those of the paper, by hand", () => {
  // 32 buckets up to 128: each side has 8 exact distances, then 8 + ⌊ln(d/8) / ln 16 · 8⌋, which is one more bucket for
  // every factor of √2.
  const both = { buckets: 32, furthest: 128, bothSides: true };
  const kinds = (distances: number[], options: typeof both) =>
    distances.map((distance) => relativePositionBucket(distance, options));
  expect(
    kinds([0, -1, -7, -8, -11, -12, -15, -16, -22, -23, -31, -32, -63, -64, -90, -91, -127, -128, -5000], both),
  ).toEqual([0, 1, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 13, 14, 14, 15, 15, 15, 15]);
  expect(kinds([1, 7, 8, 12, 128, 5000], both)).toEqual([17, 23, 24, 25, 31, 31]);
  // Only one side: 16 exact distances, then 16 + ⌊ln(d/16) / ln 8 · 16⌋.
  const before = { ...both, bothSides: false };
  expect(kinds([5, 0, -1, -15, -16, -18, -19, -127, -128, -5000], before)).toEqual([
    0, 0, 1, 15, 16, 16, 17, 31, 31, 31,
  ]);
});

onEachDevice((device) => {
  const of = (bothSides: boolean) =>
    new RelativePositionBias({ heads: 2, buckets: 8, furthest: 6, bothSides }, new Initializer(1, deviceOf(device)));

  test("each query has the table's row of its distance to each key", async () => {
    using bias = of(true);
    const table = await bias.weight.data();
    using out = scope(() => bias.forward([0], 3, 5, "f32"));
    expect(out.shape).toEqual([1, 2, 3, 5]);
    const expected = [0, 1].flatMap((head) =>
      [0, 1, 2].flatMap((query) =>
        [0, 1, 2, 3, 4].map((key) => {
          const kind = relativePositionBucket(key - query, { buckets: 8, furthest: 6, bothSides: true });
          return table[kind * 2 + head]!;
        }),
      ),
    );
    expect([...(await out.data())]).toEqual(expected);
  });

  test("after other tokens, a decoder's query sees up to itself", async () => {
    using bias = of(false);
    const table = await bias.weight.data();
    using out = scope(() => bias.forward([2, 0], 1, 4, "f32"));
    const kinds = [2, 1, 0, null, 0, null, null, null];
    const expected = [0, 1].flatMap((b) =>
      [0, 1].flatMap((head) =>
        kinds.slice(4 * b, 4 * b + 4).map((kind) => (kind === null ? -Infinity : table[kind * 2 + head]!)),
      ),
    );
    expect([...(await out.data())]).toEqual(expected);
  });

  test("refuses buckets that no distance can have", () => {
    const make = (change: object) => () =>
      new RelativePositionBias(
        { heads: 2, buckets: 8, furthest: 6, bothSides: true, ...change },
        new Initializer(1, deviceOf(device)),
      );
    expectError(make({ buckets: 2 }), "ERR_RANGE", /buckets/);
    expectError(make({ buckets: 7 }), "ERR_RANGE", /buckets/);
    expectError(make({ furthest: 2 }), "ERR_RANGE", /furthest/);
    expectError(make({ heads: 0 }), "ERR_RANGE", /heads/);
    using fine = make({})();
    expectError(() => fine.forward([0], 1, 1, "f64" as "f32"), "ERR_DTYPE");
  });
});
