import type { Case } from "./case.js";

/** One line of the results, as `--json` writes it. */
export interface Row {
  name: string;
  shape: string;
  dtype: string;
  device: string;
  medianMs: number;
  minMs: number;
  runs: number;
  gflops?: number;
  gbs?: number;
  tokensPerSecond?: number;
  torchMedianMs?: number;
  torchMinMs?: number;
  /** PyTorch's time / ours: above 1 heed is faster. */
  ratio?: number;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

const round = (value: number): number => Number(value.toPrecision(4));

export function rowOf(one: Case, own: number[], torch: number[] | null): Row {
  const ms = median(own);
  const { work } = one;
  return {
    name: one.name,
    shape: one.shape,
    dtype: one.dtype,
    device: one.device,
    medianMs: round(ms),
    minMs: round(Math.min(...own)),
    runs: own.length,
    ...("flops" in work ? { gflops: round(work.flops / ms / 1e6) } : {}),
    ...("bytes" in work ? { gbs: round(work.bytes / ms / 1e6) } : {}),
    ...("tokens" in work ? { tokensPerSecond: round((work.tokens / ms) * 1000) } : {}),
    ...(torch
      ? { torchMedianMs: round(median(torch)), torchMinMs: round(Math.min(...torch)), ratio: round(median(torch) / ms) }
      : {}),
  };
}

function rate(row: Row): string {
  if (row.gflops !== undefined) return `${row.gflops} GFLOP/s`;
  if (row.gbs !== undefined) return `${row.gbs} GB/s`;
  return `${row.tokensPerSecond} tokens/s`;
}

/** Aligned lines for the terminal. */
export function table(rows: Row[], header: boolean): string {
  const line = (name: string, dtype: string, shape: string, ms: string, speed: string, ratio: string): string =>
    `${name.padEnd(20)} ${dtype.padEnd(5)} ${shape.padEnd(40)} ${ms.padStart(10)} ${speed.padStart(18)} ${ratio}`;
  const lines = rows.map((row) =>
    line(
      row.name,
      row.dtype,
      row.shape,
      row.medianMs.toString(),
      rate(row),
      row.ratio === undefined ? "" : `${row.ratio}× PyTorch`,
    ),
  );
  return [...(header ? [line("name", "dtype", "shape", "median ms", "rate", "")] : []), ...lines].join("\n");
}

/** docs/benchmarks.md and its like; `script` is the npm script that writes it. */
export function benchmarkPage(rows: Row[], machine: string, torch: string | null, script: string): string {
  const body = rows.map(
    (row) =>
      `| ${row.name} | ${row.shape} | ${row.dtype} | ${row.medianMs} | ${rate(row)} | ` +
      `${row.torchMedianMs ?? "–"} | ${row.ratio === undefined ? "–" : `${row.ratio}×`} |`,
  );
  return `# Benchmarks

Written by \`npm run ${script} -- --write\`; do not edit. Medians of interleaved runs on a shared machine; the ratio is
PyTorch's time divided by heed's: above 1 heed is faster.

Machine: ${machine}. ${torch ? `Peer: PyTorch ${torch} on the same device and threads.` : "No peer in this run."}

| what | shape | dtype | median ms | rate | PyTorch ms | ratio |
| --- | --- | --- | ---: | ---: | ---: | ---: |
${body.join("\n")}
`;
}
