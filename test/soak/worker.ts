/** A thread of its own: heed's device queues, memory and handles belong to a thread. */
import { parentPort, workerData } from "node:worker_threads";
import { device, devices, HeedError, randn, matmul } from "heed";
import { learn, newSpeaker, say } from "./world.js";

export interface WorkerOrder {
  device: string;
  /** True if the worker continues until it is terminated. */
  endless: boolean;
}

/** The report of a worker that ends by itself. */
export type WorkerReport = { said: number[][]; losses: number[] } | { code: string; message: string };

async function work(on: string): Promise<WorkerReport> {
  using speaker = newSpeaker(on);
  return { said: await say(speaker), losses: await learn(on) };
}

/** Sends numbers from device to device and back, and reads them. It always enqueues more than has been done. */
async function circulate(on: string): Promise<never> {
  const others = devices().filter(({ name, available }) => available && name !== on);
  using x = randn([64, 64], { device: device(on), seed: 1 });
  for (;;) {
    const reads = others.map(({ name }) => {
      using product = matmul(x, x);
      using there = product.to(name);
      using back = there.to(on);
      return back.data();
    });
    void work(on);
    await Promise.all(reads);
  }
}

const { device: on, endless } = workerData as WorkerOrder;
if (endless) {
  parentPort!.postMessage("begun");
  await circulate(on);
}
try {
  parentPort!.postMessage(await work(on));
} catch (error) {
  if (!(error instanceof HeedError)) throw error;
  parentPort!.postMessage({ code: error.code, message: error.message } satisfies WorkerReport);
}
