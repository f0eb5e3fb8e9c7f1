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
 * A model's loss on held-out tokens: always the same batches of them, dropout off, nothing recorded. A training run it
 * interrupts goes on as if it had not been.
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
  const { windows } = new Batches(tokens, { batchSize, contextLength, shuffle: false });
  const batches = new Batches(tokens, { batchSize: Math.min(batchSize, windows), contextLength, shuffle: false });
  const count = Math.min(limit ?? Infinity, batches.batchesPerEpoch);
  const pending: Promise<Float32Array>[] = [];
  let sum = 0;
  for (let i = 0; i < count + ahead; i++) {
    signal?.throwIfAborted();
    if (i < count) {
      const step = Math.floor((i * batches.batchesPerEpoch) / count);
      pending.push(lossOf(model, batches.batch(step), [batches.batchSize, contextLength], documentStart));
    }
    if (i >= ahead) sum += (await pending[i - ahead]!)[0]!;
  }
  const loss = sum / count;
  return { loss, perplexity: Math.exp(loss), tokens: count * batches.batchSize * contextLength };
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
