import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import { GPT } from "../../lib/models/gpt.js";
import { loadCheckpoint } from "../../lib/train/checkpoint.js";
import type { TrainerEvent } from "../../lib/train/events.js";
import { tokenData } from "../../lib/train/token-data.js";
import { Trainer } from "../../lib/train/trainer.js";
import { dist } from "../support/dist.js";
import { temporaryFolder } from "../support/folder.js";
import { nightly } from "../support/nightly.js";
import { Random } from "../support/random.js";

const kills = nightly ? 50 : 12;

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
  import { setThreads } from "${module("device.js")}";
  import { GPT } from "${module("models/gpt.js")}";
  import { loadCheckpoint } from "${module("train/checkpoint.js")}";
  import { tokenData } from "${module("train/token-data.js")}";
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
  const logged = readFileSync(log, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as TrainerEvent)
    .filter((event) => event.type === "step");
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
