/** Measures how long the event loop is held up. */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";

/** The milliseconds that the longest turns of the event loop took on the main thread. */
export interface Pauses {
  /** The CPU time, in milliseconds. */
  busy: number;
  /** The time asleep within a turn, in milliseconds: waiting for a lock, a file or another thread. */
  asleep: number;
}

/**
 * Milliseconds that the main thread has had a core so far, and has waited for one: on a machine with more to do than it has
 * cores, a turn is long without anybody holding it. Where the system does not tell, all time counts as work.
 */
function coreTimes(): [busy: number, waiting: number] {
  try {
    const [busy, waiting] = readFileSync("/proc/self/schedstat", "utf8").split(" ");
    return [Number(busy) / 1e6, Number(waiting) / 1e6];
  } catch {
    return [performance.now(), 0];
  }
}

/** The longest pauses while `work` runs. */
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

/** Nothing may keep the event loop busy for longer, where an idle process does not. */
const mostBusy = 50;
/** Whoever holds a lock for a moment may be waiting for a core meanwhile, on a machine with more to do than it has cores. */
const mostAsleep = 300;

/**
 * Expects that no turn of the event loop takes longer for `work` than 50 ms, or than twice what one takes for nothing. The
 * least of three: what else the machine does only adds to it. `asleep` is how many milliseconds a turn may sleep.
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
