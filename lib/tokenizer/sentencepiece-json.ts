// A SentencePiece vocabulary (Kudo & Richardson 2018) of byte-pair encoding, without its model, as a tokenizer.json: of
// neighbours those merge first whose union has the best score, so the merges, in the order of their scores, say the same.
// Spaces are U+2581; what is not in the vocabulary is spelt in bytes.
import { addedTokenJson } from "./added-tokens.js";
import { templateOf } from "./template-processing.js";

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

/** The tokenizer.json of a vocabulary. */
export function sentencePieceJson(
  pieces: readonly Piece[],
  options: SentencePieceOptions = {},
): Record<string, unknown> {
  const { before = [], after = [], spacePrefix = true } = options;
  const ids = new Map(pieces.map(({ text }, id) => [text, id]));
  const space = { type: "Replace", pattern: { String: " " }, content: wordBoundary };
  const added = pieces.flatMap(({ text, kind }, id) =>
    kind === "normal" || kind === "byte" ? [] : [addedTokenJson(id, text, kind !== "user")],
  );
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
      vocab: Object.fromEntries(ids),
      merges: mergesOf(pieces),
    },
  };
}

/** Every way to make a piece of two others, the best first. */
function mergesOf(pieces: readonly Piece[]): [string, string][] {
  const ids = new Map(pieces.flatMap(({ text, kind }, id) => (kind === "normal" ? [[text, id]] : [])));
  const merges: { pair: [string, string]; score: number; left: number; right: number }[] = [];
  for (const { text, score, kind } of pieces) {
    if (kind !== "normal") continue;
    let at = 0;
    for (const character of text) {
      at += character.length;
      const pair: [string, string] = [text.slice(0, at), text.slice(at)];
      const [left, right] = [ids.get(pair[0]), ids.get(pair[1])];
      if (left !== undefined && right !== undefined) merges.push({ pair, score, left, right });
    }
  }
  merges.sort((a, b) => b.score - a.score || a.left - b.left || a.right - b.right);
  return merges.map(({ pair }) => pair);
}
