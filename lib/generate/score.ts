import { HeedError } from "../util/errors.js";
import type { KvCache } from "../nn/kv-cache.js";
import { reshape } from "../ops/views.js";
import { tensor } from "../core/creation.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import { type CausalModel, infer } from "./causal-model.js";
import { divergence } from "./diverged.js";
import { checkModel, checkOptions, checkSignal, checkTokens } from "./options.js";
import { keptTokens } from "./sequence.js";
import { tokenLosses } from "./token-losses.js";
import { untilAborted } from "../util/until-aborted.js";

/** The likelihood of a text under a model. */
export interface Score {
  /** Log-probability of each token except the first, given the tokens before it, in nats: [T - 1]. */
  logProbabilities: Float32Array;
  /** Sum of the log-probabilities, in nats. */
  total: number;
  /**
   * Perplexity, e^(−mean of the log-probabilities): the model was as unsure as between this many equally likely tokens.
   */
  perplexity: number;
}

/** Options for scoring a text. */
export interface ScoreOptions {
  /** Signal that stops the scoring. The promise then rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** Number of positions whose logits exist at the same time. */
const chunk = 128;

/**
 * Resolves to the log-probabilities that a model gives to the tokens of a text. A text longer than the context is
 * scored as generation with `overflow: "slide"` continues it: when the context is full, its later half is kept and
 * filled up again. So every token is scored once, with at least half a context of tokens before it, if the text has
 * that many.
 *
 * @example
 * const scored = await score(gpt, tokenizer.encode("Call me Ishmael."));
 * console.log(scored.perplexity);
 *
 * @throws ERR_ARGUMENT if there are fewer than two tokens, or an argument is invalid.
 * @throws ERR_RANGE if an id is not in the vocabulary.
 * @throws ERR_DIVERGED if the model diverges: the logits for a token contain NaN or Infinity, or all of them are
 * -Infinity.
 * @throws the signal's reason if the signal aborts.
 */
export async function score(model: CausalModel, tokens: ArrayLike<number>, options: ScoreOptions = {}): Promise<Score> {
  checkModel("score", model);
  checkOptions("score", options);
  const { signal } = options;
  checkSignal("score", signal);
  checkTokens("score", "tokens", tokens, model.config.vocabularySize);
  if (tokens.length < 2)
    throw new HeedError("ERR_ARGUMENT", `score: expected at least two tokens, got ${tokens.length}`);
  signal?.throwIfAborted();
  const ids = Int32Array.from(tokens);
  const { contextLength } = model.config;
  const last = ids.length - 1;
  const logProbabilities = new Float32Array(last);
  using cache = model.createCache(1, Math.min(contextLength, last));
  let start = 0;
  for (let from = 0; from < last; start = from + 1 - keptTokens(contextLength)) {
    cache.reset();
    if (from > start) feed(model, cache, ids.subarray(start, from));
    const end = Math.min(start + contextLength, last);
    while (from < end) {
      const to = Math.min(from + chunk, end);
      using losses = lossesOf(model, cache, ids.subarray(from, to), ids.subarray(from + 1, to + 1));
      const values = await untilAborted(losses.data(), signal);
      const diverged = values.findIndex(Number.isNaN);
      if (diverged !== -1) throw divergence("score", `tokens[${from + diverged + 1}]`);
      logProbabilities.set(
        values.map((loss) => -loss),
        from,
      );
      from = to;
    }
  }
  const total = logProbabilities.reduce((sum, value) => sum + value, 0);
  return { logProbabilities, total, perplexity: Math.exp(-total / last) };
}

/** Runs the model over tokens only to fill the cache. */
function feed(model: CausalModel, cache: KvCache, ids: Int32Array): void {
  infer(model, () => model.forward(row(model, ids), { cache, lastOnly: true })).dispose();
}

/** Returns −log p(target) for the next token of each id: [T]. */
function lossesOf(model: CausalModel, cache: KvCache, ids: Int32Array, targets: Int32Array): FloatTensor {
  return infer(model, () => {
    const logits = model.forward(row(model, ids), { cache }); // [1, T, V]
    return reshape(tokenLosses(logits, row(model, targets)), [ids.length]);
  });
}

function row(model: CausalModel, ids: Int32Array): IntTensor {
  return tensor(ids, [1, ids.length], { device: model.device });
}
