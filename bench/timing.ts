import { Bench } from "tinybench";
import { device } from "heed";
import type { Case, Prepared } from "./case.js";

/** Milliseconds of each run of a case within `seconds`. */
export async function time(one: Case, prepared: Prepared, seconds: number): Promise<number[]> {
  const where = device(one.device);
  if (where.kind === "cpu")
    return wallTimes(async () => {
      await prepared.run();
      await where.synchronize();
    }, seconds);
  const first = prepared.run();
  if (first instanceof Promise) {
    await first;
    return wallTimes(async () => prepared.run(), seconds);
  }
  return deviceTimes(one, prepared, seconds);
}

/** By the clock of the CPU. */
async function wallTimes(run: () => Promise<void>, seconds: number): Promise<number[]> {
  const bench = new Bench({
    time: seconds * 1000,
    iterations: 3,
    warmupTime: 0,
    warmupIterations: 1,
    retainSamples: true,
  });
  bench.add("run", run);
  await bench.run();
  const { result } = bench.tasks[0]!;
  if (result.state === "errored") throw result.error;
  if (!("latency" in result)) throw new Error(`no result: ${result.state}`);
  return [...(result.latency.samples ?? [])];
}

/** Least milliseconds between two events: what they may add must not count. */
const span = 2;

/** By the device's events, around as many runs in a row as last `span`. */
async function deviceTimes(one: Case, prepared: Prepared, seconds: number): Promise<number[]> {
  const where = device(one.device);
  let repeats = 1;
  const sample = async (): Promise<number> => {
    const total = await where.elapsed(() => {
      for (let i = 0; i < repeats; i++) void prepared.run();
    });
    return total / repeats;
  };
  await sample();
  repeats = Math.max(1, Math.ceil(span / Math.max(await sample(), 1e-3)));
  await sample();
  const samples: number[] = [];
  const end = performance.now() + seconds * 1000;
  while (samples.length < 3 || performance.now() < end) samples.push(await sample());
  return samples;
}
