/**
 * npm run experiments [-- --only causal-mask,…] [--quick] [--pages]
 *
 * Runs small experiments that show what the Transformer changed and what its parts are for. Each measures for minutes,
 * keeps its numbers in bench/results/experiments/NAME.json, and writes a page with plots, docs/experiments/NAME.md.
 * --quick runs them in seconds, to see that they work, and writes into build/experiments. --pages writes the pages again
 * from the numbers that were kept.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { device, devices, threads } from "heed";
import { attentionCost } from "./attention-cost.js";
import { causalMask } from "./causal-mask.js";
import { transformerAndLstm } from "./transformer-and-lstm.js";
import type { Experiment } from "./experiment.js";
import { svgOf } from "./plot.js";
import { sequenceTasks } from "./sequence-tasks.js";

const experiments: readonly Experiment<unknown>[] = [transformerAndLstm, attentionCost, sequenceTasks, causalMask];

interface Kept {
  machine: string;
  date: string;
  seconds: number;
  /** Average number of processes that wanted to run meanwhile, with this one (os.loadavg). Older results do not have it. */
  load?: number;
  result: unknown;
}

const { values: flags } = parseArgs({
  options: {
    only: { type: "string" },
    quick: { type: "boolean", default: false },
    pages: { type: "boolean", default: false },
  },
});
const wanted = flags.only?.split(",");
const chosen = experiments.filter(({ name }) => !wanted || wanted.includes(name));
if (chosen.length === 0)
  throw new Error(`--only: expected some of ${experiments.map(({ name }) => name).join(", ")}, got ${flags.only}`);

const folders = flags.quick
  ? { results: "build/experiments", pages: "build/experiments" }
  : { results: "bench/results/experiments", pages: "docs/experiments" };
for (const folder of Object.values(folders)) mkdirSync(folder, { recursive: true });

for (const experiment of chosen) {
  const file = path.join(folders.results, `${experiment.name}.json`);
  const kept = flags.pages ? (JSON.parse(readFileSync(file, "utf8")) as Kept) : await measure(experiment);
  if (!flags.pages) writeFileSync(file, `${JSON.stringify(kept, null, 1)}\n`);
  await writePage(experiment, kept);
  console.log(`${experiment.name}: ${path.join(folders.pages, experiment.name)}.md`);
}

writeFileSync(path.join(folders.pages, "README.md"), index());

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

async function measure(experiment: Experiment<unknown>): Promise<Kept> {
  console.log(`${experiment.name}: ${experiment.title}`);
  const start = performance.now();
  const result = await experiment.run(flags.quick);
  const seconds = Math.round((performance.now() - start) / 1000);
  return {
    machine: machine(),
    date: new Date().toISOString().slice(0, 10),
    seconds,
    load: Math.round(loadavg()[1]!),
    result,
  };
}

function machine(): string {
  const where = device();
  const { description } = devices().find(({ name }) => name === where.name)!;
  return where.kind === "cpu" ? `${cpus()[0]?.model ?? "unknown"}, ${threads()} threads (${description})` : description;
}

async function writePage(
  experiment: Experiment<unknown>,
  { machine, date, seconds, load, result }: Kept,
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
  const origin =
    `\`npm run experiments -- --only ${name}\` writes this page; do not edit it.\n` +
    `It was measured on ${date} in ${seconds} s on ${machine}${company}.\n` +
    `The numbers are in bench/results/experiments/${name}.json.`;
  writeFileSync(path.join(folders.pages, `${name}.md`), `# ${title}\n\n${body}\n---\n\n${origin}\n`);
}
