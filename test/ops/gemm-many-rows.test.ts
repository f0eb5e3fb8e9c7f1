/**
 * Products of so many rows and so long a K that workers pack panels of A for themselves, and so large a B that it is
 * packed in several ranges: each row has the bits that it has among few, and single elements are those in float64.
 */
import { expect, test } from "vitest";
import { randn } from "../../lib/core/creation.js";
import { linear } from "../../lib/ops/linear.js";
import { cast, contiguous, narrow, reshape, transpose } from "../../lib/ops/views.js";
import { scope } from "../../lib/core/scope.js";
import type { FloatDType } from "../../lib/core/dtype.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { Random } from "../support/random.js";
import { targets } from "../support/targets.js";

const rows = 673;
/** So many rows are computed again alone, from each of these rows on: at the beginning, across panels, and at the end. */
const [some, firsts] = [90, [0, 301, rows - 90]] as const;

/** Depth, columns and dtype: a pass with two ranges of columns, two passes, and pairs of bf16. */
const sizes: readonly [number, number, FloatDType][] = [
  [1500, 2800, "f32"],
  [1700, 70, "f32"],
  [3000, 2800, "bf16"],
];

async function float(x: FloatTensor): Promise<Float32Array> {
  using same = cast(x, "f32");
  return await same.data();
}

test.for(targets.filter(({ device }) => device === "cpu"))(
  "rows have the bits that they have among few on $name",
  async (target) => {
    target.select();
    for (const [depth, columns, dtype] of sizes)
      for (const layout of ["io", "oi"] as const) {
        using a = randn([rows, depth], { seed: 1 }).to(dtype);
        using b = randn([depth, columns], { seed: 2 }).to(dtype);
        using weight = layout === "io" ? reshape(b, b.shape) : contiguous(transpose(b));
        using out = linear(a, weight, { layout });
        const all = await out.data();
        for (const first of firsts) {
          using part = scope(() => linear(contiguous(narrow(a, 0, first, some)), weight, { layout }));
          expect(await part.data(), `${dtype}, ${layout}, rows from ${first}`).toEqual(
            all.subarray(first * columns, (first + some) * columns),
          );
        }
        const [x, y] = [await float(a), await float(b)];
        const random = new Random(3);
        for (let n = 0; n < 50; n++) {
          const [i, j] = [random.integer(rows), random.integer(columns)];
          let [sum, size] = [0, 0];
          for (let k = 0; k < depth; k++) {
            const product = x[i * depth + k]! * y[k * columns + j]!;
            sum += product;
            size += Math.abs(product);
          }
          const unit = dtype === "f32" ? 0 : 2 ** -8;
          expect(Math.abs(all[i * columns + j]! - sum), `${dtype}, ${layout}, [${i}, ${j}]`).toBeLessThanOrEqual(
            Math.abs(sum) * unit + size * depth * 2 ** -24,
          );
        }
      }
  },
);
