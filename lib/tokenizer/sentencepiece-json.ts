// Writes a SentencePiece vocabulary (Kudo & Richardson 2018) of byte-pair encoding, which has scores but no list of
// merges, as a tokenizer.json. SentencePiece first merges the neighbours whose union has the best score, the leftmost of
// them if several have it. A list of merges has no equal ones, so a tokenizer.json alone cannot say the latter; heed
// keeps the ranks of the scores beside it (`equalRanks`). Spaces are written as U+2581; characters that are not
// in the vocabulary are encoded as their UTF-8 bytes.
import { describe, HeedError } from "../util/errors.js";
import { atOnce, type Steps } from "../util/turns.js";
import { addedTokenJson } from "./added-tokens.js";
import { equalRanks } from "./bpe-model.js";
import { templateOf } from "./template-processing.js";
import { TextHashes } from "./text-hashes.js";
import { type BpeJson, type Fault, namesOf } from "./tokenizer-json.js";

/** The character that SentencePiece writes for a space. */
export const wordBoundary = "\u2581";

/**
 * The kind of a token: "byte" is a token such as <0x0A>; "control" and "unknown" tokens are never part of a text;
 * "user" tokens are found in a text before all others.
 */
export type PieceKind = "normal" | "unknown" | "control" | "user" | "byte";

/** A token of a SentencePiece vocabulary. */
export interface Piece {
  readonly text: string;
  readonly score: number;
  readonly kind: PieceKind;
}

/** Options for writing a SentencePiece vocabulary as a tokenizer.json. */
export interface SentencePieceOptions {
  /** Tokens that are put before every text. @default [] */
  before?: readonly string[];
  /** Tokens that are put after every text. @default [] */
  after?: readonly string[];
  /**
   * True if a space is put before a text, so that its first word is encoded like a word within a text.
   *
   * @default true
   */
  spacePrefix?: boolean;
}

/** Returns the tokenizer.json of a vocabulary. `model.vocab` in it is a Map. */
export function* sentencePieceJson(
  pieces: readonly Piece[],
  options: SentencePieceOptions = {},
): Steps<Record<string, unknown>> {
  const { before = [], after = [], spacePrefix = true } = options;
  const ids = new Map<string, number>();
  const added: unknown[] = [];
  for (const [id, { text, kind }] of pieces.entries()) {
    ids.set(text, id);
    if (kind !== "normal" && kind !== "byte") added.push(addedTokenJson(id, text, kind !== "user"));
    if (id % stride === 0) yield;
  }
  const space = { type: "Replace", pattern: { String: " " }, content: wordBoundary };
  const merges = yield* mergesOf(pieces);
  const model: Record<string | symbol, unknown> = {
    type: "BPE",
    dropout: null,
    unk_token: pieces.find(({ kind }) => kind === "unknown")?.text ?? null,
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: true,
    byte_fallback: true,
    vocab: ids,
    merges: merges.map(({ pair }) => pair),
    [equalRanks]: ranksOf(merges),
  };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: added,
    normalizer: spacePrefix
      ? { type: "Sequence", normalizers: [{ type: "Prepend", prepend: wordBoundary }, space] }
      : space,
    pre_tokenizer: null,
    post_processor: templateOf(before, after, ids),
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: wordBoundary }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...(spacePrefix ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []),
      ],
    },
    model,
  };
}

/** The content of a tokenizer.json that is equivalent to a SentencePiece vocabulary. */
export interface SentencePieces {
  /** The tokens, by id; undefined for an id that has no token. */
  pieces: (Piece | undefined)[];
  /** True if a space is put before every text. */
  spacePrefix: boolean;
}

/**
 * Returns the SentencePiece vocabulary of a tokenizer.json.
 *
 * @throws the error that `fault` creates, if the tokenizer is not equivalent to a SentencePiece vocabulary.
 */
export function sentencePiecesOf(json: BpeJson, fault: Fault): SentencePieces {
  const { vocab, merges, model, added, normalizers, cutters, decoders } = json;
  const spacePrefix = normalizers[0]?.type === "Prepend";
  checkSpaces(json, spacePrefix, fault);
  const wanted = ["Replace", "ByteFallback", "Fuse", ...(spacePrefix ? ["Strip"] : [])].join(", ");
  if (namesOf(decoders) !== wanted) throw fault(`the decoder ${namesOf(decoders)} instead of ${wanted}`);
  if (model.ignore_merges === true) throw fault("ignore_merges true");

  const ranks = new Map<string, number>();
  for (const [rank, [left, right]] of merges.entries()) if (!ranks.has(left + right)) ranks.set(left + right, rank);
  const pieces: (Piece | undefined)[] = [];
  for (const [text, id] of vocab) {
    const kind = text === model.unk_token ? "unknown" : byteToken.test(text) ? "byte" : "normal";
    pieces[id] = { text, kind, score: kind === "normal" ? -(ranks.get(text) ?? merges.length) : 0 };
  }
  for (const { id, content: text, special, normalized } of added) {
    if (normalized && (spacePrefix || text.includes(" ")))
      throw fault(`the token ${JSON.stringify(text)}, which its normalizer changes`);
    pieces[id] = { text, kind: !special ? "user" : text === model.unk_token ? "unknown" : "control", score: 0 };
  }
  for (let byte = 0; byte < 256; byte++)
    if (!vocab.has(byteName(byte))) throw fault(`a vocabulary without ${byteName(byte)}`);
  checkMerges(pieces, merges, fault);
  if (cutters.length > 0 && cutters[0]!.split !== false) {
    const inner = pieces.find((piece) => piece?.kind === "normal" && piece.text.indexOf(wordBoundary, 1) > 0);
    if (inner) throw fault(`the token ${JSON.stringify(inner.text)}, which Metaspace would split`);
  }
  return { pieces, spacePrefix };
}

const byteToken = /^<0x[0-9A-F]{2}>$/;

function byteName(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
}

/**
 * Checks that spaces become U+2581, and that a space is put before a text always or never. Other rules exist only in
 * Metaspace.
 */
function checkSpaces({ normalizers, cutters }: BpeJson, spacePrefix: boolean, fault: Fault): void {
  const [metaspace] = cutters;
  if (metaspace) {
    const { type, prepend_scheme: scheme, add_prefix_space: prefixed, replacement = wordBoundary } = metaspace;
    if (type !== "Metaspace" || cutters.length > 1 || normalizers.length > 0 || replacement !== wordBoundary)
      throw fault(`one that splits text in another way (${namesOf([...normalizers, ...cutters])})`);
    const given = scheme ?? (prefixed === false ? "never" : "always");
    // The other formats put a space before every text, even one that begins with a space, and after every special
    // token. Metaspace does not.
    if (given !== "never") throw fault(`Metaspace with prepend_scheme ${describe(given)}`);
    return;
  }
  const replace = normalizers.at(-1);
  const { String: from } = (replace?.pattern ?? {}) as { String?: unknown };
  const plain = from === " " && replace!.content === wordBoundary;
  const prepended = !spacePrefix || normalizers[0]!.prepend === wordBoundary;
  if (!plain || !prepended || normalizers.length !== (spacePrefix ? 2 : 1))
    throw fault(
      normalizers.length === 0 ? "one that splits text in another way" : `the normalizer ${namesOf(normalizers)}`,
    );
}

/**
 * Checks that the merges are those that scores can express: any two pieces whose union is a piece merge, and all ways
 * to make one piece have the same rank.
 */
function checkMerges(
  pieces: readonly (Piece | undefined)[],
  merges: readonly (readonly [string, string])[],
  fault: Fault,
): void {
  const normal = new Set(pieces.flatMap((piece) => (piece?.kind === "normal" ? [piece.text] : [])));
  const given = merges.filter((merge) => [...merge, merge.join("")].every((text) => normal.has(text)));
  const listed = atOnce(mergesOf(pieces.map((piece) => piece ?? { text: "", score: 0, kind: "control" })));
  const all = listed.map(({ pair }) => pair);
  const lacking = all.length > given.length ? new Set(given.map((merge) => merge.join(" "))) : null;
  const lost = lacking && all.find((merge) => !lacking.has(merge.join(" ")));
  if (lost) throw fault(`merges that never join ${JSON.stringify(lost[0])} and ${JSON.stringify(lost[1])}`);
  const seen = new Set<string>();
  for (const [i, merge] of given.entries()) {
    const union = merge.join("");
    if (seen.has(union) && given[i - 1]!.join("") !== union)
      throw fault(`other merges between those that make ${JSON.stringify(union)}`);
    seen.add(union);
  }
}

/**
 * Limit on the total number of characters of all merges: `each` for every character of the pieces, and `anyway` in
 * addition. It is far more than any vocabulary needs.
 */
const mostMerged = { each: 64, anyway: 2 ** 20 };

/**
 * Returns every way to make a piece from two others, the best first. Time and memory are bounded by the length of all
 * pieces.
 *
 * @throws ERR_FORMAT if there are far more ways than in any vocabulary of a language.
 */
function* mergesOf(pieces: readonly Piece[]): Steps<Merge[]> {
  const normal = pieces.filter(({ kind }) => kind === "normal");
  const hashes = new TextHashes(normal.reduce((most, { text }) => Math.max(most, text.length), 0));
  const byHash = new Map<number, (typeof normal)[number]>();
  for (const [i, piece] of normal.entries()) {
    byHash.set(hashes.load(piece.text).of(0, piece.text.length), piece);
    if (i % stride === 0) yield;
  }
  const merges: Merge[] = [];
  let room = mostMerged.anyway + mostMerged.each * normal.reduce((sum, { text }) => sum + text.length, 0);
  for (const [i, { text, score }] of normal.entries()) {
    if (i % 256 === 0) yield;
    hashes.load(text);
    for (let at = 1; at < text.length; at++) {
      // A cut here would split a surrogate pair.
      if (text.codePointAt(at - 1)! > 0xffff) continue;
      const left = byHash.get(hashes.of(0, at));
      if (left?.text.length !== at || !text.startsWith(left.text)) continue;
      const right = byHash.get(hashes.of(at, text.length));
      if (right?.text.length !== text.length - at || !text.endsWith(right.text)) continue;
      merges.push({ pair: [left.text, right.text], score });
      room -= text.length;
      if (room < 0)
        throw new HeedError(
          "ERR_FORMAT",
          `tokenizer: expected at most ${merges.length} ways to join two pieces into a third, got more`,
        );
    }
  }
  // The order of Hugging Face's converter: the best score, then the longer left part, then the longer right part.
  return yield* sort(
    merges,
    ({ pair: [a, b], score }, { pair: [c, d], score: other }) =>
      other - score || codePoints(c) - codePoints(a) || codePoints(d) - codePoints(b),
  );
}

/** Returns for each merge the rank of its score: merges of the same score have the same rank. */
function ranksOf(merges: readonly Merge[]): Int32Array {
  const ranks = new Int32Array(merges.length);
  for (let i = 1; i < merges.length; i++) ranks[i] = merges[i]!.score === merges[i - 1]!.score ? ranks[i - 1]! : i;
  return ranks;
}

/** Returns the number of characters of a text. */
function codePoints(text: string): number {
  return isWide(text) ? Array.from(text).length : text.length;
}

const isWide = (text: string): boolean => /[\ud800-\udfff]/.test(text);

/** Number of pieces that are processed between two yields. */
const stride = 2048;

interface Merge {
  readonly pair: [string, string];
  readonly score: number;
}

/** Sorts a list by merging runs, so that it can pause: sorting the whole list at once takes a tenth of a second. */
function* sort<T>(given: readonly T[], order: (a: T, b: T) => number): Steps<T[]> {
  let from: T[] = [];
  for (let at = 0; at < given.length; at += stride) {
    for (const item of given.slice(at, at + stride).sort(order)) from.push(item);
    yield;
  }
  for (let length = stride; length < from.length; length *= 2) {
    const to: T[] = [];
    for (let start = 0; start < from.length; start += 2 * length) {
      const middle = Math.min(start + length, from.length);
      const end = Math.min(middle + length, from.length);
      for (let [left, right] = [start, middle]; left < middle || right < end;) {
        const first = right >= end || (left < middle && order(from[left]!, from[right]!) <= 0);
        if (to.push(from[first ? left++ : right++]!) % stride === 0) yield;
      }
    }
    from = to;
  }
  return from;
}
