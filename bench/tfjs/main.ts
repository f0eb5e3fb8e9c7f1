/**
 * npm run bench:tfjs [-- --only "matmul,GPT"] [--seconds S] [--rounds N] [--device NAME] [--write] [--smoke]
 *
 * Measures programs of TensorFlow.js on heed, tfjs-backend-wasm and tfjs-backend-cpu, which take turns. The results of the
 * backends are compared before the times are taken. --write renews the section of docs/benchmarks.md and the numbers in
 * bench/results. --smoke runs small programs, for fractions of seconds.
 */
import { createRequire } from "node:module";
import path from "node:path";
import { parseArgs } from "node:util";
import * as tf from "@tensorflow/tfjs-core";
import * as wasm from "@tensorflow/tfjs-backend-wasm";
import { device, threads } from "heed";
import { register } from "heed/tfjs";
import { Clock } from "../clock.js";
import { machineOf } from "../machine.js";
import { publishTfjs } from "../publish.js";
import { type Contender, takeTurns } from "../turns.js";
import { line, type TfjsRow, type TfjsRun } from "./report.js";
import { type Prepared, type Row, rows } from "./rows.js";

const { values: flags } = parseArgs({
  options: {
    device: { type: "string", default: "cpu" },
    only: { type: "string", default: "" },
    seconds: { type: "string" },
    rounds: { type: "string", default: "3" },
    write: { type: "boolean", default: false },
    smoke: { type: "boolean", default: false },
  },
});
const seconds = Number(flags.seconds ?? (flags.smoke ? 0.02 : 1));
const backends = ["heed", "wasm", "cpu"];

const where = device(flags.device);
register(tf, { device: where });
wasm.setWasmPaths(`${path.dirname(createRequire(import.meta.url).resolve("@tensorflow/tfjs-backend-wasm"))}/`);
wasm.setThreadsCount(threads());
await tf.setBackend("wasm");

/** Runs once and returns the milliseconds until the result is in host memory, and the result. */
async function timed({ run }: Prepared): Promise<{ ms: number; values: Float32Array }> {
  const start = performance.now();
  const result = await run();
  const values = await result.data();
  const ms = performance.now() - start;
  result.dispose();
  return { ms, values: Float32Array.from(values) };
}

/** Prepares a row on each backend, and compares the first results. */
async function ready(row: Row, results: TfjsRow["results"]): Promise<Map<string, Prepared>> {
  const prepared = new Map<string, Prepared>();
  let expected: Float32Array | null = null;
  for (const backend of [...backends].reverse()) {
    await tf.setBackend(backend);
    try {
      const program = await row.prepare();
      const { values } = await timed(program);
      prepared.set(backend, program);
      expected ??= values;
      const largest = expected.reduce((most, x) => Math.max(most, Math.abs(x)), 1e-6);
      const furthest = expected.reduce((most, x, i) => Math.max(most, Math.abs(x - values[i]!)), 0);
      if (!(furthest / largest < row.tolerance))
        throw new Error(`${row.name}: expected ${backend} to agree with cpu, got a difference of ${furthest}`);
    } catch (error) {
      if (backend !== "wasm") throw error;
      results[backend] = { error: (error as Error).message.split("\n")[0]! };
      prepared.delete(backend);
    }
  }
  return prepared;
}

async function measure(row: Row): Promise<TfjsRow> {
  const results: TfjsRow["results"] = {};
  const prepared = await ready(row, results);
  const contenders = [...prepared].map(([backend, program]): Contender => {
    const clock = new Clock(async () => (await timed(program)).ms);
    const time: Contender["time"] = async (seconds, least) => {
      await tf.setBackend(backend);
      return clock.times(seconds, least);
    };
    return { name: backend, time };
  });
  const rounds = Number(flags.rounds);
  const options = { seconds: seconds * rounds, rounds, quick: flags.smoke };
  for (const [backend, times] of await takeTurns(contenders, options)) {
    if (times instanceof Error) throw times;
    results[backend] = times;
  }
  for (const [backend, program] of prepared) {
    await tf.setBackend(backend);
    program.dispose();
  }
  const { name, shape, goal } = row;
  return { name, shape, goal, results: Object.fromEntries(backends.map((key) => [key, results[key]!])) };
}

const run: TfjsRun = {
  machine: machineOf(where),
  date: new Date().toISOString().slice(0, 10),
  threads: threads(),
  wasmThreads: wasm.getThreadsCount(),
  version: tf.version_core,
  rows: [],
};
console.log(`heed on ${run.machine}, beside TensorFlow.js ${run.version} with ${run.wasmThreads} threads of wasm`);
const wanted = flags.only.split(",");
for (const row of rows(flags.smoke).filter(({ name }) => wanted.some((part) => name.includes(part)))) {
  const measured = await measure(row);
  console.log(line(measured));
  run.rows.push(measured);
}
if (flags.write) await publishTfjs(run, where.kind);
process.exit(); // wasm's threads
