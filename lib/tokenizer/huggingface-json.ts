// A tokenizer.json (huggingface.co/docs/tokenizers) as it is read: its vocabulary, its added tokens, and the form in
// which the tokenizer library gets the rest. Added tokens are found in a text before the library sees it; so that no
// text of users becomes a special token, these have names in its vocabulary that no text has.
import { describe, HeedError } from "../errors.js";
import { type AddedToken, isId, parseAddedTokens } from "./added-tokens.js";
import { type Affixes, affixesOf } from "./post-processor.js";
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
  /** The tokens that the post-processor puts around a text. */
  readonly affixes: Affixes;
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
  const unknown = type === "Unigram" ? unknownId(model, vocabulary.length) : ids.get(unknownName(model, type) ?? "");
  const whole = { ...model, ...checkedParts(model, type, vocabulary), type };

  return {
    library: {
      normalizer: normalizerOf(root.normalizer ?? null),
      pre_tokenizer: preTokenizerOf(root.pre_tokenizer ?? null),
      // The library's are not used: see post-processor.ts and token-decoder.ts.
      post_processor: null,
      decoder: null,
      model: hideTokens(whole, special),
      added_tokens: [],
    },
    added,
    tokens,
    ids,
    pieces: new Map(vocabulary.filter(([, id]) => !special.has(id))),
    special,
    unknown: unknown ?? null,
    byteFallback: type === "Unigram" && model.byte_fallback === true,
    decoder: root.decoder ?? null,
    affixes: affixesOf(root.post_processor),
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
    if (typeof piece !== "string" || !Number.isFinite(score)) throw fault(`model.vocab[${id}] [piece, score]`, entry);
    return [piece, id];
  });
}

/** The id of what is not in a Unigram vocabulary; null where there is none. */
function unknownId({ unk_id: id }: Record<string, unknown>, size: number): number | null {
  if (id === undefined || id === null) return null;
  if (Number.isInteger(id) && (id as number) >= 0 && (id as number) < size) return id as number;
  throw fault(`model.unk_id to be an id below ${size}`, id);
}

/** The token of what is not in a vocabulary; null where there is none. */
function unknownName({ unk_token: name }: Record<string, unknown>, type: ModelType): string | null {
  if (typeof name === "string") return name;
  if (name === undefined || name === null) return type === "WordPiece" ? "[UNK]" : null;
  throw fault("model.unk_token to be a token", name);
}

/** The parts of a model that its type asks for, as the library relies on them. */
function checkedParts(
  model: Record<string, unknown>,
  type: ModelType,
  vocabulary: readonly [string, number][],
): Record<string, unknown> {
  for (const name of ["byte_fallback", "ignore_merges", "fuse_unk"])
    if (typeof (model[name] ?? false) !== "boolean") throw fault(`model.${name} to be true or false`, model[name]);
  for (const name of ["continuing_subword_prefix", "end_of_word_suffix"])
    if (typeof (model[name] ?? "") !== "string") throw fault(`model.${name} to be a text`, model[name]);
  switch (type) {
    case "Unigram":
      checkTrie(vocabulary);
      return {};
    case "BPE":
      return { merges: mergesOf(model, new Set(vocabulary.map(([token]) => token))) };
    case "WordPiece": {
      const longest = model.max_input_chars_per_word ?? 100;
      // Words are cut in time by the cube of their length.
      if (!Number.isInteger(longest) || (longest as number) < 0 || (longest as number) > longestWord)
        throw fault(`model.max_input_chars_per_word to be an integer of at most ${longestWord}`, longest);
      const prefix = model.continuing_subword_prefix ?? "##";
      return {
        max_input_chars_per_word: longest,
        continuing_subword_prefix: prefix,
        unk_token: unknownName(model, type),
      };
    }
  }
}

const longestWord = 1000;
/** The most nodes in the trie that the library builds of a Unigram vocabulary. A node takes 220 bytes. */
const mostNodes = 2 ** 22;

/** Throws ERR_FORMAT for a vocabulary whose trie takes too much memory. */
function checkTrie(vocabulary: readonly [string, number][]): void {
  const characters = vocabulary.reduce((sum, [piece]) => sum + piece.length, 0);
  if (characters <= mostNodes) return;
  // A node a character, but for those that a piece has in common with the one before it in alphabetical order.
  const pieces = vocabulary.map(([piece]) => piece).sort();
  let nodes = 0;
  for (const [i, piece] of pieces.entries()) {
    const before = pieces[i - 1] ?? "";
    let common = 0;
    while (common < piece.length && piece[common] === before[common]) common++;
    nodes += piece.length - common;
  }
  if (nodes > mostNodes) throw fault(`pieces with at most ${mostNodes} different beginnings`, nodes);
}

/** The merges, each of two tokens that make one, as Hugging Face's library in Rust demands it. */
function mergesOf(
  { merges, continuing_subword_prefix: prefix }: Record<string, unknown>,
  tokens: ReadonlySet<string>,
): [string, string][] {
  if (!Array.isArray(merges)) throw fault("model.merges in an array", merges);
  const inner = typeof prefix === "string" ? prefix.length : 0;
  return merges.map((merge: unknown, i) => {
    const parts: unknown[] = typeof merge === "string" ? merge.split(" ") : Array.isArray(merge) ? merge : [];
    const [left, right] = parts;
    if (parts.length !== 2 || typeof left !== "string" || typeof right !== "string")
      throw fault(`model.merges[${i}] of two tokens`, merge);
    for (const token of [left, right, left + right.slice(inner)])
      if (!tokens.has(token)) throw fault(`the token ${describe(token)} of model.merges[${i}] in model.vocab`, "none");
    return [left, right];
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
  return {
    ...model,
    ...(Array.isArray(merges) && { merges: merges.filter((merge: string[]) => !hidden.has(merge.join(""))) }),
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
