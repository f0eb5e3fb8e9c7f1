import { expect, test } from "vitest";
import { recompute, setRecompute } from "../lib/core/autograd.js";
import { device } from "../lib/core/device.js";
import { add, mul } from "../lib/ops/binary.js";
import { gated, packedGated } from "../lib/ops/gated.js";
import { addLayerNorm, layerNorm } from "../lib/ops/layer-norm.js";
import { linear } from "../lib/ops/linear.js";
import { sum } from "../lib/ops/reduce.js";
import { rmsNorm } from "../lib/ops/rms-norm.js";
import { square } from "../lib/ops/unary.js";
import { reshape } from "../lib/ops/views.js";
import { scope } from "../lib/core/scope.js";
import { randn } from "../lib/core/creation.js";
import type { FloatTensor } from "../lib/core/tensor.js";
import { expectError } from "./support/errors.js";
import { collectGarbage } from "./support/gc.js";
import { onEachDevice } from "./support/targets.js";

const [rows, width] = [33, 40];

onEachDevice(() => {
  const live = (): number => device().memory().live;
  const leaf = (shape: number[], seed: number, dtype: "f32" | "bf16" = "f32"): FloatTensor => {
    const x: FloatTensor = randn(shape, { seed, dtype });
    x.requiresGrad = true;
    return x;
  };

  for (const dtype of ["f32", "bf16"] as const)
    for (const [name, norm] of [
      ["layerNorm", (x, weight, bias) => layerNorm(x, { weight, bias })],
      ["rmsNorm", (x, weight, bias) => rmsNorm(x, { weight, bias })],
      ["addLayerNorm", (x, weight, bias) => addLayerNorm(x, x, { weight, bias }).out],
      ["gated", (x, weight) => gated(x, mul(x, weight), "silu")],
      ["packedGated", (x) => packedGated(reshape(x, [rows / 3, 3 * width]), "gelu")],
    ] as [string, (x: FloatTensor, weight: FloatTensor, bias: FloatTensor) => FloatTensor][])
      test(`${name} in ${dtype}: operations that save the output get the same gradients, whether it is recomputed or kept`, async () => {
        const gradients = async (kept: boolean): Promise<number[][]> => {
          const leaves = [leaf([rows, width], 1, dtype), leaf([width], 2, dtype), leaf([width], 3, dtype)] as const;
          const out = norm(...leaves);
          const w = leaf([out.shape.at(-1)!, 7], 4, dtype);
          // A view is not recomputed, so it keeps the output.
          const h = kept ? reshape(out, out.shape) : out;
          const first = linear(h, w, { layout: "io" });
          using loss = sum(add(first, linear(square(h), w, { layout: "io" })));
          loss.backward();
          return await Promise.all([...leaves, w].map(async ({ grad }) => (grad ? [...(await grad.data())] : [])));
        };
        expect(await gradients(false)).toEqual(await gradients(true));
      });

  test("setRecompute(false) keeps outputs, with the same gradients", async () => {
    const [w, v] = [leaf([width, width], 2), leaf([width, width], 3)];
    const run = async (allowed: boolean): Promise<{ bytes: number; gradients: number[] }> => {
      using x = leaf([rows, width], 1);
      setRecompute(allowed);
      expect(recompute()).toBe(allowed);
      await collectGarbage();
      const before = live();
      using loss = scope(() => {
        const h = layerNorm(x);
        return sum(add(linear(h, w), linear(h, v)));
      });
      setRecompute(true);
      const bytes = live() - before;
      loss.backward();
      return { bytes, gradients: [...(await x.grad!.data())] };
    };
    const [kept, remade] = [await run(false), await run(true)];
    expect(kept.gradients).toEqual(remade.gradients);
    expect(kept.bytes - remade.bytes).toBeGreaterThanOrEqual(rows * width * 4);
    expectError(() => setRecompute(1 as never), "ERR_ARGUMENT");
  });

  test("a norm is not kept for operations that save it, and a recomputed tensor is freed after its own backward", async () => {
    await collectGarbage();
    const bytes = rows * width * 4;
    using x = leaf([rows, width], 1);
    const [w, v] = [leaf([width, width], 2), leaf([width, width], 3)];
    const before = live();
    using loss = scope(() => {
      const h = layerNorm(x);
      return sum(add(linear(h, w), linear(h, v)));
    });
    // Only the statistics and the loss are kept, which are a few numbers.
    expect(live() - before).toBeLessThan(bytes);
    loss.backward();
    expect(live() - before - bytes - 2 * width * width * 4).toBeLessThan(64);
    w.dispose();
    v.dispose();
  });

  test("a graph of which a branch, or all, is unused leaves nothing behind", async () => {
    await collectGarbage();
    const before = live();
    for (const differentiates of [true, false]) {
      const x = leaf([rows, width], 1);
      const w = leaf([width, width], 2);
      scope(() => {
        const h = layerNorm(layerNorm(x));
        const loss = sum(linear(h, w));
        linear(h, w);
        if (differentiates) loss.backward();
      });
      x.dispose();
      w.dispose();
    }
    expect(live()).toBe(before);
  });
});
