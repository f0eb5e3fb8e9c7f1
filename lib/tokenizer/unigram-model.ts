// A Unigram language model (Kudo 2018, arXiv:1804.10959): of all ways to cut a piece into tokens, the one whose logarithms
// of probabilities sum to the most (Viterbi).
import type { Steps } from "../turns.js";
import type { IdList, IdSink } from "./id-parts.js";
import { PairTable } from "./pair-table.js";
import { byteIds, remember, type TokenModel, type Vocabulary, type WordCache } from "./token-model.js";

/** Log probability by which a character that is no token is less likely than the least likely token. */
const unknownPenalty = 10;
/** Longer pieces are not looked up among those that a text had before. */
const longWord = 64;
const stride = 256;
/** Numbers that are filled between two rests. */
const fillLength = 2 ** 18;

export class UnigramModel implements TokenModel {
  readonly #vocabulary: Vocabulary;
  readonly #scores: Float64Array;
  readonly #trie: TokenTrie;
  /** By byte, where what is not in the vocabulary is spelt in bytes. */
  readonly #bytes: readonly (number | undefined)[] | null;
  readonly #unknownScore: number;

  private constructor(vocabulary: Vocabulary, scores: Float64Array, trie: TokenTrie, byteFallback: boolean) {
    [this.#vocabulary, this.#scores, this.#trie] = [vocabulary, scores, trie];
    this.#bytes = byteFallback ? vocabulary.bytes() : null;
    this.#unknownScore = scores.reduce((least, score) => Math.min(least, score), Infinity) - unknownPenalty;
  }

  /** `scores` are by id. Throws what `fault` makes of it where the tokens have more than so many beginnings. */
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

  /** Gives the ids of a piece's tokens to `ids`. The best way to each place is known before it is left. */
  *#cut(piece: string, ids: IdSink): Steps<void> {
    const bests = new Float64Array(piece.length + 1);
    for (let at = 1; at <= piece.length; at += fillLength) {
      bests.fill(-Infinity, at, at + fillLength);
      yield;
    }
    // Of the last token on the best way to a place: where it begins, and its id, -1 for a character that is none.
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
      // All ways lead through here: the last part is decided.
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

  /** Characters that are no tokens and follow each other are one: in bytes if there are all of them. */
  #pushUnknown(text: string, ids: IdSink): void {
    const bytes = this.#bytes && byteIds(text, this.#bytes);
    if (bytes) for (const id of bytes) ids.push(id);
    else ids.push(this.#vocabulary.unknownId(text));
  }
}

/** The most nodes of a trie: 100 MB. */
const mostNodes = 2 ** 22;

/** Tokens by their characters. */
class TokenTrie {
  /** By node and code point. */
  readonly #children: PairTable;
  /** The token that ends at a node; -1 where there is none. */
  readonly #ids: Int32Array;
  readonly #most: number;
  #size = 1;

  constructor(most: number) {
    this.#most = most;
    this.#children = new PairTable(most);
    this.#ids = new Int32Array(most + 1).fill(-1);
  }

  /** Returns false where there is no room for a token. */
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

  /** The node behind a character; -1 where no token goes on with it. Node 0 is where tokens begin. */
  child(node: number, character: number): number {
    return this.#children.get(node, character);
  }

  /** The id of the token that ends at a node; -1 where none does. */
  token(node: number): number {
    return this.#ids[node]!;
  }
}
