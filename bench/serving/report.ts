// The results of serving as lines for the terminal and as a section of the page of benchmarks.
import type { ContestantName } from "./child.js";
import type { Figures, Times } from "./figures.js";
import type { Format } from "./models.js";
import { type Finding, isMet } from "./finding.js";
import { rounded } from "../statistics.js";

/** Results of all contestants under a load. */
export interface ServingRow {
  model: string;
  format: Format;
  load: string;
  results: Partial<Record<ContestantName, Figures | { error: string }>>;
}

/** Findings of a scenario. */
export interface ScenarioRow {
  model: string;
  format: Format;
  findings: Finding[];
}

/** A whole run in the form that `--json` writes. */
export interface ServingRun {
  machine: string;
  date: string;
  threads: number;
  /** Seconds of each load. */
  seconds: number;
  /** Version of each peer by its name, or the reason why it has no results. */
  peers: Record<string, { version: string } | { error: string }>;
  rows: ServingRow[];
  scenarios: ScenarioRow[];
}

const timesText = (times: Times | null): string =>
  times === null ? "–" : [times.p50, times.p99, times.max].map((ms) => ms.toLocaleString("en")).join(" / ");
const memoryText = (bytes: number | null): string =>
  bytes === null ? "–" : `${Math.round(bytes / 2 ** 20).toLocaleString("en")} MiB`;

function cellsOf({ tokensPerSecond, requestsPerSecond, firstToken, betweenTokens, pause, memory }: Figures): string[] {
  return [
    tokensPerSecond.toLocaleString("en"),
    requestsPerSecond.toLocaleString("en"),
    timesText(firstToken),
    timesText(betweenTokens),
    pause.toLocaleString("en"),
    memoryText(memory),
  ];
}

const head = ["tokens/s", "requests/s", "first token, ms", "between tokens, ms", "pause, ms", "memory"];

/** Returns a row as lines for the terminal. */
export function lines(row: ServingRow | ScenarioRow): string {
  const { model, format } = row;
  if ("findings" in row)
    return [`${model}, ${format}`, ...row.findings.map((one) => `  ${findingText(one)}`)].join("\n");
  const results = Object.entries(row.results).map(([name, result]) => {
    const figures =
      "error" in result
        ? result.error
        : cellsOf(result)
            .map((cell, i) => `${head[i]} ${cell}`)
            .join("; ");
    return `  ${name}: ${figures}`;
  });
  return [`${model}, ${format}, ${row.load}`, ...results].join("\n");
}

function findingText(finding: Finding): string {
  const { text, got, unit, goal } = finding;
  const wanted =
    goal === null
      ? ""
      : ` (goal: at ${"least" in goal ? `least ${goal.least}` : `most ${goal.most}`}, ${isMet(finding) ? "met" : "SHORT"})`;
  return `${text}: ${got.toLocaleString("en")}${unit === "×" ? "" : " "}${unit}${wanted}`;
}

/** Returns the figures of rows that have goals: beside llama.cpp, and the pauses of the event loop. */
export function findingsOf({ load, results }: ServingRow): Finding[] {
  const { heed, "llama.cpp": llama } = results;
  if (!heed || "error" in heed) return [];
  const pause: Finding = { text: `${load}: pause of the event loop`, got: heed.pause, unit: "ms", goal: { most: 50 } };
  if (!llama || "error" in llama) return [pause];
  const ratio = rounded(heed.tokensPerSecond / llama.tokensPerSecond);
  const compared = load === "8 callers" || load === "32 callers";
  const found: Finding[] = [
    pause,
    { text: `${load}: speed relative to llama.cpp`, got: ratio, unit: "×", goal: compared ? { least: 1.5 } : null },
  ];
  if (compared && heed.betweenTokens && llama.betweenTokens) {
    const most = llama.betweenTokens.p99;
    found.push({ text: `${load}: p99 between tokens`, got: heed.betweenTokens.p99, unit: "ms", goal: { most } });
  }
  return found;
}

/** Returns all findings of a run with the model that each is about. */
function allFindings({ rows, scenarios }: ServingRun): { model: string; format: Format; finding: Finding }[] {
  return [
    ...scenarios.flatMap(({ model, format, findings }) => findings.map((finding) => ({ model, format, finding }))),
    ...rows.flatMap((row) => findingsOf(row).map((finding) => ({ model: row.model, format: row.format, finding }))),
  ];
}

/** Returns the number of goals that are met, and a line for each goal that is not. */
export function shortfalls(run: ServingRun): string {
  const goals = allFindings(run).filter(({ finding }) => finding.goal !== null);
  const short = goals.filter(({ finding }) => !isMet(finding));
  const count = `${goals.length - short.length} of ${goals.length} goals of serving met${short.length ? "; not met:" : ""}`;
  return [count, ...short.map(({ model, format, finding }) => `  ${model}, ${format}: ${findingText(finding)}`)].join(
    "\n",
  );
}

/** Returns the rows that the chart shows: those with callers. */
export function chartedRows({ rows }: ServingRun): ServingRow[] {
  return rows.filter(({ load }) => load.includes("caller"));
}

/** Says how serving is measured, at the beginning of its section of the page. */
export const servingHead = `## Serving

\`npm run bench:serve -- --write\` writes this section. Many requests at the same time are answered in one process, by
heed's \`Engine\` and by one context of llama.cpp with a sequence for each request.

- "8 callers" have one request each at a time, and make the next when it is answered. "Arrivals" come at random times
  (a Poisson process), at a share of the requests per second that the contestant itself reached with callers.
- The lengths of prompts and answers are random, and the same for all. All tokens are the likeliest ones.
- The contestants take turns, each in a process of its own.
- Tokens are checked before anything is timed: heed's must be those of the request alone, a peer's must be as likely as
  rounding allows.
- Times are the median / the 99th percentile / the longest. A pause is the longest time that the event loop did not run.
- Memory is the most that the process had beyond what it had before it loaded the model.
- Over HTTP, the callers are a process of their own, which shares the cores with the server. What they are compared with
  are callers in the process who read the text in parts, too.
- transformers.js is not measured: it computes each call by itself, and reads other files.`;

/** Returns the part of the section about one machine. `chart` is the name of the picture beside it, if there is one. */
export function servingSection(run: ServingRun, chart: string | null): string {
  const versions = Object.entries(run.peers).map(([name, peer]) =>
    "version" in peer ? `- ${name} ${peer.version}` : `- ${name}: not in this run (${peer.error})`,
  );
  const subjects = [...new Set(run.rows.map(({ model, format }) => `${model}, ${format}`))];
  const tables = subjects.map((subject) => {
    const rows = run.rows.filter(({ model, format }) => `${model}, ${format}` === subject);
    return [`#### ${subject}`, loadTable(rows), ...gapsOf(rows)].join("\n\n");
  });
  const goals = allFindings(run).filter(({ finding }) => finding.goal !== null || finding.unit !== "×");
  const list = goals.map(({ model, format, finding }) => `- ${model}, ${format}: ${findingText(finding)}`);
  return [
    `### Serving on ${run.machine}`,
    `Measured on ${run.date}, on ${run.threads} threads. Each load lasted ${run.seconds} s.`,
    versions.length ? versions.join("\n") : "There are no peers in this run.",
    ...(chart ? [`![tokens per second of each contestant, on ${run.machine}](${chart})`] : []),
    ...tables,
    ...(list.length ? ["#### Promises", list.join("\n")] : []),
  ].join("\n\n");
}

function loadTable(rows: readonly ServingRow[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const columns = ["load", "contestant", ...head];
  const body = rows.flatMap(({ load, results }) =>
    Object.entries(results).flatMap(([name, result]) =>
      "error" in result ? [] : [line([load, name, ...cellsOf(result)])],
    ),
  );
  return [line(columns), line(columns.map((_, i) => (i > 1 ? "---:" : "---"))), ...body].join("\n");
}

/** Returns the reasons why results are missing. */
function gapsOf(rows: readonly ServingRow[]): string[] {
  const reasons = rows.flatMap(({ load, results }) =>
    Object.entries(results).flatMap(([name, result]) =>
      "error" in result ? [`- ${name} has no result for ${load}: ${result.error}`] : [],
    ),
  );
  return reasons.length ? [reasons.join("\n")] : [];
}
