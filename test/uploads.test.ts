/**
 * Tests values in transit to a device: they take a bounded amount of host memory, which is counted, and arrive
 * unchanged.
 */
import { expect, test, vi } from "vitest";
import { device } from "../lib/core/device.js";
import { matmul } from "../lib/ops/matmul.js";
import { empty, ones } from "../lib/core/creation.js";
import type { FloatTensor } from "../lib/core/tensor.js";
import { expectChild } from "./support/child.js";
import { onEachDevice } from "./support/targets.js";

// Of 1 GiB by default; before the addon first asks for it.
vi.hoisted(() => Object.assign(process.env, { HEED_UPLOAD_LIMIT: "128" }));

const MiB = 2 ** 20;

onEachDevice((name) => {
  // Work that takes some tenths of a second, behind which uploads wait.
  const [size, products] = name === "cpu" ? [1024, 20] : [64, 8];
  const keepBusy = (times = 1): void => {
    using a = ones([size, size]);
    for (let i = 0; i < times * products; i++) matmul(a, a).dispose();
  };
  const memory = () => device().memory();
  const sample = async (x: FloatTensor, at: number): Promise<number> => {
    using part = x.viewAs([1], [1], at);
    return await part.item();
  };

  test("values far behind in the queue do not fill the process's memory", async () => {
    const count = 8 * MiB;
    const values = new Float32Array(count);
    using x = empty([count]);
    x.set(values);
    await x.device.synchronize();
    const before = process.memoryUsage.rss();
    const [uploading, grown]: [number[], number[]] = [[], []];
    keepBusy();
    for (let i = 1; i <= 12; i++) {
      values.fill(i, count - 10);
      x.set(values);
      uploading.push(memory().uploading);
      grown.push(process.memoryUsage.rss() - before);
    }
    expect(Math.max(...uploading)).toBeLessThanOrEqual(128 * MiB);
    // Twelve times 32 MiB would be 384 MiB; CUDA keeps up to 64 MiB for later uploads.
    expect(Math.max(...grown) / MiB).toBeLessThan(240);
    expect([await sample(x, count - 1), await sample(x, 0)]).toEqual([12, 0]);
    expect(memory().uploading).toBe(0);
  });

  test("values in transit are counted", async () => {
    using x = empty([MiB]);
    await x.device.synchronize();
    expect(memory().uploading).toBe(0);
    let counted = 0;
    // On a machine with other work, the device may be done before this thread runs again.
    for (let times = 1; counted < 8 * MiB && times <= 16; times *= 2) {
      keepBusy(times);
      x.set(new Float32Array(MiB));
      x.set(new Float32Array(MiB));
      counted = memory().uploading;
      await x.device.synchronize();
      expect(memory().uploading).toBe(0);
    }
    expect(counted).toBe(8 * MiB);
  });

  test("each tensor gets its own values, although it or the array is changed before they arrive", async () => {
    const count = 5 * MiB + 3;
    const values = new Float32Array(count);
    keepBusy();
    const kept: FloatTensor[] = [];
    for (let i = 0; i < 8; i++) {
      values.fill(i);
      const x = empty([count]);
      x.set(values);
      // Its memory goes to the next tensor while its values wait.
      if (i % 2 === 0) x.dispose();
      else kept.push(x);
    }
    values.fill(-1);
    for (const [i, x] of kept.entries())
      for (const at of [0, 4 * MiB - 1, 4 * MiB, count - 1]) expect(await sample(x, at)).toBe(2 * i + 1);
    for (const x of kept) x.dispose();
  });

  test("a worker that waits to upload ends when it is terminated, and does no harm", async () => {
    const source = `
      const a = heed.ones([${size}, ${size}]);
      for (let i = 0; i < ${products}; i++) heed.matmul(a, a).dispose();
      const x = heed.empty([${8 * MiB}]);
      const values = new Float32Array(${8 * MiB});
      parentPort.postMessage("ready");
      for (;;) x.set(values);
    `;
    const output = await expectChild(`
      const source = ${JSON.stringify(source)};
      for (const wait of [0, 100]) {
        const one = worker(source);
        await once(one, "message");
        await new Promise((resolve) => setTimeout(resolve, wait));
        await one.terminate();
      }
      const x = heed.empty([${8 * MiB}]);
      x.set(new Float32Array(${8 * MiB}).fill(3));
      console.log((await heed.mean(x).item()), heed.device().memory().uploading);
    `);
    expect(output).toBe("3 0");
  });
});
