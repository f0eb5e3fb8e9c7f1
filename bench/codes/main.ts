/**
 * npm run bench:codes [-- --only "Q4_K decode"] [--files A.gguf,B.gguf] [--layers 28] [--seconds S] [--rounds N] [--json FILE]
 * [--keep] [--write] [--smoke]
 *
 * Measures files of GGUF with weights in blocks, one sequence and many, beside llama.cpp and ik_llama.cpp where
 * HEED_LLAMA_PROGRAMS and HEED_IK_LLAMA_PROGRAMS name the folders with their `llama-bench` and `llama-batched-bench`. The
 * program writes its files: a Llama of the shape of Qwen 3 0.6B with random weights, in F16 and in five formats; --files adds
 * others. --only takes words that the row must have. --keep keeps its files for the next run, and uses what such a run has
 * left, which must be of the same version of heed. --write renews the section of docs/benchmarks.md and the numbers in
 * bench/results; it needs all rows. --smoke runs a small model, for fractions of seconds.
 */
import { existsSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { device, type GgufWritable, Llama, type LlamaConfig, loadGguf, saveGguf, threads } from "heed";
import { machineOf } from "../machine.js";
import { modelFile, removeModels } from "../models.js";
import { publishCodes } from "../publish.js";
import { PeakMeter } from "../peaks.js";
import { takeTurns } from "../turns.js";
import { workOf } from "./bounds.js";
import { found, heed, llama, programs, type Task, verify } from "./contenders.js";
import { byDefault, type CodesRow, type CodesRun, inEightBits, line } from "./report.js";

const { values: flags } = parseArgs({
  options: {
    only: { type: "string", default: "" },
    files: { type: "string", default: "" },
    layers: { type: "string" },
    seconds: { type: "string", default: "1" },
    rounds: { type: "string", default: "3" },
    json: { type: "string" },
    keep: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
    smoke: { type: "boolean", default: false },
  },
});

if (flags.write && flags.only !== "") throw new Error("--write: expected a run of all rows, got --only");
const layers = Number(flags.layers ?? (flags.smoke ? 1 : 28));
const large = { vocabularySize: 50257, width: 1024, feedForwardWidth: 3072, heads: 16, kvHeads: 8, headSize: 128 };
const small = { vocabularySize: 300, width: 256, feedForwardWidth: 256, heads: 4, kvHeads: 2, headSize: 64 };
const config: LlamaConfig = {
  ...(flags.smoke ? small : large),
  ...{ layers, contextLength: 8192, tied: true, eps: 1e-6, rotaryBase: 1e6 },
};
const formats: GgufWritable[] = ["F16", "Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K"];
const [prompt, count] = flags.smoke ? [9, 3] : [60, 64];
const tasks: Task[] = [
  { name: "prefill", prompt: flags.smoke ? 40 : 512 },
  { name: "decode", count: flags.smoke ? 3 : 32 },
  ...[8, 32].map((callers): Task => ({ name: "callers", callers, prompt, count })),
];

async function written(): Promise<[string, string][]> {
  mkdirSync(path.dirname(modelFile("codes")), { recursive: true });
  const files = formats.map((format): [string, string] => [format, modelFile(`codes-${layers}-${format}.gguf`)]);
  if (files.every(([, file]) => existsSync(file))) return files;
  using model = new Llama(config, { seed: 1, device: "cpu" });
  for (const [format, file] of files)
    if (!existsSync(file)) await saveGguf(file, model, { type: format as GgufWritable });
  return files;
}

if (!flags.keep) removeModels(); // a run that was cut off may have left some
const others = flags.files.split(",").filter((file) => file !== "");
const files = [...(await written()), ...others.map((file): [string, string] => [path.basename(file, ".gguf"), file])];

const run: CodesRun = {
  machine: machineOf(device("cpu")),
  date: new Date().toISOString().slice(0, 10),
  threads: threads(),
  rounds: Number(flags.rounds),
  model: `The model has random weights, ${layers} layers of width ${config.width}, and a vocabulary of ${config.vocabularySize}.`,
  peers: {},
  rows: [],
};
const meter = flags.smoke ? null : PeakMeter.build(run.machine);
if (meter) run.peaks = meter.measure(run.threads);
meter?.remove();
const folders: [string, string][] = [];
for (const one of programs)
  try {
    const { folder, version } = await found(one, files[0]![1]);
    folders.push([one.name, folder]);
    run.peers[one.name] = { version };
  } catch (error) {
    run.peers[one.name] = { error: (error as Error).message.split("\n")[0]! };
  }
console.log(`heed on ${run.machine}`);
for (const [name, peer] of Object.entries(run.peers))
  console.log("version" in peer ? `beside ${name} ${peer.version}` : `without ${name}: ${peer.error}`);

const words = flags.only.split(" ").filter((word) => word !== "");
for (const [name, file] of files) {
  const chosen = tasks.filter((task) => words.every((word) => `${name} ${JSON.stringify(task)}`.includes(word)));
  if (chosen.length === 0) continue;
  const { model } = await loadGguf(file, { storedDtype: true });
  // F16 has no codes, so that activations keep the dtype of the file.
  const settings = ([16, 8] as const).filter((bits) => bits === 16 || name !== "F16");
  for (const bits of settings) await verify(model, bits);
  for (const task of chosen) {
    const contenders = [
      ...settings.map((bits) => heed(bits === 16 ? byDefault : inEightBits, model, bits, task)),
      ...folders.map(([peer, folder]) => llama(peer, folder, file, task, run.threads)),
    ];
    // Answers to callers take seconds each: one in a turn.
    const quick = flags.smoke || task.name === "callers";
    const times = await takeTurns(contenders, { seconds: Number(flags.seconds), rounds: run.rounds, quick });
    const row: CodesRow = {
      ...{ file: name, given: others.includes(file), task, work: workOf(model.config, task, statSync(file).size) },
      results: Object.fromEntries(
        [...times].map(([who, result]) => [who, result instanceof Error ? { error: result.message } : result]),
      ),
    };
    run.rows.push(row);
    console.log(line(row, run));
    if (flags.json) writeFileSync(flags.json, `${JSON.stringify(run, null, 2)}\n`);
  }
  model.dispose();
}
if (!flags.keep) removeModels();
if (flags.write) await publishCodes(run, "cpu");
