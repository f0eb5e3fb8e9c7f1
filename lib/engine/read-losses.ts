import { tensor } from "../core/creation.js";
import { infer } from "../generate/causal-model.js";
import { tokenLosses } from "../generate/token-losses.js";
import type { CausalDecoder } from "../models/causal-decoder.js";
import type { TokenLogprob } from "../generate/token-logprobs.js";
import { argmax, topk } from "../ops/choose.js";
import { logProbabilities } from "../ops/sample.js";
import { narrow } from "../ops/views.js";
import type { FloatTensor } from "../core/tensor.js";

/** Losses of tokens in nats, and the model's first choices in their places. */
export interface Losses {
  readonly losses: Float32Array;
  readonly choices: Int32Array;
  /** Returns the `count` most likely tokens in the place of a token, the likeliest first; at most as many as were read. */
  readonly likeliest: (row: number, count: number) => TokenLogprob[];
}

/** Losses of no tokens. */
export const noLosses: Losses = { losses: new Float32Array(), choices: new Int32Array(), likeliest: () => [] };

/** Number of rows whose logits exist at the same time. */
const chunk = 128;

/**
 * Resolves to the losses of `targets` [R], whose predecessors have the states [R, C]. `project` returns the logits of the
 * states `from` to `to`, and `top` is the number of most likely tokens that are read in each place.
 */
export async function readLosses(
  model: CausalDecoder,
  states: FloatTensor,
  targets: readonly number[],
  project: (states: FloatTensor, from: number, to: number) => FloatTensor,
  top = 0,
): Promise<Losses> {
  const reads: Promise<[Float32Array, Int32Array, Likeliest | null]>[] = [];
  for (let first = 0; first < targets.length; first += chunk) {
    const count = Math.min(chunk, targets.length - first);
    const ids = Int32Array.from(targets.slice(first, first + count));
    using rows = narrow(states, 0, first, count);
    using logits = project(rows, first, first + count); // [count, V]
    using losses = infer(model, () => tokenLosses(logits, tensor(ids, [count], { device: model.device })));
    using choices = argmax(logits);
    const likeliest = top > 0 ? readLikeliest(model, logits, top) : null;
    reads.push(Promise.all([losses.data() as Promise<Float32Array>, choices.data(), likeliest]));
  }
  const parts = await Promise.all(reads);
  const losses = new Float32Array(targets.length);
  const choices = new Int32Array(targets.length);
  for (const [i, [some, best]] of parts.entries()) {
    losses.set(some, i * chunk);
    choices.set(best, i * chunk);
  }
  const likeliest = (row: number, count: number): TokenLogprob[] => {
    const { tokens, logprobs } = parts[Math.floor(row / chunk)]![2] ?? noneLikely;
    const from = (row % chunk) * top;
    return Array.from({ length: Math.min(count, top) }, (_, i) => {
      return { token: tokens[from + i]!, logprob: logprobs[from + i]! };
    });
  };
  return { losses, choices, likeliest };
}

/** The most likely tokens of some rows, and their log-probabilities. */
interface Likeliest {
  readonly tokens: Int32Array;
  readonly logprobs: Float32Array;
}

const noneLikely: Likeliest = { tokens: new Int32Array(), logprobs: new Float32Array() };

/** Resolves to the `top` most likely tokens of each row of the logits [R, V]. */
async function readLikeliest(model: CausalDecoder, logits: FloatTensor, top: number): Promise<Likeliest> {
  const { values, ids } = topk(logits, top);
  values.dispose();
  using tokens = ids;
  using logprobs = infer(model, () => logProbabilities(logits, tokens));
  const [read, numbers] = await Promise.all([tokens.data(), logprobs.data() as Promise<Float32Array>]);
  return { tokens: read, logprobs: numbers };
}
