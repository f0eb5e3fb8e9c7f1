import { constants, type NodeGCPerformanceDetail, type PerformanceEntry, PerformanceObserver } from "node:perf_hooks";
import { setImmediate } from "node:timers/promises";
import { getHeapStatistics } from "node:v8";
import { expect, test } from "vitest";
import { noGrad, parameter } from "../lib/core/autograd.js";
import { device } from "../lib/core/device.js";
import { dtypeIndex } from "../lib/core/dtype.js";
import { GPT } from "../lib/models/gpt.js";
import { native } from "../lib/core/native.js";
import { add, sub } from "../lib/ops/binary.js";
import { linear } from "../lib/ops/linear.js";
import { mean } from "../lib/ops/reduce.js";
import { square } from "../lib/ops/unary.js";
import { AdamW } from "../lib/optim/adamw.js";
import { scope } from "../lib/core/scope.js";
import { empty, randn, tensor } from "../lib/core/creation.js";
import type { FloatTensor } from "../lib/core/tensor.js";
import { collectGarbage } from "./support/gc.js";
import { expectError } from "./support/errors.js";
import { nightly } from "./support/nightly.js";
import { onEachDevice } from "./support/targets.js";

onEachDevice((name) => {
  const MiB = 2 ** 20;
  // The software device is some hundred times slower.
  const [warmUp, steps] = (name === "cpu" ? [600, 1400] : [40, 80]).map((n) => (nightly ? n : n / 2)) as [
    number,
    number,
  ];
  const memory = () => device().memory();

  /**
   * Runs `step` many times. After a warm-up neither the live bytes nor the process may grow. A leak grows each time;
   * V8's own memory grows in leaps, but not four times.
   */
  async function expectFlat(step: () => Promise<void>): Promise<void> {
    const rss = async (): Promise<number> => {
      await collectGarbage();
      return process.memoryUsage.rss();
    };
    for (let i = 0; i < warmUp; i++) await step();
    const growths: number[] = [];
    // If a step leaves one handle of some 300 bytes behind, that is 0.2 MiB on the CPU; a step makes about a hundred
    // handles. The software device runs fewer steps, so only leaks of 154 KiB per step show there. At night it is half.
    const limit = 6 * MiB;
    do {
      const begin = await rss();
      const before = memory();
      for (let i = 0; i < steps; i++) await step();
      // Measured before the collector can do the work that `dispose` should have done.
      const after = memory();
      expect([after.live, after.tensors]).toEqual([before.live, before.tensors]);
      expect(after.cached).toBeLessThanOrEqual(before.cached);
      growths.push((await rss()) - begin);
    } while (growths.at(-1)! >= limit && growths.length < 4);
    expect(Math.min(...growths), `growth of the process in bytes: ${growths.join(", ")}`).toBeLessThan(limit);
  }

  test("a handle is reused once it is released, not before, and a wrong one leaves nothing behind", async () => {
    using live = tensor([1, 2], [2]);
    await live.device.synchronize();
    const { index } = device();
    const f32 = dtypeIndex("f32");
    const used = native.alloc(index, f32, [3]);
    native.release(used);
    const before = memory();
    for (const wrong of [live.handle, {} as typeof used]) {
      expectError(() => native.alloc(index, f32, [1000], wrong), "ERR_ARGUMENT", /alloc: expected .*argument 3/);
      expectError(() => native.view(live.handle, [1], [1], 0, wrong), "ERR_ARGUMENT", /view: expected .*argument 4/);
    }
    expect(memory()).toEqual(before);
    expect(native.alloc(index, f32, [1000], used)).toBe(used);
    expect(memory().live).toBe(before.live + 4000);
    native.release(used);
    expect(memory().live).toBe(before.live);
  });

  test("many steps of training an MLP leave nothing behind", async () => {
    const layer = (shape: number[], seed: number): FloatTensor => parameter(randn(shape, { seed, std: 0.3 }));
    const parameters = { w1: layer([32, 8], 1), b1: layer([32], 2), w2: layer([1, 32], 3), b2: layer([1], 4) };
    const { w1, b1, w2, b2 } = parameters;
    using x = randn([16, 8], { seed: 5 });
    using y = randn([16, 1], { seed: 6 });
    using optimizer = new AdamW(Object.entries(parameters), { lr: 1e-3, maxNorm: 1 });
    await expectFlat(async () => {
      using loss = scope(() => {
        const h = linear(x, w1, { bias: b1, activation: "gelu" });
        const loss = mean(square(sub(linear(h, w2, { bias: b2 }), y)));
        optimizer.zeroGrad();
        loss.backward();
        optimizer.step();
        return loss;
      });
      await loss.item();
    });
    for (const p of Object.values(parameters)) p.dispose();
  });

  test("many steps of training a GPT, and of generating with it, leave nothing behind", async () => {
    using model = new GPT({ vocabularySize: 17, contextLength: 8, layers: 2, heads: 2, width: 16, dropout: 0.1 });
    using optimizer = new AdamW(model.namedParameters(), { maxNorm: 1 });
    using ids = tensor(
      Int32Array.from({ length: 16 }, (_, i) => i),
      [2, 8],
    );
    using one = tensor(Int32Array.of(3, 4), [2, 1]);
    let steps = 0;
    await expectFlat(async () => {
      using loss = scope(() => {
        const loss = model.train().loss(ids, ids);
        optimizer.zeroGrad();
        loss.backward();
        optimizer.step();
        return loss;
      });
      await loss.item();
      if (++steps % 4) return;
      model.eval();
      using cache = model.createCache(2);
      using first = noGrad(() => model.forward(one, { cache, lastOnly: true }));
      using second = noGrad(() => model.forward(one, { cache, lastOnly: true }));
      await second.data();
      expect(first.shape).toEqual([2, 17]);
    });
  });

  test("tensors that nobody disposes are collected", async () => {
    await collectGarbage();
    const before = memory();
    for (let i = 0; i < 1000; i++) add(tensor([i]), 1);
    expect(memory().tensors).toBeGreaterThanOrEqual(before.tensors + 2000);
    await collectGarbage();
    expect(memory()).toMatchObject({ live: before.live, tensors: before.tensors });
  });

  test("a graph that nobody differentiates or disposes is collected", async () => {
    await collectGarbage();
    const before = memory();
    (() => {
      const x = tensor([1, 2, 3]);
      x.requiresGrad = true;
      mean(square(add(square(x), x)));
      // The tensor is held by its graph and holds it: a cycle through JavaScript.
      const y = square(x);
      x.grad = y;
    })();
    await collectGarbage();
    expect(memory()).toMatchObject({ live: before.live, tensors: before.tensors });
  });

  test("tensors that nobody disposes do not exhaust memory: their size makes V8 collect", async () => {
    await collectGarbage();
    device().resetPeak();
    // Four times as much as V8 allows outside of its heap, which is too small to be collected for its own sake. Only the
    // memory that the addon reports (napi_adjust_external_memory, which process.memoryUsage() does not show) makes V8
    // collect: it marks from some megabytes on, as fast as it finds time, and at once at half of its heap's limit.
    const allowed = getHeapStatistics().heap_size_limit / 2;
    for (let bytes = 0; bytes < 4 * allowed; bytes += 8 * MiB) {
      empty([2 * MiB]);
      await setImmediate();
    }
    expect(memory().peak).toBeLessThan(allowed + 128 * MiB);
    await collectGarbage();
    await device().emptyCache();
  });

  test("memory that the program itself releases makes V8 collect next to nothing", async () => {
    await collectGarbage();
    let collections = 0;
    const observer = new PerformanceObserver((list) => {
      for (const { detail } of list.getEntries() as (PerformanceEntry & { detail: NodeGCPerformanceDetail })[])
        if (detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR) collections++;
    });
    observer.observe({ entryTypes: ["gc"] });
    // V8 begins a collection if the memory that it knows of grows by 64 MiB. Each pass uses twice that.
    for (let i = 0; i < 300; i++) {
      scope(() => {
        for (let j = 0; j < 16; j++) empty([2 * MiB]);
      });
      await setImmediate();
    }
    observer.disconnect();
    expect(collections).toBeLessThan(10);
    await device().emptyCache();
  });

  test("a read that nobody awaits leaves nothing behind", async () => {
    await collectGarbage();
    const before = memory();
    for (let i = 0; i < 100; i++) {
      using x = tensor([i]);
      void x.data();
    }
    await device().synchronize();
    expect(memory()).toMatchObject({ live: before.live, tensors: before.tensors });
  });
});
