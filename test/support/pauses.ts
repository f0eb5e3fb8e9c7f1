/** Measures how long the event loop is held up. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { type Pauses, TurnWatch } from "./turns.js";

/** Returns the longest pauses while `work` runs. */
export async function pausesOf(work: () => Promise<unknown>): Promise<Pauses> {
  const watch = new TurnWatch();
  try {
    await work();
  } finally {
    watch.stop();
  }
  return watch.longest();
}

/**
 * The longest time, in milliseconds, for which anything may keep the event loop busy, unless an idle process takes
 * longer.
 */
const mostBusy = 50;
/**
 * The longest time asleep. A thread that holds a lock for a moment may itself be waiting for a core, on a machine with
 * more work than cores.
 */
const mostAsleep = 300;

/**
 * Expects that no turn of the event loop during `work` takes longer than 50 ms, or than twice the longest turn of an
 * idle process. It takes the least of three measurements, because other work of the machine can only increase it.
 * `asleep` is the number of milliseconds for which a turn may sleep.
 */
export async function expectNoPause(work: () => Promise<unknown>, asleep = mostAsleep): Promise<void> {
  const idle = await pausesOf(() => sleep(100));
  const allowed = { busy: Math.max(mostBusy, 2 * idle.busy), asleep: Math.max(asleep, 2 * idle.asleep) };
  const least: Pauses = { busy: Infinity, asleep: Infinity };
  for (let i = 0; i < 3 && !within(least, allowed); i++) {
    const { busy, asleep } = await pausesOf(work);
    least.busy = Math.min(least.busy, busy);
    least.asleep = Math.min(least.asleep, asleep);
  }
  expect(within(least, allowed), `${JSON.stringify(least)} ms within ${JSON.stringify(allowed)}`).toBe(true);
}

function within(pauses: Pauses, allowed: Pauses): boolean {
  return pauses.busy <= allowed.busy && pauses.asleep <= allowed.asleep;
}
