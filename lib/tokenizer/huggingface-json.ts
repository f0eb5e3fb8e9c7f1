// Reads a tokenizer.json (huggingface.co/docs/tokenizers): its vocabulary, its added tokens, its model, and how it
// normalizes and cuts a text.
import { describe, HeedError } from "../util/errors.js";
import type { Steps } from "../util/turns.js";
import { type AddedToken, isId, parseAddedTokens } from "./added-tokens.js";
import { BpeModel, equalRanks, type Merges } from "./bpe-model.js";
import { mostRanks } from "./merge-parts.js";
import { type Templates, templatesOf } from "./post-processor.js";
import { type Normalizer, normalizerOf } from "./normalizer.js";
import { type PreTokenizer, preTokenizerOf } from "./pre-tokenizer.js";
import { type TokenModel, Vocabulary } from "./token-model.js";
import { UnigramModel } from "./unigram-model.js";
import { WordPieceModel } from "./word-piece-model.js";

/** The parts of a tokenizer.json, ready to be applied. */
export interface TokenizerDefinition {
  readonly normalize: Normalizer;
  readonly cut: PreTokenizer;
  readonly model: TokenModel;
  readonly added: readonly AddedToken[];
  /** The tokens' texts, by id; undefined for an id that has no token. */
  readonly tokens: readonly (string | undefined)[];
  /** Ids of the special tokens. */
  readonly special: ReadonlySet<number>;
  readonly decoder: unknown;
  /** The tokens that the post-processor puts around a text and around the texts of a pair. */
  readonly templates: Templates;
  /** Returns the id of a token, whether it is an added token or one of the model's vocabulary. */
  idOf(token: string): number | undefined;
}

type ModelType = "BPE" | "WordPiece" | "Unigram";
type Json = Record<string, unknown>;

/** Number of entries that are read between two yields; reading them takes about a millisecond. */
const stride = 2048;

/**
 * Parses and checks a tokenizer.json.
 *
 * @throws ERR_FORMAT if it is not a tokenizer.json, or of an unknown kind.
 */
export function* parseTokenizerJson(json: unknown): Steps<TokenizerDefinition> {
  const root = object("a tokenizer.json", json);
  const model = object("model", root.model);
  const type = modelType(model);
  const added = parseAddedTokens(root.added_tokens ?? []);
  yield;
  const { ids, scores } = yield* type === "Unigram" ? unigramVocabulary(model.vocab) : rankedVocabulary(model.vocab);

  const tokens: (string | undefined)[] = [];
  let step = 0;
  for (const [token, id] of ids) {
    tokens[id] = token;
    if (++step % stride === 0) yield;
  }
  const addedIds = new Map(added.map(({ content, id }) => [content, id]));
  const idOf = (token: string): number | undefined => addedIds.get(token) ?? ids.get(token);
  const special = new Set(added.filter((token) => token.special).map(({ id }) => id));
  checkParts(model);
  const unknownToken = type === "Unigram" ? null : unknownName(model, type);
  const unknown = type === "Unigram" ? unknownId(model, scores!.length) : idOf(unknownToken ?? "");
  const vocabulary = new Vocabulary(ids, special, unknown ?? null);
  const made = yield* modelOf(model, type, vocabulary, tokens.slice(), scores);
  for (const { content, id } of added) tokens[id] = content;
  return {
    normalize: normalizerOf(root.normalizer),
    cut: preTokenizerOf(root.pre_tokenizer),
    model: made,
    added,
    tokens,
    special,
    decoder: root.decoder ?? null,
    templates: templatesOf(root.post_processor),
    idOf,
  };
}

/** Returns the kind of a model. Older files do not name it, so that it must be inferred from the other fields. */
function modelType(model: Json): ModelType {
  const { type } = model;
  if (type === "BPE" || type === "WordPiece" || type === "Unigram") return type;
  if (type === undefined && Array.isArray(model.vocab)) return "Unigram";
  if (type === undefined && model.vocab !== undefined) return Array.isArray(model.merges) ? "BPE" : "WordPiece";
  throw fault("model.type to be BPE, WordPiece or Unigram", type);
}

/** The vocabulary of a model. */
interface Tokens {
  /** The id of each token. If a token occurs twice, the last id counts. */
  ids: Map<string, number>;
  /** The log probability of each token, by id; null unless the model is Unigram. */
  scores: Float64Array | null;
}

function* rankedVocabulary(vocab: unknown): Steps<Tokens> {
  const ids = new Map<string, number>();
  for (const [token, id] of vocabularyEntries(vocab)) {
    if (!isId(id)) throw fault(`the id of ${describe(token)} to be an integer of at least 0`, id);
    ids.set(token, id);
    if (ids.size % stride === 0) yield;
  }
  return { ids, scores: null };
}

/** Yields the entries of a vocabulary. The vocabulary of a large file is read as a Map. */
function* vocabularyEntries(vocab: unknown): Iterable<[string, unknown]> {
  if (vocab instanceof Map) yield* vocab as ReadonlyMap<string, unknown>;
  else {
    const given = object("model.vocab", vocab);
    for (const token of Object.keys(given)) yield [token, given[token]];
  }
}

function* unigramVocabulary(vocab: unknown): Steps<Tokens> {
  if (!Array.isArray(vocab) || vocab.length === 0) throw fault("model.vocab to be an array that is not empty", vocab);
  const ids = new Map<string, number>();
  const scores = new Float64Array(vocab.length);
  for (const [id, entry] of (vocab as unknown[]).entries()) {
    const [piece, score] = Array.isArray(entry) ? (entry as unknown[]) : [];
    if (typeof piece !== "string" || !Number.isFinite(score))
      throw fault(`model.vocab[${id}] to be [piece, score]`, entry);
    ids.set(piece, id);
    scores[id] = score as number;
    if (id % stride === 0) yield;
  }
  return { ids, scores };
}

/** Returns the id of the unknown token of a Unigram vocabulary, or null if it has none. */
function unknownId({ unk_id: id }: Json, size: number): number | null {
  if (id === undefined || id === null) return null;
  if (Number.isInteger(id) && (id as number) >= 0 && (id as number) < size) return id as number;
  throw fault(`model.unk_id to be an id below ${size}`, id);
}

/** Returns the name of the unknown token of a BPE or WordPiece vocabulary, or null if it has none. */
function unknownName({ unk_token: name }: Json, type: ModelType): string | null {
  if (typeof name === "string") return name;
  if (name === undefined || name === null) return type === "WordPiece" ? "[UNK]" : null;
  throw fault("model.unk_token to be a token", name);
}

function checkParts(model: Json): void {
  for (const name of ["byte_fallback", "ignore_merges", "fuse_unk"])
    if (typeof (model[name] ?? false) !== "boolean") throw fault(`model.${name} to be true or false`, model[name]);
  for (const name of ["continuing_subword_prefix", "end_of_word_suffix"])
    if (typeof (model[name] ?? "") !== "string") throw fault(`model.${name} to be a string`, model[name]);
}

/** Builds the model from parts that have been checked. `tokens` are those of the model's own vocabulary. */
function* modelOf(
  model: Json,
  type: ModelType,
  vocabulary: Vocabulary,
  tokens: readonly (string | undefined)[],
  scores: Float64Array | null,
): Steps<TokenModel> {
  const prefix = model.continuing_subword_prefix as string | null | undefined;
  const byteFallback = model.byte_fallback === true;
  switch (type) {
    case "Unigram":
      return yield* UnigramModel.of(vocabulary, scores!, byteFallback, (most) =>
        fault(`pieces with at most ${most} different beginnings`, "more"),
      );
    case "BPE":
      return yield* BpeModel.of(vocabulary, tokens, yield* mergesOf(model, prefix ?? "", vocabulary.ids), {
        prefix: prefix ?? "",
        suffix: (model.end_of_word_suffix ?? "") as string,
        byteFallback,
        fuseUnknown: model.fuse_unk === true,
        ignoreMerges: model.ignore_merges === true,
        unknownName: unknownName(model, type),
      });
    case "WordPiece": {
      const longest = model.max_input_chars_per_word ?? 100;
      // The time to cut a word grows with the cube of its length.
      if (!Number.isInteger(longest) || (longest as number) < 0 || (longest as number) > longestWord)
        throw fault(`model.max_input_chars_per_word to be an integer of at most ${longestWord}`, longest);
      return new WordPieceModel(vocabulary, { prefix: prefix ?? "##", longest: longest as number });
    }
  }
}

const longestWord = 1000;

/**
 * Reads the merges. As Hugging Face's Rust library does, it requires that the two tokens and their union are in the
 * vocabulary.
 */
function* mergesOf(model: Json, prefix: string, ids: ReadonlyMap<string, number>): Steps<Merges> {
  const { merges } = model;
  if (!Array.isArray(merges)) throw fault("model.merges to be an array", merges);
  if (merges.length > mostRanks) throw fault(`at most ${mostRanks} merges`, merges.length);
  const list = (): Int32Array => new Int32Array(merges.length);
  const [lefts, rights, unions] = [list(), list(), list()];
  for (const [i, merge] of (merges as unknown[]).entries()) {
    const [left, right] = pairOf(merge) ?? [];
    if (left === undefined || right === undefined) throw fault(`model.merges[${i}] to be two tokens`, merge);
    const idOf = (token: string): number => {
      const id = ids.get(token);
      if (id !== undefined) return id;
      throw fault(`model.vocab to have the token ${describe(token)} of model.merges[${i}]`, id);
    };
    [lefts[i], rights[i], unions[i]] = [idOf(left), idOf(right), idOf(left + right.slice(prefix.length))];
    if (i % stride === 0) yield;
  }
  return { lefts, rights, unions, ranks: (model as { [equalRanks]?: Int32Array })[equalRanks] };
}

/**
 * Returns the two tokens of a merge, or null if it has another form. Older files write them as one string with a space
 * between them.
 */
function pairOf(merge: unknown): readonly [string, string] | null {
  if (typeof merge === "string") {
    const space = merge.indexOf(" ");
    const pair = space >= 0 && !merge.includes(" ", space + 1);
    return pair ? [merge.slice(0, space), merge.slice(space + 1)] : null;
  }
  const [left, right] = Array.isArray(merge) && merge.length === 2 ? (merge as unknown[]) : [];
  return typeof left === "string" && typeof right === "string" ? [left, right] : null;
}

function object(what: string, value: unknown): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw fault(`${what} to be an object`, value);
}

function fault(expected: string, got: unknown): HeedError {
  return new HeedError("ERR_FORMAT", `tokenizer.json: expected ${expected}, got ${describe(got)}`);
}
