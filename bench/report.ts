// What is printed, and the page that is kept.
import { bestOf, goalText, type Row } from "./row.js";
import { rounded } from "./statistics.js";
import type { Peaks } from "./peaks.js";

/** A whole run, as `--json` writes it. */
export interface Run {
  machine: string;
  date: string;
  threads: number;
  /** Seconds of each contender in a row, and in how many turns. */
  seconds: number;
  rounds: number;
  /** On all threads. */
  peaks: Peaks | null;
  /** By name: a version, or why there are no results. */
  peers: Record<string, { version: string } | { error: string }>;
  rows: Row[];
}

const rateText = ({ rate }: Row): string => `${rate.value.toLocaleString("en")} ${rate.unit}`;
const peakText = ({ peak }: Row): string => (peak === undefined ? "" : `${Math.round(peak * 100)} %`);
const mebibytes = (bytes: number): string => `${Math.round(bytes / 2 ** 20).toLocaleString("en")} MiB`;

/** Aligned lines for the terminal. */
export function lines(row: Row): string {
  const best = bestOf(row);
  const main = [
    row.name.padEnd(26),
    row.dtype.padEnd(5),
    row.shape.padEnd(34),
    `${row.heed.median} ms`.padStart(12),
    rateText(row).padStart(22),
    peakText(row).padStart(6),
    best ? `${best.ratio}× ${best.name}` : "",
  ].join(" ");
  const others = Object.entries(row.peers).map(([name, peer]) => {
    if ("error" in peer) return `  ${name}: ${peer.error}`;
    return `  ${name}: ${peer.median} ms, ${peer.ratio}×${peer.memory === undefined ? "" : `, ${mebibytes(peer.memory)}`}`;
  });
  const own = row.heed.memory === undefined ? [] : [`  heed: ${mebibytes(row.heed.memory)}`];
  const goals = row.goals.map((goal) => `  ${goal.met ? "met" : "SHORT"}: ${goalText(goal)}`);
  return [main, ...own, ...others, ...goals].join("\n").trimEnd();
}

/** Which rows fall short of their goals, and by how much. */
export function shortfalls(rows: readonly Row[]): string {
  const all = rows.flatMap(({ goals }) => goals);
  if (all.length === 0) return "";
  const short = rows.flatMap((row) =>
    row.goals.filter(({ met }) => !met).map((goal) => `  ${row.name}, ${row.shape}, ${row.dtype}: ${goalText(goal)}`),
  );
  return [`${all.length - short.length} of ${all.length} goals met${short.length ? "; not:" : ""}`, ...short].join(
    "\n",
  );
}

/** docs/benchmarks.md and its like; `script` is the npm script that writes it, `chart` a picture beside it. */
export function benchmarkPage(run: Run, script: string, chart: string | null): string {
  const { rows, peaks, threads } = run;
  const versions = Object.entries(run.peers).map(([name, peer]) =>
    "version" in peer ? `- ${name} ${peer.version}` : `- ${name}: not in this run (${peer.error})`,
  );
  const peakLine = peaks
    ? ` Peaks on ${threads} threads, measured beside the rows: ` +
      [
        `f32 ${rounded(peaks.f32)} GFLOP/s`,
        ...(peaks.bf16 ? [`bf16 ${rounded(peaks.bf16)} GFLOP/s`] : []),
        `reading memory ${rounded(peaks.read)} GB/s.`,
      ].join(", ")
    : "";
  const head = [
    "what",
    "shape",
    "dtype",
    "heed, ms",
    "rate",
    "of peak",
    "memory",
    "others, ms",
    "to the best",
    "goals",
  ];
  const body = rows.map((row) => {
    const { median, quartiles, memory } = row.heed;
    const others = Object.entries(row.peers).map(([name, peer]) => {
      if ("error" in peer) return `${name} – (${peer.error})`;
      return `${name} ${peer.median}${peer.memory === undefined ? "" : `, ${mebibytes(peer.memory)}`}`;
    });
    const best = bestOf(row);
    return [
      row.name,
      row.shape,
      row.dtype,
      `${median} (${quartiles.join("–")})`,
      rateText(row),
      peakText(row),
      memory === undefined ? "" : mebibytes(memory),
      others.join("; "),
      best ? `${best.ratio}×` : "",
      row.goals.map((goal) => `${goal.met ? "met" : "**short**"}: ${goalText(goal)}`).join("; "),
    ];
  });
  const table = [head, head.map((_, i) => (i > 2 && i < 7 ? "---:" : "---")), ...body];
  return `# Benchmarks

Written by \`npm run ${script} -- --write\`; do not edit. Medians, and quartiles in brackets, of ${run.rounds} turns of
${rounded(run.seconds / run.rounds)} s for each contender, one after the other in the same minutes, each in a process of its own on ${threads}
threads. Every result is checked before it is timed. Ratios are a peer's time divided by heed's: above 1 heed is faster.
Memory is what a process takes beside what it had: of a training step with its model, of others for a run alone.

${run.machine}, ${run.date}.${peakLine}

${versions.length ? versions.join("\n") : "No peers in this run."}

${chart ? `![heed's speed by that of the fastest peer](${chart})\n\n` : ""}${table.map((cells) => `| ${cells.join(" | ")} |`).join("\n")}

${shortfallList(rows)}`;
}

function shortfallList(rows: readonly Row[]): string {
  const [first, ...rest] = shortfalls(rows).split("\n");
  return first ? `${[first, "", ...rest.map((line) => `- ${line.trim()}`)].join("\n").trimEnd()}\n` : "";
}
