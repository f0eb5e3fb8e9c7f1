// A bound on the reasoning of an answer. When the reasoning has as many tokens as it may have, the only token that may
// follow is the next one of the text that ends it; the model then goes on with its answer.
import type { Steps } from "../util/turns.js";
import type { PartsParser } from "./answer.js";
import type { NextTokens } from "./constraint.js";
import type { TokenSet } from "./token-set.js";

/** Form of the reasoning whose tokens are counted. */
export interface CountedReasoning {
  /** Returns what tells reasoning from the rest of an answer. */
  readonly parser: () => PartsParser;
  /** Tokens of the text that ends it. */
  readonly end: Int32Array;
  /** Most tokens of reasoning, without those of the texts around it. */
  readonly most: number;
}

/** Returns the set of all tokens of a vocabulary. */
function everyToken(vocabulary: number): TokenSet {
  return { bits: new Int32Array(Math.ceil(vocabulary / 32)).fill(-1) };
}

/** An answer whose reasoning has a bound, and that may have to have a form as well. */
export class ThinkingBudget implements NextTokens {
  readonly #form: NextTokens | null;
  readonly #parser: PartsParser;
  readonly #textOf: (token: number) => string;
  readonly #every: TokenSet;
  /** Each token of the text that ends reasoning, alone. */
  readonly #end: readonly TokenSet[];
  /** Number of tokens that reasoning may still have. */
  #left: number;
  /** Number of tokens of the ending text that have been written; null if nothing is to be ended. */
  #ended: number | null = null;

  /** `textOf` returns the text that a token adds, as the answer's reader sees it. */
  constructor(
    form: NextTokens | null,
    { parser, end, most }: CountedReasoning,
    textOf: (token: number) => string,
    vocabulary: number,
  ) {
    this.#form = form;
    this.#parser = parser();
    this.#textOf = textOf;
    this.#every = everyToken(vocabulary);
    this.#end = Array.from(end, (id) => ({ ids: Int32Array.of(id) }));
    this.#left = most;
    this.#endIfDue();
  }

  get accepts(): boolean {
    return this.#ended === null && (this.#form?.accepts ?? true);
  }

  get ended(): boolean {
    return this.#form?.ended ?? false;
  }

  get allowed(): TokenSet {
    if (this.#ended !== null) return this.#end[this.#ended]!;
    return this.#form?.allowed ?? this.#every;
  }

  get ready(): boolean {
    return this.#ended !== null || (this.#form?.ready ?? true);
  }

  accept(token: number): void {
    this.#form?.accept(token);
    const reasoned = this.#parser.reasons;
    this.#parser.push(this.#textOf(token));
    if (this.#ended !== null) {
      this.#ended++;
      if (this.#ended === this.#end.length) this.#ended = null;
      return;
    }
    if (reasoned && this.#parser.reasons) this.#left--;
    this.#endIfDue();
  }

  *findAllowed(): Steps<void> {
    if (this.#ended === null && this.#form) yield* this.#form.findAllowed();
  }

  leave(): void {
    this.#form?.leave();
  }

  #endIfDue(): void {
    if (this.#parser.reasons && this.#left <= 0) this.#ended = 0;
  }
}
