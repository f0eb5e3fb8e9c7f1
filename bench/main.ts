/**
 * npm run bench [-- --only gemm,decode] [--json FILE] [--seconds S] [--rounds N] [--torch] [--write]
 *
 * Every case is checked before it is timed. With --torch the same work runs in PyTorch (HEED_TORCH_PYTHON), turn by
 * turn in the same minutes, and the ratio is printed. --write renews docs/benchmarks.md.
 */
import { appendFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { Bench } from "tinybench";
import { devices, threads } from "heed";
import type { Case } from "./case.js";
import { attentionCases } from "./cases/attention.js";
import { decodeCases } from "./cases/decode.js";
import { gemmCases } from "./cases/gemm.js";
import { layerNormCases } from "./cases/layer-norm.js";
import { trainingCases } from "./cases/training-step.js";
import { markdown, type Row, rowOf, table } from "./report.js";
import { TorchPeer } from "./torch-peer.js";

const { values: flags } = parseArgs({
  options: {
    only: { type: "string" },
    json: { type: "string" },
    seconds: { type: "string", default: "1" },
    rounds: { type: "string", default: "3" },
    torch: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
  },
});

/** Milliseconds of each call within `seconds`. */
async function time(run: () => Promise<void>, seconds: number): Promise<number[]> {
  const bench = new Bench({
    time: seconds * 1000,
    iterations: 3,
    warmupTime: 0,
    warmupIterations: 1,
    retainSamples: true,
  });
  bench.add("run", run);
  await bench.run();
  const { result } = bench.tasks[0]!;
  if (result.state === "errored") throw result.error;
  if (!("latency" in result)) throw new Error(`no result: ${result.state}`);
  return [...(result.latency.samples ?? [])];
}

const all: Case[] = [...gemmCases, ...attentionCases, ...layerNormCases, ...trainingCases, ...decodeCases];
const wanted = flags.only?.split(",");
const cases = all.filter((c) => !wanted || wanted.some((name) => c.name.includes(name)));
if (cases.length === 0) throw new Error(`--only: expected one of ${[...new Set(all.map((c) => c.name))].join(", ")}`);

const seconds = Number(flags.seconds);
const rounds = Number(flags.rounds);
const peer = flags.torch ? await TorchPeer.start(threads()) : null;
const machine = `${cpus()[0]?.model ?? "unknown"} (${devices()[0]?.description ?? ""})`;
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
      own.push(...(await time(() => prepared.run(), seconds / rounds)));
      if (peer) other.push(...(await peer.time(one.peer, seconds / rounds)));
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
if (flags.write) writeFileSync("docs/benchmarks.md", markdown(rows, machine, peer?.version ?? null));
