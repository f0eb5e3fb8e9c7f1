/**
 * npm run bench [-- --device cuda] [--only gemm,decode] [--json FILE] [--seconds S] [--rounds N] [--peers LIST] [--write]
 * [--smoke] [--merge FILES]; npm run bench:peers is the same with all peers.
 *
 * Every case is checked before it is timed. On CUDA the device's events measure the time. Peers (torch, ort, tfjs, llama,
 * all) do the same work in the same minutes, turn by turn. PyTorch runs in the Python that HEED_TORCH_PYTHON names; the
 * others come from npm and are installed in build/peers. --write replaces the results of this maker's cores, or of this
 * card, in bench/results and renews docs/benchmarks.md and its charts or, on CUDA, docs/benchmarks-CARD.md. --smoke runs
 * one small case of each kind, and few times. --merge measures nothing: it puts together what runs of parts (--only) wrote
 * with --json.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { device, threads } from "heed";
import type { Case } from "./case.js";
import { contest } from "./contest.js";
import { machineOf } from "./machine.js";
import { merged, middle } from "./merge.js";
import { removeModels } from "./models.js";
import { type Peaks, PeakMeter } from "./peaks.js";
import { startPeers } from "./peers/peers.js";
import { publish } from "./publish.js";
import { lines, type Run, shortfalls } from "./report.js";
import { type Measured, rowOf } from "./row.js";
import { cpuSuite, cudaSuite, smokeSuite } from "./suites.js";

const { values: flags } = parseArgs({
  options: {
    device: { type: "string", default: "cpu" },
    only: { type: "string" },
    json: { type: "string" },
    seconds: { type: "string", default: "1" },
    rounds: { type: "string", default: "3" },
    peers: { type: "string", default: "" },
    write: { type: "boolean", default: false },
    smoke: { type: "boolean", default: false },
    merge: { type: "string" },
  },
});

const where = device(flags.device);
if (flags.merge) {
  const run = merged(flags.merge.split(",").map((file) => JSON.parse(readFileSync(file, "utf8")) as Run));
  console.log(shortfalls(run.rows));
  if (flags.write) await publish(run, where.kind);
  process.exit();
}
const all = (flags.smoke ? smokeSuite : where.kind === "cpu" ? cpuSuite : cudaSuite)(where.name);
const wanted = flags.only?.split(",");
const cases = all.filter(
  (one) => !wanted || wanted.some((part) => [one.name, one.shape, one.format ?? one.dtype].join(" ").includes(part)),
);
if (cases.length === 0) throw new Error(`--only: expected one of ${[...new Set(all.map((c) => c.name))].join(", ")}`);

const { running, missing } = await startPeers(flags.peers, threads());
const meter = where.kind === "cpu" && !flags.smoke ? PeakMeter.build(machineOf(where)) : null;
const peaks: Peaks[] = [];
const measurePeaks = (): void => {
  if (meter) peaks.push(meter.measure(threads()));
};
measurePeaks();

const run: Run = {
  machine: machineOf(where),
  date: new Date().toISOString().slice(0, 10),
  threads: threads(),
  seconds: Number(flags.seconds),
  rounds: Number(flags.rounds),
  peaks: null,
  peers: Object.fromEntries<Run["peers"][string]>([
    ...running.map(({ name, version }) => [name, { version }] as const),
    ...Object.entries(missing).map(([name, error]) => [name, { error }] as const),
  ]),
  rows: [],
};
console.log(`heed on ${run.machine}`);
for (const [name, peer] of Object.entries(run.peers))
  console.log("version" in peer ? `beside ${name} ${peer.version}` : `without ${name}: ${peer.error}`);

const options = { peers: running, seconds: run.seconds, rounds: run.rounds, quick: flags.smoke, measurePeaks };
removeModels(); // a run that was cut off may have left some
const measured: [Case, Measured][] = [];
for (const one of cases) {
  measured.push([one, await contest(one, options)]);
  run.peaks = middle(peaks);
  // The peaks are medians, so a peak that other work disturbed counts less with each one that follows.
  run.rows = measured.map(([one, result]) => rowOf(one, result, run.peaks));
  console.log(lines(run.rows.at(-1)!));
  if (flags.json) writeFileSync(flags.json, `${JSON.stringify(run, null, 2)}\n`);
}
for (const peer of running) await peer.stop();
meter?.remove();
removeModels();
console.log(shortfalls(run.rows));

if (flags.write) await publish(run, where.kind);
