/**
 * npm run experiments [-- --only causal-mask,…] [--quick] [--pages] [--threads n] [--seed n] [--join]
 *
 * Runs small experiments that show what the Transformer changed and what its parts are for. Each measures for minutes,
 * keeps its numbers in bench/results/experiments/NAME.json, and writes a page with plots, docs/experiments/NAME.md.
 * --quick runs them in seconds, to see that they work, and writes into build/experiments. --pages writes the pages again
 * from the numbers that were kept; --recount first makes those anew that are counted and do not depend on the machine.
 *
 * On a machine that has other work as well, --threads sets the number of CPU threads, --seed measures with one seed and
 * keeps that in build/experiments, and --join writes the page from the seeds that were measured so.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { device, devices, setThreads, threads } from "heed";
import { attentionCost } from "./attention-cost.js";
import { attentionExplanation } from "./attention-explanation.js";
import { causalMask } from "./causal-mask.js";
import { depth } from "./depth.js";
import { transformerAndLstm } from "./transformer-and-lstm.js";
import type { Experiment } from "./experiment.js";
import { fewShot } from "./few-shot.js";
import { inductionHeads } from "./induction-heads.js";
import { svgOf } from "./plot.js";
import { promptOrTuning } from "./prompt-or-tuning.js";
import { scale } from "./scale.js";
import { sequenceTasks } from "./sequence-tasks.js";
import { storedFacts } from "./stored-facts.js";
import { superposition } from "./superposition.js";

const experiments: readonly Experiment<unknown>[] = [
  transformerAndLstm,
  attentionCost,
  sequenceTasks,
  causalMask,
  inductionHeads,
  promptOrTuning,
  storedFacts,
  attentionExplanation,
  fewShot,
  scale,
  superposition,
  depth,
];

interface Kept {
  machine: string;
  date: string;
  seconds: number;
  /** Seconds of processor time of all threads together. Older results do not have it. */
  processorSeconds?: number;
  /** Average number of processes that wanted to run meanwhile, with this one (os.loadavg). Older results do not have it. */
  load?: number;
  result: unknown;
}

const { values: flags } = parseArgs({
  options: {
    only: { type: "string" },
    quick: { type: "boolean", default: false },
    pages: { type: "boolean", default: false },
    recount: { type: "boolean", default: false },
    threads: { type: "string" },
    seed: { type: "string" },
    join: { type: "boolean", default: false },
  },
});
if (flags.threads !== undefined) setThreads(Number(flags.threads));
const wanted = flags.only?.split(",");
const chosen = experiments.filter(({ name }) => !wanted || wanted.includes(name));
if (chosen.length === 0)
  throw new Error(`--only: expected some of ${experiments.map(({ name }) => name).join(", ")}, got ${flags.only}`);

const folders = flags.quick
  ? { results: "build/experiments", pages: "build/experiments" }
  : { results: "bench/results/experiments", pages: "docs/experiments" };
for (const folder of Object.values(folders)) mkdirSync(folder, { recursive: true });

for (const experiment of chosen) {
  if (flags.seed !== undefined) {
    const kept = await measure(experiment, [Number(flags.seed)]);
    mkdirSync("build/experiments", { recursive: true });
    writeFileSync(seedFile(experiment, Number(flags.seed)), `${JSON.stringify(kept, null, 1)}\n`);
    continue;
  }
  const file = path.join(folders.results, `${experiment.name}.json`);
  const keeps = flags.pages || flags.recount;
  const kept = keeps ? (JSON.parse(readFileSync(file, "utf8")) as Kept) : await measured(experiment);
  if (flags.recount && experiment.recount) kept.result = await experiment.recount(kept.result, flags.quick);
  if (!flags.pages) writeFileSync(file, `${JSON.stringify(kept, null, 1)}\n`);
  await writePage(experiment, kept);
  console.log(`${experiment.name}: ${path.join(folders.pages, experiment.name)}.md`);
}

if (flags.seed === undefined) writeFileSync(path.join(folders.pages, "README.md"), index());

/** Returns the text of README.md, which lists the pages that exist. */
function index(): string {
  const pages = experiments.filter(({ name }) => existsSync(path.join(folders.pages, `${name}.md`)));
  const lines = pages.map(({ name, title }) => `- [${title}](${name}.md)`);
  return `# Experiments

These small experiments show what the Transformer changed and what its parts are for. Each takes some minutes.
\`npm run experiments\` runs them again and writes these pages.

${lines.join("\n")}
`;
}

/** Returns the file that keeps what was measured with one seed. */
function seedFile({ name }: Experiment<unknown>, seed: number): string {
  return path.join("build/experiments", `${name}-seed-${seed}.json`);
}

/** Resolves to what an experiment measures, now or, with --join, before and seed by seed. */
async function measured(experiment: Experiment<unknown>): Promise<Kept> {
  if (!flags.join) return await measure(experiment);
  const { name, seeds } = experiment;
  if (!seeds) throw new Error(`--join: expected an experiment with several seeds, got ${name}`);
  const parts = seeds.map((seed) => JSON.parse(readFileSync(seedFile(experiment, seed), "utf8")) as Kept);
  const [first] = parts as [Kept];
  const joined = Object.entries(first.result as Record<string, unknown>).map(([key, value]) => [
    key,
    isBySeed(value) ? parts.flatMap(({ result }) => (result as Record<string, unknown[]>)[key]!) : value,
  ]);
  const total = (of: (part: Kept) => number): number => parts.reduce((sum, part) => sum + of(part), 0);
  const times = { seconds: total((part) => part.seconds), processorSeconds: total((part) => part.processorSeconds!) };
  return { ...first, ...times, result: Object.fromEntries(joined) as unknown };
}

/** Returns true for a list of measurements that each belong to a seed. */
function isBySeed(value: unknown): boolean {
  return Array.isArray(value) && value.every((one) => typeof one === "object" && one !== null && "seed" in one);
}

async function measure(experiment: Experiment<unknown>, seeds?: readonly number[]): Promise<Kept> {
  console.log(`${experiment.name}: ${experiment.title}`);
  const start = performance.now();
  const used = process.cpuUsage();
  const result = await experiment.run(flags.quick, seeds);
  const seconds = Math.round((performance.now() - start) / 1000);
  const { user, system } = process.cpuUsage(used);
  return {
    machine: machine(),
    date: new Date().toISOString().slice(0, 10),
    seconds,
    processorSeconds: Math.round((user + system) / 1e6),
    load: Math.round(loadavg()[1]!),
    result,
  };
}

function machine(): string {
  const where = device();
  const { description } = devices().find(({ name }) => name === where.name)!;
  return where.kind === "cpu"
    ? `${cpus()[0]?.model ?? "unknown"}, ${threads()} ${threads() === 1 ? "thread" : "threads"} (${description})`
    : description;
}

async function writePage(
  experiment: Experiment<unknown>,
  { machine, date, seconds, processorSeconds, load, result }: Kept,
): Promise<void> {
  const { name, title } = experiment;
  const { text, plots } = experiment.page(result);
  let body = text;
  for (const [plot, content] of Object.entries(plots)) {
    const picture = `${name}-${plot}.svg`;
    writeFileSync(path.join(folders.pages, picture), await svgOf(content));
    if (!body.includes(`(plot:${plot})`)) throw new Error(`${name}: the page does not show its plot ${plot}`);
    body = body.replaceAll(`(plot:${plot})`, `(${picture})`);
  }
  const company = load === undefined ? "" : `, while ${load} processes wanted to run on average`;
  // Beside other work, the time on the clock says little.
  const took = processorSeconds === undefined ? `in ${seconds} s` : `in ${processorSeconds} s of processor time`;
  const origin =
    `\`npm run experiments -- --only ${name}\` writes this page; do not edit it.\n` +
    `It was measured on ${date} ${took} on ${machine}${company}.\n` +
    `The numbers are in bench/results/experiments/${name}.json.`;
  writeFileSync(path.join(folders.pages, `${name}.md`), `# ${title}\n\n${body}\n---\n\n${origin}\n`);
}
