// Requests to score tokens, from their check to their result.
import { checkUsable } from "../adapters/adapter-uses.js";
import { checkInteger, checkNumber, checkObject } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import { divergence } from "../generate/diverged.js";
import { checkSignal, checkTokenOptions, checkTokens } from "../generate/options.js";
import type { CausalDecoder } from "../models/causal-decoder.js";
import type { Room } from "./kv-memory.js";
import { checkSalt, type Request, type RequestSettings } from "./request.js";
import { Scoring, type TokenScores } from "./scoring.js";

/** A request to score tokens. */
export interface ScoreRequest {
  /** Tokens of the sequence, at most one more than the model's context. */
  tokens: ArrayLike<number>;
  /** Index of the first token to score, at least 1; the tokens before it are only read. @default 1 */
  first?: number;
  /**
   * @internal Number of most likely tokens in the place of each scored one whose log-probabilities are read too.
   *
   * @default null (none)
   */
  logprobs?: number | null;
  /** Requests with a higher priority are served first. @default 0 */
  priority?: number;
  /**
   * Name of the model's adapter with which the tokens are scored, or null for the model alone.
   *
   * @default the model's active adapter, if it has one
   */
  adapter?: string | null | undefined;
  /** Text that a request must have in common with another to share the prefix cache; see `EngineRequest`. */
  cacheSalt?: string | undefined;
  /** Signal that stops the scoring. The promise then rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/**
 * Checks a request to score tokens, admits it and resolves to its scores.
 *
 * @throws ERR_ARGUMENT or ERR_RANGE if the request is invalid; ERR_DIVERGED if the model diverges.
 */
export async function scoreTokens(
  model: CausalDecoder,
  room: Room,
  asked: ScoreRequest,
  admit: (scoring: Scoring, settings: RequestSettings) => Request,
): Promise<TokenScores> {
  checkObject("score", "request", asked);
  const { tokens, first = 1, logprobs = null, priority = 0, adapter, cacheSalt, signal } = asked;
  const { vocabularySize } = model.config;
  checkTokens("score", "tokens", tokens, vocabularySize);
  if (tokens.length < 2)
    throw new HeedError("ERR_ARGUMENT", `score: expected at least two tokens, got ${tokens.length}`);
  const most = room.contextLength + 1;
  if (tokens.length > most)
    throw new HeedError(
      "ERR_RANGE",
      `score: expected at most ${most} tokens, one more than the context, got ${tokens.length}${room.shortage(tokens.length - 1)}`,
    );
  checkInteger("score", "first", first, 1, tokens.length - 1);
  if (logprobs !== null) checkInteger("score", "logprobs", logprobs, 0, vocabularySize);
  checkNumber("score", "priority", priority);
  if (adapter !== undefined && adapter !== null) checkUsable("score", model, adapter);
  checkSalt("score", cacheSalt);
  checkSignal("score", signal);
  signal?.throwIfAborted();
  const scoring = new Scoring(Int32Array.from(tokens), first, logprobs);
  const drawing = checkTokenOptions("score", model, { seed: 0 });
  const request = admit(scoring, {
    ...drawing,
    priority,
    deadline: Infinity,
    logprobs: null,
    speculation: false,
    adapter,
    cacheSalt,
  });
  const abort = (): void => request.finish({ error: signal!.reason });
  signal?.addEventListener("abort", abort);
  try {
    await request.more(0);
  } finally {
    signal?.removeEventListener("abort", abort);
  }
  const { end } = request;
  if (end === "diverged") throw divergence("score", `tokens[${scoring.next}]`);
  if (typeof end === "object" && end !== null) throw end.error;
  return scoring.scores;
}
