/** Tests Device.elapsed, the device's time between two points of its queue. */
import { performance } from "node:perf_hooks";
import { expect, describe, test } from "vitest";
import { device } from "../lib/core/device.js";
import { Graph } from "../lib/core/graph.js";
import { matmul } from "../lib/ops/matmul.js";
import { scope } from "../lib/core/scope.js";
import { randn } from "../lib/core/creation.js";
import { devicesTested, orCpu } from "./support/targets.js";

describe.each(devicesTested)("elapsed on $name", (target) => {
  const where = device(orCpu(target.device));

  test("measures the work that is enqueued, not the work before it", async () => {
    using a = randn([192, 192], { device: where, seed: 1 });
    const product = (): void => scope(() => void matmul(a, a));
    await where.elapsed(product);
    const shares: number[] = [];
    // The system may halt the one product for longer than all others take, but hardly each time.
    for (let attempt = 0; attempt < 5; attempt++) {
      const begin = performance.now();
      for (let i = 0; i < 20; i++) product();
      const one = await where.elapsed(product);
      expect(one).toBeGreaterThan(0);
      shares.push(one / (performance.now() - begin));
    }
    expect(Math.min(...shares)).toBeLessThan(1 / 2);
  });

  test("of nothing is almost zero", async () => {
    await where.synchronize();
    const nothing = await where.elapsed(() => undefined);
    expect(nothing).toBeGreaterThanOrEqual(0);
    expect(nothing).toBeLessThan(100);
  });

  test("a failure reaches the caller, and other measurements continue", async () => {
    await expect(
      where.elapsed(() => {
        throw new Error("mine");
      }),
    ).rejects.toThrow("mine");
    expect(await where.elapsed(() => undefined)).toBeGreaterThanOrEqual(0);
  });

  test("cannot be part of a graph", async () => {
    let measured: Promise<number> | undefined;
    Graph.capture(where, () => {
      measured = where.elapsed(() => undefined);
    }).dispose();
    await expect(measured).rejects.toThrow("expected no graph to be captured");
  });
});
