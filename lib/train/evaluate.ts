import { noGrad } from "../autograd.js";
import { checkInteger } from "../ops/check.js";
import { scope } from "../scope.js";
import { type Batch, Batches } from "./batches.js";
import { batchLoss, countedTargets } from "./batch-loss.js";
import type { SequenceSource } from "./sequence-source.js";
import type { TokenSource } from "./token-data.js";
import type { TrainableModel } from "./trainable-model.js";

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
  /** Mean cross-entropy in nats per token. */
  loss: number;
  /** Perplexity, exp(loss). */
  perplexity: number;
  /** Number of tokens predicted. */
  tokens: number;
}

/** Number of batches that are enqueued before the first result is read, so that the device never waits. */
const ahead = 2;

/**
 * Evaluates a model on held-out tokens, with dropout off and without recording. The loss is the mean over all windows,
 * whatever the batch size; only tokens at the end that do not fill a window are left out. An evaluation in the middle
 * of a training run does not change the run.
 *
 * @example
 * const heldOut = tokenData(tokenizer.encode("to be or not to be ".repeat(20)));
 * const { loss, perplexity } = await evaluate(gpt, heldOut, { contextLength: 16 });
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
  const batches = new Batches(tokens, { batchSize, contextLength, shuffle: false });
  const { windows } = batches;
  const total = Math.ceil(windows / batchSize);
  const count = Math.min(limit ?? Infinity, total);
  const pending: { targets: number; loss: Promise<Float32Array> }[] = [];
  let [sum, seen] = [0, 0];
  for (let i = 0; i < count + ahead; i++) {
    signal?.throwIfAborted();
    if (i < count) {
      const first = Math.floor((i * total) / count) * batchSize;
      // Batches count by the number of their targets: the last one may be smaller, and masks differ.
      const size = Math.min(batchSize, windows - first);
      const batch = batches.take(first, size);
      const loss = lossOf(model, batch, [size, contextLength], documentStart);
      pending.push({ targets: countedTargets(batch), loss });
    }
    if (i < ahead) continue;
    const { targets, loss } = pending[i - ahead]!;
    sum += targets * (await loss)[0]!;
    seen += targets;
  }
  const loss = sum / seen;
  return { loss, perplexity: Math.exp(loss), tokens: seen };
}

function lossOf(
  model: TrainableModel,
  batch: Batch,
  shape: [number, number],
  start: number | null,
): Promise<Float32Array> {
  const { training } = model;
  let loss: Promise<Float32Array> | undefined;
  if (training) model.eval();
  try {
    noGrad(() =>
      scope(() => {
        loss = batchLoss(model, batch, shape, start).data();
      }),
    );
  } finally {
    if (training) model.train();
  }
  // If an earlier batch fails, this promise is never awaited, and its own failure must not end the process.
  loss!.catch(() => undefined);
  return loss!;
}
