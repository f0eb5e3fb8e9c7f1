/** A worker in the background computes what it always does. That it gives way: test/native/thread_pool_test.cc. */
import { expect, test } from "vitest";
import { setBackground } from "../lib/core/device.js";
import { expectChild } from "./support/child.js";
import { noCuda } from "./support/cuda.js";
import { testUnless } from "./support/skip.js";
import { trainProgram } from "./support/train-program.js";

test("a worker in the background computes the same, beside the work of the main thread", async () => {
  const train = trainProgram(6);
  const output = await expectChild(`
    ${train}
    const w = worker(${JSON.stringify(`heed.setBackground(true); ${train} parentPort.postMessage(await train(1));`)});
    const result = once(w, "message");
    const [x, y] = [heed.randn([64, 512], { seed: 3, device: "cpu" }), heed.randn([512, 512], { seed: 4, device: "cpu" })];
    let over = false;
    const end = result.then(() => (over = true));
    while (!over) {
      const product = heed.matmul(x, y);
      await product.data();
      product.dispose();
    }
    await end;
    console.log(JSON.stringify((await result)[0]) === JSON.stringify(await train(1)));
  `);
  expect(output).toBe("true");
});

test("setBackground takes a boolean", () => {
  expect(() => setBackground(1 as never)).toThrow(/background to be a boolean/);
});

testUnless(noCuda)("setBackground comes before the use of a CUDA device", async () => {
  const output = await expectChild(`
    const train = async (on) => {
      heed.setBackground(on);
      const x = heed.add(heed.ones([3], { device: "cuda:0" }), 1);
      const values = await x.data();
      try { heed.setBackground(!on); } catch (error) { console.log(...values, error.code, error.message); }
    };
    await train(true);
  `);
  expect(output).toBe(
    "2 2 2 ERR_DEVICE setBackground: expected to be called before this thread uses cuda:0, got a later call",
  );
});
