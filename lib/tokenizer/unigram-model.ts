// A Unigram language model (Kudo 2018, arXiv:1804.10959). Among all ways to cut a piece into tokens it finds the one
// with the largest sum of log probabilities, by the Viterbi algorithm.
import type { Steps } from "../util/turns.js";
import type { IdList, IdSink } from "./id-parts.js";
import { PairTable } from "./pair-table.js";
import { byteIds, remember, type TokenModel, type Vocabulary, type WordCache } from "./token-model.js";

/** Difference between the log probability of the least likely token and that of a character that is not a token. */
const unknownPenalty = 10;
/** Length in UTF-16 units above which a piece is not cached. */
const longWord = 64;
const stride = 256;
/** Number of array elements that are filled between two yields. */
const fillLength = 2 ** 18;

/** Cuts pieces into tokens by a Unigram language model. */
export class UnigramModel implements TokenModel {
  readonly #vocabulary: Vocabulary;
  readonly #scores: Float64Array;
  readonly #trie: TokenTrie;
  /** The ids of the byte tokens, if characters that are not in the vocabulary are encoded as bytes; otherwise null. */
  readonly #bytes: readonly (number | undefined)[] | null;
  readonly #unknownScore: number;

  private constructor(vocabulary: Vocabulary, scores: Float64Array, trie: TokenTrie, byteFallback: boolean) {
    [this.#vocabulary, this.#scores, this.#trie] = [vocabulary, scores, trie];
    this.#bytes = byteFallback ? vocabulary.bytes() : null;
    this.#unknownScore = scores.reduce((least, score) => Math.min(least, score), Infinity) - unknownPenalty;
  }

  /**
   * Builds a model from the log probability of each token, by id.
   *
   * @throws the error that `fault` creates, if the tokens have too many different prefixes for the trie.
   */
  static *of(
    vocabulary: Vocabulary,
    scores: Float64Array,
    byteFallback: boolean,
    fault: (most: number) => Error,
  ): Steps<UnigramModel> {
    let characters = 0;
    for (const text of vocabulary.ids.keys()) characters += text.length;
    const trie = new TokenTrie(Math.min(characters, mostNodes));
    let step = 0;
    for (const [text, id] of vocabulary.ids) {
      if (!vocabulary.special.has(id) && !trie.add(text, id)) throw fault(mostNodes);
      if (++step % stride === 0) yield;
    }
    return new UnigramModel(vocabulary, scores, trie, byteFallback);
  }

  *encode(piece: string, ids: IdList, words: WordCache): Steps<void> {
    if (piece.length > longWord) {
      yield* this.#cut(piece, ids);
      return;
    }
    let tokens = words.get(piece);
    if (!tokens) {
      const own: number[] = [];
      yield* this.#cut(piece, own);
      remember(words, piece, (tokens = own));
    }
    ids.append(tokens);
  }

  /**
   * Passes the ids of the best tokens of a piece to `ids`. When the loop reaches a position, the best way to it is
   * known.
   */
  *#cut(piece: string, ids: IdSink): Steps<void> {
    const bests = new Float64Array(piece.length + 1);
    for (let at = 1; at <= piece.length; at += fillLength) {
      bests.fill(-Infinity, at, at + fillLength);
      yield;
    }
    // For each position, the last token on the best way to it: the position where that token begins, and its id, which
    // is -1 for a character that is not a token.
    const starts = new Int32Array(piece.length + 1);
    const tokens = new Int32Array(piece.length + 1);
    let [cut, reach, unknownFrom] = [0, 0, -1];
    const consider = (from: number, to: number, id: number, score: number): void => {
      const sum = bests[from]! + score;
      if (sum <= bests[to]!) return;
      [bests[to], starts[to], tokens[to]] = [sum, from, id];
    };
    for (let at = 0, step = 1; at < piece.length; step++) {
      const end = at + (piece.codePointAt(at)! > 0xffff ? 2 : 1);
      let single = false;
      for (let node = 0, to = at; to < piece.length;) {
        const character = piece.codePointAt(to)!;
        node = this.#trie.child(node, character);
        if (node < 0) break;
        to += character > 0xffff ? 2 : 1;
        const id = this.#trie.token(node);
        if (id < 0) continue;
        consider(at, to, id, this.#scores[id]!);
        single ||= to === end;
        reach = Math.max(reach, to);
      }
      if (!single) consider(at, end, -1, this.#unknownScore);
      at = end;
      if (step % stride === 0) yield;
      if (at < reach) continue;
      // All ways lead through this position, so the best way to it is final.
      const path: number[] = [];
      for (let to = at; to > cut; to = starts[to]!) if (path.push(to) % stride === 0) yield;
      for (let i = path.length - 1; i >= 0; i--) {
        const to = path[i]!;
        if (tokens[to]! >= 0) {
          if (unknownFrom >= 0) this.#pushUnknown(piece.slice(unknownFrom, starts[to]), ids);
          unknownFrom = -1;
          ids.push(tokens[to]!);
        } else if (unknownFrom < 0) unknownFrom = starts[to]!;
        if (i % stride === 0) yield;
      }
      [cut, reach] = [at, at];
    }
    if (unknownFrom >= 0) this.#pushUnknown(piece.slice(unknownFrom), ids);
  }

  /**
   * Passes the ids of consecutive characters that are not tokens: the ids of their bytes if every byte has a token,
   * otherwise one unknown token.
   */
  #pushUnknown(text: string, ids: IdSink): void {
    const bytes = this.#bytes && byteIds(text, this.#bytes);
    if (bytes) for (const id of bytes) ids.push(id);
    else ids.push(this.#vocabulary.unknownId(text));
  }
}

/** Maximum number of nodes of a trie, which then takes 100 MB. */
const mostNodes = 2 ** 22;

/** A trie of tokens. */
class TokenTrie {
  /** The child of each node, by code point. */
  readonly #children: PairTable;
  /** The id of the token that ends at each node; -1 if none does. */
  readonly #ids: Int32Array;
  readonly #most: number;
  #size = 1;

  constructor(most: number) {
    this.#most = most;
    this.#children = new PairTable(most);
    this.#ids = new Int32Array(most + 1).fill(-1);
  }

  /** Adds a token. Returns false if there is no room for it. */
  add(text: string, id: number): boolean {
    let node = 0;
    for (let at = 0; at < text.length;) {
      const character = text.codePointAt(at)!;
      let child = this.#children.get(node, character);
      if (child < 0) {
        if (this.#size > this.#most) return false;
        this.#children.set(node, character, (child = this.#size++));
      }
      node = child;
      at += character > 0xffff ? 2 : 1;
    }
    this.#ids[node] = id;
    return true;
  }

  /** Returns the child of a node for a character, or -1 if no token continues with it. Node 0 is the root. */
  child(node: number, character: number): number {
    return this.#children.get(node, character);
  }

  /** Returns the id of the token that ends at a node, or -1 if none does. */
  token(node: number): number {
    return this.#ids[node]!;
  }
}
