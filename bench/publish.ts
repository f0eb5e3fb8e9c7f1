import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { benchmarkPage, type Run } from "./report.js";
import { type ServingRun, servingSection } from "./serving/report.js";
import { type TfjsRun, tfjsSection } from "./tfjs/report.js";

type Kind = "cpu" | "cuda";

/** Returns the names of a machine's results (bench/results) and of its page (docs). */
function namesOf(machine: string, kind: Kind): { results: string; page: string } {
  // "NVIDIA H100 80GB HBM3, 80 GiB, …" → "nvidia-h100-80gb-hbm3"
  const card = machine
    .split(",")[0]!
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-");
  return kind === "cpu" ? { results: "cpu", page: "benchmarks" } : { results: card, page: `benchmarks-${card}` };
}

/** Writes docs/benchmarks.md and its chart or, for a CUDA card, docs/benchmarks-CARD.md; and the numbers in bench/results. */
export async function publish(run: Run, kind: Kind): Promise<void> {
  const { results, page } = namesOf(run.machine, kind);
  keep(results, run);
  const chart = chartOfRun(run, kind, page);
  // The import is here because a machine with a card has no vega.
  if (chart) writeFileSync(`docs/${chart}`, await (await import("./chart.js")).chartOf(run.rows));
  writePage(run.machine, kind);
}

/** Writes the section of that page about serving, with its chart and numbers. */
export async function publishServing(run: ServingRun, kind: Kind): Promise<void> {
  const { results, page } = namesOf(run.machine, kind);
  keep(`${results}-serving`, run);
  const chart = servingChart(kind, page);
  if (chart) writeFileSync(`docs/${chart}`, await (await import("./serving/chart.js")).servingChartOf(run.rows));
  writePage(run.machine, kind);
}

/** Writes the section of that page about TensorFlow.js, with its numbers. */
export function publishTfjs(run: TfjsRun, kind: Kind): void {
  keep(`${namesOf(run.machine, kind).results}-tfjs`, run);
  writePage(run.machine, kind);
}

function chartOfRun({ peers }: Run, kind: Kind, page: string): string | null {
  return kind === "cpu" && Object.values(peers).some((peer) => "version" in peer) ? `${page}.svg` : null;
}

function servingChart(kind: Kind, page: string): string | null {
  return kind === "cpu" ? `${page}-serving.svg` : null;
}

function keep(results: string, run: Run | ServingRun | TfjsRun): void {
  mkdirSync("bench/results", { recursive: true });
  writeFileSync(`bench/results/${results}.json`, `${JSON.stringify(run, null, 2)}\n`);
}

function kept(results: string): unknown {
  const file = `bench/results/${results}.json`;
  return existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : null;
}

/** Writes the page from the numbers in bench/results. */
function writePage(machine: string, kind: Kind): void {
  const { page } = namesOf(machine, kind);
  writeFileSync(`docs/${page}.md`, pageOf(machine, kind));
}

/** Returns the text of the page from the numbers in bench/results. */
export function pageOf(machine: string, kind: Kind): string {
  const { results, page } = namesOf(machine, kind);
  const run = kept(results) as Run | null;
  const serving = kept(`${results}-serving`) as ServingRun | null;
  const tfjs = kept(`${results}-tfjs`) as TfjsRun | null;
  const script = kind === "cpu" ? "bench:peers" : "bench:gpu";
  const parts = [
    run ? benchmarkPage(run, script, chartOfRun(run, kind, page)) : "# Benchmarks\n",
    ...(serving ? [`${servingSection(serving, servingChart(kind, page))}\n`] : []),
    ...(tfjs ? [tfjsSection(tfjs)] : []),
  ];
  return parts.join("\n");
}
