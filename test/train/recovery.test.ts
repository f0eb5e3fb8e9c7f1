import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { ops } from "../../lib/core/native.js";
import type { GPT } from "../../lib/models/gpt.js";
import { loadParts } from "../../lib/pretrained/load-model.js";
import { SGD } from "../../lib/optim/sgd.js";
import { loadCheckpoint } from "../../lib/train/checkpoint.js";
import { evaluate } from "../../lib/train/evaluate.js";
import type { StepEvent, TrainerEvent } from "../../lib/train/events.js";
import { peakOf, trainingFlops } from "../../lib/train/flops.js";
import { LossScale } from "../../lib/train/loss-scale.js";
import { SpikeDetector } from "../../lib/train/spikes.js";
import { Trainer } from "../../lib/train/trainer.js";
import type { TrainerOptions } from "../../lib/train/trainer-options.js";
import { device } from "../../lib/core/device.js";
import { editJson } from "../support/edit-json.js";
import { expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { onEachDevice } from "../support/targets.js";
import { collect, losses, tinyModel, tokens, values } from "./support.js";

const isStep = (event: TrainerEvent): event is StepEvent => event.type === "step";

const data = tokens();
const validation = tokens(200, 4);
const settings = { data, batchSize: 2, steps: 6, lr: 0.01 };

async function run(options: Partial<TrainerOptions> = {}) {
  const model = (options.model ?? tinyModel({ dropout: 0.1 })) as GPT;
  using trainer = new Trainer({ ...settings, ...options, model });
  const events = await collect(trainer.run());
  const averages = trainer.average && (await values(trainer.average));
  return { events, losses: losses(events), parameters: await values(model), averages, model };
}

test("the optimiser may be any of heed's, or made by a function", async () => {
  for (const type of ["sgd", "lion", "muon"] as const) {
    const { losses } = await run({ optimizer: { type }, lr: undefined, steps: 40, model: tinyModel() });
    const [first, last] = [losses.slice(0, 5), losses.slice(-5)].map((part) => part.reduce((a, b) => a + b) / 5);
    expect(last, type).toBeLessThan(first!);
  }
  const optimizer = (model: ConstructorParameters<typeof SGD>[0], given: object): SGD => new SGD(model, given);
  expect((await run({ optimizer, steps: 2 })).losses).toEqual(
    (await run({ optimizer: { type: "sgd" }, steps: 2 })).losses,
  );
});

onEachDevice(() => {
  test.for([1, 4])("a run with Muon and an average resumes after step %i to the same bits", async (stop) => {
    const options = { optimizer: { type: "muon" }, ema: 0.9, schedule: "wsd", warmup: 1, decaySteps: 2 } as const;
    const once = await run({ ...options, validation });
    const folder = temporaryFolder();
    const model = tinyModel({ dropout: 0.1 });
    using first = new Trainer({ ...settings, ...options, model, validation, checkpoint: { folder, every: stop } });
    for await (const event of first.run()) if (event.type === "checkpoint") break;
    const resume = await loadCheckpoint(folder);
    expect(resume.state.step).toBe(stop);
    const rest = await run({ ...options, validation, model: resume.model, resume });
    expect(rest.losses).toEqual(once.losses.slice(stop));
    expect(rest.parameters).toEqual(once.parameters);
    expect(rest.averages).toEqual(once.averages);
    const evaluated = (events: readonly TrainerEvent[]) => events.filter(({ type }) => type === "evaluation");
    expect(evaluated(rest.events)).toEqual(evaluated(once.events));
  });

  /** Trains with an average; returns it and that of a float64 recursion with these decays, from the weights of each step. */
  async function averaged(decay: (t: number) => number, options: Partial<TrainerOptions>) {
    const model = (options.model ?? tinyModel()) as GPT;
    const name = "h.1.mlp.c_fc.weight";
    const own = async () => (await values(model))[name]!;
    using trainer = new Trainer({ ...settings, ...options, model });
    const begin = options.resume ? options.resume.average![name]!.values : await own();
    const expected = Float64Array.from(begin);
    for await (const { type, step } of trainer.run()) {
      if (type !== "step") continue;
      for (const [i, weight] of (await own()).entries()) expected[i]! += (1 - decay(step)) * (weight - expected[i]!);
    }
    const average = (await values(trainer.average!))[name]!;
    const furthest = Math.max(...average.map((x, i) => Math.abs(x - expected[i]!)));
    const moved = Math.max(...expected.map((x, i) => Math.abs(x - begin[i]!)));
    return { furthest, moved };
  }

  test("the average forgets the first weights: its decay begins low, also when the run resumes", async () => {
    const warm = (t: number): number => Math.min(0.4, (1 + t) / (10 + t));
    const folder = temporaryFolder();
    const first = await averaged(warm, { ema: 0.4, checkpoint: { folder } });
    expect(first.furthest).toBeLessThan(1e-6);
    expect(first.moved).toBeGreaterThan(1e-3);
    const resume = await loadCheckpoint(folder);
    expect(resume.state.averageUpdates).toBe(6);
    const options = { ema: 0.9, steps: 9, checkpoint: { folder } };
    const rest = await averaged((t) => (1 + t) / (10 + t), { ...options, model: resume.model, resume });
    expect(rest.furthest).toBeLessThan(1e-6);
    // A checkpoint that an earlier version of heed has saved goes on as it began.
    const { path: at } = await loadCheckpoint(folder);
    editJson(path.join(at, "trainer.json"), ({ averageUpdates, ...json }) => {
      expect(averageUpdates).toBe(9);
      return json;
    });
    const old = await loadCheckpoint(folder);
    const constant = await averaged(() => 0.9, { ...options, steps: 12, model: old.model, resume: old });
    expect(constant.furthest).toBeLessThan(1e-6);
  });

  test("evaluations use the average, and a checkpoint's average can be loaded", async () => {
    const folder = temporaryFolder();
    const { model, averages, parameters, events } = await run({ ema: 0.5, validation, checkpoint: { folder } });
    expect(averages).not.toEqual(parameters);
    const evaluation = events.find((event) => event.type === "evaluation")!;
    const own = await evaluate(model, validation, { batchSize: 2 });
    expect(evaluation.loss).not.toBe(own.loss);
    const parts = await loadParts("load", folder, { average: true });
    using averaged = parts.model as GPT;
    expect(await values(averaged)).toEqual(averages);
    expect((await evaluate(averaged, validation, { batchSize: 2 })).loss).toBe(evaluation.loss);
    const plain = temporaryFolder();
    await run({ steps: 1, checkpoint: { folder: plain } });
    await expectRejection(loadParts("load", plain, { average: true }), "ERR_IO", /average.safetensors/);
    await expectRejection(
      loadParts("load", folder, { average: true, quantize: 8 }),
      "ERR_ARGUMENT",
      /either average or quantize/,
    );
  });

  describe("f16", () => {
    test("trains with a scale of the loss, skips steps that overflow, and resumes to the bit", async () => {
      const options = { dtype: "f16", lossScale: { initial: 2 ** 24, interval: 2 } } as const;
      const once = await run(options);
      const steps = once.events.filter(isStep);
      // The largest scale overflows f16, and half of it until it fits.
      expect(steps[0]).toMatchObject({ skipped: true, lossScale: 2 ** 24 });
      expect(steps[1]).toMatchObject({ lossScale: 2 ** 23 });
      const fitting = await run({ dtype: "f16", lossScale: { initial: 2 ** 10, interval: 2 } });
      expect(fitting.events.filter(isStep).map(({ skipped }) => skipped)).toEqual(Array(6).fill(false));
      expect(fitting.events.filter(isStep).map(({ lossScale }) => Math.log2(lossScale!))).toEqual([
        10, 10, 11, 11, 12, 12,
      ]);
      const plain = await run();
      fitting.losses.forEach((loss, i) => expect(Math.abs(loss - plain.losses[i]!)).toBeLessThan(0.02));

      const folder = temporaryFolder();
      const model = tinyModel({ dropout: 0.1 });
      using first = new Trainer({ ...settings, ...options, model, checkpoint: { folder, every: 3 } });
      for await (const event of first.run()) if (event.type === "checkpoint") break;
      const resume = await loadCheckpoint(folder);
      const rest = await run({ ...options, model: resume.model, resume });
      expect(rest.losses).toEqual(once.losses.slice(3));
      expect(rest.parameters).toEqual(once.parameters);
    });

    test.each(["adamw", "sgd", "lion", "muon"] as const)("steps of %s that were skipped do not count", async (type) => {
      const folder = temporaryFolder();
      const options = { dtype: "f16", lossScale: { initial: 2 ** 24 }, ema: 0.9, steps: 12 } as const;
      const optimizer = type === "sgd" ? ({ type, momentum: 0.9 } as const) : { type };
      const model = tinyModel();
      using first = new Trainer({ ...settings, ...options, optimizer, model, checkpoint: { folder, every: 2 } });
      const events = await collect(first.run());
      const taken = events.filter(isStep).filter(({ skipped }) => !skipped).length;
      expect(taken).toBeGreaterThan(0);
      expect(taken).toBeLessThan(12);
      expect(new Set(Object.values(first.optimizer.steps))).toEqual(new Set([taken]));
      const { optimizer: saved, state } = await loadCheckpoint(folder);
      expect([new Set(Object.values(saved.steps)), state.step, state.averageUpdates]).toEqual([
        new Set([taken]),
        12,
        taken,
      ]);
      // The schedule goes on with the steps of the run, skipped ones included.
      const rates = (await run({ steps: 12 })).events.filter(isStep).map(({ lr }) => lr);
      expect(events.filter(isStep).map(({ lr }) => lr)).toEqual(rates);
    });

    test("the scale is halved by an overflow and doubled after an interval", () => {
      const scale = new LossScale("test", { initial: 8, interval: 2 }, null);
      const seen = [true, false, false, false, true, true, true, true].map((overflowed) => {
        const lowered = scale.settle(overflowed);
        return [scale.state.scale, lowered];
      });
      expect(seen).toEqual([
        [4, true],
        [4, false],
        [8, false],
        [8, false],
        [4, true],
        [2, true],
        [1, true],
        [1, false],
      ]);
    });
  });

  describe("a spike", () => {
    /** Data whose loss is high in some micro-batches. */
    const spiky = (bad: readonly number[]): Partial<TrainerOptions> => {
      let batch = 0;
      const model = tinyModel();
      const loss = model.loss.bind(model);
      model.loss = (...given) => {
        const value = loss(...given);
        if (!model.training) return value;
        if (bad.includes(batch++)) ops.binary({ out: value, a: value, b: value, kind: 0, accumulate: true });
        return value;
      };
      return { model };
    };
    const spikes = { window: 2, rise: 2, deviations: 3, most: 1 };

    test("returns to the last checkpoint and goes on with the data after it", async () => {
      const folder = temporaryFolder();
      const { events } = await run({ ...spiky([3]), steps: 5, spikes, checkpoint: { folder, every: 2, keep: 3 } });
      const told = events.map(({ type, step }) => `${type} ${step}`);
      expect(told).toEqual([
        "step 1",
        "step 2",
        "checkpoint 2",
        "step 3",
        "returned 2",
        "step 3",
        "step 4",
        "checkpoint 4",
        "step 5",
        "checkpoint 5",
        "finished 5",
      ]);
      const [returned] = events.filter((event) => event.type === "returned");
      expect(returned).toMatchObject({ from: 3, path: path.join(folder, "step-00000002") });
      const { state } = await loadCheckpoint(folder);
      // Five steps, and two of data that was left behind.
      expect(state.position).toMatchObject({ microBatches: 7 });
      expect(state.spikes).toMatchObject({ returns: 1 });
    });

    test("too often, or without a checkpoint, ends the run", async () => {
      const checkpoint = { folder: temporaryFolder(), every: 2 };
      await expectRejection(
        run({ ...spiky([3, 5]), spikes, checkpoint }),
        "ERR_DIVERGED",
        /a loss without spikes, got .* at step 4, after 1 returns to a checkpoint/,
      );
      await expectRejection(
        run({ ...spiky([3]), spikes, checkpoint: { folder: temporaryFolder() } }),
        "ERR_DIVERGED",
        /no checkpoint to return to/,
      );
    });

    test("is a loss far above the average of those before", () => {
      const detector = new SpikeDetector("test", { window: 3, rise: 0.1, deviations: 2 }, null);
      expect([1, 1.2, 0.8, 1.1, 1.3].map((loss) => detector.isSpike(loss))).toEqual(Array(5).fill(false));
      expect(detector.isSpike(2)).toBe(true);
      expect(detector.isSpike(NaN)).toBe(true);
      expect(detector.isSpike(1.2)).toBe(false);
      expect(detector.state.count).toBe(6);
    });
  });

  test("ends when evaluations no longer improve, and keeps the best model", async () => {
    const folder = temporaryFolder();
    const stopping = { evalEvery: 1, earlyStopping: { patience: 2 }, checkpoint: { folder, best: true } };
    // The first step is small, and those after it are ever larger and worse.
    const schedule = (step: number): number => (step < 2 ? 0.01 : 1);
    const { events } = await run({ ...stopping, validation, schedule, steps: 30 });
    const evaluations = events.filter((event) => event.type === "evaluation");
    const best = evaluations.findLast((event) => event.best)!;
    expect(best.loss).toBe(Math.min(...evaluations.map(({ loss }) => loss)));
    expect(events.at(-1)).toMatchObject({ type: "finished", step: best.step + 2, early: true });
    const kept = await loadCheckpoint(path.join(folder, "best"));
    expect(kept.state.step).toBe(best.step);
    expect((await evaluate(kept.model, validation, { batchSize: 2 })).loss).toBe(best.loss);
    expect(readdirSync(path.join(folder, "best")).sort()).toEqual(["latest", path.basename(kept.path)]);
    expect(existsSync(path.join(folder, "latest"))).toBe(true);
  });

  test("the share of a known peak that is used", async () => {
    const { events, model } = await run({ peakFlops: 1e12, steps: 2 });
    const [step] = events.filter(isStep);
    // 16 · 48 + 16 · 16 + 2 · 16 · 64 numbers in each of two blocks, and 11 · 16 in the head.
    const matrices = 2 * (16 * 48 + 16 * 16 + 2 * 16 * 64) + 11 * 16;
    const flops = 6 * matrices + 12 * 2 * 16 * 8;
    expect(trainingFlops(model, { layers: 2, width: 16, contextLength: 8 }, model.wte.weight)).toBe(flops);
    expect(step!.mfu).toBeCloseTo((step!.tokensPerSecond * flops) / 1e12, 12);
    expect(peakOf(device("cpu"), "f32")).toBeNull();
  });
});
