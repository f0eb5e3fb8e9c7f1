import { type Device, device } from "heed";
import type { Case, Prepared } from "./case.js";
import { Clock, type Sample, sampleOf } from "./clock.js";

/** Returns the clock of a case: events of a CUDA device if the run does not wait itself, otherwise the clock of the CPU. */
export async function clockOf(one: Case, { run, before }: Prepared): Promise<Clock> {
  const where = device(one.device);
  const settled = (): Promise<void> => where.synchronize();
  const prepared = async (): Promise<void> => {
    before?.();
    await settled();
  };
  if (where.kind === "cuda" && !before) {
    const first = run();
    if (!(first instanceof Promise)) return new Clock(await eventSample(where, run));
    await first;
  }
  return new Clock(sampleOf(run, prepared, settled));
}

/** Least milliseconds between two events, so that the time of the events themselves does not count. */
const span = 2;

/** Returns a sample that takes the time between two events around as many runs as last `span`. */
async function eventSample(where: Device, run: Prepared["run"]): Promise<Sample> {
  const sample = async (repeats: number): Promise<number> => {
    const total = await where.elapsed(() => {
      for (let i = 0; i < repeats; i++) void run();
    });
    return total / repeats;
  };
  await sample(1);
  const repeats = Math.max(1, Math.ceil(span / Math.max(await sample(1), 1e-3)));
  return () => sample(repeats);
}
