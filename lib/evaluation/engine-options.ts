import { checkUsable } from "../adapters/adapter-uses.js";
import { checkInteger, checkObject } from "../util/check.js";
import { Engine } from "../engine/engine.js";
import { describe, HeedError } from "../util/errors.js";
import type { CausalDecoder } from "../models/causal-decoder.js";
import { checkSignal, type TextOptions } from "../generate/options.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";

/** Model with its tokenizer. A `LanguageModel` is one. */
export interface EvaluatedModel {
  readonly model: CausalDecoder;
  readonly tokenizer: Tokenizer;
  /** Options of the model that say which tokens end a text. @default the tokenizer's end of text */
  readonly defaults?: Pick<TextOptions, "stopTokens">;
}

/** Options of every evaluation. All but `adapter` change its speed and its memory, but not its results. */
export interface EvaluationSettings {
  /** Largest number of tokens that are computed at once. @default the engine's */
  batchTokens?: number;
  /** Largest number of texts that are computed at the same time. @default 64 */
  batchSize?: number;
  /**
   * Name of the model's adapter that is evaluated, or null for the model alone. Several evaluations of a model may run at
   * the same time, each with its own adapter.
   *
   * @default the model's active adapter, if it has one
   */
  adapter?: string | null | undefined;
  /** Signal that stops the evaluation. The promise then rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Function that is called with the numbers of texts that are done and of all texts. */
  onProgress?: (done: number, total: number) => void;
}

/**
 * Checks the model and the options that all evaluations have, and returns an engine for them, which the caller closes.
 *
 * @throws ERR_ARGUMENT or ERR_RANGE if one of them is invalid.
 */
export function engineFor(op: string, evaluated: EvaluatedModel, options: EvaluationSettings): Engine {
  checkObject(op, "model", evaluated);
  checkObject(op, "options", options);
  const { model, tokenizer } = evaluated;
  const { batchTokens, batchSize = 64, adapter, signal } = options;
  if (batchTokens !== undefined) checkInteger(op, "batchTokens", batchTokens, 1);
  checkInteger(op, "batchSize", batchSize, 1);
  checkSignal(op, signal);
  if (typeof tokenizer?.encode !== "function")
    throw new HeedError("ERR_ARGUMENT", `${op}: expected a model with a tokenizer, got ${describe(tokenizer)}`);
  if (adapter !== undefined && adapter !== null) checkUsable(op, model, adapter);
  signal?.throwIfAborted();
  const maxQueue = Number.MAX_SAFE_INTEGER;
  const size = batchTokens === undefined ? {} : { maxBatchTokens: batchTokens };
  // What is predicted must not depend on how much memory there is.
  return new Engine(model, { tokenizer, ...size, maxSequences: batchSize, maxQueue, wholeContext: true });
}

/** Returns the number of texts that are given to the engine at the same time, so that it always has some that wait. */
export function concurrencyOf({ batchSize = 64 }: EvaluationSettings): number {
  return batchSize + 8;
}
