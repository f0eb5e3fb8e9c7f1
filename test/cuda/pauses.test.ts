/**
 * Tests the event loop while a CUDA device is slow: copies, launches and the driver's one thread for host functions
 * take time, and there is little memory to pin. The software device has modes for this (docs/simulator.md).
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { expect, test, vi } from "vitest";
import { device } from "../../lib/core/device.js";
import { GPT } from "../../lib/models/gpt.js";
import { matmul } from "../../lib/ops/matmul.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { scope } from "../../lib/core/scope.js";
import { setPieces } from "../../lib/core/tensor-pieces.js";
import { narrow } from "../../lib/ops/views.js";
import { empty, ones, tensor } from "../../lib/core/creation.js";
import { inPieces } from "../../lib/util/turns.js";
import { needsSimulator, noCuda } from "../support/cuda.js";
import { expectNoPause } from "../support/pauses.js";
import { describeUnless } from "../support/skip.js";

// This must run before the driver is opened.
vi.hoisted(() =>
  Object.assign(process.env, {
    HEED_SIMULATOR_DEVICES: "2",
    HEED_SIMULATOR_CALLBACK_THREAD: "1",
    HEED_SIMULATOR_PINNED: String(24 * 2 ** 20),
    HEED_SIMULATOR_MEMORY: String(80 * 2 ** 20),
    HEED_SIMULATOR_LAUNCH_TIME: "4000",
    HEED_SIMULATOR_COPY_RATE: "100",
  }),
);

const mostAsleep = 50;
const size = 8 * 2 ** 20;

/** Makes launches that take the device 0.2 s. */
function keepBusy(): void {
  using a = ones([16, 16], { device: "cuda:0" });
  for (let i = 0; i < 50; i++) matmul(a, a).dispose();
}

describeUnless(noCuda)("cuda: the event loop under a slow device", () => {
  test("keeps running while tensors go to, between and from devices", async (context) => {
    needsSimulator(context);
    const values = new Float32Array(size).fill(3);
    await expectNoPause(async () => {
      keepBusy();
      using x = ones([size], { device: "cuda:0" });
      await setPieces(x, inPieces(values));
      using across = x.to("cuda:1");
      using down = x.to("cpu");
      using up = down.to("cuda:1");
      const [read] = await Promise.all([x, across, up].map((each) => each.data()));
      expect(read!.at(-1)).toBe(3);
    }, mostAsleep);
  });

  test("keeps running while a model is trained", async (context) => {
    needsSimulator(context);
    const config = { vocabularySize: 31, contextLength: 8, layers: 1, heads: 1, width: 16 };
    using model = new GPT(config, { seed: 1, device: "cuda:0" });
    using optimizer = new AdamW(model.namedParameters());
    const ids = Int32Array.from({ length: 16 }, (_, i) => i % 31);
    await expectNoPause(async () => {
      for (let step = 0; step < 2; step++) {
        using loss = scope(() => {
          const input = tensor(ids, [2, 8], { device: "cuda:0" });
          const loss = model.loss(input, input);
          optimizer.zeroGrad();
          loss.backward();
          optimizer.step();
          return loss;
        });
        expect(await loss.item()).toBeGreaterThan(0);
      }
    }, mostAsleep);
  });

  test("keeps running while more values are set than the card has come to", async (context) => {
    needsSimulator(context);
    const values = new Float32Array(2 ** 20);
    using x = empty([values.length], { device: "cuda:0" });
    await expectNoPause(async () => {
      keepBusy();
      const uploading = (): number => x.device.memory().uploading;
      let sets = 0;
      while (uploading() <= 136 * 2 ** 20 && sets < 200) {
        x.set(values.fill(++sets));
        await nextTurn();
      }
      expect(uploading()).toBeGreaterThan(128 * 2 ** 20);
      expect((await x.data()).at(-1)).toBe(sets);
      expect(x.device.memory().uploading).toBe(0);
    }, mostAsleep);
  });

  test("keeps running while memory that work still uses is given to others", async (context) => {
    needsSimulator(context);
    const mib = 2 ** 18;
    await device("cuda:0").emptyCache();
    using others = empty([44 * mib], { device: "cuda:0" });
    await expectNoPause(async () => {
      await device("cuda:0").emptyCache();
      const made = [1, 2, 3].map(() => empty([7 * mib], { device: "cuda:0" }));
      keepBusy();
      for (const each of made) each.dispose();
      // No piece of the cache is large enough, and the card has no more.
      using large = empty([26 * mib], { device: "cuda:0" });
      using end = narrow(large, 0, large.size - 4, 4);
      end.set([1, 2, 3, 4]);
      expect([...(await end.data())]).toEqual([1, 2, 3, 4]);
    }, mostAsleep);
    expect(others.device.memory().live).toBe(44 * 2 ** 20);
  });

  test.for(["cuda:0", "cpu"])(
    "keeps running while the cache of %s is emptied behind other work",
    async (name, context) => {
      needsSimulator(context);
      const where = device(name);
      await expectNoPause(async () => {
        const made = Array.from({ length: 4 }, () => ones([2 ** 20], { device: name }));
        if (name === "cpu") {
          using a = ones([512, 512], { device: name });
          for (let i = 0; i < 30; i++) matmul(a, a).dispose();
        } else keepBusy();
        for (const each of made) each.dispose();
        expect(where.memory().cached).toBeGreaterThanOrEqual(16 * 2 ** 20);
        const emptied = where.emptyCache();
        expect(where.memory().cached).toBeLessThan(16 * 2 ** 20);
        // Tensors that are made meanwhile have memory of their own.
        using next = ones([2 ** 20], { device: name });
        const read = next.data();
        await emptied;
        expect((await read).at(-1)).toBe(1);
      }, mostAsleep);
    },
  );
});
