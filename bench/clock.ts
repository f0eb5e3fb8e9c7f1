import { Bench, type FnReturnedObject } from "tinybench";

/** Runs once and returns the milliseconds: those by the clock of the CPU, or those that the run itself returns. */
export type Sample = () => Promise<number>;

export function sampleOf(
  run: () => unknown,
  before: () => unknown = () => undefined,
  after: () => unknown = () => undefined,
): Sample {
  return async () => {
    await before();
    const start = performance.now();
    const own = await run();
    await after();
    return typeof own === "number" ? own : performance.now() - start;
  };
}

/**
 * Takes samples. `times` takes them until they, with everything around them, have lasted `seconds`; it takes at least
 * one.
 */
export class Clock {
  #last = 0;

  constructor(private readonly sample: Sample) {}

  async once(): Promise<number> {
    return (this.#last = await this.sample());
  }

  async times(seconds: number): Promise<number[]> {
    // After a pause the first run finds cold caches, which makes no difference to a long run.
    if (this.#last < seconds * 250) await this.once();
    const bench = new Bench({ time: seconds * 1000, iterations: 1, warmup: false, retainSamples: true, throws: true });
    bench.add("run", async () => {
      const start = performance.now();
      const overriddenDuration = await this.once();
      return { overriddenDuration, overriddenIterationCost: performance.now() - start } satisfies FnReturnedObject;
    });
    await bench.run();
    const { result } = bench.tasks[0]!;
    if (!("latency" in result)) throw new Error(`expected a result, got ${result.state}`);
    return [...(result.latency.samples ?? [])];
  }
}
