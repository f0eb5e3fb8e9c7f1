import { execFileSync } from "node:child_process";
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { HeedError } from "../../lib/util/errors.js";
import * as safetensors from "../../lib/formats/safetensors.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { CharTokenizer } from "../../lib/tokenizer/char-tokenizer.js";
import { loadModel } from "../../lib/pretrained/load-model.js";
import { loadCheckpoint, saveCheckpoint } from "../../lib/train/checkpoint.js";
import { Trainer } from "../../lib/train/trainer.js";
import type { TokenSource } from "../../lib/data/token-data.js";
import type { TrainerOptions } from "../../lib/train/trainer-options.js";
import { expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { numpy } from "../support/python.js";
import { testUnless } from "../support/skip.js";
import { damages } from "./damaged-checkpoints.js";
import { collect, losses, tinyModel, tokens, values } from "./support.js";

const data = tokens();
const tokenizer = new CharTokenizer("abcdefghijk");
const position = { sequences: 42, microBatches: 14, contextLength: 8, sequencesPerEpoch: 87 };
const state = { step: 7, seconds: 1.5, seed: 3, dropoutSeed: 1, position, options: { name: "tiny" } };

/** Makes a run's folder with one checkpoint, and returns its content. */
async function saved() {
  const folder = temporaryFolder();
  const model = tinyModel({ dropout: 0.1 });
  using optimizer = new AdamW(model.namedParameters());
  for (const tensor of Object.values(optimizer.stateDict()))
    tensor.set(Float32Array.from({ length: tensor.size }, Math.random));
  const at = await saveCheckpoint(folder, { model, tokenizer, optimizer, state });
  return { folder, at, parameters: await values(model), moments: await values(optimizer) };
}

describe("a checkpoint", () => {
  test("restores everything, from the run's folder and from its own", async () => {
    const { folder, at, parameters, moments } = await saved();
    expect(at).toBe(path.join(folder, "step-00000007"));
    for (const from of [folder, at]) {
      const loaded = await loadCheckpoint(from);
      expect(loaded.path).toBe(at);
      expect(loaded.state).toEqual({ ...state, evaluated: null, best: null, lossScale: null, spikes: null });
      expect(loaded.average).toBeNull();
      expect(loaded.model.config).toEqual(tinyModel({ dropout: 0.1 }).config);
      expect(await values(loaded.model)).toEqual(parameters);
      expect(
        Object.fromEntries(Object.entries(loaded.optimizer.moments).map(([name, { values }]) => [name, values])),
      ).toEqual(moments);
      expect(loaded.tokenizer!.encode("cab")).toEqual(Int32Array.of(2, 0, 1));
    }
  });

  test("gives a model for inference", async () => {
    const { folder, parameters } = await saved();
    const { model, tokenizer } = await loadModel(folder);
    expect(model.training).toBe(false);
    expect(await values(model)).toEqual(parameters);
    expect(tokenizer!.decode([0, 10])).toBe("ak");
  });

  test("needs no tokenizer", async () => {
    const folder = temporaryFolder();
    const model = tinyModel();
    await saveCheckpoint(folder, { model, optimizer: new AdamW(model.namedParameters()), state });
    expect((await loadCheckpoint(folder)).tokenizer).toBeNull();
  });

  test("is added to earlier ones, some of which are kept", async () => {
    const folder = temporaryFolder();
    const model = tinyModel();
    const optimizer = new AdamW(model.namedParameters());
    for (const step of [1, 2, 3, 4])
      await saveCheckpoint(folder, { model, optimizer, state: { ...state, step } }, { keep: 3 });
    expect(readdirSync(folder)).toEqual(["latest", "step-00000002", "step-00000003", "step-00000004"]);
    expect((await loadCheckpoint(folder)).state.step).toBe(4);
  });

  test("is refused if a number is not finite, and the one before stays", async () => {
    const { folder } = await saved();
    for (const bad of [NaN, Infinity, -Infinity]) {
      const model = tinyModel();
      model.h[1]!.mlp.c_fc.weight.set(new Float32Array(16 * 64).fill(1).with(77, bad));
      const saving = saveCheckpoint(folder, { model, optimizer: new AdamW(model.namedParameters()), state });
      await expect(saving).rejects.toMatchObject({
        code: "ERR_DIVERGED",
        message: "expected h.1.mlp.c_fc.weight to be finite, got NaN or infinity in it",
      });
    }
    expect(readdirSync(folder)).toEqual(["latest", "step-00000007"]);
    await loadCheckpoint(folder);
  });

  testUnless(numpy.missing)("reads in Python as Hugging Face expects it", async () => {
    const { at, parameters } = await saved();
    const program = `
import json, sys, safetensors, safetensors.numpy
with safetensors.safe_open(sys.argv[1], framework="np") as file:
    print(json.dumps({"metadata": file.metadata(), "tensors": {name: [str(file.get_tensor(name).dtype), list(file.get_tensor(name).shape), file.get_tensor(name).ravel().tolist()] for name in file.keys()}}))
`;
    const output = execFileSync(numpy.command, ["-c", program, path.join(at, "model.safetensors")], {
      encoding: "utf8",
    });
    const { metadata, tensors } = JSON.parse(output) as {
      metadata: unknown;
      tensors: Record<string, [string, number[], number[]]>;
    };
    expect(metadata).toEqual({ format: "pt" });
    const model = tinyModel().stateDict();
    expect(Object.keys(tensors).sort()).toEqual(Object.keys(model).sort());
    for (const [name, [dtype, shape, numbers]] of Object.entries(tensors)) {
      expect([dtype, shape]).toEqual(["float32", model[name]!.shape]);
      expect(Float32Array.from(numbers), name).toEqual(parameters[name]);
    }
    // The names and sizes of transformers' GPT2Config and GPT2LMHeadModel.
    expect(JSON.parse(readFileSync(path.join(at, "config.json"), "utf8"))).toMatchObject({
      model_type: "gpt2",
      vocab_size: 11,
      n_positions: 8,
      n_embd: 16,
      n_layer: 2,
      n_head: 2,
      activation_function: "gelu_new",
    });
    expect(Object.keys(tensors)).toEqual(
      expect.arrayContaining(["wte.weight", "wpe.weight", "ln_f.bias", "h.0.attn.c_attn.weight"]),
    );
    expect(tensors["h.0.attn.c_attn.weight"]![1]).toEqual([16, 48]);
  });
});

describe("an incomplete checkpoint", () => {
  test.for(Object.entries(damages))("%s", async ([, [damage, code, message]]) => {
    const { folder, at } = await saved();
    damage(at);
    await expect(loadCheckpoint(folder)).rejects.toMatchObject({
      name: "HeedError",
      code,
      message: expect.stringContaining(message) as string,
    });
  });

  test.for(Object.entries(damages))(
    "%s: the newest complete one is loaded, with a warning",
    async ([, [damage, code, message]]) => {
      const { folder, at: oldest } = await saved();
      const model = tinyModel();
      using optimizer = new AdamW(model.namedParameters());
      const save = (step: number): Promise<string> =>
        saveCheckpoint(folder, { model, tokenizer, optimizer, state: { ...state, step } }, { keep: 4 });
      const [gone, broken] = [await save(9), await save(8)];
      rmSync(gone, { recursive: true });
      damage(broken);
      const loaded = await loadCheckpoint(folder);
      expect(loaded.path).toBe(oldest);
      expect(loaded.state.step).toBe(7);
      expect(loaded.skipped.map(({ path }) => path)).toEqual([broken, gone]);
      expect(loaded.skipped[0]!.error).toMatchObject({ code, message: expect.stringContaining(message) as string });
      // If none is complete, the error is about the newest.
      damage(oldest);
      await expect(loadCheckpoint(folder)).rejects.toMatchObject({
        message: expect.stringContaining(broken) as string,
      });
      loaded.model.dispose();
    },
  );

  test("a checkpoint without read permission does not make it go back", async () => {
    const { folder, at } = await saved();
    const model = tinyModel();
    await saveCheckpoint(folder, { model, optimizer: new AdamW(model.namedParameters()), state });
    // Root may read everything.
    vi.spyOn(safetensors, "readSafetensors").mockRejectedValue(
      new HeedError("ERR_IO", `${at}: EACCES`, { cause: Object.assign(new Error("EACCES"), { code: "EACCES" }) }),
    );
    onTestFinished(() => void vi.restoreAllMocks());
    await expect(loadCheckpoint(folder)).rejects.toThrow("EACCES");
  });

  test("moments of another shape", async () => {
    const { folder } = await saved();
    const loaded = await loadCheckpoint(folder);
    loaded.optimizer.moments["m.wte.weight"] = { shape: [11, 17], values: new Float32Array(187) };
    const create = (): unknown => new Trainer({ model: loaded.model, data, steps: 9, resume: loaded });
    expect(create).toThrow("AdamW: expected m.wte.weight of shape [11, 16], got [11, 17]");
    delete loaded.optimizer.moments["m.wte.weight"];
    expect(create).toThrow("AdamW: expected m.wte.weight in the state, got none");
  });

  test("no checkpoint at all", async () => {
    const folder = temporaryFolder();
    await expect(loadCheckpoint(folder)).rejects.toMatchObject({
      code: "ERR_IO",
      message: expect.stringContaining("found neither") as string,
    });
    await expect(loadCheckpoint(path.join(folder, "none"))).rejects.toMatchObject({ code: "ERR_IO" });
    const { at } = await saved();
    await expect(loadCheckpoint(path.join(at, "config.json"))).rejects.toMatchObject({ code: "ERR_IO" });
  });
});

test("a run whose lock another one has taken writes nothing more", async () => {
  const folder = temporaryFolder();
  const log = path.join(folder, "log.jsonl");
  const options = { data, batchSize: 2, steps: 20, log, checkpoint: { folder, every: 2 } };
  using trainer = new Trainer({ ...options, model: tinyModel() });
  let last = "";
  const run = async (): Promise<void> => {
    for await (const event of trainer.run())
      if (event.type === "checkpoint") {
        const lock = path.join(folder, "lock");
        writeFileSync(lock, readFileSync(lock, "utf8").replace(/"token":"[^"]*"/, '"token":"other"'));
        last = readFileSync(log, "utf8");
      }
  };
  await expectRejection(run(), "ERR_BUSY", /to be the lock of this run still, got that of process/);
  expect(readFileSync(log, "utf8")).toBe(last);
  expect(readdirSync(folder).filter((name) => name.startsWith("step-"))).toEqual(["step-00000002"]);
  expect(existsSync(path.join(folder, "lock"))).toBe(true);
});

test("a checkpoint is not listed, and no other removed, if the lock is lost while it is written", async () => {
  const { folder, at } = await saved();
  const before = readFileSync(path.join(folder, "latest"), "utf8");
  const model = tinyModel();
  using optimizer = new AdamW(model.namedParameters());
  let checks = 0;
  const check = (): Promise<void> =>
    ++checks > 1 ? Promise.reject(new HeedError("ERR_BUSY", "taken")) : Promise.resolve();
  const content = { model, optimizer, state: { ...state, step: 9 } };
  await expectRejection(saveCheckpoint(folder, content, { keep: 1, check }), "ERR_BUSY", /taken/);
  expect(readFileSync(path.join(folder, "latest"), "utf8")).toBe(before);
  expect(readdirSync(folder).sort()).toEqual(["latest", path.basename(at)]);
});

describe("resuming", () => {
  const options = (): Omit<TrainerOptions, "model"> => ({
    data,
    validation: tokens(200, 4),
    batchSize: 3,
    gradientAccumulation: 2,
    steps: 20,
    lr: 0.01,
    warmup: 4,
    seed: 9,
    evalEvery: 6,
  });

  test("continues bit for bit, with dropout and gradient accumulation", async () => {
    const whole = tinyModel({ dropout: 0.2 });
    using unbroken = new Trainer({ ...options(), model: whole });
    const expected = await collect(unbroken.run());

    const folder = temporaryFolder();
    using first = new Trainer({
      ...options(),
      model: tinyModel({ dropout: 0.2 }),
      checkpoint: { folder, every: 10, options: { run: "a" } },
    });
    const before: number[] = [];
    for await (const event of first.run()) {
      if (event.type === "step") before.push(event.loss);
      if (event.type === "checkpoint") break;
    }
    const checkpoint = await loadCheckpoint(folder);
    expect(checkpoint.state).toMatchObject({ step: 10, seed: 9, dropoutSeed: 1, options: { run: "a" } });
    using second = new Trainer({ ...options(), seed: 1234, model: checkpoint.model, resume: checkpoint });
    const after = await collect(second.run());

    expect([...before, ...losses(after)]).toEqual(losses(expected));
    expect(after.filter((event) => event.type === "evaluation")).toEqual(
      expected.filter((event) => event.type === "evaluation" && event.step > 10),
    );
    expect(await values(checkpoint.model)).toEqual(await values(whole));
    expect(await values(second.optimizer)).toEqual(await values(unbroken.optimizer));
    expect(second.optimizer.steps).toEqual(unbroken.optimizer.steps);
  });

  test("makes up once for the evaluation that an abort skipped", async () => {
    const folder = temporaryFolder();
    const session = async (stopAt: string | null): Promise<string[]> => {
      const controller = new AbortController();
      const resume = existsSync(path.join(folder, "latest")) ? await loadCheckpoint(folder) : null;
      using model = resume?.model ?? tinyModel();
      using trainer = new Trainer({ ...options(), model, resume, checkpoint: { folder }, signal: controller.signal });
      const lines: string[] = [];
      for await (const { type, step } of trainer.run()) {
        if (type !== "step") lines.push(`${type} ${step}`);
        if (`${type} ${step}` === stopAt) controller.abort();
      }
      return lines;
    };
    // Before a step's event the next step is already in the device's queue, unless an evaluation is due in between.
    expect(await session("step 5")).toEqual(["checkpoint 6", "aborted 6"]);
    expect(await session("step 8")).toEqual(["evaluation 6", "checkpoint 9", "aborted 9"]);
    expect(await session("step 12")).toEqual(["checkpoint 12", "aborted 12"]);
    expect(await session("evaluation 12")).toEqual(["evaluation 12", "aborted 12"]);
    expect(await session("evaluation 18")).toEqual(["evaluation 12", "evaluation 18", "checkpoint 18", "aborted 18"]);
    expect(await session(null)).toEqual(["evaluation 20", "checkpoint 20", "finished 20"]);
  });

  test("a run that has ended ends again", async () => {
    const folder = temporaryFolder();
    using trainer = new Trainer({ ...options(), model: tinyModel(), steps: 4, checkpoint: { folder } });
    await trainer.train();
    const checkpoint = await loadCheckpoint(folder);
    using again = new Trainer({
      ...options(),
      model: checkpoint.model,
      steps: 4,
      resume: checkpoint,
      checkpoint: { folder },
    });
    expect((await collect(again.run())).map(({ type }) => type)).toEqual(["evaluation", "finished"]);
    expect(readdirSync(folder)).toEqual(["latest", "step-00000004"]);
  });

  test("counts the time of earlier sessions", async () => {
    const { folder } = await saved();
    const checkpoint = await loadCheckpoint(folder);
    checkpoint.state.seconds = 100;
    using trainer = new Trainer({ ...options(), model: checkpoint.model, maxSeconds: 90, resume: checkpoint });
    expect((await collect(trainer.run())).map(({ type }) => type)).toEqual(["evaluation", "finished"]);
  });

  /** Returns the first token of every sequence that a run reads, in order; in this data a token is its own position. */
  async function read(from: number | null, to: number, folder: string, more: Partial<TrainerOptions> = {}) {
    const seen: number[] = [];
    const places: TokenSource = {
      length: 400,
      read(offset, count, out) {
        seen.push(offset);
        data.read(offset, count, out);
      },
      close: () => undefined,
    };
    const resume = from === null ? null : await loadCheckpoint(folder);
    const model = resume?.model ?? tinyModel();
    const sizes = { batchSize: 3, gradientAccumulation: 2, ...more };
    using trainer = new Trainer({ data: places, model, steps: to, seed: 5, resume, checkpoint: { folder }, ...sizes });
    await trainer.train();
    return seen;
  }

  test("with other batch sizes the data continues where it was", async () => {
    // 49 sequences are more than an epoch.
    const whole = await read(null, 12, temporaryFolder());
    expect(whole).toHaveLength(72);
    expect(new Set(whole.slice(0, 49)).size).toBe(49);
    const folder = temporaryFolder();
    const parts = [
      await read(null, 4, folder),
      await read(4, 6, folder, { batchSize: 7, gradientAccumulation: 1 }),
      await read(6, 7, folder, { batchSize: 2, gradientAccumulation: 5 }),
      await read(7, 11, folder),
    ];
    expect(parts.map(({ length }) => length)).toEqual([24, 14, 10, 24]);
    expect(parts.flat()).toEqual(whole);
    const { state } = await loadCheckpoint(folder);
    expect(state.position).toEqual({ sequences: 72, microBatches: 23, contextLength: 8, sequencesPerEpoch: 49 });
  });

  test("other sequences are refused unless the data is said to be new, which is read from its beginning", async () => {
    const folder = temporaryFolder();
    const begun = await read(null, 4, folder);
    const refused =
      /expected 49 sequences of 8 tokens, as when the checkpoint was saved, got 99 sequences of 4 tokens; set newData: true /;
    await expectRejection(read(4, 6, folder, { contextLength: 4 }), "ERR_ARGUMENT", refused);
    await expectRejection(read(4, 6, folder, { data: tokens(300) }), "ERR_ARGUMENT", /got 37 sequences of 8 tokens/);
    const again = await read(4, 6, folder, { newData: true });
    expect(again).toEqual(begun.slice(0, 12));
    // Its dropout masks must differ from those of all earlier steps.
    expect((await loadCheckpoint(folder)).state.position).toMatchObject({ sequences: 12, microBatches: 12 });
    const model = tinyModel();
    const optimizer = new AdamW(model.namedParameters());
    await saveCheckpoint(folder, { model, optimizer, state: { ...state, position: null } });
    await expectRejection(
      read(7, 8, folder),
      "ERR_ARGUMENT",
      /a checkpoint that says how much of the data has been read/,
    );
    await read(7, 8, folder, { newData: true });
  });

  test("from an older checkpoint, incomplete ones are removed first", async () => {
    const folder = temporaryFolder();
    using first = new Trainer({ ...options(), model: tinyModel(), steps: 4, checkpoint: { folder, every: 2 } });
    await first.train();
    truncateSync(path.join(folder, "step-00000004", "model.safetensors"), 100);
    const resume = await loadCheckpoint(folder);
    expect(resume.state.step).toBe(2);
    const kept: string[][] = [];
    const checkpoint = { folder, every: 1 };
    using second = new Trainer({ ...options(), model: resume.model, steps: 5, resume, checkpoint });
    await second.train({
      onCheckpoint: () => kept.push(readdirSync(folder).filter((name) => name.startsWith("step"))),
    });
    const steps = (...of: number[]): string[] => of.map((step) => `step-0000000${step}`);
    // The second one has the name of the one that was removed.
    expect(kept).toEqual([steps(2, 3), steps(3, 4), steps(4, 5)]);
  });

  test("requires the checkpoint's own model", async () => {
    const { folder } = await saved();
    const resume = await loadCheckpoint(folder);
    expect(() => new Trainer({ ...options(), model: tinyModel(), resume })).toThrow(
      "expected model to be the one of the checkpoint",
    );
  });

  test("continues in a copy of the folder", async () => {
    const { folder } = await saved();
    const copy = path.join(temporaryFolder(), "copy");
    cpSync(folder, copy, { recursive: true });
    expect((await loadCheckpoint(copy)).state.step).toBe(7);
    expect(existsSync(path.join(copy, "latest"))).toBe(true);
  });
});
