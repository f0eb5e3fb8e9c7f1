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

/** Takes samples of one contender. */
export class Clock {
  constructor(private readonly sample: Sample) {}

  /** Runs once and returns the milliseconds. */
  once(): Promise<number> {
    return this.sample();
  }

  /**
   * Returns the milliseconds of at least `least` runs, and of as many as it takes until they, with everything around them,
   * have lasted `seconds`. A run that is not timed comes first, because the other contenders have emptied the caches.
   */
  async times(seconds: number, least: number): Promise<number[]> {
    await this.sample();
    const bench = new Bench({
      ...{ time: seconds * 1000, iterations: least },
      ...{ warmup: false, retainSamples: true, throws: true },
    });
    bench.add("run", async () => {
      const start = performance.now();
      const overriddenDuration = await this.sample();
      return { overriddenDuration, overriddenIterationCost: performance.now() - start } satisfies FnReturnedObject;
    });
    await bench.run();
    const { result } = bench.tasks[0]!;
    if (!("latency" in result)) throw new Error(`expected a result, got ${result.state}`);
    return [...(result.latency.samples ?? [])];
  }
}
