// A tokenizer.json (huggingface.co/docs/tokenizers) as it is read: its vocabulary, its added tokens, and the form in
// which the tokenizer library gets the rest. Added tokens are found in a text before the library sees it; so that no
// text of users becomes a special token, these have names in its vocabulary that no text has.
import { describe, HeedError } from "../errors.js";
import { type AddedToken, isId, parseAddedTokens } from "./added-tokens.js";
import { normalizerOf, preTokenizerOf } from "./pre-tokenizer.js";

/** Begins the names that no text has: in valid Unicode no digit follows a high surrogate. */
export const unnameable = "\ud800";

/** The id of a token whose name no text has; null for others, such as U+10000, which begins with the same surrogate. */
export function hiddenId(token: string): number | null {
  const digits = token.startsWith(unnameable) ? /^\d+$/.exec(token.slice(unnameable.length)) : null;
  return digits && Number(digits[0]);
}

export interface TokenizerDefinition {
  /** For the library, without added tokens. */
  readonly library: Record<string, unknown>;
  readonly added: readonly AddedToken[];
  /** By id; undefined where an id has no token. */
  readonly tokens: readonly (string | undefined)[];
  readonly ids: ReadonlyMap<string, number>;
  /** Of the tokens that the model cuts text into: its vocabulary without special tokens. */
  readonly pieces: ReadonlyMap<string, number>;
  readonly special: ReadonlySet<number>;
  /** Of what is not in the vocabulary. */
  readonly unknown: number | null;
  /** Whether what is not in a Unigram vocabulary is spelt in bytes. */
  readonly byteFallback: boolean;
  readonly decoder: unknown;
}

type ModelType = "BPE" | "WordPiece" | "Unigram";

/** Throws ERR_FORMAT for what is not a tokenizer.json of a known kind. */
export function parseTokenizerJson(json: unknown): TokenizerDefinition {
  const root = object("a tokenizer.json", json);
  const model = object("model", root.model);
  const type = modelType(model);
  const added = parseAddedTokens(root.added_tokens ?? []);
  const vocabulary = type === "Unigram" ? unigramVocabulary(model.vocab) : rankedVocabulary(model.vocab);

  const tokens: (string | undefined)[] = [];
  const ids = new Map<string, number>();
  for (const [token, id] of [...vocabulary, ...added.map(({ content, id }) => [content, id] as const)]) {
    tokens[id] = token;
    ids.set(token, id);
  }
  const special = new Set(added.filter((token) => token.special).map(({ id }) => id));
  const unknown = type === "Unigram" ? model.unk_id : ids.get(String(model.unk_token));

  return {
    library: {
      normalizer: normalizerOf(root.normalizer ?? null),
      pre_tokenizer: preTokenizerOf(root.pre_tokenizer ?? null),
      post_processor: root.post_processor ?? null,
      // The library's is not used: see token-decoder.ts.
      decoder: null,
      model: hideTokens({ ...model, type }, special),
      added_tokens: [],
    },
    added,
    tokens,
    ids,
    pieces: new Map(vocabulary.filter(([, id]) => !special.has(id))),
    special,
    unknown: typeof unknown === "number" ? unknown : null,
    byteFallback: type === "Unigram" && model.byte_fallback === true,
    decoder: root.decoder ?? null,
  };
}

/** The kind of a model; older files do not say. */
function modelType(model: Record<string, unknown>): ModelType {
  const { type } = model;
  if (type === "BPE" || type === "WordPiece" || type === "Unigram") return type;
  if (type === undefined && Array.isArray(model.vocab)) return "Unigram";
  if (type === undefined && model.vocab !== undefined) return Array.isArray(model.merges) ? "BPE" : "WordPiece";
  throw fault("model.type BPE, WordPiece or Unigram", type);
}

function rankedVocabulary(vocab: unknown): [string, number][] {
  const entries = Object.entries(object("model.vocab", vocab));
  for (const [token, id] of entries)
    if (!isId(id)) throw fault(`the id of ${JSON.stringify(token)} to be an integer from 0`, id);
  return entries as [string, number][];
}

function unigramVocabulary(vocab: unknown): [string, number][] {
  if (!Array.isArray(vocab)) throw fault("model.vocab in an array", vocab);
  return vocab.map((entry: unknown, id) => {
    const [piece, score] = Array.isArray(entry) ? (entry as unknown[]) : [];
    if (typeof piece !== "string" || typeof score !== "number") throw fault(`model.vocab[${id}] [piece, score]`, entry);
    return [piece, id];
  });
}

/** The model with names for these tokens that no text has. */
function hideTokens(model: Record<string, unknown>, special: ReadonlySet<number>): Record<string, unknown> {
  const name = (token: string, id: number): string => (special.has(id) ? `${unnameable}${id}` : token);
  const { vocab, merges, unk_token: unknown } = model as { vocab: unknown; merges?: unknown; unk_token?: unknown };
  if (Array.isArray(vocab))
    return { ...model, vocab: vocab.map(([piece, score]: [string, number], id) => [name(piece, id), score]) };
  const entries = Object.entries(vocab as Record<string, number>);
  const hidden = new Set(entries.filter(([, id]) => special.has(id)).map(([token]) => token));
  const union = (merge: unknown): string => (Array.isArray(merge) ? merge.join("") : String(merge).replace(" ", ""));
  return {
    ...model,
    ...(Array.isArray(merges) && { merges: merges.filter((merge) => !hidden.has(union(merge))) }),
    vocab: Object.fromEntries(entries.map(([token, id]) => [name(token, id), id])),
    ...(typeof unknown === "string" && { unk_token: name(unknown, (vocab as Record<string, number>)[unknown] ?? -1) }),
  };
}

function object(what: string, value: unknown): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw fault(`${what} to be an object`, value);
}

function fault(expected: string, got: unknown): HeedError {
  return new HeedError("ERR_FORMAT", `tokenizer.json: expected ${expected}, got ${describe(got)}`);
}
