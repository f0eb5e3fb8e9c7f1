/* eslint-disable @typescript-eslint/no-unsafe-class-instance-assignment -- a task of any model with a loss is one of a
   Llama, too: the rule does not know that Task is contravariant */
import { describe, expect, test } from "vitest";
import { addAdapter } from "../../lib/adapters/adapters.js";
import { parameter } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import { Bert } from "../../lib/models/bert.js";
import { BertForMaskedLM, BertForSequenceClassification } from "../../lib/models/bert-heads.js";
import { EncoderDecoder } from "../../lib/models/encoder-decoder.js";
import { Llama } from "../../lib/models/llama.js";
import { T5 } from "../../lib/models/t5.js";
import { Dropout, DropoutSeeds } from "../../lib/nn/dropout.js";
import { Module } from "../../lib/nn/module.js";
import { add, mul, sub } from "../../lib/ops/binary.js";
import { matmul } from "../../lib/ops/matmul.js";
import { mean } from "../../lib/ops/reduce.js";
import { square } from "../../lib/ops/unary.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { type BatchData, everyNth } from "../../lib/train/batch-feed.js";
import { loadCheckpoint } from "../../lib/train/checkpoint.js";
import type { TrainingExample } from "../../lib/data/pack-examples.js";
import { meanLoss } from "../../lib/train/mean-loss.js";
import type { LossFunction, Task } from "../../lib/train/task.js";
import { TaskTrainer, type TaskTrainerOptions } from "../../lib/train/task-trainer.js";
import { classification } from "../../lib/train/tasks/classification.js";
import { contrastive } from "../../lib/train/tasks/contrastive.js";
import { languageModelling } from "../../lib/train/tasks/language-modelling.js";
import { maskedWords } from "../../lib/train/tasks/masked-words.js";
import { preferences } from "../../lib/train/tasks/preferences.js";
import { sequenceToSequence } from "../../lib/train/tasks/sequence-to-sequence.js";
import { expectError, expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { onEachDevice } from "../support/targets.js";
import { collect, losses, tinyModel, values } from "./support.js";

const sizes = { vocabularySize: 11, contextLength: 8, layers: 1, heads: 2, width: 8 };
const bert = (): Bert => new Bert({ ...sizes, dropout: 0.1 }, { seed: 1 });
const example = (...ids: number[]): TrainingExample => ({
  ids: Int32Array.from(ids),
  mask: Uint8Array.from(ids, (_, i) => (i < 2 ? 0 : 1)),
});
const pairs = [
  {
    sources: [
      [3, 4, 5, 1],
      [6, 1],
    ],
    targets: [
      [7, 8],
      [9, 10, 7],
    ],
  },
  { sources: [[5, 1]], targets: [[4]] },
];

/** Data with a linear law, and a module that can learn it. */
class Line extends Module {
  readonly weight = parameter(tensor([0.5, -0.5, 0.25], [3, 1]));
  readonly bias = parameter(tensor([0], [1]));
  readonly seeds = new DropoutSeeds(3);
  readonly dropout = new Dropout(0.2, this.seeds);
  forward = (x: FloatTensor): FloatTensor => add(matmul(this.dropout.forward(x), this.weight), this.bias);
}
type Points = readonly (readonly number[])[];
const points = (count: number, from: number): Points =>
  Array.from({ length: count }, (_, i) => [Math.sin(from + i), Math.cos(2 * from + i), Math.sin(3 * (from + i))]);
const lineData = [points(4, 1), points(3, 7), points(5, 2)];
const fit: Task<Line, Points> = {
  loss: (model, batch, { device }) => {
    const x = tensor(batch.flat(), [batch.length, 3], { device });
    const y = tensor(
      batch.map(([a, b, c]) => a! - 2 * b! + 3 * c! + 1),
      [batch.length, 1],
      { device },
    );
    return mean(square(sub(model.forward(x), y)));
  },
  targets: (batch) => batch.length,
};

/** Trains and returns the losses and the parameters. */
async function run<M extends Module, B>(options: TaskTrainerOptions<M, B>) {
  using trainer = new TaskTrainer(options);
  const events = await collect(trainer.run());
  return { events, losses: losses(events), parameters: await values(options.model) };
}

test("arrays are shuffled in each epoch by the seed, unless told not to, and a run resumes in the same order", async () => {
  const data = Array.from({ length: 7 }, (_, i) => points(2, i));
  const order = async (more: object, steps = 14) => {
    const seen: number[] = [];
    using model = new Line();
    const task: LossFunction<Line, Points> = (line, batch, context) => {
      seen.push(data.indexOf(batch));
      return fit.loss(line, batch, context);
    };
    using trainer = new TaskTrainer({ model, task, data, steps, ...more });
    await collect(trainer.run());
    return seen;
  };
  const inOrder = [...data.keys()];
  const shuffled = await order({ seed: 1 });
  const epochs = [shuffled.slice(0, 7), shuffled.slice(7)];
  for (const epoch of epochs) expect([...epoch].sort()).toEqual(inOrder);
  expect(epochs[0]).not.toEqual(epochs[1]);
  expect(await order({ seed: 1 })).toEqual(shuffled);
  expect(await order({ seed: 2 })).not.toEqual(shuffled);
  expect(await order({ seed: 1, shuffle: false })).toEqual([...inOrder, ...inOrder]);
  expect(await order({ data: () => data })).toEqual([...inOrder, ...inOrder]);
  for (const shuffle of [true, false]) {
    const folder = temporaryFolder();
    const first = await order({ seed: 1, shuffle, checkpoint: { folder } }, 5);
    using model = new Line();
    const resume = await loadCheckpoint(folder, { model });
    const rest = await order({ model, resume }, 14);
    expect([...first, ...rest]).toEqual(shuffle ? shuffled : [...inOrder, ...inOrder]);
  }
  expectError(
    () => new TaskTrainer({ model: new Line(), task: fit, data, steps: 1, shuffle: 1 as never }),
    "ERR_ARGUMENT",
    /shuffle/,
  );
});

onEachDevice((device) => {
  /** Trains for two steps, and again with a stop after the first; both must be the same to the bit. */
  async function resumes<M extends Module, B>(
    make: () => M,
    task: Task<M, B>,
    data: BatchData<B>,
    kind: { given?: boolean } = {},
  ): Promise<number[]> {
    const options = { task, data, steps: 2, lr: 0.01, optimizer: { type: "muon" as const }, ema: 0.9 };
    using whole = make();
    const once = await run({ ...options, model: whole });
    expect(once.losses.every((loss) => Number.isFinite(loss) && loss > 0)).toBe(true);
    // What is saved and loaded does not depend on the device, and the software device is slow.
    if (device !== "cpu") return once.losses;
    const folder = temporaryFolder();
    using first = make();
    using trainer = new TaskTrainer({ ...options, model: first, checkpoint: { folder, every: 1 } });
    const events = trainer.run();
    // The first step and its checkpoint.
    for (let i = 0; i < 2; i++) await events.next();
    await events.return();
    const model = kind.given ? make() : undefined;
    const resume = await loadCheckpoint<M>(folder, { ...(model && { model }) });
    const rest = await run({ ...options, model: resume.model, resume });
    expect(rest.losses).toEqual(once.losses.slice(1));
    expect(rest.parameters).toEqual(once.parameters);
    resume.model.dispose();
    return once.losses;
  }

  describe("each task trains, and resumes to the bit with Muon and an average", () => {
    test("language modelling and instruction tuning of a Llama", async () => {
      const data = [[example(1, 2, 3, 4), example(5, 6, 7)], [example(2, 3, 4)]];
      const [loss] = await resumes(
        () => new Llama({ ...sizes, feedForwardWidth: 16 }, { seed: 1 }),
        languageModelling(),
        data,
      );
      expect(loss).toBeCloseTo(Math.log(11), 0);
    });

    test("preferences", async () => {
      const adapted = () => {
        const model = tinyModel();
        addAdapter(model, { rank: 2, seed: 1 });
        return model;
      };
      const data = [[{ chosen: example(1, 2, 3, 4), rejected: example(1, 2, 5) }]];
      const [loss] = await resumes(adapted, preferences(), data);
      // The adapter begins with no change.
      expect(loss).toBeCloseTo(Math.log(2), 5);
    });

    test("preferences without dropout: nothing learned, the loss stays ln 2", async () => {
      const make = () => {
        const model = tinyModel({ dropout: 0.5 });
        addAdapter(model, { rank: 2, dropout: 0.5, seed: 1 });
        return model;
      };
      const data = [[{ chosen: example(1, 2, 3, 4), rejected: example(1, 2, 5) }]];
      using still = make();
      const none = await run({ model: still, task: preferences(), data, steps: 2, lr: 0 });
      for (const loss of none.losses) expect(loss).toBeCloseTo(Math.LN2, 6);
      // The blocks that are computed again in the backward pass have no dropout either.
      const runs = [];
      for (const gradientCheckpointing of [false, true]) {
        using model = make();
        runs.push(await run({ model, task: preferences(), data, steps: 2, lr: 0.05, gradientCheckpointing }));
        expect([...model.modules()].every(([, module]) => module.training)).toBe(true);
      }
      expect(runs[1]!.parameters).toEqual(runs[0]!.parameters);
    });

    test("classification", async () => {
      const make = () => new BertForSequenceClassification(bert(), { labels: 3, seed: 2 });
      const data = [
        {
          ids: [
            [3, 4, 5],
            [6, 7],
          ],
          labels: [0, 2],
        },
      ];
      await resumes(make, classification(), data, { given: true });
    });

    test("masked words", async () => {
      const task = maskedWords({ maskToken: 10, vocabularySize: 11, probability: 0.4, special: [1] });
      const data = [
        [
          [1, 3, 4, 5],
          [6, 7],
        ],
        [[8, 9, 2, 3]],
      ];
      await resumes(() => new BertForMaskedLM(bert(), { seed: 2 }), task, data, { given: true });
    });

    test("masked words are evaluated alike by any number of processes", async () => {
      using model = new BertForMaskedLM(bert(), { seed: 2 });
      const device = model.parameters()[0]!.device;
      const task = maskedWords({ maskToken: 10, vocabularySize: 11, probability: 0.4 });
      const texts = Array.from({ length: 7 }, (_, b) =>
        Array.from({ length: 1 + (b % 3) }, (_, i) =>
          Array.from({ length: 3 + ((b + i) % 5) }, (_, t) => 1 + ((b * t + i) % 9)),
        ),
      );
      const evaluated = async (size: number, limit?: number): Promise<[number, number]> => {
        let [sum, targets] = [0, 0];
        for (let rank = 0; rank < size; rank++) {
          const share = { rank, size };
          const own = await meanLoss(model, task, everyNth(texts, share, limit), { device, share });
          sum += own.loss * own.targets;
          targets += own.targets;
        }
        return [sum / targets, targets];
      };
      for (const limit of [undefined, 3]) {
        const [loss, targets] = await evaluated(1, limit);
        using trainer = new TaskTrainer({
          ...{ model, task, data: texts, validation: texts, steps: 1, schedule: () => 0 },
          ...(limit !== undefined && { evalBatches: limit }),
        });
        const { evaluation } = await trainer.train();
        expect(evaluation!.loss).toBeCloseTo(loss, 12);
        expect(evaluation!.tokens).toBe(targets);
        for (const size of [2, 3, 9]) {
          const [other, count] = await evaluated(size, limit);
          expect(count).toBe(targets);
          expect(other).toBeCloseTo(loss, 12);
        }
      }
    });

    test("sequence to sequence, of T5 and the original encoder–decoder", async () => {
      const task = sequenceToSequence({ smoothing: 0.1 });
      await resumes(() => new T5({ ...sizes, buckets: 4, furthest: 4 }, { seed: 1 }), task, pairs);
      const config = { ...sizes, sourceVocabularySize: 11, startToken: 1, endToken: 2, norm: "pre" as const };
      await resumes(() => new EncoderDecoder(config, { seed: 1 }), task, pairs, { given: true });
    });

    test("vectors of texts by a contrastive loss", async () => {
      const data = [
        {
          queries: [
            [3, 4],
            [5, 6, 7],
          ],
          documents: [[8], [9, 10]],
          negatives: [[1, 2]],
        },
      ];
      await resumes(bert, contrastive({ symmetric: true }), data, { given: true });
    });

    test("a module of the user's own, whose checkpoint needs it", async () => {
      await resumes(() => new Line(), fit, lineData, { given: true });
      const folder = temporaryFolder();
      await run({ model: new Line(), task: fit, data: lineData, steps: 1, checkpoint: { folder } });
      await expectRejection(loadCheckpoint(folder), "ERR_ARGUMENT", /expected model, because .* got none/);
      await expectRejection(loadCheckpoint(folder, { model: tinyModel() }), "ERR_FORMAT", /missing/);
    });
  });
});

describe("batches", () => {
  const options = { task: fit, steps: 5, lr: 0.01 };
  const all = async (data: BatchData<Points>): Promise<number[]> =>
    (await run({ ...options, model: new Line(), data, shuffle: false })).losses;

  test("may be an array, another iterable, an asynchronous one, a function or a source; epochs follow each other", async () => {
    const expected = await all(lineData);
    expect(await all(new Set(lineData))).toEqual(expected);
    expect(
      await all(async function* () {
        for (const batch of lineData) yield await Promise.resolve(batch);
      }),
    ).toEqual(expected);
    const asked: [number, number][] = [];
    const source = {
      length: 3,
      batches: (epoch: number, first: number) => {
        asked.push([epoch, first]);
        return lineData.slice(first);
      },
    };
    expect(await all(source)).toEqual(expected);
    expect(asked).toEqual([
      [0, 0],
      [1, 0],
    ]);
  });

  test("count by their targets when they make one step", async () => {
    const model = new Line().eval();
    const plain: LossFunction<Line, Points> = (line, batch, context) => fit.loss(line.eval(), batch, context);
    const joined = await run({ model, task: { ...fit, loss: plain }, data: [lineData.flat()], steps: 1, lr: 0.1 });
    const apart = await run({
      model: new Line(),
      task: { ...fit, loss: plain },
      data: lineData,
      gradientAccumulation: 3,
      steps: 1,
      lr: 0.1,
    });
    expect(apart.losses[0]).toBeCloseTo(joined.losses[0]!, 5);
    apart.parameters.weight!.forEach((x, i) => expect(x).toBeCloseTo(joined.parameters.weight![i]!, 5));
  });

  test("that run out, that are none, or that fail", async () => {
    const once = lineData.values();
    await expectRejection(all(once), "ERR_ARGUMENT", /expected batches in epoch 1, got none/);
    await expectRejection(all([]), "ERR_ARGUMENT", /expected batches in epoch 0, got none/);
    // eslint-disable-next-line require-yield
    const failing = function* (): Generator<Points> {
      throw new Error("no disk");
    };
    await expect(all(failing)).rejects.toThrow("no disk");
    // Later batches are read while the device computes, and their failure is still reported.
    const breaking = function* (): Generator<Points> {
      yield lineData[0]!;
      throw new Error("disk gone");
    };
    await expect(all(breaking)).rejects.toThrow("disk gone");
    const validation = lineData.values();
    await expectRejection(
      run({ ...options, model: new Line(), data: lineData, validation, evalEvery: 1 }),
      "ERR_ARGUMENT",
      /validation: expected at least one batch, got none/,
    );
    const model = new Line();
    const bad = (options: object, message: RegExp): void =>
      expectError(
        () => new TaskTrainer({ model, task: fit, data: lineData, steps: 1, ...options } as never),
        "ERR_ARGUMENT",
        message,
      );
    bad({ data: 3 }, /expected data to be an iterable of batches/);
    bad({ task: {} }, /expected task to be a task or a function/);
    bad({ model: {} }, /expected model to be a model or another module/);
    bad({ dtype: "bf16" }, /expected model to be a model with a dtype/);
    bad({ steps: undefined }, /expected steps, epochs or maxSeconds/);
    bad({ data: new Set(lineData), steps: undefined, epochs: 1 }, /expected steps, because the number of batches/);
    bad({ epochs: 1 }, /either steps or epochs/);
    bad({ optimizer: { type: "adam" } }, /optimizer.type to be adamw, sgd, lion or muon/);
    bad({ optimizer: () => 1 }, /expected optimizer to return an optimiser/);
    const adapted = bert();
    addAdapter(adapted, { rank: 2 });
    bad({ model: adapted, checkpoint: { folder: "x" } }, /adapters are saved only for models whose layers/);
    bad({ spikes: {} }, /expected checkpoint to be given for spikes/);
    bad({ earlyStopping: { patience: 1 } }, /expected validation to be given/);
    bad({ schedule: "steep" }, /expected schedule to be a function, cosine, linear or wsd/);
  });

  test("epochs end a run, and are in its events", async () => {
    const { events } = await run({ model: new Line(), task: fit, data: lineData, epochs: 2, lr: 0.01 });
    const steps = events.filter((event) => event.type === "step");
    expect(steps.length).toBe(6);
    steps.forEach(({ epoch }, i) => expect(epoch).toBeCloseTo((i + 1) / 3, 12));
    expect(steps.at(-1)).toMatchObject({ progress: 1, mfu: null, lossScale: null });
    expect(steps[0]!.memory).toBeGreaterThan(0);
  });
});

describe("losses are those of their definitions", () => {
  test("InfoNCE", async () => {
    using model = bert().eval();
    const vectors = async (ids: number[]): Promise<number[]> => {
      const states = await model.forward(tensor(ids, [1, ids.length], { dtype: "i32" })).data();
      const pooled = Array.from({ length: 8 }, (_, c) => ids.reduce((sum, _, t) => sum + states[8 * t + c]!, 0));
      const norm = Math.hypot(...pooled);
      return pooled.map((x) => x / norm);
    };
    const batch = {
      queries: [
        [3, 4],
        [5, 6, 7],
      ],
      documents: [[8], [9, 10]],
      negatives: [[1, 2]],
    };
    const q = await Promise.all(batch.queries.map(vectors));
    const d = await Promise.all([...batch.documents, ...batch.negatives].map(vectors));
    const scores = q.map((a) => d.map((b) => a.reduce((sum, x, i) => sum + x * b[i]!, 0) / 0.1));
    const expected =
      scores.reduce((sum, row, i) => sum + Math.log(row.reduce((s, x) => s + Math.exp(x), 0)) - row[i]!, 0) / 2;
    const context = { device: model.device, microBatch: 0, training: false };
    const loss = await contrastive({ temperature: 0.1 }).loss(model, batch, context).item();
    expect(loss).toBeCloseTo(expected, 4);
  });

  test("an evaluation is the mean over all targets", async () => {
    const model = new Line();
    const { events } = await run({ model, task: fit, data: lineData, validation: lineData, steps: 1, lr: 0 });
    const [evaluation] = events.filter((event) => event.type === "evaluation");
    const context = { device: model.weight.device, microBatch: 0, training: false };
    model.eval();
    const each = await Promise.all(lineData.map((batch) => mul(fit.loss(model, batch, context), batch.length).item()));
    expect(evaluation!.loss).toBeCloseTo(each.reduce((a, b) => a + b) / 12, 5);
    expect(evaluation!.tokens).toBe(12);
  });
});
