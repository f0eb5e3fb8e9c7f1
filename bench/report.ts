// The results as lines for the terminal and as a page of the documentation.
import { bestOf, goalText, type Row } from "./row.js";
import { daggerOf, rounded, type Statistics, timesText, timeText, widestSpread } from "./statistics.js";
import type { Peaks } from "./peaks.js";

/** A whole run in the form that `--json` writes. */
export interface Run {
  machine: string;
  date: string;
  threads: number;
  /** Seconds that each contender has for a row. */
  seconds: number;
  /** Number of turns that the seconds are divided into. */
  rounds: number;
  /** Peaks of the machine on all threads. */
  peaks: Peaks | null;
  /** Version of each peer by its name, or the reason why it has no results. */
  peers: Record<string, { version: string } | { error: string }>;
  rows: Row[];
}

const rateText = ({ rate }: Row): string => `${rate.value.toLocaleString("en")} ${rate.unit}`;
const peakText = ({ peak }: Row): string => (peak === undefined ? "" : `${Math.round(peak * 100)} %`);
const mebibytes = (bytes: number): string => `${Math.round(bytes / 2 ** 20).toLocaleString("en")} MiB`;

/** Returns a row as aligned lines for the terminal. */
export function lines(row: Row): string {
  const best = bestOf(row);
  const main = [
    row.name.padEnd(26),
    row.dtype.padEnd(5),
    row.shape.padEnd(34),
    `${row.heed.median} ms`.padStart(12),
    `(fastest ${row.heed.min})${daggerOf(row.heed)}`.padEnd(20),
    rateText(row).padStart(22),
    peakText(row).padStart(6),
    best ? `${best.ratio}× ${best.name}` : "",
  ].join(" ");
  const others = Object.entries(row.peers).map(([name, peer]) => {
    if ("error" in peer) return `  ${name}: ${peer.error}`;
    return `  ${name}: ${timesText(peer)} ms, ${peer.ratio}×${peer.memory === undefined ? "" : `, ${mebibytes(peer.memory)}`}`;
  });
  const own = row.heed.memory === undefined ? [] : [`  heed: ${mebibytes(row.heed.memory)}`];
  const goals = row.goals.map((goal) => `  ${goal.met ? "met" : "SHORT"}: ${goalText(goal)}`);
  return [main, ...own, ...others, ...goals].join("\n").trimEnd();
}

/** Returns the number of goals that are met, and a line for each goal that is not. */
export function shortfalls(rows: readonly Row[]): string {
  const all = rows.flatMap(({ goals }) => goals);
  if (all.length === 0) return "";
  const short = rows.flatMap((row) =>
    row.goals.filter(({ met }) => !met).map((goal) => `  ${row.name}, ${row.shape}, ${row.dtype}: ${goalText(goal)}`),
  );
  return [`${all.length - short.length} of ${all.length} goals met${short.length ? "; not met:" : ""}`, ...short].join(
    "\n",
  );
}

/** Returns the beginning of a page. `script` is the npm script that writes the page. */
export function pageHead(script: string): string {
  return `# Benchmarks

\`npm run ${script} -- --write\` writes this page; do not edit it. [How heed is compared with other
engines](performance/peers.md) describes the method.

- Every result is checked before it is timed. The contenders take turns within the same minutes, each in a process of
  its own.
- Times are in milliseconds. For heed they are the median, with the quartiles in brackets, and the fastest run; for
  others the median / the fastest run.
- A dagger (†) marks runs whose quartiles are more than ${100 * widestSpread} % of the median apart.
- A ratio is the time of the fastest peer divided by heed's, by the medians and by the fastest runs. Above 1, heed is
  faster. Goals are about medians.
- Memory is what a process takes beyond what it had before. For a training step it includes the model; for everything
  else it is what the run alone takes.
- A dash means that something was not measured.`;
}

/** Returns the sections of a run on one machine. `chart` is the name of the picture beside the page. */
export function machineSection(run: Run, chart: string | null): string {
  const { rows, peaks, threads } = run;
  const versions = Object.entries(run.peers).map(([name, peer]) =>
    "version" in peer ? `- ${name} ${peer.version}` : `- ${name}: not in this run (${peer.error})`,
  );
  const peakLine = peaks
    ? `\n\nThe peaks on ${threads} threads, measured beside the rows, are ` +
      [
        `f32 ${rounded(peaks.f32)} GFLOP/s`,
        ...(peaks.bf16 ? [`bf16 ${rounded(peaks.bf16)} GFLOP/s`] : []),
        `reading memory ${rounded(peaks.read)} GB/s.`,
      ].join(", ")
    : "";
  const all = rows.flatMap(({ heed, peers }) => [heed, ...Object.values(peers).filter((peer) => "median" in peer)]);
  const names = [...new Set(rows.map(({ name }) => name))];
  const parts = [
    `### ${run.machine}

Measured on ${run.date}, on ${threads} threads. Each contender had ${run.rounds} turns of ${rounded(run.seconds / run.rounds)} s and, however long they took, at least
${Math.min(...all.map(({ runs }) => runs))} timed runs.${peakLine}`,
    versions.length ? versions.join("\n") : "There are no peers in this run.",
    ...(chart ? [`![heed's speed relative to the fastest peer, on ${run.machine}](${chart})`] : []),
    ...names.map((name) =>
      section(
        name,
        rows.filter((row) => row.name === name),
      ),
    ),
    ...goalLists(rows),
  ];
  return parts.join("\n\n");
}

/** Returns the tables of the rows of one name: heed's figures, the others' times, memory, and the reasons for gaps. */
function section(name: string, rows: readonly Row[]): string {
  const others = [...new Set(rows.flatMap(({ peers }) => Object.keys(peers)))];
  const resultOf = (row: Row, name: string): (Statistics & { memory?: number }) | null => {
    const result = name === "heed" ? row.heed : row.peers[name];
    return result && "median" in result ? result : null;
  };
  const ratioText = (row: Row, by: "median" | "min"): string => {
    const best = bestOf(row, by);
    return best ? `${best.ratio}×` : "";
  };
  const speed = table(
    ["shape", "dtype", "heed, ms", "fastest, ms", "rate", "of peak", "ratio", "ratio, fastest"],
    rows.map((row) => {
      const { median, quartiles, min } = row.heed;
      return [
        `${timeText(median)} (${quartiles.map(timeText).join("–")})${daggerOf(row.heed)}`,
        timeText(min),
        ...[rateText(row), peakText(row), ratioText(row, "median"), ratioText(row, "min")],
      ];
    }),
    rows,
  );
  const times = table(
    ["shape", "dtype", ...others.map((name) => `${name}, ms`)],
    rows.map((row) =>
      others.map((name) => {
        const result = resultOf(row, name);
        return result ? timesText(result) : "–";
      }),
    ),
    rows,
  );
  const measured = ["heed", ...others].filter((name) => rows.some((row) => resultOf(row, name)?.memory !== undefined));
  const memory = table(
    ["shape", "dtype", ...measured.map((name) => `${name}, memory`)],
    rows.map((row) =>
      measured.map((name) => {
        const bytes = resultOf(row, name)?.memory;
        return bytes === undefined ? "–" : mebibytes(bytes);
      }),
    ),
    rows,
  );
  const gaps = rows.flatMap((row) =>
    Object.entries(row.peers).flatMap(([name, peer]) =>
      "error" in peer ? [`- ${name} has no result for ${row.shape}, ${row.dtype}:\n  ${peer.error}`] : [],
    ),
  );
  return [
    `#### ${name}`,
    speed,
    ...(others.length ? [times] : []),
    ...(measured.length ? [memory] : []),
    ...(gaps.length ? [gaps.join("\n")] : []),
  ].join("\n\n");
}

/** Returns a table whose lines begin with the shape and the dtype of a row. */
function table(head: readonly string[], cells: readonly string[][], rows: readonly Row[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const rule = head.map((_, i) => (i > 1 ? "---:" : "---"));
  return [line(head), line(rule), ...rows.map(({ shape, dtype }, i) => line([shape, dtype, ...cells[i]!]))].join("\n");
}

/** Returns the lists of the goals that are not met and of those that are. */
function goalLists(rows: readonly Row[]): string[] {
  const goals = rows.flatMap((row) => row.goals.map((goal) => ({ row, goal })));
  if (goals.length === 0) return [];
  const listOf = (title: string, met: boolean): string[] => {
    const lines = goals
      .filter(({ goal }) => goal.met === met)
      .map(({ row: { name, shape, dtype }, goal }) => `- ${name}, ${shape}, ${dtype}: ${goalText(goal)}`);
    return lines.length ? [title, lines.join("\n")] : [];
  };
  const count = goals.filter(({ goal }) => goal.met).length;
  const total = `${count} of ${goals.length} goals are met.`;
  return ["#### Goals", total, ...listOf("Not met:", false), ...listOf("Met:", true)];
}
