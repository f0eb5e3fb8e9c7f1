// Keeps the numbers of runs in bench/results and writes pages and charts from them.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { codesHead, type CodesRun, codesSection } from "./codes/report.js";
import { machineSection, pageHead, type Run } from "./report.js";
import { schemasHead, type SchemasRun, schemasSection } from "./schemas/report.js";
import { chartedRows, servingHead, type ServingRun, servingSection } from "./serving/report.js";
import { tfjsHead, type TfjsRun, tfjsSection } from "./tfjs/report.js";

type Kind = "cpu" | "cuda";

/** The runs of one machine that are kept. */
interface Kept {
  /** Name of the results: of the maker of the CPU's cores, "cpu-amd", or of the card. */
  name: string;
  run: Run | null;
  codes: CodesRun | null;
  schemas: SchemasRun | null;
  serving: ServingRun | null;
  tfjs: TfjsRun | null;
}

/**
 * Returns the name of a machine's results, "cpu-amd" or "nvidia-h100-80gb-hbm3". CPUs of one maker share a name, so that
 * a run replaces the last one of that maker and of no other; those with AVX2 and no more, or told so, have one of their own.
 */
export function resultsOf(machine: string, kind: Kind): string {
  if (kind === "cpu") {
    const maker = (/intel|amd|apple/i.exec(machine) ?? /[a-z]+/i.exec(machine) ?? ["unknown"])[0].toLowerCase();
    return `cpu-${maker}${machine.includes("(avx2,") ? "-avx2" : ""}`;
  }
  // "NVIDIA H100 80GB HBM3, 80 GiB, …" → "nvidia-h100-80gb-hbm3"
  return machine
    .split(",")[0]!
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-");
}

/** Keeps the numbers of a run in bench/results, and writes its page and the charts of that page. */
export async function publish(run: Run, kind: Kind, root = "."): Promise<void> {
  await keep("", run, kind, root);
}

/** Does the same with a run of files in codes. */
export async function publishCodes(run: CodesRun, kind: Kind, root = "."): Promise<void> {
  await keep("-codes", run, kind, root);
}

/** Does the same with a run of serving. */
export async function publishServing(run: ServingRun, kind: Kind, root = "."): Promise<void> {
  await keep("-serving", run, kind, root);
}

/** Does the same with a run of schemas. */
export async function publishSchemas(run: SchemasRun, kind: Kind, root = "."): Promise<void> {
  await keep("-schemas", run, kind, root);
}

/** Does the same with a run of programs of TensorFlow.js. */
export async function publishTfjs(run: TfjsRun, kind: Kind, root = "."): Promise<void> {
  await keep("-tfjs", run, kind, root);
}

async function keep(
  part: string,
  run: Run | CodesRun | SchemasRun | ServingRun | TfjsRun,
  kind: Kind,
  root: string,
): Promise<void> {
  const folder = path.join(root, "bench/results");
  mkdirSync(folder, { recursive: true });
  const name = resultsOf(run.machine, kind);
  writeFileSync(path.join(folder, `${name}${part}.json`), `${JSON.stringify(run, null, 2)}\n`);
  const page = kind === "cpu" ? "benchmarks" : `benchmarks-${name}`;
  writeFileSync(path.join(root, `docs/${page}.md`), pageOf(run.machine, kind, root));
  // A machine with a card has no vega, and its page no charts.
  if (kind === "cpu")
    for (const [file, chart] of await chartsOf(root)) writeFileSync(path.join(root, "docs", file), chart);
}

/** Returns what is kept of the machines of a page: all makers of CPUs are on one page, and each card has its own. */
function keptOn(machine: string, kind: Kind, root: string): Kept[] {
  const folder = path.join(root, "bench/results");
  const names = new Set(
    kind === "cuda"
      ? [resultsOf(machine, kind)]
      : readdirSync(folder)
          .sort()
          .flatMap((file) => /^cpu-[a-z]+(-avx2)?/.exec(file)?.[0] ?? []),
  );
  const read = (name: string): unknown => {
    const file = path.join(folder, `${name}.json`);
    return existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : null;
  };
  return [...names].map((name) => ({
    name,
    run: read(name) as Run | null,
    codes: read(`${name}-codes`) as CodesRun | null,
    schemas: read(`${name}-schemas`) as SchemasRun | null,
    serving: read(`${name}-serving`) as ServingRun | null,
    tfjs: read(`${name}-tfjs`) as TfjsRun | null,
  }));
}

/** Returns the name of the chart of a run, which compares with peers; null if there is none. */
function chartName({ name, run }: Kept): string | null {
  const compares = run && Object.values(run.peers).some((peer) => "version" in peer);
  return compares && name.startsWith("cpu-") ? `${name.replace("cpu", "benchmarks")}.svg` : null;
}

/** Returns the name of the chart of a run of serving; null if there is none. */
function servingChartName({ name, serving }: Kept): string | null {
  const shows = serving && chartedRows(serving).length > 0;
  return shows && name.startsWith("cpu-") ? `${name.replace("cpu", "benchmarks")}-serving.svg` : null;
}

/** Returns the charts of docs/benchmarks.md by the names of their files. */
export async function chartsOf(root = "."): Promise<Map<string, string>> {
  const [{ chartOf }, { servingChartOf }] = await Promise.all([import("./chart.js"), import("./serving/chart.js")]);
  const charts = new Map<string, string>();
  for (const kept of keptOn("", "cpu", root)) {
    const [rows, serving] = [chartName(kept), servingChartName(kept)];
    if (rows) charts.set(rows, await chartOf(kept.run!));
    if (serving) charts.set(serving, await servingChartOf(kept.serving!));
  }
  return charts;
}

/** Returns the text of a machine's page from the numbers in bench/results. */
export function pageOf(machine: string, kind: Kind, root = "."): string {
  const all = keptOn(machine, kind, root);
  const runs = all.flatMap((kept) => (kept.run ? machineSection(kept.run, chartName(kept)) : []));
  const codes = all.flatMap((kept) => (kept.codes ? codesSection(kept.codes) : []));
  const serving = all.flatMap((kept) => (kept.serving ? servingSection(kept.serving, servingChartName(kept)) : []));
  const schemas = all.flatMap((kept) => (kept.schemas ? schemasSection(kept.schemas) : []));
  const tfjs = all.flatMap((kept) => (kept.tfjs ? tfjsSection(kept.tfjs) : []));
  const parts = [
    pageHead(kind === "cpu" ? "bench:peers" : "bench:gpu"),
    ...(runs.length ? ["## Operations and models", ...runs] : []),
    ...(codes.length ? [codesHead, ...codes] : []),
    ...(serving.length ? [servingHead, ...serving] : []),
    ...(schemas.length ? [schemasHead, ...schemas] : []),
    ...(tfjs.length ? [tfjsHead, ...tfjs] : []),
  ];
  return `${parts.join("\n\n")}\n`;
}
