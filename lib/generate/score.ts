import { HeedError } from "../errors.js";
import type { KvCache } from "../nn/kv-cache.js";
import { reshape } from "../ops/views.js";
import { tensor } from "../creation.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import { type CausalModel, infer } from "./causal-model.js";
import { divergence } from "./diverged.js";
import { checkModel, checkOptions, checkSignal, checkTokens } from "./options.js";
import { keptTokens } from "./sequence.js";
import { tokenLosses } from "./token-losses.js";
import { untilAborted } from "./until-aborted.js";

export interface Score {
  /** Log-probability in nats of each token but the first, given those before it. */
  logProbabilities: Float32Array;
  /** Their sum. */
  total: number;
  /** e^(−mean): of so many equally likely tokens would the model have been as unsure. */
  perplexity: number;
}

export interface ScoreOptions {
  signal?: AbortSignal | undefined;
}

/** Positions whose logits exist at once. */
const chunk = 128;

/**
 * How likely a model finds a text, given as token ids. Past the context length it goes as generation does: when the
 * context is full, its later half is kept and filled up again; so every token is scored once, with at least half a
 * context (if there is as much) before it.
 *
 * Rejects with ERR_ARGUMENT for fewer than two tokens, with ERR_RANGE for ids outside the vocabulary, and with ERR_DIVERGED
 * where the logits for a token have no distribution: NaN or Infinity among them, or nothing but -Infinity.
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

/** Runs the model over tokens for the sake of the cache. */
function feed(model: CausalModel, cache: KvCache, ids: Int32Array): void {
  infer(model, () => model.forward(row(model, ids), { cache, lastOnly: true })).dispose();
}

/** −log p(target) for each id's next token: [T]. */
function lossesOf(model: CausalModel, cache: KvCache, ids: Int32Array, targets: Int32Array): FloatTensor {
  return infer(model, () => {
    const logits = model.forward(row(model, ids), { cache }); // [1, T, V]
    return reshape(tokenLosses(logits, row(model, targets)), [ids.length]);
  });
}

function row(model: CausalModel, ids: Int32Array): IntTensor {
  return tensor(ids, [1, ids.length], { device: model.device });
}
