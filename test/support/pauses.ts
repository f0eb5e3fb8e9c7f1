/** Measures how long the event loop is held up. */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";

/** Durations of the longest turns of the event loop on the main thread, in milliseconds. */
export interface Pauses {
  /** CPU time in milliseconds. */
  busy: number;
  /** Time asleep within a turn, in milliseconds: waiting for a lock, a file or another thread. */
  asleep: number;
}

/**
 * Returns the milliseconds for which the main thread has had a core so far, and for which it has waited for one. On a
 * machine with more work than cores, a turn is long although nothing holds it up. If the system does not tell, all time
 * counts as work.
 */
function coreTimes(): [busy: number, waiting: number] {
  try {
    const [busy, waiting] = readFileSync("/proc/self/schedstat", "utf8").split(" ");
    return [Number(busy) / 1e6, Number(waiting) / 1e6];
  } catch {
    return [performance.now(), 0];
  }
}

/** Returns the longest pauses while `work` runs. */
export async function pausesOf(work: () => Promise<unknown>): Promise<Pauses> {
  const longest: Pauses = { busy: 0, asleep: 0 };
  let last = [performance.now(), ...coreTimes()] as const;
  const turn = (): void => {
    const now = [performance.now(), ...coreTimes()] as const;
    const [all, busy, waiting] = [now[0] - last[0], now[1] - last[1], now[2] - last[2]];
    longest.busy = Math.max(longest.busy, busy);
    // The event loop itself sleeps no longer than until the next millisecond.
    longest.asleep = Math.max(longest.asleep, all - busy - waiting);
    last = now;
  };
  const timer = setInterval(turn, 1);
  try {
    await work();
  } finally {
    clearInterval(timer);
    turn();
  }
  return longest;
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
