import { expect, test } from "vitest";
import { argmax, topk } from "../../lib/ops/choose.js";
import { transpose } from "../../lib/ops/views.js";
import { full, tensor } from "../../lib/core/creation.js";
import { normal } from "../support/nd.js";
import { Random } from "../support/random.js";
import { targets } from "../support/targets.js";

const random = new Random(13);
const widths = [1, 2, 3, 17, 31, 33, 63, 65, 257, 1000];

/** Returns positions in descending order; the lowest index wins a tie. */
const order = (row: ArrayLike<number>): number[] =>
  [...Array(row.length).keys()].toSorted((a, b) => row[b]! - row[a]! || a - b);

test.for(targets)("argmax and topk on $name", async ({ select, device }) => {
  select();
  for (const width of widths) {
    // The values are rounded, so that there are ties.
    const data = normal(random, [5, width]).data.map((value) => Math.round(value * 4) / 4);
    const rows = Array.from({ length: 5 }, (_, r) => data.subarray(r * width, (r + 1) * width));
    using x = tensor(data, [5, width], { device });
    using best = argmax(x);
    expect(best.shape).toEqual([5]);
    expect([...(await best.data())]).toEqual(rows.map((row) => order(row)[0]));
    for (const k of [1, 2, 7, width].filter((k) => k <= width)) {
      const { values, ids } = topk(x, k);
      expect(ids.shape).toEqual([5, k]);
      expect(await ids.toArray()).toEqual(rows.map((row) => order(row).slice(0, k)));
      expect(await values.toArray()).toEqual(
        rows.map((row) =>
          order(row)
            .slice(0, k)
            .map((i) => row[i]),
        ),
      );
      values.dispose();
      ids.dispose();
    }
  }
});

test.for(targets)("argmax and topk of rows of every kind on $name", async ({ select, device }) => {
  select();
  const kinds: ((i: number) => number)[] = [
    () => Math.round(2 * random.normal()), // ties, -0 among them
    () => [random.normal(), -Infinity, NaN][random.integer(3)]!,
    (i) => i,
    (i) => -i,
    () => (random.sign() > 0 ? NaN : -Infinity),
  ];
  // NaN is ordered after every number.
  const ordered = (row: Float32Array): number[] => {
    const numbers = [...row.keys()].filter((i) => !Number.isNaN(row[i]));
    return [
      ...numbers.toSorted((a, b) => (row[a] === row[b] ? a - b : row[b]! - row[a]!)),
      ...[...row.keys()].filter((i) => Number.isNaN(row[i])),
    ];
  };
  for (const width of [1, 16, 17, 511, 513, 5000]) {
    const rows = kinds.map((kind) => Float32Array.from({ length: width }, (_, i) => kind(i)));
    using x = tensor(Float32Array.from(rows.flatMap((row) => [...row])), [rows.length, width], { device });
    using best = argmax(x);
    expect([...(await best.data())]).toEqual(rows.map((row) => ordered(row)[0]));
    for (const k of [1, 50, 300, width].filter((k) => k <= width)) {
      const { values, ids } = topk(x, k);
      const expected = rows.map((row) => ordered(row).slice(0, k));
      expect(await ids.toArray()).toEqual(expected);
      expect([...(await values.data())]).toEqual(expected.flatMap((list, r) => list.map((i) => rows[r]![i])));
      values.dispose();
      ids.dispose();
    }
  }
});

test.for(targets)("argmax of strided, empty and odd inputs on $name", async ({ select, device }) => {
  select();
  using x = tensor([1, 5, 2, 4, 3, 6], [2, 3], { device });
  using columns = transpose(x);
  using best = argmax(columns);
  expect([...(await best.data())]).toEqual([1, 0, 1]);
  using none = full([0, 4], 0, { device });
  using nothing = argmax(none);
  expect(await nothing.data()).toEqual(new Int32Array(0));
  using infinite = tensor([-Infinity, -Infinity, -Infinity, 1, Infinity, 2], [2, 3], { device });
  using ids = argmax(infinite);
  expect([...(await ids.data())]).toEqual([0, 1]);
});

test.for(targets)("argmax and topk put NaN last on $name", async ({ select, device }) => {
  select();
  using x = tensor([NaN, -Infinity, 3, NaN, 7, NaN, NaN, NaN, NaN, NaN], [2, 5], { device });
  using best = argmax(x);
  expect(await best.toArray()).toEqual([4, 0]);
  const { values, ids } = topk(x, 5);
  expect(await ids.toArray()).toEqual([
    [4, 2, 1, 0, 3],
    [0, 1, 2, 3, 4],
  ]);
  expect([...(await values.data())].slice(0, 5)).toEqual([7, 3, -Infinity, NaN, NaN]);
  values.dispose();
  ids.dispose();
});
