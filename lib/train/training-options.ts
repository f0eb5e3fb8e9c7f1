// Options that all trainers have, and their checks.
import { activeAdapter, baseParameters } from "../adapters/adapters.js";
import type { DistributedOptions } from "../distributed/options.js";
import { describe, HeedError } from "../util/errors.js";
import type { FolderLock } from "../formats/folder-lock.js";
import { Module } from "../nn/module.js";
import { quantizationOf } from "../nn/quantization.js";
import { checkBoolean, checkInteger, checkNumber, checkObject } from "../ops/check.js";
import { cosineSchedule, linearSchedule, type Schedule, wsdSchedule } from "../optim/schedule.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { Checkpoint } from "./checkpoint.js";
import { stepsOfEpochs } from "./epoch-steps.js";
import type { LossScaleOptions } from "./loss-scale.js";
import { type OptimizerChoice, usualRate } from "./optimizers.js";
import type { SpikeOptions } from "./spikes.js";

/** Forms of the learning rate's schedule; see `cosineSchedule`, `linearSchedule` and `wsdSchedule`. */
export const scheduleTypes = ["cosine", "linear", "wsd"] as const;

/** Options that all trainers have. */
export interface TrainingOptions<M extends Module = Module> {
  /**
   * Dtype of the activations. "bf16" halves their memory and uses the fast matrix units of a GPU. "f16" does too; its
   * small range requires `lossScale`. Parameters, gradients and checkpoints stay f32.
   * @default the model's `dtype`
   */
  dtype?: "f32" | "bf16" | "f16" | undefined;
  /** Scale of the loss in f16, which adapts itself: steps whose gradients overflow are skipped. */
  lossScale?: LossScaleOptions;
  /**
   * True if the backward pass computes activations again instead of keeping those of the forward pass. The results are
   * the same to the bit, with less memory and about a third more time.
   * @default the model's `gradientCheckpointing`
   */
  gradientCheckpointing?: boolean | undefined;
  /** Number of micro-batches whose gradients make one step. @default 1 */
  gradientAccumulation?: number;
  /**
   * Number of steps in the whole run, over all sessions. It may be omitted if `epochs` or `maxSeconds` is given.
   */
  steps?: number | undefined;
  /**
   * Number of epochs in the whole run, if their length is known. Replaces `steps`: the run has the smallest number of steps
   * that read so many epochs. A step reads `batchSize` · `gradientAccumulation` sequences in each process, over the end of
   * an epoch too, so that 5 epochs of 21 sequences are 7 steps of 15.
   */
  epochs?: number | undefined;
  /**
   * Largest number of seconds that the whole run may take, over all sessions. The learning rate then also falls with
   * the time, so that it reaches its lowest value at the end however fast the machine is. Such a run cannot be repeated
   * to the bit.
   * @default no limit
   */
  maxSeconds?: number | undefined;
  /**
   * Highest learning rate.
   * @default 1e-3 for AdamW, 0.1 for SGD, 1e-4 for Lion, 0.02 for Muon
   */
  lr?: number | undefined;
  /** Number of warm-up steps, in which the rate rises linearly. @default 0 */
  warmup?: number;
  /** Lowest learning rate, at the end. @default lr/10 with "cosine", otherwise 0 */
  minLr?: number | undefined;
  /**
   * Schedule of the learning rate after the warm-up: half a cosine, a straight line, or constant until the last
   * `decaySteps` ("wsd"). A function replaces `lr`, `warmup` and `minLr`.
   * @default "cosine"
   */
  schedule?: Schedule | (typeof scheduleTypes)[number];
  /** Number of steps at the end in which a "wsd" schedule falls. @default a fifth of the steps */
  decaySteps?: number | undefined;
  /** Largest global norm of the gradients; larger ones are scaled down to it. null turns clipping off. @default 1 */
  maxNorm?: number | null;
  /** Optimiser, with its other options. @default AdamW */
  optimizer?: OptimizerChoice;
  /**
   * Decay of a moving average of the weights (EMA), such as 0.999. Evaluations then use the averaged weights, and
   * checkpoints contain them. Early steps keep less, min(ema, (1 + t) / (10 + t)) at step t; see `WeightAverage`.
   * @default no average
   */
  ema?: number | undefined;
  /**
   * Largest number of updates in a row that may be skipped because the norm of the gradients is not finite; one more
   * ends the run with ERR_DIVERGED. In f16, a skipped update that lowers the scale of the loss does not count.
   * @default 10
   */
  maxSkips?: number;
  /**
   * Detection of spikes in the loss. After one, the run returns to its last good checkpoint and goes on with the data
   * that follows the spike. It requires `checkpoint`. @default no detection
   */
  spikes?: SpikeOptions | undefined;
  /** Number of steps between evaluations; there is always one at the end. @default only at the end */
  evalEvery?: number;
  /**
   * Largest number of batches in an evaluation: of each process for windows of tokens, whose batch size counts for one
   * process alone, and of all processes together for batches that the caller makes.
   * @default all
   */
  evalBatches?: number | undefined;
  /** End of the run when evaluations no longer improve. It requires `validation`. @default the run ends by its steps */
  earlyStopping?: EarlyStopping | undefined;
  /** Folder and frequency of checkpoints. Without it, nothing is saved. */
  checkpoint?: CheckpointOptions;
  /**
   * Checkpoint to resume from; its model must be `model`. With the same options, the losses are those of one
   * uninterrupted run.
   * @default null
   */
  resume?: Checkpoint<M> | null;
  /**
   * True if a resumed run has other data than before, which is then read from its start. If it is false, data that is
   * visibly other than before is an error, because heed cannot know which of it the run has read.
   * @default false
   */
  newData?: boolean | undefined;
  /** Seed of the order of the data. A resumed run keeps the seed of its checkpoint. @default 0 */
  seed?: number;
  /**
   * Signal that ends the run after the current step, with a checkpoint. An evaluation that is left out then is made up
   * for when the run resumes.
   */
  signal?: AbortSignal | undefined;
  /**
   * Other processes with which this one trains the model. Each process makes the same trainer, with a batch size that counts for
   * it alone, reads its share of the data, and gets the same events. Only the first writes checkpoints and the log.
   * Checkpoints are read from the same folder by all, and any number of processes resumes them.
   * @default one process
   */
  distributed?: DistributedOptions | undefined;
  /** Path of a file to which every event is appended as a line of JSON. @default no file */
  log?: string | undefined;
  /**
   * Floating-point operations per second that the device can do at most, from which the events' `mfu` follows.
   * @default that of the card, if heed knows it
   */
  peakFlops?: number | undefined;
}

/** When a run ends because its evaluations no longer improve. */
export interface EarlyStopping {
  /**
   * Number of evaluations in a row without an improvement after which the run ends. Those without targets do not count.
   */
  patience: number;
  /**
   * Smallest fall of the loss, since the last improvement, that is an improvement. The best evaluation is that of the
   * lowest loss, whatever this number is.
   * @default 0
   */
  least?: number;
}

/** Options of a run's checkpoints. */
export interface CheckpointOptions {
  /** Folder of the run. */
  folder: string;
  /** Number of steps between checkpoints; there is always one at the end. @default only at the end */
  every?: number;
  /** Number of checkpoints that are kept. @default 2 */
  keep?: number;
  /**
   * True if the model with the lowest loss in an evaluation is kept in the folder's subfolder `best`, a checkpoint of its
   * own. @default false
   */
  best?: boolean | undefined;
  /**
   * Number of failed saves in a row, as on a full disk, after which the run ends with the error. If the save at the
   * run's end fails, the run ends with the error at once.
   * @default 3
   */
  maxFailures?: number;
  /** Lock of the folder that the caller already holds. By default the run takes a lock and releases it at its end. */
  lock?: FolderLock | undefined;
  /** Tokenizer that is saved with the model, so that the checkpoint can be used on text. @default null (none) */
  tokenizer?: Tokenizer | null;
  /**
   * Path, or name on the hub, of the model before training. If only an adapter is trained, checkpoints contain the
   * adapter and refer to this model.
   * @default null (checkpoints contain the model)
   */
  base?: string | null;
  /** Values of the caller's own that are saved as `TrainerState.options`. @default {} */
  options?: Record<string, unknown>;
}

/** Options with every default filled in, after checking. */
export interface TrainingSettings {
  accumulation: number;
  steps: number;
  maxSeconds: number;
  schedule: Schedule;
  /** Highest learning rate. */
  lr: number;
  warmup: number;
  maxSkips: number;
  evalEvery: number;
  evalBatches: number | undefined;
  patience: number;
  least: number;
  saveEvery: number;
  keep: number;
  best: boolean;
  maxFailures: number;
  seed: number;
}

/** Length of an epoch. */
export interface EpochLength {
  /** Number of sequences, or of batches that the caller makes, in an epoch. */
  items: number;
  /** Number of them in a micro-batch of all processes. */
  perBatch: number;
}

/** Number of steps in the schedule of a run that only its time ends. */
const unlimitedSteps = 1_000_000;

/** Returns the error that an option is not what was expected. */
export function expectedOption(op: string, what: string, value: unknown): HeedError {
  return new HeedError("ERR_ARGUMENT", `${op}: expected ${what}, got ${describe(value)}`);
}

/** Model as far as trainers set it up. */
interface Configurable {
  dtype?: unknown;
  gradientCheckpointing?: boolean;
}

/**
 * Checks the options that all trainers have, and returns them with every default filled in.
 *
 * @param epoch length of an epoch, or null if it is unknown
 * @throws ERR_ARGUMENT if an option has the wrong type or value.
 * @throws ERR_RANGE if a number is out of range.
 */
export function checkTrainingOptions<M extends Module>(
  op: string,
  model: M,
  options: TrainingOptions<M>,
  { validates, epoch }: { validates: boolean; epoch: EpochLength | null },
): TrainingSettings {
  const { resume, checkpoint, signal, warmup = 0, gradientCheckpointing, earlyStopping } = options;
  const expected = (what: string, value: unknown): HeedError => expectedOption(op, what, value);
  checkTrained(op, model, checkpoint);
  const own = (model as Configurable).dtype;
  const dtype = options.dtype ?? own ?? "f32";
  if (dtype !== "f32" && dtype !== "bf16" && dtype !== "f16") throw expected("dtype to be f32, bf16 or f16", dtype);
  if (options.dtype !== undefined && options.dtype !== "f32" && own === undefined)
    throw expected("model to be a model with a dtype, such as a GPT or a Bert", model);
  if (gradientCheckpointing !== undefined) checkBoolean(op, "gradientCheckpointing", gradientCheckpointing);
  if (gradientCheckpointing && (model as Configurable).gradientCheckpointing === undefined)
    throw expected("model to be a model with gradientCheckpointing, such as a GPT or a Llama", model);
  if (resume && resume.model !== model) throw expected("model to be the one of the checkpoint to resume", model);
  if (checkpoint) {
    if (typeof checkpoint.folder !== "string") throw expected("checkpoint.folder to be a path", checkpoint.folder);
    if (checkpoint.best !== undefined) checkBoolean(op, "checkpoint.best", checkpoint.best);
    if (checkpoint.best && !validates) throw expected("validation to be given for checkpoint.best", undefined);
  }
  if (options.spikes && !checkpoint) throw expected("checkpoint to be given for spikes", undefined);
  if (earlyStopping) {
    checkObject(op, "earlyStopping", earlyStopping);
    checkNumber(op, "earlyStopping.least", earlyStopping.least ?? 0, 0, Number.MAX_VALUE);
    checkInteger(op, "earlyStopping.patience", earlyStopping.patience, 1);
    if (!validates) throw expected("validation to be given for earlyStopping", undefined);
  }
  if (options.newData !== undefined) checkBoolean(op, "newData", options.newData);
  if (options.ema !== undefined) checkNumber(op, "ema", options.ema, 0, 1 - Number.EPSILON);
  if (options.peakFlops !== undefined) checkNumber(op, "peakFlops", options.peakFlops, 1, Number.MAX_VALUE);
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw expected("signal to be an AbortSignal", signal);

  const integer = (name: string, value: number | undefined, unless: number, low = 1, high?: number): number => {
    if (value !== undefined) checkInteger(op, name, value, low, high);
    return value ?? unless;
  };
  const { maxSeconds } = options;
  if (maxSeconds !== undefined) checkNumber(op, "maxSeconds", maxSeconds, 0, Number.MAX_VALUE);
  const accumulation = integer("gradientAccumulation", options.gradientAccumulation, 1);
  const steps = stepsOf(op, options, epoch && { ...epoch, perBatch: epoch.perBatch * accumulation });
  integer("warmup", warmup, 0, 0, steps);
  const { lr = usualRate(options.optimizer) } = options;
  checkNumber(op, "lr", lr, 0, Number.MAX_VALUE);
  const { schedule = "cosine" } = options;
  if (typeof schedule !== "function" && !scheduleTypes.includes(schedule))
    throw expected("schedule to be a function, cosine, linear or wsd", schedule);
  const { minLr = schedule === "cosine" ? lr / 10 : 0, decaySteps } = options;
  checkNumber(op, "minLr", minLr, 0, lr);
  integer("decaySteps", decaySteps, 0, 0, steps - warmup);
  integer("evalBatches", options.evalBatches, 1);
  const numbers = { lr, warmup, steps, minLr };
  return {
    accumulation,
    steps,
    maxSeconds: maxSeconds ?? Infinity,
    schedule:
      typeof schedule === "function"
        ? schedule
        : schedule === "cosine"
          ? cosineSchedule(numbers)
          : schedule === "linear"
            ? linearSchedule(numbers)
            : wsdSchedule({ ...numbers, ...(decaySteps !== undefined && { decay: decaySteps }) }),
    lr,
    warmup,
    maxSkips: integer("maxSkips", options.maxSkips, 10, 0),
    evalEvery: integer("evalEvery", options.evalEvery, Infinity),
    evalBatches: options.evalBatches,
    patience: earlyStopping?.patience ?? Infinity,
    least: earlyStopping?.least ?? 0,
    saveEvery: integer("checkpoint.every", checkpoint?.every, Infinity),
    keep: integer("checkpoint.keep", checkpoint?.keep, 2),
    best: checkpoint?.best ?? false,
    maxFailures: integer("checkpoint.maxFailures", checkpoint?.maxFailures, 3),
    seed: resume?.state.seed ?? integer("seed", options.seed, 0, 0),
  };
}

/** Checks that a quantised model trains an adapter alone, and that its checkpoints can refer to the model. */
function checkQuantized(op: string, model: Module, checkpoint: CheckpointOptions | undefined): void {
  if (quantizationOf(op, model) === null && !model.isQuantized) return;
  if (activeAdapter(model) === null || Object.values(baseParameters(model)).some(({ isFrozen }) => !isFrozen))
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected a quantised model to train an adapter alone, got one with other parameters to train; call addAdapter(model)`,
    );
  if (checkpoint && typeof checkpoint.base !== "string")
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected checkpoint.base to name the model that was quantised, because a checkpoint cannot contain quantised weights, got ${describe(checkpoint.base)}`,
    );
}

/** Checks that a model can be trained. */
function checkTrained(op: string, model: Module, checkpoint: CheckpointOptions | undefined): void {
  if (!(model instanceof Module)) throw expectedOption(op, "model to be a model or another module", model);
  checkQuantized(op, model, checkpoint);
  if (model.parameters({ trainable: true }).length === 0)
    throw new HeedError("ERR_ARGUMENT", `${op}: expected a model with parameters to train, got one that is frozen`);
}

/** Returns the number of steps in the run. `epoch` is the length of an epoch in items, with the number of those in a step. */
function stepsOf(
  op: string,
  { steps, epochs, maxSeconds }: Pick<TrainingOptions, "steps" | "epochs" | "maxSeconds">,
  epoch: EpochLength | null,
): number {
  if (steps !== undefined) checkInteger(op, "steps", steps, 1);
  if (epochs !== undefined) {
    checkNumber(op, "epochs", epochs, Number.MIN_VALUE, Number.MAX_SAFE_INTEGER);
    if (steps !== undefined) throw expectedOption(op, "either steps or epochs", "both");
    if (epoch === null)
      throw expectedOption(op, "steps, because the number of batches in an epoch is unknown", "epochs");
    return stepsOfEpochs(epochs, epoch.items, epoch.perBatch);
  }
  if (steps === undefined && maxSeconds === undefined)
    throw expectedOption(op, "steps, epochs or maxSeconds to be given", undefined);
  return steps ?? unlimitedSteps;
}
