import { mkdirSync, writeFileSync } from "node:fs";
import { benchmarkPage, type Run } from "./report.js";

/** Writes docs/benchmarks.md and its chart or, for a CUDA card, docs/benchmarks-CARD.md; and the numbers in bench/results. */
export async function publish(run: Run, kind: "cpu" | "cuda"): Promise<void> {
  // "NVIDIA H100 80GB HBM3, 80 GiB, …" → "nvidia-h100-80gb-hbm3"
  const card = run.machine
    .split(",")[0]!
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-");
  const name = kind === "cpu" ? "cpu" : card;
  const page = kind === "cpu" ? "benchmarks" : `benchmarks-${card}`;
  const beside = Object.values(run.peers).some((peer) => "version" in peer);
  const chart = kind === "cpu" && beside ? `${page}.svg` : null;
  mkdirSync("bench/results", { recursive: true });
  writeFileSync(`bench/results/${name}.json`, `${JSON.stringify(run, null, 2)}\n`);
  writeFileSync(`docs/${page}.md`, benchmarkPage(run, kind === "cpu" ? "bench:peers" : "bench:gpu", chart));
  // The import is here because a machine with a card has no vega.
  if (chart) writeFileSync(`docs/${chart}`, await (await import("./chart.js")).chartOf(run.rows));
}
