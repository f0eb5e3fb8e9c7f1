/** The types of an experiment, and helpers for its page. Each experiment that `npm run experiments` runs is one file. */
import type { Plot } from "./plot.js";

/** An experiment. Its `Result` is kept as JSON, and pages and plots are made from it alone. */
export interface Experiment<Result> {
  /** Name of its files: docs/experiments/NAME.md, NAME-PLOT.svg and bench/results/experiments/NAME.json. */
  name: string;
  /** Title of the page, which is the question that it answers. */
  title: string;
  /** Measures for minutes, or for seconds if `quick` is true, which shows only that the experiment works. */
  run(quick: boolean, seeds?: readonly number[]): Promise<Result>;
  /**
   * Seeds with which it measures by itself; undefined if it has only one. Lists of the result whose elements have a
   * `seed` then have those of each seed.
   */
  seeds?: readonly number[];
  /** Resolves to a result whose counts, which do not depend on the machine, are made anew; times stay as they are. */
  recount?(result: Result, quick: boolean): Promise<Result>;
  page(result: Result): Page;
}

export interface Page {
  /** Markdown below the title. `![…](plot:NAME)` shows a plot. */
  text: string;
  plots: Record<string, Plot>;
}

/** Returns the text of a page: its sections with an empty line between them. */
export function sections(...texts: readonly string[]): string {
  return `${texts.join("\n\n")}\n`;
}

/** Returns a table in Markdown. Columns of numbers are aligned to the right. */
export function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const line = (cells: readonly (string | number)[]): string => `| ${cells.join(" | ")} |`;
  const rule = head.map((_, i) => (rows.every((row) => typeof row[i] === "number") ? "---:" : "---"));
  return [line(head), line(rule), ...rows.map(line)].join("\n");
}

/** Rounds to three significant digits. */
export function round(value: number): number {
  return Number(value.toPrecision(3));
}

/** Returns a share in per cent, with so many digits after the point. A share that rounds to 0 has no sign. */
export function percent(share: number, digits = 0): string {
  return `${(100 * share).toFixed(digits).replace(/^-(?=[0.]+$)/, "")} %`;
}
