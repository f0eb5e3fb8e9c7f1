/**
 * npm run bench:serve [-- --only "gpt2 bf16 8 callers,long prompt"] [--seconds S] [--peers llama|none]
 * [--device NAME] [--json FILE] [--write] [--smoke]
 *
 * Serves models to many callers at the same time, with heed's engine and with llama.cpp, and measures tokens per second,
 * the time to the first token and between tokens, pauses of the event loop, and memory. --only chooses rows by parts of
 * "model format load", such as "gpt2 bf16 8 callers", or of "model format scenario". Each load lasts --seconds. --write renews the section of docs/benchmarks.md
 * and its chart (on CUDA, of docs/benchmarks-CARD.md) and the numbers in bench/results. --smoke serves a tiny model, for
 * fractions of seconds.
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { device, threads } from "heed";
import { machineOf } from "../machine.js";
import { removeModels } from "../models.js";
import { install } from "../peers/install.js";
import { publishServing } from "../publish.js";
import type { ContestantName } from "./child.js";
import { measure } from "./measure.js";
import { chosen, fullPlan, smokePlan } from "./plan.js";
import { lines, type ServingRun, shortfalls } from "./report.js";

const { values: flags } = parseArgs({
  options: {
    device: { type: "string", default: "cpu" },
    only: { type: "string" },
    seconds: { type: "string" },
    peers: { type: "string" },
    json: { type: "string" },
    write: { type: "boolean", default: false },
    smoke: { type: "boolean", default: false },
  },
});
const { peers = flags.smoke ? "none" : "llama", seconds = flags.smoke ? "0.2" : "20" } = flags;
if (peers !== "llama" && peers !== "none") throw new Error(`--peers: expected llama or none, got ${peers}`);
if (!(Number(seconds) > 0)) throw new Error(`--seconds: expected a number above 0, got ${seconds}`);
const all = flags.smoke ? smokePlan() : fullPlan();
const plans = chosen(all, flags.only?.split(",") ?? [""]);
if (plans.length === 0)
  throw new Error(`--only: expected parts of rows of ${[...new Set(all.map(({ model }) => model))].join(", ")}`);

const where = device(flags.device);
const run: ServingRun = {
  machine: machineOf(where),
  date: new Date().toISOString().slice(0, 10),
  threads: threads(),
  seconds: Number(seconds),
  peers: {},
  rows: [],
  scenarios: [],
};
console.log(`heed on ${run.machine}`);

const contestants: ContestantName[] = ["heed"];
if (peers === "llama" && where.kind === "cpu") {
  const problem = install();
  if (problem) run.peers["llama.cpp"] = { error: problem };
  else contestants.push("llama.cpp");
}

removeModels(); // a run that was cut off may have left some
for (const plan of plans) {
  await measure(plan, {
    ...{ device: where.name, threads: run.threads, seconds: run.seconds, contestants },
    onVersion: (name, version) => (run.peers[name] = { version }),
    onRow: (row) => {
      if ("findings" in row) run.scenarios.push(row);
      else run.rows.push(row);
      console.log(lines(row));
      if (flags.json) writeFileSync(flags.json, `${JSON.stringify(run, null, 2)}\n`);
    },
  });
  removeModels();
}
console.log(shortfalls(run));
if (flags.write) await publishServing(run, where.kind);
