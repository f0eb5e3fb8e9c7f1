// The byte-pair encoding of a tokenizer.json. In contrast to GPT-2's format, the file lists explicitly which two tokens
// merge, in order of priority.
import type { Steps } from "../util/turns.js";
import type { IdList, IdSink } from "./id-parts.js";
import { mergeParts } from "./merge-parts.js";
import { PairTable } from "./pair-table.js";
import { byteIds, remember, type TokenModel, type Vocabulary, type WordCache } from "./token-model.js";

/** The merges in order of priority: tokens `lefts[i]` and `rights[i]` merge into token `unions[i]`. */
export interface Merges {
  readonly lefts: Int32Array;
  readonly rights: Int32Array;
  readonly unions: Int32Array;
  /** The rank of each merge, where several have the same; their indices if it is left out. */
  readonly ranks?: Int32Array | undefined;
}

/**
 * Key of the ranks of the merges in the model of a tokenizer.json, where several merges have the same rank: among them
 * the leftmost pair merges first. A file cannot say that.
 */
export const equalRanks = Symbol("ranks of the merges");

/** The options of a BPE model in a tokenizer.json. */
export interface BpeOptions {
  /** Prefix of every character of a piece except the first. */
  readonly prefix: string;
  /** Suffix of the last character of a piece. */
  readonly suffix: string;
  /** True if a character that is not in the vocabulary is encoded as its UTF-8 bytes. */
  readonly byteFallback: boolean;
  /** True if consecutive characters that are not in the vocabulary become one unknown token. */
  readonly fuseUnknown: boolean;
  /** True if a piece that is a token of the vocabulary is not merged from its characters but used directly. */
  readonly ignoreMerges: boolean;
  /** Name of the token for characters that are not in the vocabulary. If it is null, such characters are left out. */
  readonly unknownName: string | null;
}

/**
 * Number of UTF-16 units above which a piece is cut where no merge joins two characters, so that the same words are
 * found again in the cache.
 */
const longWord = 64;
const stride = 4096;

/** Cuts pieces into tokens by byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909). */
export class BpeModel implements TokenModel {
  readonly #vocabulary: Vocabulary;
  readonly #merges: Merges;
  readonly #options: BpeOptions;
  /** The index of the merge of every pair of tokens that merges; the lowest rank merges first. */
  readonly #ranks: PairTable;
  readonly #bytes: readonly (number | undefined)[];
  /**
   * The token of each code point. For a character that is not in the vocabulary it is the complement of the code point
   * (~c).
   */
  readonly #characters = new Map<number, number>();
  /** The pairs of code points that a merge can join. They are computed when the first long piece needs them. */
  #joints: PairTable | null = null;
  /** The text of each token, by id. */
  readonly #tokens: readonly (string | undefined)[];

  private constructor(
    vocabulary: Vocabulary,
    tokens: readonly (string | undefined)[],
    merges: Merges,
    ranks: PairTable,
    options: BpeOptions,
  ) {
    [this.#vocabulary, this.#tokens, this.#merges, this.#ranks] = [vocabulary, tokens, merges, ranks];
    this.#options = options;
    this.#bytes = options.byteFallback ? vocabulary.bytes() : [];
  }

  /** Builds a model. If a pair of tokens is listed twice, the later merge counts. */
  static *of(
    vocabulary: Vocabulary,
    tokens: readonly (string | undefined)[],
    merges: Merges,
    options: BpeOptions,
  ): Steps<BpeModel> {
    const { lefts, rights, unions } = merges;
    const ranks = new PairTable(lefts.length);
    for (let rank = 0; rank < lefts.length; rank++) {
      // Text never merges into a special token.
      if (!vocabulary.special.has(unions[rank]!)) ranks.set(lefts[rank]!, rights[rank]!, rank);
      if (rank % stride === 0) yield;
    }
    return new BpeModel(vocabulary, tokens, merges, ranks, options);
  }

  *encode(piece: string, ids: IdList, words: WordCache): Steps<void> {
    const whole = this.#options.ignoreMerges ? this.#vocabulary.get(piece) : undefined;
    if (whole !== undefined) {
      ids.push(whole);
      return;
    }
    const from = ids.length;
    for (let [start, count] = [0, 1]; start < piece.length; count++) {
      if (count % 256 === 0) yield;
      const end = yield* this.#wordEnd(piece, start);
      const word = piece.slice(start, end);
      if (word.length > longWord) yield* this.#merge(word, { push: (token) => this.#push(token, ids, from) });
      else {
        let tokens = words.get(word);
        if (!tokens) {
          const own: number[] = [];
          yield* this.#merge(word, own);
          remember(words, word, (tokens = own));
        }
        for (const token of tokens) this.#push(token, ids, from);
      }
      start = end;
    }
  }

  /** Returns the first position after `start` that no merge reaches across, or the end of a short piece. */
  *#wordEnd(piece: string, start: number): Steps<number> {
    const { prefix, suffix } = this.#options;
    if (piece.length <= longWord || prefix !== "" || suffix !== "") return piece.length;
    this.#joints ??= yield* this.#findJoints();
    let before = -1;
    for (let at = start, step = 1; at < piece.length; step++) {
      const character = piece.codePointAt(at)!;
      if (!this.#isLeftOut(character)) {
        if (before >= 0 && this.#joints.get(before, character) < 0) return at;
        before = character;
      }
      at += character > 0xffff ? 2 : 1;
      if (step % stride === 0) yield;
    }
    return piece.length;
  }

  *#findJoints(): Steps<PairTable> {
    const { lefts, rights } = this.#merges;
    const joints = new PairTable(lefts.length);
    for (let rank = 0; rank < lefts.length; rank++) {
      const [left, right] = [this.#tokens[lefts[rank]!]!, this.#tokens[rights[rank]!]!];
      if (left !== "" && right !== "") joints.set(lastCodePoint(left), right.codePointAt(0)!, 1);
      if (rank % stride === 0) yield;
    }
    return joints;
  }

  /**
   * Passes the tokens of a word to `tokens`. For a character that is not in the vocabulary, the token is the complement
   * of its code point.
   */
  *#merge(word: string, tokens: IdSink): Steps<void> {
    const ids = yield* this.#symbolsOf(word);
    if (ids.length === 1) {
      tokens.push(ids[0]!);
      return;
    }
    const { unions, ranks } = this.#merges;
    const merge = (first: number, second: number): number => {
      const [left, right] = [ids[first]!, ids[second]!];
      return left < 0 || right < 0 ? -1 : this.#ranks.get(left, right);
    };
    const rank = (first: number, second: number): number => {
      const index = merge(first, second);
      return ranks && index >= 0 ? ranks[index]! : index;
    };
    const join = (first: number, second: number): void => {
      ids[first] = unions[merge(first, second)]!;
    };
    const next = yield* mergeParts(ids.length, { rank, join });
    for (let [i, step] = [0, 1]; i < ids.length; i = next[i]!, step++) {
      tokens.push(ids[i]!);
      if (step % stride === 0) yield;
    }
  }

  *#symbolsOf(word: string): Steps<Int32Array> {
    const { prefix, suffix } = this.#options;
    const ids = new Int32Array(word.length);
    let count = 0;
    for (let at = 0; at < word.length;) {
      const character = word.codePointAt(at)!;
      const [first, end] = [at === 0, at + (character > 0xffff ? 2 : 1)];
      const affixed = (!first && prefix !== "") || (end === word.length && suffix !== "");
      const id = affixed
        ? (this.#vocabulary.ids.get(
            (first ? "" : prefix) + String.fromCodePoint(character) + (end === word.length ? suffix : ""),
          ) ?? ~character)
        : this.#idOf(character);
      if (id >= 0 || !this.#isLeftOut(character)) ids[count++] = id;
      at = end;
      if (count % stride === 0) yield;
    }
    return ids.subarray(0, count);
  }

  #idOf(character: number): number {
    let id = this.#characters.get(character);
    if (id === undefined) {
      id = this.#vocabulary.ids.get(String.fromCodePoint(character)) ?? ~character;
      this.#characters.set(character, id);
    }
    return id;
  }

  /** Returns true if a character has no token, no byte tokens and no unknown token, so that it is left out. */
  #isLeftOut(character: number): boolean {
    const { unknownName, byteFallback } = this.#options;
    if (unknownName !== null || this.#idOf(character) >= 0) return false;
    return !byteFallback || byteIds(String.fromCodePoint(character), this.#bytes) === undefined;
  }

  /** Appends the ids of one token to those of its piece, which begin at index `from` of `ids`. */
  #push(token: number, ids: IdList, from: number): void {
    const { special, unknown } = this.#vocabulary;
    if (token >= 0 && !special.has(token)) {
      ids.push(token);
      return;
    }
    const { byteFallback, fuseUnknown, unknownName } = this.#options;
    const text = token < 0 ? String.fromCodePoint(~token) : this.#tokens[token]!;
    const bytes = byteFallback ? byteIds(text, this.#bytes) : undefined;
    if (bytes) ids.append(bytes);
    else if (unknownName !== null) {
      if (fuseUnknown && ids.length > from && ids.last === unknown) return;
      ids.push(this.#vocabulary.unknownId(text));
    }
  }
}

function lastCodePoint(text: string): number {
  const wide = text.length > 1 && text.codePointAt(text.length - 2)! > 0xffff;
  return wide ? text.codePointAt(text.length - 2)! : text.charCodeAt(text.length - 1);
}
