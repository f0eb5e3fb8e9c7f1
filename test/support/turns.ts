/** Measures the turns of the event loop. */
import { readFileSync } from "node:fs";

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

/** Watches the turns of the event loop until it is stopped. */
export class TurnWatch {
  #longest: Pauses = { busy: 0, asleep: 0 };
  #last = [performance.now(), ...coreTimes()] as const;
  readonly #timer = setInterval(() => this.#turn(), 1);

  /** Returns the longest turns since the last call. */
  longest(): Pauses {
    this.#turn();
    const longest = this.#longest;
    this.#longest = { busy: 0, asleep: 0 };
    return longest;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #turn(): void {
    const now = [performance.now(), ...coreTimes()] as const;
    const [all, busy, waiting] = now.map((time, i) => time - this.#last[i]!) as [number, number, number];
    // The event loop itself sleeps no longer than until the next millisecond.
    const asleep = all - busy - waiting;
    this.#longest = { busy: Math.max(this.#longest.busy, busy), asleep: Math.max(this.#longest.asleep, asleep) };
    this.#last = now;
  }
}

/** Keeps the thread busy for some milliseconds. */
export function busy(milliseconds: number): void {
  for (const end = performance.now() + milliseconds; performance.now() < end;);
}
