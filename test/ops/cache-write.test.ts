import { expect, test } from "vitest";
import { cacheWrite } from "../../lib/ops/cache-write.js";
import { ops } from "../../lib/core/native.js";
import { transpose } from "../../lib/ops/views.js";
import { tensor, zeros } from "../../lib/core/creation.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { normal } from "../support/nd.js";
import { Random } from "../support/random.js";
import { targets } from "../support/targets.js";

const random = new Random(14);

test.for(targets)("cacheWrite puts values behind each sequence's start on $name", async ({ select, device }) => {
  select();
  const [B, Tmax, H] = [3, 9, 2];
  for (const D of [1, 3, 17, 64])
    for (const T of [0, 1, 4, 9])
      for (const starts of [null, [0, 2, Tmax - T]].filter((list) => list?.every((s) => s + T <= Tmax) ?? true)) {
        const values = normal(random, [B, T, H, D]).data;
        using cache = zeros([B, Tmax, H, D], { device });
        // The heads come before the positions in memory, as in a part of a projection.
        using memory = tensor(values, [B, H, T, D], { device });
        using given = transpose(memory, [0, 2, 1, 3]);
        using at = starts && tensor(Int32Array.from(starts), [B], { device });
        cacheWrite(cache, given, at);
        const expected = new Float32Array(B * Tmax * H * D);
        for (let b = 0; b < B; b++)
          for (let t = 0; t < T; t++)
            for (let h = 0; h < H; h++)
              for (let d = 0; d < D; d++)
                expected[((b * Tmax + (starts?.[b] ?? 0) + t) * H + h) * D + d] =
                  values[((b * H + h) * T + t) * D + d]!;
        expect(await cache.data()).toEqual(expected);
      }
});

test.for(targets)("caches of any dtype, and with heads in front of positions, on $name", async ({ select, device }) => {
  select();
  for (const dtype of ["f32", "bf16", "f16", "i32", "u8"] as const) {
    using memory = zeros([2, 3, 9, 5], { device, dtype });
    using cache = transpose(memory, [0, 2, 1, 3]) as FloatTensor;
    using values = tensor(
      Int32Array.from({ length: 120 }, (_, i) => i + 1),
      [2, 4, 3, 5],
      { device },
    ).to(dtype);
    using starts = tensor(Int32Array.of(5, 1), [2], { device });
    ops.cache_write({ cache, values, starts });
    const expected = new Float32Array(2 * 3 * 9 * 5);
    for (let i = 0; i < 120; i++) {
      const [b, t, h, d] = [Math.floor(i / 60), Math.floor(i / 15) % 4, Math.floor(i / 5) % 3, i % 5];
      expected[((b * 3 + h) * 9 + [5, 1][b]! + t) * 5 + d] = i + 1;
    }
    expect([...(await memory.data())]).toEqual([...expected]);
  }
});

test.for(targets)(
  "after a write beyond the cache, reading it rejects until it is written anew, on $name",
  async ({ select, device }) => {
    select();
    using cache = zeros([2, 4, 1, 3], { device });
    using values = zeros([2, 2, 1, 3], { device });
    for (const start of [3, -1]) {
      using starts = tensor(Int32Array.of(0, start), [2], { device });
      cacheWrite(cache, values, starts);
      await expect(cache.data()).rejects.toMatchObject({
        code: "ERR_RANGE",
        message: expect.stringMatching(/cache_?write.*expected .* got /i) as string,
      });
      cache.set(new Float32Array(24).fill(start));
      expect(await cache.data()).toEqual(new Float32Array(24).fill(start));
    }
  },
);
