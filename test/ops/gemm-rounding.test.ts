// Products of activations in 16 bits and a b in f32, which the operation rounds. The oracle is the product by a copy of b
// that was rounded before, which gemm.test.ts compares with float64.
import { afterAll, describe, expect, test } from "vitest";
import { tensor, zeros } from "../../lib/core/creation.js";
import { native, ops } from "../../lib/core/native.js";
import { expectError } from "../support/errors.js";
import { Random } from "../support/random.js";
import { bestIsa, devicesTested, productTargets, targets } from "../support/targets.js";

describe.each(["bf16", "f16"] as const)("a b in f32 beside an a in %s", (dtype) => {
  afterAll(() => native.selectIsa(bestIsa));
  // Ties, overflow, subnormal numbers of each dtype, and what is not finite.
  const special = [1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -11, 65520, 3.4e38, 2 ** -130, 2 ** -24, 2 ** -25, -0];
  const notFinite = [NaN, -Infinity];

  test.for(productTargets)("has the bits of its rounded copy on $name", async (target) => {
    target.select();
    const { device } = target;
    const random = new Random(11);
    for (const [m, n, k] of [
      [1, 1, 1],
      [3, 70, 67],
      [9, 33, 31],
      [33, 65, 129],
      [190, 40, 1030],
      [5, 3, 0],
    ] as const)
      for (const turned of [false, true])
        for (const others of [[], special, notFinite]) {
          if (others.length > k * n) continue;
          const values = Float32Array.from({ length: k * n }, () => random.normal());
          for (const other of others) values[random.integer(k * n)] = other;
          using a = tensor(
            Float32Array.from({ length: m * k }, () => random.normal()),
            [m, k],
            { dtype, device },
          );
          using memory = tensor(values, [k * n], { device });
          using copy = tensor(values, [k * n], { dtype, device });
          using bias = tensor(new Float32Array(n).fill(0.5), [n], { device });
          const results: Float32Array[] = [];
          for (const of of [memory, copy]) {
            using b = of.viewAs([k, n], turned ? [1, k] : [n, 1], 0, false);
            using out = zeros([m, n], { device });
            ops.gemm({ out, a, b, bias });
            results.push(await out.data());
          }
          const [got, expected] = results;
          expect(got, `${m}×${n}×${k} ${turned} ${String(others)}`).toEqual(expected);
        }
  });

  test.for(targets)("in batches, with gaps or for the whole batch, on $name", async (target) => {
    target.select();
    const { device } = target;
    const random = new Random(12);
    const values = Float32Array.from({ length: 6 * 12 * 30 }, () => random.normal());
    using a = tensor(values.slice(0, 6 * 9 * 12), [6, 9, 12], { dtype, device });
    using memory = tensor(values, [values.length], { device });
    using copy = tensor(values, [values.length], { dtype, device });
    for (const strides of [
      [360, 30, 1],
      [360, 1, 12],
      [360, 30, 2],
      [0, 30, 1],
    ]) {
      const results: Float32Array[] = [];
      for (const of of [memory, copy]) {
        using b = of.viewAs([6, 12, 15], strides, 0, false);
        using out = zeros([6, 9, 15], { device });
        ops.gemm({ out, a, b });
        results.push(await out.data());
      }
      expect(results[0], String(strides)).toEqual(results[1]);
    }
  });

  test.for(devicesTested)("is not summed on $name", ({ device }) => {
    using a = zeros([2, 3], { dtype, device });
    using b = zeros([3, 4], { device });
    using out = zeros([2, 4], { device });
    using sum = zeros([4], { device });
    expectError(() => ops.gemm({ out, a, b, sum }), "ERR_DTYPE", /gemm: expected b of a's dtype (bf16|f16), got f32/);
  });
});
