// The results of bench:tfjs as lines for the terminal and as a section of the page of benchmarks.
import { rounded, type Statistics, timesText } from "../statistics.js";

/** Milliseconds of a row on each backend, or the reason why there are none. */
export interface TfjsRow {
  name: string;
  shape: string;
  goal: number | null;
  results: Record<string, Statistics | { error: string }>;
}

/** A whole run in the form that `--write` keeps. */
export interface TfjsRun {
  machine: string;
  date: string;
  threads: number;
  /** Threads of tfjs-backend-wasm. */
  wasmThreads: number;
  /** Version of TensorFlow.js. */
  version: string;
  rows: TfjsRow[];
}

const median = (result: TfjsRow["results"][string] | undefined): number | null =>
  result && "median" in result ? result.median : null;

/** Returns how many times as fast as another backend heed is, or null. */
export function factor({ results }: TfjsRow, backend: string): number | null {
  const [ours, theirs] = [median(results.heed), median(results[backend])];
  return ours && theirs ? rounded(theirs / ours) : null;
}

/** Returns a row as a line for the terminal. */
export function line(row: TfjsRow): string {
  const results = Object.entries(row.results).map(
    ([name, result]) => `${name} ${"median" in result ? `${timesText(result)} ms` : result.error}`,
  );
  return `${row.name}, ${row.shape}: ${results.join("; ")}${goalText(row)}`;
}

function goalText(row: TfjsRow): string {
  const got = factor(row, "wasm");
  if (row.goal === null || got === null) return "";
  return ` (${got} × wasm; goal ${row.goal} ×, ${got >= row.goal ? "met" : "SHORT"})`;
}

const threadsOf = (count: number): string => `${count} ${count === 1 ? "thread" : "threads"}`;

/** Says how the programs are measured, at the beginning of their section of the page. */
export const tfjsHead = `## TensorFlow.js

The same programs of TensorFlow.js on the backends heed (\`heed/tfjs\`), wasm (tfjs-backend-wasm, with SIMD) and cpu
(tfjs-backend-cpu), in turn, in one process. Milliseconds are the median / the fastest run, with the read of the result.
Results are compared before the times are taken. The GPT uses heed's attention and norms on heed, and the operations of
TensorFlow.js elsewhere. \`npm run bench:tfjs -- --write\` renews this section.`;

/** Returns the part of the section about one machine. */
export function tfjsSection(run: TfjsRun): string {
  const cell = (result: TfjsRow["results"][string] | undefined): string =>
    !result ? "–" : "median" in result ? timesText(result) : "not supported";
  const rows = run.rows.map((row) => {
    const goal = row.goal === null ? "–" : `${row.goal} ×`;
    const times = ["heed", "wasm", "cpu"].map((name) => cell(row.results[name]));
    const ratio = factor(row, "wasm");
    return `| ${[row.name, row.shape, ...times, ratio === null ? "–" : `${ratio} ×`, goal].join(" | ")} |`;
  });
  return [
    `### TensorFlow.js on ${run.machine}`,
    "",
    `Measured on ${run.date} with TensorFlow.js ${run.version}. heed had ${threadsOf(run.threads)}, wasm ${threadsOf(run.wasmThreads)}.`,
    "",
    "| program | size | heed, ms | wasm, ms | cpu, ms | heed beside wasm | goal |",
    "| ------- | ---- | -------: | -------: | ------: | ---------------: | ---: |",
    ...rows,
  ].join("\n");
}
