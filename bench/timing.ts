import { type Device, device } from "heed";
import type { Case, Prepared } from "./case.js";
import { Clock, type Sample, sampleOf } from "./clock.js";

/** How a case is timed: by the CPU's clock, or by the events of a CUDA device for what does not wait itself. */
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

/** Least milliseconds between two events: what they may add must not count. */
const span = 2;

/** By the device's events, around as many runs in a row as last `span`. */
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
