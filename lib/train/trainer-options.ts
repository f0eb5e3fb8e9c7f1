import { Module } from "../nn/module.js";
import { checkInteger } from "../ops/check.js";
import { savingOf } from "../pretrained/families/saving.js";
import type { SequenceSource } from "../data/sequence-source.js";
import type { TokenSource } from "../data/token-data.js";
import type { TrainableModel } from "./trainable-model.js";
import { expectedOption, type TrainingOptions } from "./training-options.js";

/** Options of a `Trainer`. */
export interface TrainerOptions extends TrainingOptions<TrainableModel> {
  /** Model to train: a GPT, a Llama, or another model that predicts the next token. */
  model: TrainableModel;
  /**
   * Tokens to train on, which are read in windows of `contextLength` tokens, or the sequences of `packExamples`. Their
   * order follows from the seed. A run that is resumed with another batch size continues with the next sequence.
   */
  data: TokenSource | SequenceSource;
  /** Held-out tokens or sequences to evaluate on. @default null (no evaluation) */
  validation?: TokenSource | SequenceSource | null;
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
}

/** Sizes into which the data of a `Trainer` is cut, after checking. */
export interface WindowSettings {
  batchSize: number;
  contextLength: number;
  documentStart: number | null;
  seed: number;
}

const op = "Trainer";

/**
 * Checks the options that only `Trainer` has.
 *
 * @throws ERR_ARGUMENT if an option has the wrong type or value.
 * @throws ERR_RANGE if a number is out of range.
 */
export function checkTrainerOptions(options: TrainerOptions): WindowSettings {
  if (typeof options !== "object" || (options as unknown) === null)
    throw expectedOption(op, "options to be an object", options);
  const { model, data, validation, checkpoint, resume } = options;
  if (!(model instanceof Module) || typeof model.loss !== "function")
    throw expectedOption(op, "model to be a model with loss(), such as a GPT or a Llama", model);
  if (!isSource(data)) throw expectedOption(op, "data to be a source of tokens or sequences", data);
  if (validation && !isSource(validation))
    throw expectedOption(op, "validation to be a source of tokens or sequences", validation);
  // Fails now, and not after hours of training, if the model cannot be saved.
  if (checkpoint && typeof checkpoint.folder === "string") savingOf(op, model, { adapted: true }).toConfig(model);
  const integer = (name: string, value: number | undefined, unless: number, low = 1, high?: number): number => {
    if (value !== undefined) checkInteger(op, name, value, low, high);
    return value ?? unless;
  };
  const { config } = model;
  integer("documentStart", options.documentStart ?? undefined, 0, 0, config.vocabularySize - 1);
  const given = options.contextLength ?? ("sequence" in data ? data.contextLength : undefined);
  return {
    batchSize: integer("batchSize", options.batchSize, 8),
    contextLength: integer("contextLength", given, config.contextLength, 1, config.contextLength),
    documentStart: options.documentStart ?? null,
    seed: resume?.state.seed ?? integer("seed", options.seed, 0, 0),
  };
}

function isSource(value: unknown): boolean {
  const { read, sequence } = (value ?? {}) as { read?: unknown; sequence?: unknown };
  return typeof read === "function" || typeof sequence === "function";
}
