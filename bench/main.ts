/**
 * npm run bench [-- --device cuda] [--only gemm,decode] [--json FILE] [--seconds S] [--rounds N] [--torch] [--write] [--smoke]
 *
 * Every case is checked before it is timed; on CUDA the device's events measure. With --torch the same work runs in
 * PyTorch (HEED_TORCH_PYTHON) on the same device, turn by turn in the same minutes, and the ratio is printed. --write
 * renews docs/benchmarks.md or, on CUDA, docs/benchmarks-CARD.md and bench/results/CARD.json. --smoke runs one small
 * case of each kind.
 */
import { appendFileSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { device, devices, threads } from "heed";
import { benchmarkPage, type Row, rowOf, table } from "./report.js";
import { cpuSuite, cudaSuite, smokeSuite } from "./suites.js";
import { time } from "./timing.js";
import { TorchPeer } from "./torch-peer.js";

const { values: flags } = parseArgs({
  options: {
    device: { type: "string", default: "cpu" },
    only: { type: "string" },
    json: { type: "string" },
    seconds: { type: "string", default: "1" },
    rounds: { type: "string", default: "3" },
    torch: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
    smoke: { type: "boolean", default: false },
  },
});

const where = device(flags.device);
const all = (flags.smoke ? smokeSuite : where.kind === "cpu" ? cpuSuite : cudaSuite)(where.name);
const wanted = flags.only?.split(",");
const cases = all.filter((c) => !wanted || wanted.some((name) => c.name.includes(name)));
if (cases.length === 0) throw new Error(`--only: expected one of ${[...new Set(all.map((c) => c.name))].join(", ")}`);

const seconds = Number(flags.seconds);
const rounds = Number(flags.rounds);
const peer = flags.torch ? await TorchPeer.start(threads()) : null;
const { description } = devices().find(({ name }) => name === where.name)!;
const machine = where.kind === "cpu" ? `${cpus()[0]?.model ?? "unknown"} (${description})` : description;
console.log(`heed on ${machine}${peer ? `, beside PyTorch ${peer.version}` : ""}`);
if (flags.json) rmSync(flags.json, { force: true });

const rows: Row[] = [];
for (const one of cases) {
  const prepared = one.prepare();
  try {
    await prepared.verify();
    const own: number[] = [];
    const other: number[] = [];
    for (let round = 0; round < rounds; round++) {
      own.push(...(await time(one, prepared, seconds / rounds)));
      if (peer) other.push(...(await peer.time(one, seconds / rounds)));
    }
    const row = rowOf(one, own, peer ? other : null);
    rows.push(row);
    console.log(table([row], rows.length === 1));
    if (flags.json) appendFileSync(flags.json, `${JSON.stringify(row)}\n`);
  } finally {
    prepared.dispose();
  }
}
await peer?.stop();
if (flags.write) {
  const torch = peer?.version ?? null;
  if (where.kind === "cpu") writeFileSync("docs/benchmarks.md", benchmarkPage(rows, machine, torch, "bench:torch"));
  else {
    // "NVIDIA H100 80GB HBM3, 80 GiB, …" → "nvidia-h100-80gb-hbm3"
    const card = description
      .split(",")[0]!
      .toLowerCase()
      .replaceAll(/[^a-z0-9]+/g, "-");
    mkdirSync("bench/results", { recursive: true });
    const result = { machine, torch, date: new Date().toISOString().slice(0, 10), rows };
    writeFileSync(`bench/results/${card}.json`, `${JSON.stringify(result, null, 2)}\n`);
    writeFileSync(`docs/benchmarks-${card}.md`, benchmarkPage(rows, machine, torch, "bench:gpu"));
  }
}
