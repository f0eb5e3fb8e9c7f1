// Vocabularies are prepared once, and kept for further texts.
import { HeedError } from "../util/errors.js";
import { inTurns } from "../util/turns.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { Automaton } from "./automaton.js";
import { Constraint } from "./constraint.js";
import type { Expression } from "./expression.js";
import { type TokenTrie, tokenTrie } from "./token-trie.js";
import { asFormatError } from "./work.js";

/** The tokens of a vocabulary, and the automaton that knows which of them may follow. */
class Vocabulary {
  readonly trie: TokenTrie;
  /** The automaton as long as texts use it; and as long as it is small, so that it is kept for further texts. */
  #used: WeakRef<Automaton> | null = null;
  #small: Automaton | null = null;

  constructor(trie: TokenTrie) {
    this.trie = trie;
  }

  get automaton(): Automaton {
    const found = this.#small ?? this.#used?.deref();
    if (found) return found;
    const made = new Automaton(this.trie);
    made.onLarge = () => (this.#small = null);
    [this.#used, this.#small] = [new WeakRef(made), made];
    return made;
  }
}

const vocabularies = new WeakMap<Tokenizer, Map<string, Promise<Vocabulary>>>();

/**
 * A vocabulary whose tokens are bytes, for texts that have to match.
 *
 * Special tokens have no text, but for those of `shown`, which formats can contain by their names.
 */
export class Grammar {
  readonly #vocabulary: Vocabulary;
  readonly #root: Expression;

  private constructor(vocabulary: Vocabulary, root: Expression) {
    this.#vocabulary = vocabulary;
    this.#root = root;
  }

  /**
   * Resolves to a grammar for the tokens of a model.
   *
   * @throws ERR_ARGUMENT if the tokens of the tokenizer are not bytes.
   */
  static async for(tokenizer: Tokenizer, size: number, root: Expression, shown: ReadonlySet<number>): Promise<Grammar> {
    const known = vocabularies.get(tokenizer) ?? new Map<string, Promise<Vocabulary>>();
    vocabularies.set(tokenizer, known);
    const key = [size, ...shown].join();
    let found = known.get(key);
    if (!found) known.set(key, (found = vocabularyOf(tokenizer, size, shown)));
    return new Grammar(await found, root);
  }

  /**
   * Resolves to a text that has not begun, when it is known which tokens it can begin with.
   *
   * @throws ERR_ARGUMENT if no token can begin it, or it has too many ways to begin.
   */
  async start(): Promise<Constraint> {
    try {
      const constraint = new Constraint(this.#vocabulary.automaton, this.#root);
      await inTurns(constraint.findAllowed());
      return constraint;
    } catch (cause) {
      throw asFormatError(cause);
    }
  }

  /** Returns the bytes of a token. */
  bytesOf(token: number): Uint8Array {
    return this.#vocabulary.trie.tokens[token]!;
  }
}

async function vocabularyOf(tokenizer: Tokenizer, size: number, shown: ReadonlySet<number>): Promise<Vocabulary> {
  if (!tokenizer.bytesOf)
    throw new HeedError("ERR_ARGUMENT", "format: expected a tokenizer with the method bytesOf, got one without");
  const bytesOf = (id: number): Uint8Array => tokenizer.bytesOf!(id, { special: shown.has(id) });
  const trie = await inTurns(tokenTrie(bytesOf, tokenizer.vocabularySize, size));
  return new Vocabulary(trie);
}
