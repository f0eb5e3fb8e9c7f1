/** Tests the page of benchmarks: what it says of each machine, and that no machine's results replace another's. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { merged } from "../../bench/merge.js";
import { chartsOf, pageOf, publish, publishServing, resultsOf } from "../../bench/publish.js";
import type { Run } from "../../bench/report.js";
import { bestOf, type Row } from "../../bench/row.js";
import type { Figures } from "../../bench/serving/figures.js";
import type { ServingRun } from "../../bench/serving/report.js";
import type { Statistics } from "../../bench/statistics.js";

const times = (median: number, min: number, quartiles: [number, number] = [median, median]): Statistics => ({
  ...{ median, quartiles, min, runs: 6 },
});

const row: Row = {
  ...{ name: "gemm", shape: "2×2×2 nn", dtype: "f32", device: "cpu" },
  heed: times(2, 1.5),
  rate: { value: 1234, unit: "GFLOP/s" },
  peers: {
    PyTorch: { ...times(3, 1.2, [2.8, 3.3]), ratio: 1.5 },
    "ONNX Runtime": { ...times(4, 3, [3.8, 4.3]), ratio: 2, memory: 2 ** 20 },
    "llama.cpp": { error: "none" },
  },
  goals: [],
};

const runOn = (machine: string, rows: Row[] = [row]): Run => ({
  ...{ machine, date: "2026-01-02", threads: 2, seconds: 1, rounds: 3, peaks: null, rows },
  peers: { PyTorch: { version: "2" } },
});

const served = (load: string): ServingRun => ({
  ...{ machine: "AMD EPYC 9554 (avx512bf16, 2 threads)", date: "2026-01-02", threads: 2, seconds: 2, peers: {} },
  rows: [{ model: "gpt2", format: "bf16", load, results: { heed: figures } }],
  scenarios: [],
});

const figures: Figures = {
  ...{ tokensPerSecond: 9, requestsPerSecond: 1, firstToken: null, betweenTokens: null, pause: 1, memory: null },
};

/** Returns a folder that has room for results and pages. */
function emptyRoot(): string {
  const root = mkdtempSync(path.join(tmpdir(), "heed-publish-"));
  onTestFinished(() => rmSync(root, { recursive: true }));
  mkdirSync(path.join(root, "docs"));
  return root;
}

test("results are kept by the maker of the cores, or by the card", () => {
  expect(resultsOf("AMD EPYC (avx512bf16, 2 threads)", "cpu")).toBe("cpu-amd");
  expect(resultsOf("AMD Ryzen 7 (avx2, 16 threads)", "cpu")).toBe("cpu-amd-avx2");
  expect(resultsOf("Intel(R) Xeon(R) Processor (avx512vnni, 2 threads)", "cpu")).toBe("cpu-intel");
  expect(resultsOf("12th Gen Intel(R) Core(TM) i7-1260P (avx2, 16 threads)", "cpu")).toBe("cpu-intel-avx2");
  expect(resultsOf("Apple M2 (portable, 8 threads)", "cpu")).toBe("cpu-apple");
  expect(resultsOf("unknown (portable, 4 threads)", "cpu")).toBe("cpu-unknown");
  expect(resultsOf("NVIDIA H100 80GB HBM3, 80 GiB", "cuda")).toBe("nvidia-h100-80gb-hbm3");
});

test("the page has a table and a chart for each maker, and a run replaces those of its maker only", async () => {
  const root = emptyRoot();
  await publish(runOn("Intel(R) Xeon(R) Processor (avx512vnni, 2 threads)"), "cpu", root);
  await publish(runOn("AMD EPYC (avx512bf16, 2 threads)"), "cpu", root);
  await publish(runOn("AMD EPYC 9554 (avx512bf16, 2 threads)"), "cpu", root);
  await publishServing(served("8 callers"), "cpu", root);
  const page = readFileSync(path.join(root, "docs/benchmarks.md"), "utf8");
  expect(page.match(/^##.*/gm)).toEqual([
    ...["## Operations and models", "### AMD EPYC 9554 (avx512bf16, 2 threads)", "#### gemm"],
    ...["### Intel(R) Xeon(R) Processor (avx512vnni, 2 threads)", "#### gemm"],
    ...["## Serving", "### Serving on AMD EPYC 9554 (avx512bf16, 2 threads)", "#### gpt2, bf16", "#### Promises"],
  ]);
  expect(readdirSync(path.join(root, "bench/results")).sort()).toEqual([
    ...["cpu-amd-serving.json", "cpu-amd.json", "cpu-intel.json"],
  ]);
  const svgs = ["benchmarks-amd-serving.svg", "benchmarks-amd.svg", "benchmarks-intel.svg"];
  expect(readdirSync(path.join(root, "docs")).sort()).toEqual([...svgs, "benchmarks.md"]);
  for (const svg of svgs) {
    expect(page).toContain(`(${svg})`);
    const text = readFileSync(path.join(root, "docs", svg), "utf8");
    expect(text).toContain(svg.includes("intel") ? "Intel(R) Xeon(R) Processor" : "AMD EPYC 9554");
    expect(text).toContain("2026-01-02");
  }
});

test("the page has medians, fastest runs and both ratios, and marks runs that spread", async () => {
  const root = emptyRoot();
  await publish(runOn("AMD EPYC"), "cpu", root);
  const page = pageOf("AMD EPYC", "cpu", root);
  expect(page).toContain("| 2×2×2 nn | f32 | 2 (2–2) | 1.5 | 1,234 GFLOP/s |  | 1.5× | 0.8× |");
  // The quartiles of PyTorch are 16.7 % of its median apart, those of ONNX Runtime 12.5 %.
  expect(page).toContain("| 2×2×2 nn | f32 | 3 / 1.2 † | 4 / 3 | – |");
  expect(page).toMatch(/Each contender had 3 turns of 0\.3333 s and, however long they took, at least\n6 timed runs\./);
  expect([bestOf(row), bestOf(row, "min")]).toEqual([
    ...[{ name: "PyTorch", ratio: 1.5 }, { name: "PyTorch", ratio: 0.8 }], // prettier-ignore
  ]);
});

test("a run with AVX2 only is kept beside the maker's other one", async () => {
  const root = emptyRoot();
  for (const set of ["avx512bf16", "avx2", "avx2"]) await publish(runOn(`AMD EPYC (${set}, 2 threads)`), "cpu", root);
  const page = readFileSync(path.join(root, "docs/benchmarks.md"), "utf8");
  expect(page.match(/^### .*/gm)).toEqual(["### AMD EPYC (avx2, 2 threads)", "### AMD EPYC (avx512bf16, 2 threads)"]);
  expect(page).toContain("(benchmarks-amd-avx2.svg)");
  expect(readdirSync(path.join(root, "docs")).sort()).toContain("benchmarks-amd-avx2.svg");
});

test("a run of serving without callers has no chart", async () => {
  const root = emptyRoot();
  await publishServing(served("arrivals at 0.5 of saturation"), "cpu", root);
  expect(readdirSync(path.join(root, "docs"))).toEqual(["benchmarks.md"]);
  expect(readFileSync(path.join(root, "docs/benchmarks.md"), "utf8")).not.toContain("svg");
});

test("a card has a page of its own without charts", async () => {
  const root = emptyRoot();
  await publish(runOn("AMD EPYC"), "cpu", root);
  await publish(runOn("NVIDIA H100, 80 GiB"), "cuda", root);
  const page = readFileSync(path.join(root, "docs/benchmarks-nvidia-h100.md"), "utf8");
  expect(page).toContain("bench:gpu");
  expect(page).toContain("### NVIDIA H100, 80 GiB");
  expect(page).not.toMatch(/AMD|svg/);
  expect(readFileSync(path.join(root, "docs/benchmarks.md"), "utf8")).not.toContain("NVIDIA");
});

test("parts of one machine are merged, and those of two machines are not", () => {
  const later: Row = { ...row, heed: times(1, 1) };
  const other: Row = { ...row, dtype: "bf16" };
  expect(merged([runOn("AMD EPYC", [row, other]), runOn("AMD EPYC", [later])]).rows).toEqual([later, other]);
  expect(() => merged([runOn("AMD EPYC"), runOn("Intel(R) Xeon(R)")])).toThrow(/expected runs of one machine/);
});

test("the page and its charts are made from the numbers in bench/results", async () => {
  expect(pageOf("any", "cpu")).toBe(readFileSync("docs/benchmarks.md", "utf8"));
  for (const [file, chart] of await chartsOf()) expect(readFileSync(`docs/${file}`, "utf8") === chart, file).toBe(true);
});
