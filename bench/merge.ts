import type { Peaks } from "./peaks.js";
import type { Run } from "./report.js";
import { statistics } from "./statistics.js";

/** Puts runs of parts of a suite together. If several runs have a row, the row of the last run counts. */
export function merged(runs: readonly Run[]): Run {
  const last = runs.at(-1)!;
  for (const { machine, threads, seconds, rounds } of runs)
    if (machine !== last.machine || threads !== last.threads || seconds !== last.seconds || rounds !== last.rounds)
      throw new Error(
        `--merge: expected runs of one machine, with the same threads, --seconds and --rounds, got ` +
          [machine, threads, seconds, rounds].join(", ") +
          ` beside ${[last.machine, last.threads, last.seconds, last.rounds].join(", ")}`,
      );
  const rows = new Map(
    runs.flatMap(({ rows }) => rows.map((row) => [[row.name, row.shape, row.dtype].join(), row] as const)),
  );
  return {
    ...last,
    peaks: middle(runs.flatMap(({ peaks }) => peaks ?? [])),
    peers: Object.assign({}, ...runs.map(({ peers }) => peers)) as Run["peers"],
    rows: [...rows.values()],
  };
}

/** Returns the median of each peak. */
export function middle(all: readonly Peaks[]): Peaks | null {
  if (all.length === 0) return null;
  const of = (kind: keyof Peaks): number => statistics(all.map((one) => one[kind] ?? NaN)).median;
  return { f32: of("f32"), ...(all[0]!.bf16 && { bf16: of("bf16") }), read: of("read") };
}
