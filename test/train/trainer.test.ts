import { readdirSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { device } from "../../lib/core/device.js";
import { HeedError } from "../../lib/util/errors.js";
import type { GPT } from "../../lib/models/gpt.js";
import { evaluate } from "../../lib/train/evaluate.js";
import { add, mul } from "../../lib/ops/binary.js";
import { sum } from "../../lib/ops/reduce.js";
import { sqrt, square } from "../../lib/ops/unary.js";
import { sliceSource, tokenData, type TokenSource } from "../../lib/data/token-data.js";
import type { StepEvent, TrainerEvent } from "../../lib/train/events.js";
import { Trainer } from "../../lib/train/trainer.js";
import type { TrainerOptions } from "../../lib/train/trainer-options.js";
import { lockFolder } from "../../lib/formats/folder-lock.js";
import { expectRejection } from "../support/errors.js";
import { collectGarbage } from "../support/gc.js";
import { temporaryFolder } from "../support/folder.js";
import { collect, losses, tinyModel, tokens, values } from "./support.js";
import { onEachDevice } from "../support/targets.js";

onEachDevice(() => {
  const data = tokens();
  const validation = tokens(200, 4);

  /** Trains a tiny model; returns the model and the events. */
  async function run(options: Partial<TrainerOptions> = {}) {
    const model = options.model ?? tinyModel();
    using trainer = new Trainer({ model, data, batchSize: 4, steps: 6, ...options });
    const events = await collect(trainer.run());
    const parameters = await values(model);
    model.dispose();
    return { events, parameters, losses: losses(events) };
  }

  const summary = (events: readonly TrainerEvent[]): string[] => events.map(({ type, step }) => `${type} ${step}`);

  describe("events", () => {
    test("come in order, each once, evaluations and checkpoints after their step", async () => {
      const checkpoint = { folder: temporaryFolder(), every: 3 };
      const { events } = await run({ steps: 7, validation, evalEvery: 2, checkpoint });
      expect(summary(events)).toEqual([
        "step 1",
        "step 2",
        "evaluation 2",
        "step 3",
        "checkpoint 3",
        "step 4",
        "evaluation 4",
        "step 5",
        "step 6",
        "evaluation 6",
        "checkpoint 6",
        "step 7",
        "evaluation 7",
        "checkpoint 7",
        "finished 7",
      ]);
    });

    test("a step has its learning rate, the norm of its gradients, its speed and the time left", async () => {
      const { events } = await run({ lr: 0.01, warmup: 2, minLr: 0.001, steps: 5 });
      const steps = events.filter((event): event is StepEvent => event.type === "step");
      const cosine = (progress: number): number => 0.001 + 0.5 * (1 + Math.cos(Math.PI * progress)) * 0.009;
      const rates = [0.005, 0.01, cosine(0), cosine(1 / 3), cosine(2 / 3)];
      steps.forEach(({ lr }, i) => expect(lr).toBeCloseTo(rates[i]!, 12));
      expect(steps.map(({ progress }) => progress)).toEqual([0.2, 0.4, 0.6, 0.8, 1]);
      for (const { gradientNorm, tokensPerSecond, secondsLeft } of steps) {
        expect(gradientNorm).toBeGreaterThan(0);
        expect(tokensPerSecond).toBeGreaterThan(0);
        expect(secondsLeft).toBeGreaterThanOrEqual(0);
      }
      expect(steps.at(-1)!.secondsLeft).toBe(0);
    });

    test("without clipping there is no norm", async () => {
      const { events } = await run({ maxNorm: null, steps: 1 });
      expect(events[0]).toMatchObject({ type: "step", gradientNorm: null });
    });

    test("train() calls back and resolves to how the run ended", async () => {
      using model = tinyModel();
      using trainer = new Trainer({ model, data, validation, batchSize: 4, steps: 3, evalEvery: 2 });
      const called: string[] = [];
      const note = ({ type, step }: TrainerEvent): unknown => called.push(`${type} ${step}`);
      const result = await trainer.train({ onStep: note, onEvaluation: note, onCheckpoint: note });
      expect(called).toEqual(["step 1", "step 2", "evaluation 2", "step 3", "evaluation 3"]);
      expect(result).toMatchObject({ step: 3, checkpoint: null, aborted: false, evaluation: { tokens: 192 } });
      expect(result.loss).toBeGreaterThan(0);
    });

    test("a loop that was left continues where it was", async () => {
      using model = tinyModel();
      using trainer = new Trainer({ model, data, batchSize: 4, steps: 6 });
      const first: TrainerEvent[] = [];
      for await (const event of trainer.run()) if (first.push(event) === 3) break;
      const rest = await collect(trainer.run());
      expect(summary([...first, ...rest])).toEqual([1, 2, 3, 4, 5, 6].map((i) => `step ${i}`).concat("finished 6"));
      expect(losses([...first, ...rest])).toEqual((await run()).losses);
    });

    test("a folder has one run at a time", async () => {
      const folder = temporaryFolder();
      using first = new Trainer({ model: tinyModel(), data, batchSize: 4, steps: 2, checkpoint: { folder } });
      using second = new Trainer({ model: tinyModel(), data, batchSize: 4, steps: 3, checkpoint: { folder } });
      const events = first.run();
      await events.next();
      await expectRejection(second.run().next(), "ERR_BUSY", new RegExp(`process ${process.pid} of `));
      expect(summary(await collect(events)).at(-1)).toBe("finished 2");
      await using lock = await lockFolder(folder);
      await expectRejection(second.train(), "ERR_BUSY");
      const checkpoint = { folder, lock };
      using third = new Trainer({ model: tinyModel(), data, batchSize: 4, steps: 4, checkpoint });
      expect((await third.train()).checkpoint).toBe(path.join(folder, "step-00000004"));
      expect(readdirSync(folder)).toContain("lock");
    });

    test("a trainer has one run at a time", async () => {
      using model = tinyModel();
      using trainer = new Trainer({ model, data, batchSize: 4, steps: 2 });
      const first = trainer.run();
      await first.next();
      await expect(trainer.run().next()).rejects.toThrow("Trainer is already running: await the first run()");
      await first.return();
    });
  });

  describe("training", () => {
    test("with gradientCheckpointing is the same run to the bit", async () => {
      const options = { steps: 4, gradientAccumulation: 2 };
      const dropping = (): GPT => tinyModel({ dropout: 0.2 });
      const plain = await run({ ...options, model: dropping() });
      const model = dropping();
      const again = await run({ ...options, model, gradientCheckpointing: true });
      expect(model.gradientCheckpointing).toBe(true);
      expect(again.losses).toEqual(plain.losses);
      expect(again.parameters).toEqual(plain.parameters);
    });

    test("learns", async () => {
      const { losses } = await run({ steps: 120, lr: 0.02, warmup: 5 });
      expect(losses[0]).toBeCloseTo(Math.log(11), 1);
      // The data's own entropy is 0.89 nats: 0.8 + 0.2/11 on one token, 0.2/11 on each of ten others.
      expect(losses.slice(-10).reduce((a, b) => a + b) / 10).toBeLessThan(1.4);
    });

    test("the same seed gives the same run, another one another", async () => {
      const [a, b, c] = [await run({ seed: 5 }), await run({ seed: 5 }), await run({ seed: 6 })];
      expect(b.losses).toEqual(a.losses);
      expect(b.parameters).toEqual(a.parameters);
      expect(c.losses).not.toEqual(a.losses);
    });

    test("accumulated micro-batches make the step of one large batch", async () => {
      const large = await run({ batchSize: 12, steps: 4 });
      const small = await run({ batchSize: 3, gradientAccumulation: 4, steps: 4 });
      // The same sums in another order: a few roundings of numbers around 1, and AdamW divides gradients by their size.
      large.losses.forEach((loss, i) => expect(Math.abs(loss - small.losses[i]!)).toBeLessThan(2e-6 * loss));
      for (const [name, expected] of Object.entries(large.parameters)) {
        const got = small.parameters[name]!;
        const worst = expected.reduce((max, x, i) => Math.max(max, Math.abs(x - got[i]!)), 0);
        expect(worst, name).toBeLessThan(4e-4);
      }
    });

    test("evaluation does not disturb it", async () => {
      const without = await run({ model: tinyModel({ dropout: 0.2 }) });
      const withIt = await run({ model: tinyModel({ dropout: 0.2 }), validation, evalEvery: 1 });
      expect(withIt.losses).toEqual(without.losses);
      expect(withIt.parameters).toEqual(without.parameters);
    });

    test("leaves no memory behind", async () => {
      await collectGarbage(); // of earlier tests
      await device().synchronize();
      const before = device().memory();
      await run({ steps: 3, validation, evalEvery: 1, gradientAccumulation: 2 });
      const after = device().memory();
      expect([after.live, after.tensors]).toEqual([before.live, before.tensors]);
    });

    test("keeps to its time limit, and the learning rate falls accordingly", async () => {
      const started = performance.now();
      const { events } = await run({ steps: 1_000_000, maxSeconds: 0.5, lr: 0.01, warmup: 3 });
      expect((performance.now() - started) / 1000).toBeLessThan(3);
      const rates = events.flatMap((event) => (event.type === "step" ? [event.lr] : []));
      expect(rates[0]).toBeCloseTo(0.01 / 3, 12);
      expect(Math.max(...rates)).toBe(0.01);
      expect(rates.at(-1)).toBeLessThan(0.002);
      expect(events.at(-1)).toMatchObject({ type: "finished" });
    });

    test("stops at a loss that is not finite and keeps the last good checkpoint", async () => {
      const folder = temporaryFolder();
      using model = tinyModel();
      // From step 4 on every update is huge.
      const schedule = (step: number): number => (step < 4 ? 1e-3 : 1e38);
      using trainer = new Trainer({ model, data, batchSize: 4, steps: 20, schedule, checkpoint: { folder, every: 2 } });
      const events: TrainerEvent[] = [];
      const failure = (async () => {
        for await (const event of trainer.run()) events.push(event);
      })();
      await expect(failure).rejects.toThrow(HeedError);
      await expect(failure).rejects.toMatchObject({ code: "ERR_DIVERGED" });
      expect(summary(events).filter((line) => line.startsWith("checkpoint"))).toEqual(["checkpoint 2", "checkpoint 4"]);
    });
  });

  describe("a step that fails", () => {
    test("updates nothing, and a caller that catches its error may continue as if it had not happened", async () => {
      const two = await run({ steps: 2, schedule: () => 1e-3 });
      let reads = 0;
      const broken: TokenSource = {
        ...data,
        read(offset, count, out) {
          data.read(offset, count, out);
          // The third step's first window has a token that is not in the vocabulary.
          if (reads++ === 2 * 4) out[1] = 11;
        },
      };
      using model = tinyModel();
      using trainer = new Trainer({ model, data: broken, batchSize: 4, steps: 8, schedule: () => 1e-3 });
      await expectRejection(collect(trainer.run()), "ERR_RANGE", /expected ids in \[0, 11\), got 11/);
      expect(trainer.step).toBe(2);
      expect(await values(model)).toEqual(two.parameters);
      const moments = await values(trainer.optimizer);
      for (const moment of Object.values(moments)) expect(moment.every(Number.isFinite)).toBe(true);
      const events = await collect(trainer.run());
      expect(losses(events).map((_, i) => i + 3)).toEqual([3, 4, 5, 6, 7, 8]);
      const again = await run({ steps: 8, schedule: () => 1e-3 });
      expect(await values(model)).toEqual(again.parameters);
      expect(losses(events)).toEqual(again.losses.slice(2));
    });

    /** Returns a model whose gradients are NaN in some of its steps, whatever its losses are. */
    function spoilt(steps: readonly number[]): GPT {
      const model = tinyModel();
      const usual = model.loss.bind(model);
      let step = 0;
      model.loss = (...args) => {
        const loss = usual(...args);
        if (!steps.includes(++step)) return loss;
        // The slope of a root at 0 is infinite, and the slope of its argument is 0.
        const [first] = model.parameters();
        return add(loss, sqrt(mul(sum(square(first!)), 0)));
      };
      return model;
    }

    test("is skipped if gradients are not finite, and its event says so", async () => {
      using model = spoilt([2, 3, 5]);
      using trainer = new Trainer({ model, data, batchSize: 4, steps: 6, maxSkips: 2 });
      const steps = (await collect(trainer.run())).filter((event) => event.type === "step");
      expect(steps.map(({ skipped }) => skipped)).toEqual([false, true, true, false, true, false]);
      expect(steps.map(({ gradientNorm }) => Number.isFinite(gradientNorm))).toEqual(
        steps.map(({ skipped }) => !skipped),
      );
      expect(steps.every(({ loss }) => Number.isFinite(loss))).toBe(true);
    });

    test("too often in a row ends the run with ERR_DIVERGED, the model as it was before", async () => {
      const two = await run({ steps: 2, schedule: () => 1e-3 });
      using model = spoilt([3, 4, 5, 6]);
      using trainer = new Trainer({ model, data, batchSize: 4, steps: 9, maxSkips: 2, schedule: () => 1e-3 });
      await expectRejection(
        collect(trainer.run()),
        "ERR_DIVERGED",
        /expected gradients of a finite norm after at most 2 skipped updates, got NaN at step 5$/,
      );
      expect(await values(model)).toEqual(two.parameters);
    });
  });

  describe("aborting", () => {
    test("finishes the step, saves, and ends", async () => {
      const folder = temporaryFolder();
      const controller = new AbortController();
      using model = tinyModel();
      using trainer = new Trainer({
        model,
        data,
        validation,
        batchSize: 4,
        steps: 1000,
        signal: controller.signal,
        checkpoint: { folder },
      });
      const events: TrainerEvent[] = [];
      for await (const event of trainer.run()) {
        events.push(event);
        if (event.type === "step" && event.step === 3) controller.abort();
      }
      // One more step was in the device's queue.
      expect(summary(events)).toEqual(["step 1", "step 2", "step 3", "step 4", "checkpoint 4", "aborted 4"]);
    });

    test("before the first step does nothing", async () => {
      const { events } = await run({ signal: AbortSignal.abort() });
      expect(summary(events)).toEqual(["aborted 0"]);
    });
  });

  describe("options", () => {
    const model = tinyModel();
    const good = { model, data, steps: 1 };
    test.for<[string, Record<string, unknown>, string]>([
      [
        "no model",
        { ...good, model: {} },
        "Trainer: expected model to be a model with loss(), such as a GPT or a Llama, got an object",
      ],
      [
        "no data",
        { ...good, data: [1, 2] },
        "Trainer: expected data to be a source of tokens or sequences, got an array of 2",
      ],
      [
        "no validation",
        { ...good, validation: 3 },
        "Trainer: expected validation to be a source of tokens or sequences, got 3",
      ],
      [
        "no end",
        { ...good, steps: undefined },
        "Trainer: expected steps, epochs or maxSeconds to be given, got undefined",
      ],
      ["steps", { ...good, steps: 0 }, "Trainer: expected steps to be an integer from 1"],
      ["time", { ...good, maxSeconds: -1 }, "Trainer: expected maxSeconds to be a number from 0"],
      ["batch", { ...good, batchSize: 1.5 }, "Trainer: expected batchSize to be an integer from 1"],
      ["context", { ...good, contextLength: 9 }, "Trainer: expected contextLength to be an integer from 1 to 8, got 9"],
      ["accumulation", { ...good, gradientAccumulation: 0 }, "Trainer: expected gradientAccumulation to be an integer"],
      ["learning rate", { ...good, lr: NaN }, "Trainer: expected lr to be a number from 0"],
      ["warm-up", { ...good, warmup: 2 }, "Trainer: expected warmup to be an integer from 0 to 1, got 2"],
      ["lowest rate", { ...good, minLr: 2 }, "Trainer: expected minLr to be a number from 0 to 0.001, got 2"],
      [
        "schedule",
        { ...good, schedule: 1 },
        "Trainer: expected schedule to be a function, cosine, linear or wsd, got 1",
      ],
      ["seed", { ...good, seed: -1 }, "Trainer: expected seed to be an integer from 0"],
      ["signal", { ...good, signal: {} }, "Trainer: expected signal to be an AbortSignal, got an object"],
      ["evaluations", { ...good, evalEvery: 0 }, "Trainer: expected evalEvery to be an integer from 1"],
      ["batches", { ...good, evalBatches: 0 }, "Trainer: expected evalBatches to be an integer from 1"],
      ["folder", { ...good, checkpoint: {} }, "Trainer: expected checkpoint.folder to be a path, got undefined"],
      [
        "keep",
        { ...good, checkpoint: { folder: "x", keep: 0 } },
        "Trainer: expected checkpoint.keep to be an integer from 1",
      ],
      [
        "failures",
        { ...good, checkpoint: { folder: "x", maxFailures: 0 } },
        "Trainer: expected checkpoint.maxFailures to be an integer from 1",
      ],
      ["new data", { ...good, newData: 1 }, "Trainer: expected newData to be"],
      ["clipping", { ...good, maxNorm: -1 }, "AdamW: expected maxNorm to be a number"],
      ["short data", { ...good, data: tokenData(new Uint8Array(8)) }, "Batches: expected at least 9 tokens"],
      [
        "short validation",
        { ...good, validation: tokenData(new Uint8Array(8)) },
        "Batches: expected at least 9 tokens",
      ],
      ["nothing", null as never, "Trainer: expected options to be an object, got null"],
    ])("%s", ([, options, message]) => {
      expect(() => new Trainer(options as never)).toThrow(message);
    });
  });

  describe("evaluate", () => {
    test("is the mean over every window, whatever the batch size, and leaves the model's mode", async () => {
      using model = tinyModel({ dropout: 0.5 });
      model.train();
      const windows = Math.floor(199 / 8);
      const alone = await Promise.all(
        Array.from({ length: windows }, (_, i) => evaluate(model, sliceSource(validation, i * 8, i * 8 + 9))),
      );
      const expected = alone.reduce((sum, { loss }) => sum + loss, 0) / windows;
      for (const batchSize of [1, 4, 7, windows - 1, windows, 100]) {
        const all = await evaluate(model, validation, { batchSize });
        expect(all.tokens).toBe(windows * 8);
        expect(all.loss).toBeCloseTo(expected, 6);
        expect(all.perplexity).toBeCloseTo(Math.exp(all.loss), 10);
        expect(await evaluate(model, validation, { batchSize })).toEqual(all);
      }
      expect(model.training).toBe(true);
    });

    test("accepts few tokens, and uses fewer batches on request", async () => {
      using model = tinyModel();
      expect((await evaluate(model, sliceSource(validation, 0, 20))).tokens).toBe(16);
      expect((await evaluate(model, validation, { batchSize: 2, batches: 3 })).tokens).toBe(48);
      await expect(evaluate(model, sliceSource(validation, 0, 8))).rejects.toThrow("expected at least 9 tokens");
      await expect(evaluate(model, validation, { batches: 0 })).rejects.toThrow("expected batches to be an integer");
      await expect(evaluate(model, validation, { signal: AbortSignal.abort() })).rejects.toThrow("aborted");
    });
  });
});
