/** Milliseconds of one run by the clock of the CPU; or what the run itself says. */
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

/** Samples for `seconds`, one at least. */
export class Clock {
  #last = 0;

  constructor(private readonly sample: Sample) {}

  async once(): Promise<number> {
    return (this.#last = await this.sample());
  }

  async times(seconds: number): Promise<number[]> {
    // After a pause the first run finds cold caches; a long one does not notice.
    if (this.#last < seconds * 250) await this.once();
    const samples: number[] = [];
    const end = performance.now() + seconds * 1000;
    do samples.push(await this.once());
    while (performance.now() < end);
    return samples;
  }
}
