// Tokens of texts whose likelihood is asked for.
import { HeedError } from "../util/errors.js";
import { HuggingFaceTokenizer } from "../tokenizer/huggingface-tokenizer.js";
import { encodeText, type Tokenizer } from "../tokenizer/tokenizer.js";
import { stripEnd } from "./python-strings.js";

/** Tokens, and the index of the first one whose likelihood is asked for. */
export interface ScoredTokens {
  readonly tokens: Int32Array;
  readonly first: number;
}

/** Resolves to the tokens of a text without those that a tokenizer puts at its end. */
async function openEnded(tokenizer: Tokenizer, text: string): Promise<Int32Array> {
  const ids = await encodeText(tokenizer, text);
  const ending = tokenizer instanceof HuggingFaceTokenizer ? tokenizer.after.length : 0;
  return ids.subarray(0, ids.length - ending);
}

/**
 * Resolves to the tokens that begin a text: those that the tokenizer puts there, or its token for the beginning, or the one
 * for the end, after which training data often goes on with the next text. There may be none.
 */
async function beginning(tokenizer: Tokenizer): Promise<readonly number[]> {
  const ids = await openEnded(tokenizer, "");
  if (ids.length > 0) return Array.from(ids);
  const token = tokenizer.beginningOfText ?? tokenizer.endOfText;
  return token === null ? [] : [token];
}

/**
 * Resolves to the tokens of a context and its continuation, of which the continuation's are scored. Both are encoded as
 * one text, since a word is encoded together with the space before it. White space at the end of the context counts as a
 * part of the continuation for the same reason. An empty context stands for the beginning of a text.
 *
 * @throws ERR_ARGUMENT if the context is empty, and the tokenizer has no token that begins a text.
 */
export async function encodeContinuation(
  tokenizer: Tokenizer,
  context: string,
  continuation: string,
): Promise<ScoredTokens> {
  const trimmed = stripEnd(context);
  if (trimmed === "") {
    const { tokens, first } = await encodeWhole(tokenizer, context + continuation);
    if ((await beginning(tokenizer)).length > 0) return { tokens, first };
    throw new HeedError(
      "ERR_ARGUMENT",
      "evaluateTask: expected a context, since the tokenizer has no token that begins a text, got an empty one",
    );
  }
  const before = await openEnded(tokenizer, trimmed);
  const tokens = await openEnded(tokenizer, context + continuation);
  // The border may lie within a token, which then is a part of the continuation.
  return { tokens, first: Math.min(before.length, tokens.length - 1) };
}

/** Resolves to the tokens of a whole text. The first one is scored only if a token begins the text. */
export async function encodeWhole(tokenizer: Tokenizer, text: string): Promise<ScoredTokens> {
  const start = await beginning(tokenizer);
  const ids = await openEnded(tokenizer, text);
  const begins = start.length > 0 && start.every((token, i) => ids[i] === token);
  const tokens = begins ? ids : Int32Array.from([...start, ...ids]);
  return { tokens, first: Math.max(1, start.length) };
}
