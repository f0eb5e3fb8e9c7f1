/** Measures how much processor time something takes. */
import { expect } from "vitest";

/**
 * Expects that `work` takes less than `most` milliseconds of this process's processor time. It takes the least of up
 * to three measurements: the time is that of all threads, so that a collection of what other tests left behind, or
 * other work of the machine, can only increase it.
 */
export function expectLittleWork(most: number, work: () => void): void {
  let least = Infinity;
  for (let i = 0; i < 3 && least >= most; i++) {
    const began = process.cpuUsage();
    work();
    const { user, system } = process.cpuUsage(began);
    least = Math.min(least, (user + system) / 1000);
  }
  expect(least).toBeLessThan(most);
}
