import { checkInteger } from "../ops/check.js";
import { type Batch, Batches } from "../data/batches.js";
import { alone, type Share } from "./feed.js";
import { meanLoss } from "./mean-loss.js";
import type { SequenceSource } from "../data/sequence-source.js";
import type { TokenSource } from "../data/token-data.js";
import type { TrainableModel } from "./trainable-model.js";
import { windowTask } from "./window-task.js";

/** Options of `evaluate`. */
export interface EvaluationOptions {
  /** Number of sequences in a batch. @default 8 */
  batchSize?: number;
  /** Number of tokens in a sequence. @default the model's `contextLength` */
  contextLength?: number;
  /** Largest number of batches, which are spread evenly over the tokens. @default all */
  batches?: number | undefined;
  /** Id that begins a document, as in training: a token sees only its own document. @default null (one per sequence) */
  documentStart?: number | null;
  /** Signal that stops the evaluation, which then rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** Result of an evaluation. */
export interface Evaluation {
  /** Mean cross-entropy in nats per token; NaN if there is no token to predict. */
  loss: number;
  /** Perplexity, exp(loss). */
  perplexity: number;
  /** Number of tokens predicted. */
  tokens: number;
}

/**
 * Evaluates a model on held-out tokens, with dropout off and without recording. The loss is the mean over all windows,
 * whatever the batch size; only tokens at the end that do not fill a window are left out. An evaluation in the middle
 * of a training run does not change the run.
 *
 * @example
 * const heldOut = tokenData(tokenizer.encode("to be or not to be ".repeat(20)));
 * const { loss, tokens } = await evaluate(gpt, heldOut, { contextLength: 16 });
 *
 * @throws ERR_RANGE if the tokens do not fill one window with its targets, or an option is out of range.
 */
export async function evaluate(
  model: TrainableModel,
  tokens: TokenSource | SequenceSource,
  options: EvaluationOptions = {},
): Promise<Evaluation> {
  const {
    batchSize = 8,
    contextLength = model.config.contextLength,
    batches: limit,
    signal,
    documentStart = null,
  } = options;
  if (limit !== undefined) checkInteger("evaluate", "batches", limit, 1);
  const windows = new Batches(tokens, { batchSize, contextLength, shuffle: false, documentStart });
  const task = windowTask(contextLength);
  const { loss, targets } = await meanLoss(model, task, spread(windows, limit), { device: model.device, signal });
  const mean = targets === 0 ? NaN : loss;
  return { loss: mean, perplexity: Math.exp(mean), tokens: targets };
}

/**
 * Yields at most `limit` batches, which are spread evenly over the windows. The last one may be smaller. The batches of
 * all processes lie side by side, as those of one process with as many times the batch size.
 */
export function* spread(batches: Batches, limit = Infinity, share: Share = alone): Generator<Batch, void, undefined> {
  const { windows, batchSize } = batches;
  const together = batchSize * share.size;
  const total = Math.ceil(windows / together);
  const count = Math.min(limit, total);
  for (let i = 0; i < count; i++) {
    const first = Math.floor((i * total) / count) * together + share.rank * batchSize;
    if (first < windows) yield batches.take(first, Math.min(batchSize, windows - first));
  }
}
