/** The usual work of a server: it trains, generates, serves, saves and loads, converts, downloads, and uses threads. */
import { deepStrictEqual, strictEqual } from "node:assert/strict";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import path from "node:path";
import { Worker } from "node:worker_threads";
import { type ErrorCode, generateTokens, HeedError, loadCheckpoint, type LoadOptions, Trainer } from "heed";
import { HubServer } from "../hub/server.js";
import { serve } from "./serve.js";
import {
  formats,
  type Lane,
  lessons,
  newSpeaker,
  newStudent,
  pick,
  save,
  say,
  trainingSteps,
  type Work,
} from "./world.js";
import type { WorkerOrder, WorkerReport } from "./worker.js";

/** Continues an interrupted training to its end. */
export const train: Work = (lane) => trainUntil(lane);

/** Trains, with a checkpoint at every other step, until the end or a signal. */
export async function trainUntil({ place, folder }: Lane, stopAfter = trainingSteps): Promise<void> {
  const run = path.join(folder, "run");
  const resume = existsSync(path.join(run, "latest")) ? await loadCheckpoint(run, place) : null;
  using model = resume?.model ?? newStudent(place.device);
  deepStrictEqual(resume?.skipped ?? [], [], "a checkpoint is not whole");
  const control = new AbortController();
  using trainer = new Trainer({
    ...{ model, resume, data: lessons(), batchSize: 2, steps: trainingSteps, signal: control.signal },
    checkpoint: { folder: run, every: 2 },
  });
  for await (const event of trainer.run()) {
    if (event.type === "step") strictEqual(event.loss, place.losses[event.step - 1], `the loss of step ${event.step}`);
    if (event.step >= stopAfter) control.abort();
  }
  if (trainer.step === trainingSteps) await rm(run, { recursive: true });
}

/** Makes the fixed request, together with a random one. */
export const generate: Work = async ({ place: { speaker, said }, random }) => {
  const length = 1 + random.integer(12);
  const prompt = Array.from({ length }, () => random.integer(96));
  const own = generateTokens(speaker, [prompt], {
    ...{ maxTokens: 1 + random.integer(16), seed: 1 },
    overflow: "slide",
  });
  const [usual] = await Promise.all([say(speaker), own]);
  deepStrictEqual(usual, said, "a fixed generation has changed");
};

export const load: Work = async ({ place, random }) => {
  const format = pick(random, formats);
  await place.checkSaved(path.join(place.models, format), format);
};

/** Makes a new model and saves it in place of the previous one, which stays if that fails. */
export const convert: Work = async ({ place, folder, random }) => {
  const format = pick(random, formats);
  const file = path.join(folder, format);
  const there = existsSync(file);
  using model = newSpeaker(place.device);
  try {
    await save(model, folder, format);
  } catch (error) {
    if (there) await place.checkSaved(file, format);
    throw error;
  }
  await place.checkSaved(file, format);
};

/** Starts a hub that has the model, and returns options for a download into an empty cache. */
export async function startHub({
  place,
  folder,
}: Lane): Promise<{ hub: HubServer; options: Omit<LoadOptions, "kind"> }> {
  const cacheDir = path.join(folder, "cache");
  await rm(cacheDir, { recursive: true, force: true });
  const content = (name: string): Promise<Buffer> => readFile(path.join(place.models, "folder", name));
  const hub = await HubServer.start({
    "config.json": { content: await content("config.json") },
    "model.safetensors": { content: await content("model.safetensors"), large: true },
  });
  return { hub, options: { hubUrl: hub.url, cacheDir, offline: false } };
}

export const hubName = "owner/tiny";

export const download: Work = async (lane) => {
  const { hub, options } = await startHub(lane);
  await using _ = hub;
  await lane.place.checkSaved(hubName, "folder", options);
};

/** Starts a thread that follows the order. */
export function startWorker(order: WorkerOrder): Worker {
  return new Worker(new URL("worker.js", import.meta.url), { workerData: order });
}

/** Runs a thread that works and ends. */
export const employ: Work = async ({ place: { device, said, losses } }) => {
  const worker = startWorker({ device: device.name, endless: false });
  const [[report]] = (await Promise.all([once(worker, "message"), once(worker, "exit")])) as [[WorkerReport], unknown];
  if ("code" in report) throw new HeedError(report.code as ErrorCode, report.message);
  deepStrictEqual(report, { said, losses }, "a thread got something else");
};

export const usual: readonly Work[] = [train, generate, serve, serve, load, convert, download, employ];
