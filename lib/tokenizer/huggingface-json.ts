// A tokenizer.json (huggingface.co/docs/tokenizers) as it is read: its vocabulary, and the two forms in which the
// tokenizer library gets it. In one, special tokens are found in a text; in the other, which is for text of users, no
// text is a special token: those that are to be found are taken out of its list, and in the model's vocabulary their
// names are ones that no text has.
import { describe, HeedError } from "../errors.js";

/** Begins the names that no text has: in valid Unicode no digit follows a high surrogate. */
export const unnameable = "\ud800";

/** The id of a token whose name no text has; null for others, such as U+10000, which begins with the same surrogate. */
export function hiddenId(token: string): number | null {
  const digits = token.startsWith(unnameable) ? /^\d+$/.exec(token.slice(unnameable.length)) : null;
  return digits && Number(digits[0]);
}

export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
}

export interface TokenizerDefinition {
  /** For the library; special tokens are found in text. */
  readonly whole: Record<string, unknown>;
  /** For the library; special tokens are not found in text. */
  readonly plain: Record<string, unknown>;
  /** By id; undefined where an id has no token. */
  readonly tokens: readonly (string | undefined)[];
  readonly ids: ReadonlyMap<string, number>;
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
  const added = addedTokens(root.added_tokens ?? []);
  const vocabulary = type === "Unigram" ? unigramVocabulary(model.vocab) : rankedVocabulary(model.vocab);

  const tokens: (string | undefined)[] = [];
  const ids = new Map<string, number>();
  for (const [token, id] of [...vocabulary, ...added.map(({ content, id }) => [content, id] as const)]) {
    tokens[id] = token;
    ids.set(token, id);
  }
  const special = new Set(added.filter((token) => token.special).map(({ id }) => id));
  const unknown = type === "Unigram" ? model.unk_id : ids.get(String(model.unk_token));

  const parts: Record<string, unknown> = Object.fromEntries(
    ["normalizer", "pre_tokenizer", "post_processor", "decoder"].map((name) => [name, root[name] ?? null]),
  );
  parts.pre_tokenizer = withPrependScheme(parts.pre_tokenizer);
  // The decoder is not the library's: see token-decoder.ts.
  const shared = { ...parts, decoder: null };
  const list = root.added_tokens ?? [];
  return {
    whole: { ...shared, model: { ...model, type }, added_tokens: list },
    plain: {
      ...shared,
      model: hideTokens({ ...model, type }, special),
      added_tokens: (list as AddedToken[]).filter(({ id }) => !special.has(id)),
    },
    tokens,
    ids,
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

function addedTokens(list: unknown): AddedToken[] {
  if (!Array.isArray(list)) throw fault("added_tokens in an array", list);
  return list.map((entry: unknown, i) => {
    const { id, content, special } = object(`added_tokens[${i}]`, entry);
    if (!isId(id)) throw fault(`added_tokens[${i}].id to be an integer from 0`, id);
    if (typeof content !== "string" || content === "") throw fault(`added_tokens[${i}].content`, content);
    return { id, content, special: special === true };
  });
}

/** The model with names for these tokens that no text has. */
function hideTokens(model: Record<string, unknown>, special: ReadonlySet<number>): Record<string, unknown> {
  const name = (token: string, id: number): string => (special.has(id) ? `${unnameable}${id}` : token);
  const { vocab, unk_token: unknown } = model as { vocab: unknown; unk_token?: unknown };
  if (Array.isArray(vocab))
    return { ...model, vocab: vocab.map(([piece, score]: [string, number], id) => [name(piece, id), score]) };
  const entries = Object.entries(vocab as Record<string, number>);
  return {
    ...model,
    vocab: Object.fromEntries(entries.map(([token, id]) => [name(token, id), id])),
    ...(typeof unknown === "string" && { unk_token: name(unknown, (vocab as Record<string, number>)[unknown] ?? -1) }),
  };
}

/** The library knows Metaspace's `prepend_scheme`; older files have `add_prefix_space`. */
function withPrependScheme(part: unknown): unknown {
  const {
    type,
    pretokenizers,
    prepend_scheme: scheme,
    add_prefix_space: prefix,
  } = (part ?? {}) as Record<string, unknown>;
  if (type === "Sequence" && Array.isArray(pretokenizers))
    return { ...(part as object), pretokenizers: pretokenizers.map(withPrependScheme) };
  if (type !== "Metaspace" || scheme !== undefined || prefix !== false) return part;
  return { ...(part as object), prepend_scheme: "never" };
}

function object(what: string, value: unknown): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw fault(`${what} to be an object`, value);
}

/** Ids stay small enough for a table of them. */
function isId(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 24;
}

function fault(expected: string, got: unknown): HeedError {
  return new HeedError("ERR_FORMAT", `tokenizer.json: expected ${expected}, got ${describe(got)}`);
}
