/** What `npm run experiments` runs: one file an experiment. */
import type { Plot } from "./plot.js";

/** `Result` is kept as JSON; pages and plots are made of it alone. */
export interface Experiment<Result> {
  /** Of its files: docs/experiments/NAME.md, NAME-PLOT.svg and bench/results/experiments/NAME.json. */
  name: string;
  /** The page's title: the question. */
  title: string;
  /** Measures. `quick`: in seconds, to see that it works at all. */
  run(quick: boolean): Promise<Result>;
  page(result: Result): Page;
}

export interface Page {
  /** What comes under the title; `![…](plot:NAME)` shows a plot. */
  text: string;
  plots: Record<string, Plot>;
}

/** A table in Markdown; numbers stand at the right. */
export function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const line = (cells: readonly (string | number)[]): string => `| ${cells.join(" | ")} |`;
  const rule = head.map((_, i) => (rows.every((row) => typeof row[i] === "number") ? "---:" : "---"));
  return [line(head), line(rule), ...rows.map(line)].join("\n");
}

/** Three digits that count. */
export function round(value: number): number {
  return Number(value.toPrecision(3));
}
