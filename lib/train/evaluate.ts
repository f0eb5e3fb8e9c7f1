import { noGrad } from "../autograd.js";
import { checkInteger } from "../ops/check.js";
import { scope } from "../scope.js";
import { type Batch, Batches } from "./batches.js";
import { batchLoss } from "./batch-loss.js";
import type { TokenSource } from "./token-data.js";
import type { TrainableModel } from "./trainable-model.js";

export interface EvaluationOptions {
  /** 8 unless given. */
  batchSize?: number;
  /** The model's unless given. */
  contextLength?: number;
  /** At most this many batches, spread evenly over the tokens; all of them unless given. */
  batches?: number | undefined;
  /** The id that begins a document, as in training: tokens see those of their own alone. */
  documentStart?: number | null;
  /** Stops the evaluation, which rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

export interface Evaluation {
  /** Mean cross-entropy in nats per token. */
  loss: number;
  /** exp(loss) */
  perplexity: number;
  /** Tokens predicted. */
  tokens: number;
}

/** How many batches may be on their way, so that the device does not wait for the next. */
const ahead = 2;

/**
 * A model's loss on held-out tokens: the mean over all windows of them, whatever the batch size, dropout off, nothing
 * recorded. Of the tokens, only what fills no window at the end is left out. A training run it interrupts goes on as if
 * it had not been.
 */
export async function evaluate(
  model: TrainableModel,
  tokens: TokenSource,
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
  const pending: { size: number; loss: Promise<Float32Array> }[] = [];
  let [sum, seen] = [0, 0];
  for (let i = 0; i < count + ahead; i++) {
    signal?.throwIfAborted();
    if (i < count) {
      const first = Math.floor((i * total) / count) * batchSize;
      // The last batch has what is left, and counts as much.
      const size = Math.min(batchSize, windows - first);
      const loss = lossOf(model, batches.take(first, size), [size, contextLength], documentStart);
      pending.push({ size, loss });
    }
    if (i < ahead) continue;
    const { size, loss } = pending[i - ahead]!;
    sum += size * (await loss)[0]!;
    seen += size;
  }
  const loss = sum / seen;
  return { loss, perplexity: Math.exp(loss), tokens: seen * contextLength };
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
  // Where an earlier one fails, nobody waits for this one.
  loss!.catch(() => undefined);
  return loss!;
}
