/** Measures what a process holds, and finds what it has not given back. */
import { readdirSync, statfsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Device } from "heed";
import { collectGarbage } from "../support/gc.js";
import type { Pauses } from "../support/turns.js";

/** Counts, by name, everything that has to return to its first value. */
export type Held = Record<string, number>;

const entriesOf = (folder: string): number => (process.platform === "linux" ? readdirSync(folder).length : 0);

/** Counts the live tensors of the devices. */
export function tensorsHeld(devices: readonly Device[]): Held {
  const held: Held = {};
  for (const device of devices) {
    const { live, tensors } = device.memory();
    held[`bytes on ${device}`] = live;
    held[`tensors on ${device}`] = tensors;
  }
  return held;
}

/** Counts handles of Node.js, open files and threads of the process, and bytes on a disk of its own. */
export function resourcesHeld(disk: string | null): Held {
  const held: Held = { "open files": entriesOf("/proc/self/fd"), threads: entriesOf("/proc/self/task") };
  for (const name of process.getActiveResourcesInfo()) held[name] = (held[name] ?? 0) + 1;
  if (disk !== null) {
    const { blocks, bfree, bsize } = statfsSync(disk);
    held["bytes on the disk"] = (blocks - bfree) * bsize;
  }
  return held;
}

/** Describes everything of which there is more than before. */
export function excess(before: Held, now: Held): string[] {
  return Object.entries(now).flatMap(([name, count]) => {
    const was = before[name] ?? 0;
    return count > was ? [`${count} ${name}, ${was} at the start`] : [];
  });
}

/**
 * Collects garbage until there is no more of anything than before, for at most some seconds, because the system and
 * other threads need time to close things. Resolves to a description of what is left then.
 */
export async function whatIsLeft(look: () => Held, before: Held): Promise<string[]> {
  const end = performance.now() + 10_000;
  for (;;) {
    await collectGarbage();
    const left = excess(before, look());
    if (left.length === 0 || performance.now() > end) return left;
    await sleep(50);
  }
}

/** Returns the difference between the minimum of the last quarter and the minimum of the third. A leak raises it. */
export function growth(values: readonly number[]): number {
  const part = (from: number, to: number): number =>
    Math.min(...values.slice(Math.floor(from * values.length), Math.floor(to * values.length)));
  return part(3 / 4, 1) - part(1 / 2, 3 / 4);
}

/** The longest time in milliseconds that a turn of the event loop may work. */
export const longestTurn = 50;

/** The longest turns of a period of work. */
export interface PeriodTurns {
  pauses: Pauses;
  /** True if a device or the process had no memory left, so that V8 collected all garbage, maybe again and again. */
  withoutMemory: boolean;
}

/** Returns the longest turns of the periods with memory, and of those without. */
export function longestOf(periods: readonly PeriodTurns[]): [withMemory: Pauses, withoutMemory: Pauses] {
  const longest = (of: readonly PeriodTurns[]): Pauses => ({
    busy: Math.max(0, ...of.map(({ pauses }) => pauses.busy)),
    asleep: Math.max(0, ...of.map(({ pauses }) => pauses.asleep)),
  });
  return [
    longest(periods.filter(({ withoutMemory }) => !withoutMemory)),
    longest(periods.filter(({ withoutMemory }) => withoutMemory)),
  ];
}

/** Describes the longest turns, in lines for the closing figures. */
export function turnLines(periods: readonly PeriodTurns[]): string {
  const ms = (time: number): string => `${time.toFixed(0)} ms`;
  const [usual, without] = longestOf(periods);
  return `event loop        worked for at most ${ms(usual.busy)} in a turn, and slept for at most ${ms(usual.asleep)} within one;
                  without memory ${ms(without.busy)} and ${ms(without.asleep)}`;
}
