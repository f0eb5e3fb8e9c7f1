/**
 * The process of the server: node http-server.js SEED FOLDER, with its files in the folder. http.ts starts it and tells it
 * when faults begin and end. Its log is its standard output, which is a file on the same disk.
 */
import { rejects } from "node:assert/strict";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  addAdapter,
  Bert,
  devices,
  embedding,
  EmbeddingModel,
  GPT,
  HuggingFaceTokenizer,
  LanguageModel,
  loadAdapter,
  ones,
  saveAdapter,
  tensor,
  type Device,
} from "heed";
import { createServer } from "heed/server";
import { collectGarbage } from "../support/gc.js";
import { Random } from "../support/random.js";
import { TurnWatch } from "../support/turns.js";
import { byteLevelJson, wordPieceJson, wordPieces } from "../tokenizer/fixtures.js";
import { hoard } from "./hoard.js";
import { fillDisk } from "./http-disk.js";
import { DiskWork } from "./http-jobs.js";
import {
  adapter,
  apiKeys,
  type Begun,
  bodyLimit,
  drainSeconds,
  type Measured,
  type Order,
  type Question,
  type Report,
} from "./http-settings.js";
import { resourcesHeld, tensorsHeld } from "./measure.js";

const random = new Random(Number(process.argv[2]));
const folder = process.argv[3]!;
const hasSmallDisk = process.env.HEED_SOAK_SMALL_DISK === "true";
process.on("unhandledRejection", (error) => tell({ failure: `unhandled rejection: ${String(error)}` }));
process.on("warning", (warning) => {
  if (warning.name !== "ExperimentalWarning") tell({ failure: `warning: ${warning.message}` });
});

function tell(message: { failure: string } | { done: Begun | Measured | null } | { report: Report }): void {
  if (process.connected) process.send!(message);
}

/** The software device is slow, so its model is smaller. */
function languageModel(on: string): LanguageModel {
  const chatTemplate = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>{% endfor %}assistant: ";
  const tokenizer = new HuggingFaceTokenizer(byteLevelJson(), { config: { eos_token: "<|end|>" }, chatTemplate });
  const size = on === "cpu" ? { layers: 2, heads: 2, width: 32 } : { layers: 1, heads: 1, width: 16 };
  const model = new GPT({ vocabularySize: 272, contextLength: 128, ...size }, { device: on, seed: 2 }).eval();
  return new LanguageModel({ model, tokenizer, defaults: { stopTokens: [tokenizer.endOfText!] } });
}

function encoder(): EmbeddingModel {
  const size = {
    vocabularySize: wordPieces.length,
    contextLength: 12,
    layers: 1,
    heads: 2,
    width: 8,
    feedForwardWidth: 12,
  };
  const tokenizer = new HuggingFaceTokenizer(wordPieceJson());
  return new EmbeddingModel({
    model: new Bert(size, { device: "cpu", seed: 5 }),
    tokenizer,
    recipe: { normalize: true },
  });
}

/** Asks questions, one at a time. Half of the prompts begin the same way. */
async function questionsTo(
  name: string,
  model: LanguageModel,
  count: number,
  ofAdapter: string | null = null,
): Promise<Question[]> {
  const questions: Question[] = [];
  for (let i = 0; i < count; i++) {
    const prompt = i % 2 ? `Some years ago, never mind how long precisely, ${i}` : `Call me ${"so ".repeat(i)}`;
    const [maxTokens, options] = [3 + 4 * i, { seed: i, temperature: 0.5 + (i % 3) / 2 }];
    const { text } = await model.generate(prompt, { ...options, maxTokens, adapter: ofAdapter });
    const { text: chat } = await model.chat([{ role: "user", content: prompt }], {
      ...options,
      maxTokens,
      adapter: ofAdapter,
    });
    questions.push({ model: name, prompt, options: { ...options, max_tokens: maxTokens }, text, chat });
  }
  return questions;
}

/** Causes a fault; resolves to a function that ends it. */
type Fault = () => Promise<() => Promise<void>>;

/** Some steps of the engine throw. */
const failedSteps =
  ({ model }: LanguageModel): Fault =>
  async () => {
    const forward = model.forward.bind(model);
    model.forward = (...args: Parameters<typeof forward>) => {
      if (random.integer(20) === 0) throw new Error("the device is out of order");
      return forward(...args);
    };
    return async () => {
      model.forward = forward;
    };
  };

/** All weights of a layer are NaN. */
const brokenWeights =
  ({ model }: LanguageModel): Fault =>
  async () => {
    const { weight } = model.tokens;
    const values = await weight.data();
    weight.set(new Float32Array(values.length).fill(NaN));
    return async () => {
      weight.set(values);
    };
  };

/** Operations of others on the same device fail. */
const failedOperations =
  (device: Device): Fault =>
  async () => {
    using table = ones([3, 8], { device });
    await Promise.all(
      Array.from({ length: 50 }, async () => {
        using ids = tensor(Int32Array.of(3), [1], { device });
        using row = embedding(ids, table);
        await rejects(row.data(), { code: "ERR_RANGE" });
      }),
    );
    return async () => undefined;
  };

/** The device has no memory left, or next to none. */
const noMemory =
  (device: Device): Fault =>
  async () => {
    const hoarded = hoard(device, random);
    return async () => {
      for (const tensor of hoarded) tensor.dispose();
    };
  };

/** Saves an adapter that changes what a model says. */
async function tune({ model }: LanguageModel, folder: string): Promise<void> {
  addAdapter(model, { name: adapter, rank: 2, seed: 3, active: false });
  for (const [name, parameter] of model.namedParameters())
    if (name.includes("lora_B")) parameter.set(new Float32Array(parameter.size).map((_, i) => Math.sin(i)));
  await saveAdapter(folder, model, { name: adapter });
}

/** An adapter is replaced by what is loaded from its folder. No request may be refused. */
const reloads =
  ({ model }: LanguageModel, folder: string): Fault =>
  async () => {
    await loadAdapter(folder, model, { name: adapter, active: false, replace: true });
    return async () => undefined;
  };

const watch = new TurnWatch();
const models: Record<string, LanguageModel> = { cpu: languageModel("cpu") };
if (devices().some(({ name, available }) => name === "cuda:0" && available)) models.cuda = languageModel("cuda:0");
const embedder = encoder();
const faults: Record<string, Fault> = { "no fault": async () => async () => undefined };
for (const [name, model] of Object.entries(models)) {
  const { device } = model.model;
  faults[`failed steps, ${name}`] = failedSteps(model);
  faults[`broken weights, ${name}`] = brokenWeights(model);
  faults[`failed operations, ${name}`] = failedOperations(device);
  if (device.kind !== "cpu") faults[`no memory, ${name}`] = noMemory(device);
}

const tuned = path.join(folder, "tuned");
await tune(models.cpu!, tuned);
faults["reloads, cpu"] = reloads(models.cpu!, tuned);

const questions: Question[] = await questionsTo(adapter, models.cpu!, 4, adapter);
for (const [name, model] of Object.entries(models))
  questions.push(...(await questionsTo(name, model, name === "cpu" ? 12 : 4)));
const [vector] = await embedder.embed(["the whale"]);

const own = questions.filter(({ model }) => model === "cpu");
const work = await DiskWork.open(path.join(folder, "work"), languageModel("cpu"), own, (report) => tell({ report }));
const { saved } = work;
let working: Promise<void> | null = null;
let stopWork = new AbortController();

function startWork(): void {
  stopWork = new AbortController();
  working = work.run(stopWork.signal).catch((error: unknown) => {
    tell({ failure: `work on the disk: ${error instanceof Error ? error.stack : String(error)}` });
  });
}

// The disk is full, or has room for a little.
if (hasSmallDisk)
  faults["full disk"] = async () => {
    if (!working) startWork();
    return fillDisk(folder, random);
  };

const app = await createServer({
  ...{ models: { ...models, embedder }, apiKeys, bodyLimit, drainSeconds, requestsPerMinute: 10_000_000 },
  engine: { maxSequences: 8, maxQueue: 16, pageSize: 8, maxBatchTokens: 64 },
  logger: { level: "info" },
});
const url = await app.listen({ host: "127.0.0.1", port: 0 });

let striking: Promise<void> | null = null;
let calm = true;

/** Strikes again and again, with pauses. */
async function strike(fault: Fault): Promise<void> {
  while (!calm) {
    const end = await fault();
    await sleep(50 + random.integer(200));
    await end();
    await sleep(random.integer(100));
  }
}

async function obey(order: Order): Promise<Measured | null> {
  if (order === "measure") {
    const pauses = watch.longest();
    await collectGarbage();
    const used = [...new Set(Object.values(models).map(({ model }) => model.device))];
    const held = { ...tensorsHeld(used), ...resourcesHeld(null) };
    // The collection itself takes long.
    watch.longest();
    const { rss: size, heapUsed: heap } = process.memoryUsage();
    return { size, heap, held, pauses };
  }
  calm = true;
  await striking;
  striking = null;
  stopWork.abort();
  await working;
  working = null;
  if (order === "calm") return null;
  if (order === "work") {
    startWork();
    return null;
  }
  calm = false;
  striking = strike(faults[order.fault]!);
  return null;
}

process.on("message", (order: Order) => {
  obey(order).then(
    (done) => tell({ done }),
    (error: unknown) => tell({ failure: String(error) }),
  );
});
// The parent is gone.
const orphaned = (): void => process.exit(1);
process.once("disconnect", orphaned);
process.once("SIGTERM", () => {
  process.off("disconnect", orphaned);
  stopWork.abort();
  void Promise.all([app.close(), working]).then(() => {
    watch.stop();
    process.disconnect();
  });
});
watch.longest();
const { length: count } = models.cpu!.tokenizer.encode("hello world");
tell({ done: { url, questions, vector: [...vector!], count, faults: Object.keys(faults), saved } });
