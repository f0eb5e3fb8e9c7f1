/** Runs that are killed at random moments and resumed: their results are those of one uninterrupted run, to the bit. */
import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import { writeShards } from "../../lib/data/write-shards.js";
import { GPT } from "../../lib/models/gpt.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { loadCheckpoint } from "../../lib/train/checkpoint.js";
import type { StepEvent, TrainerEvent } from "../../lib/train/events.js";
import { tokenData } from "../../lib/data/token-data.js";
import { Trainer } from "../../lib/train/trainer.js";
import { heed, main } from "../cli/support.js";
import { dist } from "../support/dist.js";
import { temporaryFolder } from "../support/folder.js";
import { nightly } from "../support/nightly.js";
import { Random } from "../support/random.js";

const kills = nightly ? 50 : 6;

const config = { vocabularySize: 11, contextLength: 8, layers: 1, heads: 2, width: 16, dropout: 0.1 };
const settings = { batchSize: 2, steps: 1e6, optimizer: { type: "muon" }, ema: 0.9 } as const;
const ids = Uint8Array.from({ length: 500 }, (_, i) => (i * i + (i >> 3)) % 11);

const module = (file: string): string => pathToFileURL(dist(file)).href;

/**
 * A program that trains endlessly with a checkpoint per step and continues from the latest one. It writes a line for
 * each checkpoint.
 */
const program = `
  import { existsSync } from "node:fs";
  import { setThreads } from "${module("core/device.js")}";
  import { GPT } from "${module("models/gpt.js")}";
  import { loadCheckpoint } from "${module("train/checkpoint.js")}";
  import { tokenData } from "${module("data/token-data.js")}";
  import { Trainer } from "${module("train/trainer.js")}";
  const [, folder, log] = process.argv;
  setThreads(1);
  const resume = existsSync(folder + "/latest") ? await loadCheckpoint(folder) : undefined;
  const model = resume?.model ?? new GPT(${JSON.stringify(config)}, { seed: 1 });
  const data = tokenData(Uint8Array.of(${ids.join()}));
  const settings = ${JSON.stringify(settings)};
  const trainer = new Trainer({ ...settings, model, data, resume, log, checkpoint: { folder, every: 1 } });
  for await (const { type } of trainer.run()) if (type === "checkpoint") process.stdout.write("saved\\n");
`;

/** Returns the events of all steps in a log; steps after a checkpoint that were repeated are in it twice. */
function stepsIn(log: string): StepEvent[] {
  const lines = readFileSync(log, "utf8").trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line) as TrainerEvent).filter((event) => event.type === "step");
}

/** Runs the program until it has saved, and `delay` milliseconds longer. */
async function killed(folder: string, log: string, delay: number): Promise<void> {
  const child = spawn(process.execPath, ["--input-type=module", "-e", program, folder, log], { stdio: "pipe" });
  let errors = "";
  child.stderr.on("data", (data: Buffer) => (errors += data.toString()));
  const ended = new Promise((resolve) => child.on("exit", (_, signal) => resolve(signal)));
  await Promise.race([ended, new Promise((resolve) => child.stdout.once("data", resolve))]);
  await new Promise((resolve) => setTimeout(resolve, delay));
  child.kill("SIGKILL");
  expect(await ended, errors).toBe("SIGKILL");
  expect(errors).toBe("");
}

test(`after each of ${kills} kills -9 the latest checkpoint is complete, and the run continues as one`, async () => {
  const folder = path.join(temporaryFolder(), "run");
  const log = path.join(folder, "..", "log.jsonl");
  const random = new Random(1);
  let last = 0;
  for (let i = 0; i < kills; i++) {
    // A step and its checkpoint take some ten milliseconds.
    await killed(folder, log, 30 * random.uniform());
    const { model, state, path: at } = await loadCheckpoint(folder);
    expect(state.step).toBeGreaterThan(last);
    expect(path.basename(at)).toMatch(new RegExp(`^step-0*${state.step}(-\\d+)?$`));
    last = state.step;
    model.dispose();
  }

  // Steps after the last checkpoint are repeated: all results must be the same as in a run that was not killed.
  const logged = stepsIn(log);
  const steps = Math.max(...logged.map(({ step }) => step));
  using model = new GPT(config, { seed: 1 });
  using trainer = new Trainer({ ...settings, model, data: tokenData(ids) });
  const expected: number[] = [];
  for await (const event of trainer.run()) {
    if (event.type === "step") expected.push(event.loss);
    if (event.step === steps) break;
  }
  expect(new Set(logged.map(({ step }) => step)).size).toBe(steps);
  for (const { step, loss } of logged) expect(loss, `step ${step}`).toBe(expected[step - 1]);
});

/** Writes a model, and two folders of tokens; returns the flags of a run that fine-tunes the model on their mixture. */
async function mixtureRun(folder: string, steps: number): Promise<string[]> {
  const at = (name: string): string => path.join(folder, name);
  const tokenizer = new ByteTokenizer();
  using base = new GPT({ ...config, vocabularySize: 256 }, { seed: 1 });
  await savePretrained(at("base"), base, { tokenizer });
  const texts = { whales: "The whale swims. ", sums: "2 + 2 = 4; 3 + 5 = 8; " };
  for (const [name, text] of Object.entries(texts)) {
    writeFileSync(at(`${name}.txt`), Array.from({ length: 40 }, (_, i) => `${i % 7}: ${text}`).join("\n"));
    await writeShards(at(`${name}.txt`), { tokenizer, out: at(name), threads: 0 });
  }
  return [
    ...["train", "--model", at("base"), "--data", `${at("whales")}=3,${at("sums")}=1`, "--steps", String(steps)],
    ...["--optimizer", "muon", "--ema", "0.9", "--schedule", "wsd", "--context", "8", "--batch-size", "2"],
    ...["--checkpoint-every", "1", "--eval-every", "50", "--eval-batches", "2", "--device", "cpu", "--threads", "1"],
  ];
}

/** Runs heed with the flags and kills it: after a time or, unless `startup` is true, so long after its first checkpoint. */
async function killedRun(flags: readonly string[], out: string, delay: number, startup: boolean): Promise<void> {
  const latest = (): string | null => {
    const file = path.join(out, "latest");
    return existsSync(file) ? readFileSync(file, "utf8") : null;
  };
  const before = latest();
  const child = spawn(process.execPath, [main, ...(before === null ? flags : ["train", "--resume"]), "--out", out]);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data: Buffer) => (output += data.toString()));
  const ended = new Promise((resolve) => child.on("exit", (_, signal) => resolve(signal)));
  const wait = (time: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, time));
  while (!startup && child.exitCode === null && latest() === before) await wait(2);
  await wait(delay);
  child.kill("SIGKILL");
  expect(await ended, output).toBe("SIGKILL");
  expect(output).not.toMatch(/error|warning/);
}

const commandKills = nightly ? 50 : 2;

test(`heed train with a mixture, Muon and an average ends with the same bits after ${commandKills} kills`, async () => {
  const folder = temporaryFolder();
  const steps = 20 * commandKills;
  const flags = await mixtureRun(folder, steps);
  const [killedOut, wholeOut] = [path.join(folder, "killed"), path.join(folder, "whole")];
  const random = new Random(nightly ? Math.floor(Math.random() * 2 ** 31) : 1);
  for (let i = 0; i < commandKills; i++) {
    // Some kills come while the run starts, the others within the few steps after a checkpoint.
    const startup = i % 5 === 4;
    await killedRun(flags, killedOut, (startup ? 800 : 50) * random.uniform(), startup);
  }
  expect(await heed(["train", "--out", killedOut, "--resume"])).toMatchObject({ code: 0, stderr: "" });
  const rarely = ["--checkpoint-every", String(steps)];
  expect(await heed([...flags, ...rarely, "--out", wholeOut])).toMatchObject({ code: 0, stderr: "" });

  const expected = new Map(stepsIn(path.join(wholeOut, "log.jsonl")).map(({ step, loss }) => [step, loss]));
  expect(expected.size).toBe(steps);
  const logged = stepsIn(path.join(killedOut, "log.jsonl"));
  expect(new Set(logged.map(({ step }) => step)).size).toBe(steps);
  for (const { step, loss } of logged) expect(loss, `step ${step}`).toBe(expected.get(step));
  const tensorsOf = (out: string): Record<string, Buffer> => {
    const at = path.join(out, `step-${String(steps).padStart(8, "0")}`);
    const names = readdirSync(at).filter((name) => name.endsWith(".safetensors"));
    return Object.fromEntries(names.map((name) => [name, readFileSync(path.join(at, name))]));
  };
  const weights = tensorsOf(wholeOut);
  expect(Object.keys(weights)).toHaveLength(3); // the model, the optimiser's moments and the average
  expect(tensorsOf(killedOut)).toEqual(weights);
}, 3_600_000);
