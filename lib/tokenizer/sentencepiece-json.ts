// A SentencePiece vocabulary (Kudo & Richardson 2018) of byte-pair encoding, without its model, as a tokenizer.json: of
// neighbours those merge first whose union has the best score, so the merges, in the order of their scores, say the same.
// Spaces are U+2581; what is not in the vocabulary is spelt in bytes.
import { describe, HeedError } from "../errors.js";
import { atOnce, type Steps } from "../turns.js";
import { addedTokenJson } from "./added-tokens.js";
import { templateOf } from "./template-processing.js";
import { TextHashes } from "./text-hashes.js";
import { type BpeJson, type Fault, namesOf } from "./tokenizer-json.js";

export const wordBoundary = "\u2581";

/** "byte" is a token such as <0x0A>; "control" and "unknown" are none of a text, "user" ones are found in it first. */
export type PieceKind = "normal" | "unknown" | "control" | "user" | "byte";

export interface Piece {
  readonly text: string;
  readonly score: number;
  readonly kind: PieceKind;
}

export interface SentencePieceOptions {
  /** Tokens that are put before and after a text. */
  before?: readonly string[];
  after?: readonly string[];
  /** Whether a text begins with a space, as a word within it does; true unless given. */
  spacePrefix?: boolean;
}

/** The tokenizer.json of a vocabulary, which is a Map in it. */
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
    model: {
      type: "BPE",
      dropout: null,
      unk_token: pieces.find(({ kind }) => kind === "unknown")?.text ?? null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: true,
      vocab: ids,
      merges: yield* mergesOf(pieces),
    },
  };
}

/** Of a tokenizer.json that says no more than a SentencePiece vocabulary. */
export interface SentencePieces {
  /** By id; undefined where an id has no token. */
  pieces: (Piece | undefined)[];
  spacePrefix: boolean;
}

/** The vocabulary of a tokenizer.json. Throws what `fault` makes of it where that says something else. */
export function sentencePiecesOf(json: BpeJson, fault: Fault): SentencePieces {
  const { vocab, merges, model, added, normalizers, cutters, decoders } = json;
  const spacePrefix = normalizers[0]?.type === "Prepend";
  checkSpaces(json, spacePrefix, fault);
  const wanted = ["Replace", "ByteFallback", "Fuse", ...(spacePrefix ? ["Strip"] : [])].join(", ");
  if (namesOf(decoders) !== wanted) throw fault(`the decoder ${namesOf(decoders)} for ${wanted}`);
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
      throw fault(`the token ${JSON.stringify(text)}, of which its normalizer makes another`);
    pieces[id] = { text, kind: !special ? "user" : text === model.unk_token ? "unknown" : "control", score: 0 };
  }
  for (let byte = 0; byte < 256; byte++)
    if (!vocab.has(byteName(byte))) throw fault(`a vocabulary without ${byteName(byte)}`);
  checkMerges(pieces, merges, fault);
  if (cutters.length > 0 && cutters[0]!.split !== false) {
    const inner = pieces.find((piece) => piece?.kind === "normal" && piece.text.indexOf(wordBoundary, 1) > 0);
    if (inner) throw fault(`Metaspace that splits, and the token ${JSON.stringify(inner.text)}`);
  }
  return { pieces, spacePrefix };
}

const byteToken = /^<0x[0-9A-F]{2}>$/;

function byteName(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
}

/** A space becomes U+2581, and one stands before a text always or never; all else is Metaspace's alone. */
function checkSpaces({ normalizers, cutters }: BpeJson, spacePrefix: boolean, fault: Fault): void {
  const [metaspace] = cutters;
  if (metaspace) {
    const { type, prepend_scheme: scheme, add_prefix_space: prefixed, replacement = wordBoundary } = metaspace;
    if (type !== "Metaspace" || cutters.length > 1 || normalizers.length > 0 || replacement !== wordBoundary)
      throw fault(`one that cuts text another way (${namesOf([...normalizers, ...cutters])})`);
    const given = scheme ?? (prefixed === false ? "never" : "always");
    // Files put a space before every text, also one that begins with a space, and after every special token.
    if (given !== "never") throw fault(`Metaspace with prepend_scheme ${describe(given)}`);
    return;
  }
  const replace = normalizers.at(-1);
  const { String: from } = (replace?.pattern ?? {}) as { String?: unknown };
  const plain = from === " " && replace!.content === wordBoundary;
  const prepended = !spacePrefix || normalizers[0]!.prepend === wordBoundary;
  if (!plain || !prepended || normalizers.length !== (spacePrefix ? 2 : 1))
    throw fault(normalizers.length === 0 ? "one that cuts text another way" : `the normalizer ${namesOf(normalizers)}`);
}

/** By scores any two pieces merge whose union is a piece, and the ways to one piece all have its rank. */
function checkMerges(
  pieces: readonly (Piece | undefined)[],
  merges: readonly (readonly [string, string])[],
  fault: Fault,
): void {
  const normal = new Set(pieces.flatMap((piece) => (piece?.kind === "normal" ? [piece.text] : [])));
  const given = merges.filter((merge) => [...merge, merge.join("")].every((text) => normal.has(text)));
  const all = atOnce(mergesOf(pieces.map((piece) => piece ?? { text: "", score: 0, kind: "control" })));
  const lacking = all.length > given.length ? new Set(given.map((merge) => merge.join(" "))) : null;
  const lost = lacking && all.find((merge) => !lacking.has(merge.join(" ")));
  if (lost) throw fault(`merges that never join ${JSON.stringify(lost[0])} and ${JSON.stringify(lost[1])}`);
  const seen = new Set<string>();
  for (const [i, merge] of given.entries()) {
    const union = merge.join("");
    if (seen.has(union) && given[i - 1]!.join("") !== union)
      throw fault(`merges with others between those of ${JSON.stringify(union)}`);
    seen.add(union);
  }
}

/** Characters of merges for each character of pieces, and as many in any case: far more than vocabularies have. */
const mostMerged = { each: 64, anyway: 2 ** 20 };

/**
 * Every way to make a piece of two others, the best first. Time and memory follow from the length of all pieces. Throws
 * ERR_FORMAT where there are far more ways than in any vocabulary of a language.
 */
function* mergesOf(pieces: readonly Piece[]): Steps<[string, string][]> {
  const normal = pieces.flatMap(({ text, kind, score }, id) => (kind === "normal" ? [{ text, score, id }] : []));
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
      // Within a character of two UTF-16 units.
      if (text.codePointAt(at - 1)! > 0xffff) continue;
      const left = byHash.get(hashes.of(0, at));
      if (left?.text.length !== at || !text.startsWith(left.text)) continue;
      const right = byHash.get(hashes.of(at, text.length));
      if (right?.text.length !== text.length - at || !text.endsWith(right.text)) continue;
      merges.push({ pair: [left.text, right.text], score, left: left.id, right: right.id });
      room -= text.length;
      if (room < 0)
        throw new HeedError(
          "ERR_FORMAT",
          `tokenizer: expected pieces that few others make up, got more than ${merges.length} ways to make them`,
        );
    }
  }
  const sorted = yield* sort(merges, (a, b) => b.score - a.score || a.left - b.left || a.right - b.right);
  return sorted.map(({ pair }) => pair);
}

/** Pieces between two rests. */
const stride = 2048;

interface Merge {
  readonly pair: [string, string];
  readonly score: number;
  readonly left: number;
  readonly right: number;
}

/** Sorts by merging runs: what is given at once takes a tenth of a second. */
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
