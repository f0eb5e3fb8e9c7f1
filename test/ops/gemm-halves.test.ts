// Products of activations in f32 by a b in 16 bits, as of a model that computes in f32 with the weights that its file
// stores. The oracles are the product by the same numbers in f32, whose bits it must have, and sums in float64.
import { afterAll, describe, expect, test } from "vitest";
import { tensor, zeros } from "../../lib/core/creation.js";
import { native, ops } from "../../lib/core/native.js";
import { nativeActivations } from "../../lib/core/native-kinds.js";
import { expectError } from "../support/errors.js";
import { Random } from "../support/random.js";
import { bestIsa, devicesTested, productTargets, targets } from "../support/targets.js";

describe.each(["bf16", "f16"] as const)("a b in %s beside an a in f32", (dtype) => {
  afterAll(() => native.selectIsa(bestIsa));
  // Numbers of each dtype that are subnormal, the largest or infinite, and of a, what 16 bits would round.
  const special = [2 ** -130, -(2 ** -24), 2 ** -14 - 2 ** -24, 65504, 3e38, -0, Infinity];
  const precise = [1 + 2 ** -23, 1 / 3, 3e5, 2 ** -140];

  test.for(productTargets)("gives the bits of the same numbers in f32 on $name", async (target) => {
    target.select();
    const { device } = target;
    const random = new Random(13);
    const normals = (count: number): Float32Array => Float32Array.from({ length: count }, () => random.normal());
    for (const [m, n, k] of [
      [1, 1, 1],
      [1, 130, 1541],
      [2, 515, 67],
      [3, 70, 200],
      [4, 33, 31],
      [5, 2, 96],
      [8, 40, 300],
      [9, 33, 64],
      [33, 65, 129],
      [130, 9, 40],
      [190, 40, 1030],
      [5, 3, 0],
    ] as const)
      for (const turned of [false, true])
        for (const some of [false, true]) {
          const [values, given] = [normals(k * n), normals(m * k)];
          if (some && k > 0) {
            for (const other of special) values[random.integer(k * n)] = other;
            for (const other of precise) given[random.integer(m * k)] = other;
          }
          using a = tensor(given, [m, k], { device });
          using memory = tensor(values, [k * n], { dtype, device });
          using copy = memory.to("f32");
          using bias = tensor(normals(n), [n], { device });
          using residual = tensor(normals(m * n), [m, n], { device });
          const results: Float32Array[] = [];
          for (const of of [memory, copy]) {
            using b = of.viewAs([k, n], turned ? [1, k] : [n, 1], 0, false);
            using out = tensor(new Float32Array(m * n).fill(0.25), [m, n], { device });
            const activation = nativeActivations.silu;
            ops.gemm({ out, a, b, bias, residual, activation, accumulate: some });
            results.push(await out.data());
          }
          expect(results[0], `${m}×${n}×${k} ${turned} ${some}`).toEqual(results[1]);
        }
  });

  test.for(targets)("in batches, with gaps or for the whole batch, on $name", async (target) => {
    target.select();
    const { device } = target;
    const random = new Random(14);
    const values = Float32Array.from({ length: 6 * 12 * 30 }, () => random.normal());
    using memory = tensor(values, [values.length], { dtype, device });
    using copy = memory.to("f32");
    for (const rows of [1, 9])
      for (const strides of [
        [360, 30, 1],
        [360, 1, 12],
        [360, 30, 2],
        [0, 30, 1],
      ]) {
        using a = tensor(values.slice(0, 6 * rows * 12), [6, rows, 12], { device });
        const results: Float32Array[] = [];
        for (const of of [memory, copy]) {
          using b = of.viewAs([6, 12, 15], strides, 0, false);
          using out = zeros([6, rows, 15], { device });
          ops.gemm({ out, a, b });
          results.push(await out.data());
        }
        expect(results[0], `${rows} ${String(strides)}`).toEqual(results[1]);
      }
  });

  test.for(targets)("1 to 70 rows are as exact as f32 on $name", async (target) => {
    target.select();
    const { device } = target;
    const random = new Random(15);
    // The software device takes its time.
    const counts = device === "cpu" ? Array.from({ length: 70 }, (_, i) => i + 1) : [1, 2, 17, 70];
    const [n, k] = [37, 1031];
    using memory = tensor(
      Float32Array.from({ length: n * k }, () => random.normal()),
      [n * k],
      { dtype, device },
    );
    const weight = await memory.data();
    const given = Float32Array.from({ length: 70 * k }, () => random.normal());
    for (const m of counts) {
      const turned = m % 3 !== 0;
      using a = tensor(given.subarray(0, m * k), [m, k], { device });
      using b = memory.viewAs([k, n], turned ? [1, k] : [n, 1], 0, false);
      using out = zeros([m, n], { device });
      ops.gemm({ out, a, b });
      const got = await out.data();
      let worst = 0;
      for (let i = 0; i < m; i++)
        for (let j = 0; j < n; j++) {
          let [sum, size] = [0, 0];
          for (let p = 0; p < k; p++) {
            const term = given[i * k + p]! * weight[turned ? j * k + p : p * n + j]!;
            sum += term;
            size += Math.abs(term);
          }
          worst = Math.max(worst, Math.abs(got[i * n + j]! - sum) / size);
        }
      // If a were rounded to 16 bits, some sum would be off by more than 1e-5.
      expect(worst, `${m} rows`).toBeLessThan(5e-7);
    }
  });

  test.for(targets)("rows of a table become f32 on $name", async (target) => {
    target.select();
    const { device } = target;
    const random = new Random(16);
    for (const width of [1, 7, 33, 64, 520]) {
      const values = Float32Array.from({ length: 9 * width }, () => random.normal());
      for (const other of special) values[random.integer(values.length)] = other;
      using weight = tensor(values, [9, width], { dtype, device });
      using copy = weight.to("f32");
      using ids = tensor([8, 0, 3, 3, 1], [5], { dtype: "i32", device });
      using out = zeros([5, width], { device });
      using expected = zeros([5, width], { device });
      ops.embedding_forward({ out, ids, weight });
      ops.embedding_forward({ out: expected, ids, weight: copy });
      expect(await out.data(), String(width)).toEqual(await expected.data());
    }
  });

  test.for(devicesTested)("is not summed, and is no result, on $name", ({ device }) => {
    using a = zeros([2, 3], { device });
    using b = zeros([3, 4], { dtype, device });
    using out = zeros([2, 4], { device });
    using sum = zeros([4], { device });
    expectError(() => ops.gemm({ out, a, b, sum }), "ERR_DTYPE", /gemm: expected b of a's dtype f32, got (bf16|f16)/);
    using short = zeros([2, 4], { dtype, device });
    expectError(() => ops.gemm({ out: short, a, b }), "ERR_DTYPE", /gemm: expected out of dtype f32, got (bf16|f16)/);
    const other = dtype === "bf16" ? "f16" : "bf16";
    using half = zeros([2, 3], { dtype: other, device });
    expectError(() => ops.gemm({ out, a: half, b }), "ERR_DTYPE", /gemm: expected b of dtype (bf16|f16) or f32, got/);
    using codes = zeros([3, 4], { dtype: "i32", device });
    const message = /gemm: expected b of dtype f32, bf16 or f16, got i32/;
    expectError(() => ops.gemm({ out, a, b: codes }), "ERR_DTYPE", message);
  });
});
