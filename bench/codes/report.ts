// The results of bench:codes as lines for the terminal and as a section of the page of benchmarks.
import { daggerOf, rounded, type Statistics } from "../statistics.js";
import type { Peaks } from "../peaks.js";
import { boundOf, type Work } from "./bounds.js";
import { type Task, tokensOf } from "./contenders.js";

/** Milliseconds of a file and a task with each contender, or the reason why there are none. */
export interface CodesRow {
  file: string;
  /** True for a file that the caller has named: its model is another one. */
  given?: boolean;
  task: Task;
  /** Missing in runs that did not note it. */
  work?: Work;
  results: Record<string, Statistics | { error: string }>;
}

/** A whole run in the form that `--write` keeps. */
export interface CodesRun {
  machine: string;
  date: string;
  threads: number;
  rounds: number;
  /** Model of the files that the program writes. */
  model: string;
  /** Peaks of the machine. */
  peaks?: Peaks;
  /** Version of each peer by its name, or the reason why it has no results. */
  peers: Record<string, { version: string } | { error: string }>;
  rows: CodesRow[];
}

/** Names of heed as a contender: as it is by default, and with activations in 8 bits, as llama.cpp has them. */
export const [byDefault, inEightBits] = ["heed", "heed, 8 bits"] as const;
const peers = ["llama.cpp", "ik_llama.cpp"] as const;

/** Returns the tokens that a contender computes in a second, or null. */
function rateOf({ task, results }: CodesRow, name: string): number | null {
  const result = results[name];
  return result && "median" in result ? (1000 * tokensOf(task)) / result.median : null;
}

/** A comparison of a row, and what it should be at least. */
export interface CodesGoal {
  ours: string;
  theirs: string;
  least: number;
}

/** The least ratios with AVX-512: of a task in the default precision, and with activations in 8 bits. */
const goals: Record<Task["name"], readonly CodesGoal[]> = {
  prefill: [
    { ours: byDefault, theirs: "llama.cpp", least: 1.2 },
    { ours: inEightBits, theirs: "llama.cpp", least: 2.2 },
    { ours: inEightBits, theirs: "ik_llama.cpp", least: 1.2 },
  ],
  decode: [
    { ours: byDefault, theirs: "llama.cpp", least: 1.1 },
    { ours: inEightBits, theirs: "llama.cpp", least: 1.1 },
    { ours: inEightBits, theirs: "ik_llama.cpp", least: 1.1 },
  ],
  callers: [
    { ours: byDefault, theirs: "llama.cpp", least: 1.3 },
    { ours: inEightBits, theirs: "llama.cpp", least: 2.2 },
    { ours: inEightBits, theirs: "ik_llama.cpp", least: 1.2 },
  ],
};

/** The least ratios of any task with AVX2. */
const goalsOfAvx2: readonly CodesGoal[] = [
  { ours: byDefault, theirs: "llama.cpp", least: 1 },
  { ours: inEightBits, theirs: "llama.cpp", least: 1.2 },
  { ours: inEightBits, theirs: "ik_llama.cpp", least: 1.2 },
];

function goalsOf(task: Task, machine: string): readonly CodesGoal[] {
  return machine.includes("(avx2,") ? goalsOfAvx2 : goals[task.name];
}

/** Returns how many times as fast as a peer heed is in each comparison of a row; null where one of them is missing. */
export function ratiosOf(row: CodesRow): (number | null)[] {
  return goals[row.task.name].map(({ ours, theirs }) => {
    const [mine, other] = [rateOf(row, ours), rateOf(row, theirs)];
    return mine && other ? rounded(mine / other) : null;
  });
}

/** The file with which the others of the same model are compared: weights in floats of 16 bits. */
const inFloats = "F16";

/** Returns how many times as fast as the file in floats a file in codes is, by default; null where one of them is missing. */
function besideFloats(row: CodesRow, rows: readonly CodesRow[]): number | null {
  const task = JSON.stringify(row.task);
  const floats = rows.find((other) => other.file === inFloats && JSON.stringify(other.task) === task);
  if (!floats || floats === row || row.given) return null;
  const [mine, theirs] = [rateOf(row, byDefault), rateOf(floats, byDefault)];
  return mine && theirs ? rounded(mine / theirs) : null;
}

/** Returns a line for each precision of heed in which a row misses a goal: how near it is to what the machine can do. */
function boundLines(row: CodesRow, machine: string, peaks: Peaks): string[] {
  const { file, task, work, results } = row;
  const [ratios, least] = [ratiosOf(row), goalsOf(task, machine)];
  return [byDefault, inEightBits].flatMap((name) => {
    const missed = least.some((goal, i) => goal.ours === name && (ratios[i] ?? Infinity) < goal.least);
    const result = results[name];
    if (!missed || !work || !result || !("median" in result)) return [];
    // With AVX2 a code of 8 bits is multiplied by two digits in any case.
    const two = name === byDefault || (machine.includes("(avx2,") && file === "Q8_0");
    const digits = file === inFloats ? null : two ? 2 : 1;
    const bound = boundOf(task, work, result.median, { machine, digits, peaks });
    return bound === null ? [] : [`- ${file}, ${taskText(task)}, ${name}: it ${bound}.`];
  });
}

function taskText(task: Task): string {
  if (task.name === "prefill") return `prefill of ${task.prompt}`;
  return task.name === "decode" ? `decode of ${task.count}` : `${task.callers} callers`;
}

function cellOf(row: CodesRow, name: string): string {
  const rate = rateOf(row, name);
  if (rate === null) return "–";
  const text = rate.toLocaleString("en", { maximumSignificantDigits: 3 });
  return `${text}${daggerOf(row.results[name] as Statistics)}`;
}

const names = [byDefault, inEightBits, ...peers];

/** Returns a row as a line for the terminal. The run has the rows so far. */
export function line(row: CodesRow, { machine, rows }: CodesRun): string {
  const rates = names.map((name) => `${name} ${cellOf(row, name)}`);
  const ratios = ratiosOf(row).map((ratio, i) => {
    const { ours, theirs, least } = goalsOf(row.task, machine)[i]!;
    return ratio === null ? [] : [`${ours} ÷ ${theirs} ${ratio} (goal ${least}, ${ratio >= least ? "met" : "SHORT"})`];
  });
  const floats = besideFloats(row, rows);
  if (floats !== null) ratios.push([`heed ÷ its own ${inFloats} ${floats} (goal 1, ${floats >= 1 ? "met" : "SHORT"})`]);
  const errors = Object.entries(row.results).flatMap(([name, result]) =>
    "error" in result ? [`  ${name}: ${result.error}`] : [],
  );
  const text = `${row.file}, ${taskText(row.task)}, tokens/s: ${rates.join("; ")}`;
  return [text, ...ratios.flat().map((ratio) => `  ${ratio}`), ...errors].join("\n");
}

/** Says how the files are measured, at the beginning of their section of the page. */
export const codesHead = `## Files in codes

Files of GGUF with weights in blocks: tokens a second of heed, of llama.cpp and of its fork ik_llama.cpp, in turn, in the same
minutes, on the same files. "heed" rounds activations to 16 bits where a weight is in blocks, as it does by default; "heed, 8
bits" has \`activations: 8\` and, for callers, \`kvType: "f16"\`, which is what the others do. A prefill reads a prompt into an empty cache. A decode generates
after one token. Callers ask at once, each with a prompt of its own, and the tokens of their answers are divided by the whole
time. Ratios are those of the medians, beside the least that is wanted; the last one compares heed with itself on the file in
F16. A dagger (†) marks runs whose quartiles are more than 15 % of the median apart. Peaks are what bench/peaks.c reaches in
loops that do nothing else; a row far below them is not bounded by them.
\`npm run bench:codes -- --write\` renews this section.`;

function table(rows: readonly CodesRow[], machine: string): string {
  const ratio = (row: CodesRow): string[] => [
    ...ratiosOf(row).map((got, i) => (got === null ? "–" : `${got} (${goalsOf(row.task, machine)[i]!.least})`)),
    besideFloats(row, rows)?.toString() ?? "–",
  ];
  return [
    `| file | task | ${names.join(" | ")} | heed ÷ llama.cpp | 8 bits ÷ llama.cpp | 8 bits ÷ ik_llama.cpp | heed ÷ F16 |`,
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ...rows.map((row) => {
      const cells = [row.file, taskText(row.task), ...names.map((name) => cellOf(row, name)), ...ratio(row)];
      return `| ${cells.join(" | ")} |`;
    }),
  ].join("\n");
}

/** Returns the part of the section about one machine. */
export function codesSection(run: CodesRun): string {
  const versions = Object.entries(run.peers).map(([name, peer]) =>
    "version" in peer ? `${name} ${peer.version}` : `without ${name} (${peer.error})`,
  );
  const one = run.rows.filter(({ task }) => task.name !== "callers");
  const many = run.rows.filter(({ task }) => task.name === "callers");
  const { peaks } = run;
  const bounds = peaks ? run.rows.flatMap((row) => boundLines(row, run.machine, peaks)) : [];
  const threads = `${run.threads} ${run.threads === 1 ? "thread" : "threads"}`;
  return [
    `### Files in codes on ${run.machine}`,
    `Measured on ${run.date} with ${threads}, ${run.rounds} turns each; ${versions.join("; ")}. ${run.model}`,
    table(one, run.machine),
    ...(many.length ? [table(many, run.machine)] : []),
    ...(bounds.length > 0
      ? [`How near the rows that miss a goal are to the peaks of the machine:\n\n${bounds.join("\n")}`]
      : []),
  ].join("\n\n");
}
