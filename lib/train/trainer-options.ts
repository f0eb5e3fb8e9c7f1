import { activeAdapter, baseParameters } from "../adapters/adapters.js";
import { HeedError } from "../errors.js";
import { checkBoolean, checkInteger, checkNumber, describe } from "../ops/check.js";
import type { FolderLock } from "../formats/folder-lock.js";
import { Module } from "../nn/module.js";
import { quantizationOf } from "../nn/quantization.js";
import type { AdamWOptions } from "../optim/adamw.js";
import { cosineSchedule, type Schedule } from "../optim/schedule.js";
import { savingOf } from "../pretrained/families/saving.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { Checkpoint } from "./checkpoint.js";
import type { SequenceSource } from "./sequence-source.js";
import type { TokenSource } from "./token-data.js";
import type { TrainableModel } from "./trainable-model.js";

/** Options of a `Trainer`. */
export interface TrainerOptions {
  /** Model to train: a GPT, a Llama, or another model that predicts the next token. */
  model: TrainableModel;
  /**
   * Tokens to train on, which are read in windows of `contextLength` tokens, or the sequences of `packExamples`. Their
   * order follows from the seed.
   */
  data: TokenSource | SequenceSource;
  /** Held-out tokens or sequences to evaluate on. @default null (no evaluation) */
  validation?: TokenSource | SequenceSource | null;
  /**
   * Dtype of the activations. "bf16" halves their memory and uses the fast matrix units of a GPU; parameters, gradients
   * and checkpoints stay f32.
   * @default the model's `dtype`
   */
  dtype?: "f32" | "bf16" | undefined;
  /**
   * True if the backward pass computes activations again instead of keeping those of the forward pass. The results are
   * the same to the bit, with less memory and about a third more time.
   * @default the model's `gradientCheckpointing`
   */
  gradientCheckpointing?: boolean | undefined;
  /**
   * Id that begins each document in the data, such as a tokenizer's end of text: a token then sees only its own
   * document. By default a token sees everything before it in its sequence.
   * @default null
   */
  documentStart?: number | null | undefined;
  /** B, the number of sequences in a micro-batch. @default 8 */
  batchSize?: number;
  /** T, the number of tokens in a sequence. @default that of the packed examples, or the model's `contextLength` */
  contextLength?: number;
  /** Number of micro-batches whose gradients make one step. @default 1 */
  gradientAccumulation?: number;
  /** Number of steps in the whole run, over all sessions. It may be omitted if `maxSeconds` is given. */
  steps?: number | undefined;
  /**
   * Largest number of seconds that the whole run may take, over all sessions. The learning rate then also falls with
   * the time, so that it reaches its lowest value at the end however fast the machine is. Such a run cannot be repeated
   * to the bit.
   * @default no limit
   */
  maxSeconds?: number | undefined;
  /**
   * Highest learning rate: the rate rises linearly during the warm-up, then falls along half a cosine.
   * @default 1e-3
   */
  lr?: number;
  /** Number of warm-up steps. @default 0 */
  warmup?: number;
  /** Lowest learning rate, at the end. @default lr/10 */
  minLr?: number | undefined;
  /** Schedule of the learning rate that replaces the one of `lr`, `warmup` and `minLr`. */
  schedule?: Schedule;
  /** Largest global norm of the gradients; larger ones are scaled down to it. null turns clipping off. @default 1 */
  maxNorm?: number | null;
  /** Other options of AdamW. */
  optimizer?: Omit<AdamWOptions, "lr" | "maxNorm">;
  /**
   * Largest number of updates in a row that may be skipped because the norm of the gradients is not finite; one more
   * ends the run with ERR_DIVERGED.
   * @default 10
   */
  maxSkips?: number;
  /** Number of steps between evaluations; there is always one at the end. @default only at the end */
  evalEvery?: number;
  /** Largest number of batches in an evaluation, which are spread evenly over the tokens. @default all */
  evalBatches?: number | undefined;
  /** Folder and frequency of checkpoints. Without it, nothing is saved. */
  checkpoint?: CheckpointOptions;
  /**
   * Checkpoint to resume from; its model must be `model`. With the same options, the losses are those of one
   * uninterrupted run. With another batch size, the data continues with the next sequence.
   * @default null
   */
  resume?: Checkpoint | null;
  /**
   * True if a resumed run has other data than before, which is then read from its start. If it is false, data that is
   * cut into other sequences than before is an error, because heed cannot know which of it the run has read.
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
  /** Path of a file to which every event is appended as a line of JSON. @default no file */
  log?: string | undefined;
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
export interface TrainerSettings {
  batchSize: number;
  contextLength: number;
  documentStart: number | null;
  accumulation: number;
  steps: number;
  maxSeconds: number;
  schedule: Schedule;
  warmup: number;
  maxSkips: number;
  evalEvery: number;
  evalBatches: number | undefined;
  saveEvery: number;
  keep: number;
  maxFailures: number;
  seed: number;
}

/** Number of steps in the schedule of a run that only its time ends. */
const unlimitedSteps = 1_000_000;

const op = "Trainer";

/** Checks that a quantised model trains an adapter alone, and that its checkpoints can refer to the model. */
function checkQuantized({ model, checkpoint }: TrainerOptions): void {
  if (quantizationOf(op, model) === null) return;
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

/**
 * Checks the options and returns them with every default filled in.
 *
 * @throws ERR_ARGUMENT if an option has the wrong type or value.
 * @throws ERR_RANGE if a number is out of range.
 */
export function checkTrainerOptions(options: TrainerOptions): TrainerSettings {
  if (typeof options !== "object" || options === null) throw expected("options to be an object", options);
  const { model, data, validation, resume, checkpoint, signal, lr = 1e-3, warmup = 0 } = options;
  if (!(model instanceof Module) || typeof model.loss !== "function")
    throw expected("model to be a model with loss(), such as a GPT or a Llama", model);
  checkQuantized(options);
  if (model.parameters({ trainable: true }).length === 0)
    throw new HeedError("ERR_ARGUMENT", `${op}: expected a model with parameters to train, got one that is frozen`);
  const dtype = options.dtype ?? model.dtype;
  // f16 is excluded because its gradients would vanish without loss scaling.
  if (dtype !== "f32" && dtype !== "bf16") throw expected("dtype to be f32 or bf16", dtype);
  const { gradientCheckpointing } = options;
  if (gradientCheckpointing !== undefined) checkBoolean(op, "gradientCheckpointing", gradientCheckpointing);
  if (gradientCheckpointing && model.gradientCheckpointing === undefined)
    throw expected("model to be a model with gradientCheckpointing, such as a GPT or a Llama", model);
  if (!isSource(data)) throw expected("data to be a source of tokens or sequences", data);
  if (validation && !isSource(validation))
    throw expected("validation to be a source of tokens or sequences", validation);
  if (resume && resume.model !== model) throw expected("model to be the one of the checkpoint to resume", model);
  if (checkpoint) {
    if (typeof checkpoint.folder !== "string") throw expected("checkpoint.folder to be a path", checkpoint.folder);
    // Fails now, and not after hours of training, if the model cannot be saved.
    savingOf(op, model, { adapted: true }).toConfig(model);
  }
  if (options.newData !== undefined) checkBoolean(op, "newData", options.newData);
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw expected("signal to be an AbortSignal", signal);
  if (options.schedule && typeof options.schedule !== "function")
    throw expected("schedule to be a function", options.schedule);

  const integer = (name: string, value: number | undefined, unless: number, low = 1, high?: number): number => {
    if (value !== undefined) checkInteger(op, name, value, low, high);
    return value ?? unless;
  };
  const { maxSeconds } = options;
  if (maxSeconds !== undefined) checkNumber(op, "maxSeconds", maxSeconds, 0, Number.MAX_VALUE);
  if (options.steps === undefined && maxSeconds === undefined)
    throw expected("steps or maxSeconds to be given", undefined);
  integer("documentStart", options.documentStart ?? undefined, 0, 0, model.config.vocabularySize - 1);
  const steps = integer("steps", options.steps, unlimitedSteps);
  integer("warmup", warmup, 0, 0, steps);
  checkNumber(op, "lr", lr, 0, Number.MAX_VALUE);
  const { minLr = lr / 10 } = options;
  checkNumber(op, "minLr", minLr, 0, lr);
  integer("evalBatches", options.evalBatches, 1);
  return {
    batchSize: integer("batchSize", options.batchSize, 8),
    contextLength: integer(
      "contextLength",
      options.contextLength ?? ("sequence" in data ? data.contextLength : undefined),
      model.config.contextLength,
      1,
      model.config.contextLength,
    ),
    documentStart: options.documentStart ?? null,
    accumulation: integer("gradientAccumulation", options.gradientAccumulation, 1),
    steps,
    maxSeconds: maxSeconds ?? Infinity,
    schedule: options.schedule ?? cosineSchedule({ lr, warmup, steps, minLr }),
    warmup,
    maxSkips: integer("maxSkips", options.maxSkips, 10, 0),
    evalEvery: integer("evalEvery", options.evalEvery, Infinity),
    evalBatches: options.evalBatches,
    saveEvery: integer("checkpoint.every", checkpoint?.every, Infinity),
    keep: integer("checkpoint.keep", checkpoint?.keep, 2),
    maxFailures: integer("checkpoint.maxFailures", checkpoint?.maxFailures, 3),
    seed: resume?.state.seed ?? integer("seed", options.seed, 0, 0),
  };
}

function isSource(value: unknown): boolean {
  const { read, sequence } = (value ?? {}) as { read?: unknown; sequence?: unknown };
  return typeof read === "function" || typeof sequence === "function";
}

function expected(what: string, value: unknown): HeedError {
  return new HeedError("ERR_ARGUMENT", `${op}: expected ${what}, got ${describe(value)}`);
}
