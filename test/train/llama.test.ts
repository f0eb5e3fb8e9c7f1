/** Tests the trainer with a Llama, and with documents. */
import { readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { LstmLanguageModel } from "../../lib/models/lstm-language-model.js";
import { Llama } from "../../lib/models/llama.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import { loadCheckpoint, saveCheckpoint } from "../../lib/train/checkpoint.js";
import { documentsIn } from "../../lib/data/documents.js";
import { evaluate } from "../../lib/train/evaluate.js";
import { tokenData } from "../../lib/data/token-data.js";
import { Trainer } from "../../lib/train/trainer.js";
import { expectWithin } from "../support/close.js";
import { expectError, expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { onEachDevice } from "../support/targets.js";
import { collect, losses, tinyModel, tokens, values } from "./support.js";

const size = { vocabularySize: 11, contextLength: 8, layers: 2, heads: 4, kvHeads: 2, width: 16, feedForwardWidth: 24 };
const llama = (options: Partial<ConstructorParameters<typeof Llama>[0]> = {}, device = "auto") =>
  new Llama({ ...size, ...options }, { device, seed: 1 });
const run = { data: tokens(), validation: tokens(200, 4), batchSize: 3, gradientAccumulation: 2, lr: 0.01, seed: 9 };

onEachDevice((device) => {
  test.each(["f32", "bf16"] as const)("a Llama learns in %s, and resumes bit for bit", async (dtype) => {
    const options = { ...run, steps: 12, dtype };
    using whole = llama({ dropout: 0.1, tied: true }, device);
    using unbroken = new Trainer({ ...options, model: whole });
    const expected = await collect(unbroken.run());
    const all = losses(expected);
    expect(all.at(-1)).toBeLessThan(0.95 * all[0]!);

    const folder = temporaryFolder();
    using half = llama({ dropout: 0.1, tied: true }, device);
    using first = new Trainer({ ...options, model: half, checkpoint: { folder, every: 6 } });
    for await (const event of first.run()) if (event.type === "checkpoint") break;
    const checkpoint = await loadCheckpoint(folder, { device });
    expect(checkpoint.model).toBeInstanceOf(Llama);
    expect(checkpoint.model.config).toEqual(whole.config);
    const written = JSON.parse(readFileSync(path.join(checkpoint.path, "config.json"), "utf8")) as object;
    expect(written).toMatchObject({ model_type: "llama", num_key_value_heads: 2 });
    using second = new Trainer({ ...options, model: checkpoint.model, resume: checkpoint });
    expect(losses(await collect(second.run()))).toEqual(all.slice(6));
    expect(await values(checkpoint.model)).toEqual(await values(whole));
    checkpoint.model.dispose();
  });
});

describe("a Llama that rotates neighbours", () => {
  test("is saved with pairs of halves, its moments too, and resumes", async () => {
    using model = llama({ interleaved: true });
    const options = { ...run, steps: 12 };
    using unbroken = new Trainer({ ...options, model });
    const all = losses(await collect(unbroken.run()));

    const folder = temporaryFolder();
    using half = llama({ interleaved: true });
    using first = new Trainer({ ...options, model: half, checkpoint: { folder, every: 6 } });
    for await (const event of first.run()) if (event.type === "checkpoint") break;
    const checkpoint = await loadCheckpoint(folder);
    expect(checkpoint.model.config).toEqual({ ...model.config, interleaved: false });
    using second = new Trainer({ ...options, model: checkpoint.model, resume: checkpoint });
    expectWithin("losses", losses(await collect(second.run())), all.slice(6), () => 1e-5);
    checkpoint.model.dispose();
  });
});

describe("documents", () => {
  test("begin with their token; the tokens before the first one are a document, too", () => {
    expect(documentsIn(Int32Array.of(3, 0, 1, 2, 0, 0), 0)).toEqual([1, 3, 1, 1]);
    expect(documentsIn(Int32Array.of(4, 5, 6, 7, 0, 1), 0)).toEqual([4, 2]);
    expect(documentsIn(Int32Array.of(3, 0, 1, 2), 9)).toEqual([4]);
    expect(documentsIn(Int32Array.of(0, 1), 0)).toEqual([2]);
  });

  test("the loss is that of each document alone", async () => {
    for (const model of [tinyModel(), llama()]) {
      const data = tokenData(Int32Array.of(3, 4, 0, 5, 6, 7, 0, 8, 9));
      const { loss } = await evaluate(model, data, { documentStart: 0, batchSize: 1 });
      let expected = 0;
      for (const [from, to] of [
        [0, 2],
        [2, 6],
        [6, 8],
      ] as const) {
        const ids = new Int32Array(9);
        data.read(0, 9, ids);
        const part = (shift: number) => tensor(ids.slice(from + shift, to + shift), [1, to - from]);
        const own = scope(() => model.loss(part(0), part(1)));
        expected += ((await own.item()) * (to - from)) / 8;
        own.dispose();
      }
      expect(Math.abs(loss - expected)).toBeLessThan(1e-6);
      const { loss: whole } = await evaluate(model, data, { batchSize: 1 });
      expect(Math.abs(loss - whole)).toBeGreaterThan(1e-6);
      model.dispose();
    }
  });

  test("are trained on, and evaluated as well", async () => {
    using model = llama();
    using plain = llama();
    const events = async (trained: Llama, documentStart: number | null) => {
      using trainer = new Trainer({ ...run, model: trained, steps: 3, documentStart });
      return await collect(trainer.run());
    };
    const [apart, together] = [await events(model, 0), await events(plain, null)];
    expect(losses(apart)).not.toEqual(losses(together));
    expect(apart.find(({ type }) => type === "evaluation")).toMatchObject(
      await evaluate(model, run.validation, { batchSize: 3, documentStart: 0 }),
    );
    for (const documentStart of [-1, 11, 0.5])
      expectError(() => new Trainer({ ...run, model, steps: 1, documentStart }), "ERR_RANGE", /documentStart/);
  });
});

test("a model that cannot be saved is refused before it is trained", async () => {
  using model = new LstmLanguageModel({ vocabularySize: 11, contextLength: 8, layers: 1, width: 8 });
  const options = { ...run, model, steps: 2 };
  expectError(
    () => new Trainer({ ...options, checkpoint: { folder: temporaryFolder() } }),
    "ERR_ARGUMENT",
    /Trainer: expected a model of a family that can be saved, got LstmLanguageModel/,
  );
  using trainer = new Trainer(options);
  expect(losses(await collect(trainer.run()))).toHaveLength(2);
  using optimizer = new AdamW(model.namedParameters());
  const state = { step: 1, seconds: 0, seed: 0, dropoutSeed: 0, options: {} };
  // By hand it can: a checkpoint has its parameters, and whoever loads it makes the model.
  const folder = temporaryFolder();
  await saveCheckpoint(folder, { model, optimizer, state });
  await expectRejection(loadCheckpoint(folder), "ERR_ARGUMENT", /expected model/);
  using other = new LstmLanguageModel(model.config, { seed: 9 });
  await loadCheckpoint(folder, { model: other });
  expect(await values(other)).toEqual(await values(model));
});
