import { HeedError } from "../errors.js";
import { checkBoolean, checkInteger, checkNumber, describe } from "../ops/check.js";
import type { FolderLock } from "../formats/folder-lock.js";
import { Module } from "../nn/module.js";
import type { AdamWOptions } from "../optim/adamw.js";
import { cosineSchedule, type Schedule } from "../optim/schedule.js";
import { savingOf } from "../pretrained/families/saving.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { Checkpoint } from "./checkpoint.js";
import type { TokenSource } from "./token-data.js";
import type { TrainableModel } from "./trainable-model.js";

export interface TrainerOptions {
  /** A GPT, a Llama, or another model that predicts the next token. */
  model: TrainableModel;
  /** Tokens to train on; they are read in windows of the context length, in an order that the seed gives. */
  data: TokenSource;
  /** Held-out tokens to evaluate on. */
  validation?: TokenSource | null;
  /**
   * Of the activations; the model's own unless given. bf16 takes half of the memory and the fast matrix units of a GPU:
   * the parameters, their gradients and checkpoints stay f32.
   */
  dtype?: "f32" | "bf16" | undefined;
  /**
   * Whether the backward pass computes activations again instead of keeping those of the forward pass: the same run to the
   * bit, for less memory and about a third more time. The model's own unless given.
   */
  gradientCheckpointing?: boolean | undefined;
  /**
   * The id that begins each document in the data, such as a tokenizer's end of text: tokens then see those of their own
   * document alone. All that comes before in the sequence unless given.
   */
  documentStart?: number | null | undefined;
  /** B: sequences a micro-batch; 8 unless given. */
  batchSize?: number;
  /** T: tokens a sequence; the model's context length unless given. */
  contextLength?: number;
  /** Micro-batches whose gradients make one step; 1 unless given. */
  gradientAccumulation?: number;
  /** How many steps the whole run has. May be left out where `maxSeconds` is given. */
  steps?: number | undefined;
  /**
   * The most seconds the whole run may take. The learning rate then falls with the time as well, so that it is at its
   * lowest at the end, however fast the machine is; such a run is not repeatable to the bit.
   */
  maxSeconds?: number | undefined;
  /** The highest learning rate: linear warm-up, then half a cosine down. 1e-3 unless given. */
  lr?: number;
  /** Steps of the warm-up; 0 unless given. */
  warmup?: number;
  /** The lowest learning rate; lr/10 unless given. */
  minLr?: number | undefined;
  /** Another schedule than that of `lr`, `warmup` and `minLr`. */
  schedule?: Schedule;
  /** Gradients are scaled down so that their global norm is at most this; 1 unless given, null for no clipping. */
  maxNorm?: number | null;
  /** AdamW's other options. */
  optimizer?: Omit<AdamWOptions, "lr" | "maxNorm">;
  /**
   * Updates in a row that may be skipped, as they are where the norm of the gradients is not finite, before the run ends
   * with ERR_DIVERGED. @default 10
   */
  maxSkips?: number;
  /** Evaluate after every so many steps, and at the end; only at the end unless given. */
  evalEvery?: number;
  /** How many batches an evaluation takes, spread evenly; all unless given. */
  evalBatches?: number | undefined;
  /** Where to save; nothing is saved unless given. */
  checkpoint?: CheckpointOptions;
  /**
   * A checkpoint to go on from; its model must be `model`. With the same options, the losses are those of one run; with
   * other batch sizes, the data goes on with the sequence that is next.
   */
  resume?: Checkpoint | null;
  /**
   * Whether a resumed run has other data than its checkpoint, which it then reads from the beginning. Otherwise data that
   * is cut into other sequences is refused: there is no telling what of it the run has seen. @default false
   */
  newData?: boolean | undefined;
  /** Of the order of the data; 0 unless given. A resumed run keeps its own. */
  seed?: number;
  /** Ends the run after the step it is at, with a checkpoint. A run that goes on makes up for an evaluation left out then. */
  signal?: AbortSignal | undefined;
  /** A file to which every event is added as a line of JSON. */
  log?: string | undefined;
}

export interface CheckpointOptions {
  /** The run's folder. */
  folder: string;
  /** Save after every so many steps, and at the end; only at the end unless given. */
  every?: number;
  /** How many checkpoints to keep; 2 unless given. */
  keep?: number;
  /**
   * The run ends with the error of a save when so many in a row have failed, as on a full disk, or when the save at its
   * end has. @default 3
   */
  maxFailures?: number;
  /** A lock of the folder that the caller has. By default the run takes its own, and releases it at its end. */
  lock?: FolderLock | undefined;
  /** Saved with the model, so that it can be used on text. */
  tokenizer?: Tokenizer | null;
  /** What the run's owner wants to find again in `TrainerState.options`. */
  options?: Record<string, unknown>;
}

/** Options filled in and checked. */
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

/** The length of a schedule that only the time ends. */
const unlimitedSteps = 1_000_000;

const op = "Trainer";

/** Throws ERR_ARGUMENT or ERR_RANGE for the first option that is not what it has to be. */
export function checkTrainerOptions(options: TrainerOptions): TrainerSettings {
  if (typeof options !== "object" || options === null) throw expected("options in an object", options);
  const { model, data, validation, resume, checkpoint, signal, lr = 1e-3, warmup = 0 } = options;
  if (!(model instanceof Module) || typeof model.loss !== "function")
    throw expected("model to be one with loss(), such as a GPT or a Llama", model);
  if (model.isQuantized) throw expected("model to be one that is not quantised", model);
  if (model.parameters({ trainable: true }).length === 0)
    throw expected("model to be one with parameters to train", "one that is frozen");
  const dtype = options.dtype ?? model.dtype;
  // The gradients of f16 would have to be scaled not to vanish.
  if (dtype !== "f32" && dtype !== "bf16") throw expected("dtype f32 or bf16", dtype);
  const { gradientCheckpointing } = options;
  if (gradientCheckpointing !== undefined) checkBoolean(op, "gradientCheckpointing", gradientCheckpointing);
  if (gradientCheckpointing && model.gradientCheckpointing === undefined)
    throw expected("model to be one with gradientCheckpointing, such as a GPT or a Llama", model);
  if (typeof data?.read !== "function") throw expected("data to be a source of tokens", data);
  if (validation && typeof validation.read !== "function")
    throw expected("validation to be a source of tokens", validation);
  if (resume && resume.model !== model) throw expected("model to be that of the checkpoint to resume", model);
  if (checkpoint) {
    if (typeof checkpoint.folder !== "string") throw expected("checkpoint.folder to be a path", checkpoint.folder);
    // A model that cannot be saved is an error now, not after hours.
    savingOf(op, model).toConfig(model);
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
  if (options.steps === undefined && maxSeconds === undefined) throw expected("steps or maxSeconds", undefined);
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
      options.contextLength,
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

function expected(what: string, value: unknown): HeedError {
  return new HeedError("ERR_ARGUMENT", `${op}: expected ${what}, got ${describe(value)}`);
}
