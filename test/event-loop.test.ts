import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { noGrad } from "../lib/core/autograd.js";
import { setThreads } from "../lib/core/device.js";
import { GPT } from "../lib/models/gpt.js";
import { matmul } from "../lib/ops/matmul.js";
import { AdamW } from "../lib/optim/adamw.js";
import { scope } from "../lib/core/scope.js";
import { randn, tensor } from "../lib/core/creation.js";
import { onEachDevice } from "./support/targets.js";

/** Returns the 99th percentile of the event loop's delay while `work` runs, in milliseconds. */
async function delay(work: () => Promise<void>): Promise<number> {
  const histogram = monitorEventLoopDelay({ resolution: 1 });
  histogram.enable();
  await work();
  histogram.disable();
  return histogram.percentile(99) / 1e6;
}

/** Takes the least of three measurements, because other work of the machine can only increase it. */
async function expectFree(work: () => Promise<void>): Promise<void> {
  let least = Infinity;
  for (let i = 0; i < 3 && least >= 20; i++) least = Math.min(least, await delay(work));
  expect(least, "99th percentile of the event loop's delay in ms").toBeLessThan(20);
}

// Threads are used as in a real program.
setThreads(2);

onEachDevice((name) => {
  // These sizes keep the device busy for a long time, but not longer than a test may take.
  const [size, context, batch] = name === "cpu" ? [1024, 128, 4] : [128, 32, 1];

  test("the measure sees a thread that is held up", async () => {
    const held = await delay(async () => {
      for (let i = 0; i < 5; i++) {
        const end = performance.now() + 40;
        while (performance.now() < end);
        await sleep(1);
      }
    });
    expect(held).toBeGreaterThan(30);
  });

  test("products that take long do not hold up the event loop", async () => {
    using a = randn([size, size], { seed: 1 });
    await expectFree(async () => {
      const end = performance.now() + 1500;
      while (performance.now() < end) {
        using b = matmul(a, a);
        using c = matmul(b, a);
        await c.device.synchronize();
      }
    });
  });

  test("training does not hold up the event loop", async () => {
    using model = new GPT({ vocabularySize: 512, contextLength: context, layers: 4, heads: 4, width: 128 });
    using optimizer = new AdamW(model.namedParameters());
    using ids = tensor(
      Int32Array.from({ length: batch * context }, (_, i) => (i * i) % 512),
      [batch, context],
    );
    await expectFree(async () => {
      const end = performance.now() + 1500;
      while (performance.now() < end) {
        using loss = scope(() => {
          const loss = model.loss(ids, ids);
          optimizer.zeroGrad();
          loss.backward();
          optimizer.step();
          return loss;
        });
        await loss.item();
      }
    });
  });

  test("a generation step does not hold up the event loop", async () => {
    using model = new GPT({ vocabularySize: 512, contextLength: context, layers: 4, heads: 4, width: 128 });
    using prompt = tensor(
      Int32Array.from({ length: batch * (context - 4) }, (_, i) => i % 512),
      [batch, context - 4],
    );
    await expectFree(async () => {
      const end = performance.now() + 1000;
      while (performance.now() < end) {
        using logits = noGrad(() => model.forward(prompt, { lastOnly: true }));
        await logits.data();
      }
    });
  });
});
