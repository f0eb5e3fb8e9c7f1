import { activeAdapter } from "../adapters/adapters.js";
import { checkDistributed } from "../distributed/options.js";
import { Module } from "../nn/module.js";
import { orderOf, orderVersion } from "../util/permutation.js";
import { savesAdapters } from "../pretrained/families/saving.js";
import { type BatchData, BatchFeed, batchSourceOf, everyNth } from "./batch-feed.js";
import { alone } from "./feed.js";
import { isBatchPosition } from "./position.js";
import type { LossFunction, Task } from "./task.js";
import type { Plan } from "./plan.js";
import { checkUndivided } from "../data/sequence-source.js";
import { TrainingLoop } from "./training-loop.js";
import { checkTrainingOptions, expectedOption, type TrainingOptions } from "./training-options.js";

/** Options of a `TaskTrainer`. */
export interface TaskTrainerOptions<M extends Module, B> extends TrainingOptions<M> {
  /** Model to train: one of heed's, or a `Module` of your own. */
  model: M;
  /** Task to learn: one of heed's, such as `classification()`, or a function that returns the loss of a batch. */
  task: Task<M, B> | LossFunction<M, B>;
  /**
   * Batches to train on. Each makes a micro-batch. In a distributed run, all processes have the same batches, of which
   * they take turns; so with the held-out batches.
   */
  data: BatchData<B>;
  /**
   * True if each epoch has the batches of an array in another order, which follows from `seed`. Other iterables keep
   * their order. A run that resumes keeps the order of its checkpoint.
   * @default true
   */
  shuffle?: boolean | undefined;
  /** Held-out batches to evaluate on; one epoch of them makes an evaluation. @default null (no evaluation) */
  validation?: BatchData<B> | null;
}

/**
 * Trainer of any model on any task, with batches from any iterable. It does everything that `Trainer` does: schedules,
 * checkpoints, exact resume, evaluation and events.
 *
 * A checkpoint of a `Module` of your own has its parameters. To resume, make the module and pass it to `loadCheckpoint`.
 * If it has dropout, keep its `DropoutSeeds` in a property, so that the trainer can set their step.
 *
 * @example
 * const bert = new Bert({ vocabularySize: 100, contextLength: 16, layers: 1, heads: 2, width: 16 });
 * const model = new BertForSequenceClassification(bert, { labels: 2 });
 * const data = [{ ids: [[7, 8, 9], [5, 6]], labels: [0, 1] }];
 * using trainer = new TaskTrainer({ model, task: classification(), data, steps: 3, lr: 1e-3 });
 * await trainer.train({ onStep: ({ step, loss }) => console.log(step, loss) });
 */
export class TaskTrainer<M extends Module, B> extends TrainingLoop<M, B> {
  /**
   * @throws ERR_ARGUMENT if an option has the wrong type or value.
   * @throws ERR_RANGE if a number is out of range.
   * @throws ERR_FORMAT or ERR_SHAPE if the optimiser's state in `resume` does not fit the parameters to train.
   */
  constructor(options: TaskTrainerOptions<M, B>) {
    super(planOf(options));
  }
}

function planOf<M extends Module, B>(options: TaskTrainerOptions<M, B>): Plan<M, B> {
  const op = "TaskTrainer";
  if (typeof options !== "object" || (options as unknown) === null)
    throw expectedOption(op, "options to be an object", options);
  const { model, resume, newData = false } = options;
  if (!(model instanceof Module)) throw expectedOption(op, "model to be a model or another module", model);
  const task = typeof options.task === "function" ? { loss: options.task } : (options.task as Task<M, B> | undefined);
  if (typeof task?.loss !== "function")
    throw expectedOption(op, "task to be a task or a function that returns a loss", options.task);
  if (options.checkpoint && !savesAdapters(model) && activeAdapter(model) !== null)
    throw expectedOption(
      op,
      "checkpoint to be left out, because adapters are saved only for models whose layers PEFT's files can name",
      model,
    );
  const { shuffle = true } = options;
  if (typeof (shuffle as unknown) !== "boolean") throw expectedOption(op, "shuffle to be true or false", shuffle);
  const seed = resume?.state.seed ?? options.seed ?? 0;
  // A run goes on in the order in which it began.
  const goesOn = resume && !newData && resume.state.position && isBatchPosition(resume.state.position);
  const shuffles = goesOn ? resume.state.order === orderOf(seed, orderVersion) : shuffle;
  const source = batchSourceOf(op, "data", options.data, shuffles ? seed : null);
  const heldOut = options.validation ? batchSourceOf(op, "validation", options.validation) : null;
  const distributed = checkDistributed(op, options.distributed);
  const { rank, size } = distributed?.collectives ?? alone;
  const share = { rank, size };
  checkUndivided(op, "data", options.data, size);
  checkUndivided(op, "validation", options.validation, size);
  const settings = checkTrainingOptions(op, model, options, {
    validates: heldOut !== null,
    epoch: source.length === undefined ? null : { items: source.length, perBatch: size },
  });
  return {
    op,
    model,
    device: model.parameters()[0]!.device,
    task,
    feed: new BatchFeed(op, source, resume?.state ?? null, newData, share),
    validation: heldOut && (() => everyNth(heldOut.batches(0, 0), share, settings.evalBatches)),
    ...{ data: options.data, held: options.validation ?? null, cut: { shuffle: shuffles } },
    settings,
    options,
    distributed,
    flopsPerToken: null,
  };
}
