// Contenders take turns, so that whatever else the machine does disturbs all of them alike.
import { setTimeout } from "node:timers/promises";
import { spreadOf, type Statistics, statistics, widestSpread } from "./statistics.js";

/** Least number of timed runs of a contender in a row. */
export const leastRuns = 5;

/** Number of times that a row is measured at most. */
const mostAttempts = 2;

/** Something that is timed. */
export interface Contender {
  name: string;
  /** Returns the milliseconds of at least `least` runs, and of as many as last `seconds`, after one that is not timed. */
  time: (seconds: number, least: number) => Promise<number[]>;
}

export interface TurnOptions {
  /** Seconds that each contender has. */
  seconds: number;
  /** Number of turns that the seconds are divided into. */
  rounds: number;
  /** Milliseconds before each turn. @default 0 */
  pause?: number;
  /** True if one run a turn is enough and nothing is measured again. @default false */
  quick?: boolean;
}

/**
 * Times contenders turn by turn and returns their statistics, or the error of a contender that has failed, by name. If the
 * runs of a contender spread widely, something has disturbed the machine: all contenders are measured again, once, and the
 * attempt whose widest spread is smaller counts.
 */
export async function takeTurns(
  contenders: readonly Contender[],
  options: TurnOptions,
): Promise<Map<string, Statistics | Error>> {
  const errors = new Map<string, Error>();
  let best: { times: Map<string, Statistics>; spread: number } | null = null;
  const attempts = options.quick ? 1 : mostAttempts;
  for (let attempt = 0; attempt < attempts && (!best || best.spread > widestSpread); attempt++) {
    const times = await attemptOf(contenders, options, errors);
    const spread = Math.max(0, ...[...times.values()].map(spreadOf));
    if (!best || spread < best.spread) best = { times, spread };
  }
  // The error replaces the times that a contender had before it failed.
  return new Map<string, Statistics | Error>(
    contenders.map(({ name }) => [name, errors.get(name) ?? best!.times.get(name)!]),
  );
}

/** Measures all contenders once, except for those that have failed. Notes the errors of others that fail. */
async function attemptOf(
  contenders: readonly Contender[],
  { seconds, rounds, pause = 0, quick = false }: TurnOptions,
  errors: Map<string, Error>,
): Promise<Map<string, Statistics>> {
  const samples = new Map<string, number[]>(contenders.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++)
    for (const { name, time } of contenders) {
      if (errors.has(name)) continue;
      const own = samples.get(name)!;
      const least = quick ? 1 : Math.max(1, Math.ceil((leastRuns - own.length) / (rounds - round)));
      await setTimeout(pause);
      try {
        own.push(...(await time(seconds / rounds, least)));
      } catch (error) {
        errors.set(name, error as Error);
      }
    }
  return new Map([...samples].flatMap(([name, own]) => (errors.has(name) ? [] : [[name, statistics(own)] as const])));
}
