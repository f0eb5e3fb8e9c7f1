/**
 * Tests several threads with heed, and ends of threads and processes with pending work. Each scenario is a process of
 * its own, so that a crash appears as an exit code.
 */
import { expect, test } from "vitest";
import { expectChild, patience, runChild } from "./support/child.js";
import { nightly } from "./support/nightly.js";
import { onEachDevice } from "./support/targets.js";
import { trainProgram } from "./support/train-program.js";

onEachDevice((name) => {
  const size = name === "cpu" ? 512 : 64;
  const products = (count: number): string => `
    const a = heed.ones([${size}, ${size}]);
    for (let i = 0; i < ${count}; i++) heed.matmul(a, a).dispose();
  `;
  /** Seconds of work in the queue, in tasks of a few milliseconds. */
  const flood = products(2000);
  /**
   * Work for a worker. At the worker's end the CPU drops the tasks that have not begun, but CUDA finishes those in its
   * stream.
   */
  const load = products(name === "cpu" ? 2000 : 50);

  // The software device is slow.
  const train = trainProgram(name === "cpu" ? 20 : 5);

  test("several workers train at once with the same results as one thread alone", async () => {
    const output = await expectChild(`${train}
    const source = ${JSON.stringify(`${train} parentPort.postMessage(await train(workerData));`)};
    const seeds = [1, 2, 3, 4];
    const workers = seeds.map((seed) => worker(source, seed));
    const together = await Promise.all(workers.map(async (w) => (await once(w, "message"))[0]));
    const alone = [];
    for (const seed of seeds) alone.push(await train(seed));
    console.log(JSON.stringify(together) === JSON.stringify(alone), new Set(together.map(({ losses }) => losses.at(-1))).size);
  `);
    expect(output).toBe("true 4");
  });

  test("heed may be loaded only in a worker, several times in a row", async () => {
    const output = await expectChild(`
    for (let i = 0; i < 5; i++) {
      const w = worker("const x = heed.add(heed.tensor([1, 2]), workerData); parentPort.postMessage(await x.data());", i);
      const [[data]] = await Promise.all([once(w, "message"), once(w, "exit")]);
      console.log(...data);
    }
  `);
    expect(output).toBe("1 2\n2 3\n3 4\n4 5\n5 6");
  });

  test("terminating workers with a long queue and pending reads does no harm", async () => {
    const source = `${load}
    a.data().then(() => parentPort.postMessage("done"));
    parentPort.postMessage("ready");
    setInterval(() => heed.matmul(a, a), 1);
  `;
    const output = await expectChild(`
    const source = ${JSON.stringify(source)};
    for (let delay = 0; delay < 50; delay += ${nightly ? 5 : 12}) {
      const workers = [worker(source), worker(source)];
      await Promise.all(workers.map((w) => once(w, "message")));
      await new Promise((resolve) => setTimeout(resolve, delay));
      await Promise.all(workers.map((w) => w.terminate()));
    }
    const x = heed.add(heed.tensor([1, 2]), 1);
    console.log(...(await x.data()));
  `);
    expect(output).toBe("2 3");
  });

  test("a worker that throws with pending work ends like any worker", async () => {
    const output = await expectChild(`
    const source = ${JSON.stringify(`${load} a.data(); throw new Error("mine");`)};
    const [error] = await once(worker(source), "error");
    console.log(error.message);
  `);
    expect(output).toBe("mine");
  });

  test("process.exit does not wait for the queue", async () => {
    const { seconds, ...ended } = await runChild(`${flood} a.data(); process.exit(7);`);
    expect(ended).toMatchObject({ code: 7, signal: null, errors: "" });
    // All 2,000 products would take far longer.
    expect(seconds).toBeLessThan(10 * patience);
  });

  test("process.exit from a worker, and with workers at work", async () => {
    await expectChild(
      `
    const w = worker(${JSON.stringify(`${load} parentPort.postMessage(0); a.data();`)});
    await once(w, "message");
    ${flood}
    process.exit(3);
  `,
      3,
    );
  });

  test("a process ends by itself although work is in the queue, but not before a read has arrived", async () => {
    const { seconds, ...ended } = await runChild(flood);
    expect(ended).toMatchObject({ code: 0, signal: null, errors: "" });
    expect(seconds).toBeLessThan(10 * patience);
    const output = await expectChild(`
    const a = heed.ones([64, 64]);
    let x = a;
    for (let i = 0; i < 50; i++) x = heed.mul(heed.matmul(x, a), 1 / 64);
    x.data().then((data) => console.log(data[0]));
  `);
    expect(output).toBe("1");
  });

  test("an exception that nobody catches ends the process with its own code", async () => {
    const { code, errors } = await runChild(`${flood} throw new Error("mine");`);
    expect([code, errors]).toEqual([1, expect.stringContaining("Error: mine")]);
  });
});
