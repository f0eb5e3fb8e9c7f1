// What a text may still become while it is generated.
import { HeedError } from "../util/errors.js";
import type { Steps } from "../util/turns.js";
import type { Automaton, State } from "./automaton.js";
import type { Expression } from "./expression.js";
import type { TokenSet } from "./token-set.js";

/** Set of no token. */
const none: TokenSet = { ids: new Int32Array(0) };

/** Largest number of places that are looked at for a token: it is accepted without a pause. */
const mostPlaces = 2 ** 16;

/** Tokens that may follow in a text that is being generated. */
export interface NextTokens {
  /** True if the text may end here. */
  readonly accepts: boolean;
  /** True if the text can only end here. */
  readonly ended: boolean;
  /** Tokens that may follow. The same object stands for the same tokens. They are found now, unless they have been. */
  readonly allowed: TokenSet;
  /** True if it is known which tokens may follow, or nobody asks. */
  readonly ready: boolean;
  /** Goes on with a token, which must be allowed. */
  accept(token: number): void;
  /** Finds the tokens that may follow, in steps. */
  findAllowed(): Steps<void>;
  /** Ends the text: nobody asks any more how it could go on. */
  leave(): void;
}

/** A text that has to match, of which some tokens have been generated. */
export class Constraint implements NextTokens {
  readonly #automaton: Automaton;
  readonly #root: Expression;
  #state: State;
  #left = false;

  /**
   * Begins a text.
   *
   * @throws ERR_ARGUMENT if the form has too many ways to begin.
   */
  constructor(automaton: Automaton, root: Expression) {
    this.#automaton = automaton;
    this.#root = root;
    this.#state = automaton.start(root);
  }

  /** True if the text may end here. */
  get accepts(): boolean {
    return this.#state.accepts;
  }

  /** True if the text can only end here. */
  get ended(): boolean {
    return this.#state.accepts && this.#state.edges.length === 0;
  }

  /** Tokens that may follow. The same object stands for the same tokens. They are found now, unless they have been. */
  get allowed(): TokenSet {
    return this.#left ? none : (this.#state.allowed ?? this.#automaton.allowed(this.#state));
  }

  /** True if it is known which tokens may follow, or nobody asks. */
  get ready(): boolean {
    return this.#left || this.#state.allowed !== null || this.ended;
  }

  /**
   * Goes on with a token, which must be allowed.
   *
   * @throws ERR_ARGUMENT if there are too many ways to go on after it.
   */
  accept(token: number): void {
    this.#automaton.use(this.#root);
    const next = this.#automaton.after(this.#state, this.#automaton.trie.tokens[token]!, mostPlaces);
    if (!next) throw new HeedError("ERR_INTERNAL", `format: expected a token that it allows, got ${token}`);
    this.#state = next;
  }

  /**
   * Finds the tokens that may follow, in steps.
   *
   * @throws ERR_ARGUMENT if the text cannot end, and there is no token with which it could go on, or if the form has too
   * many possibilities.
   */
  *findAllowed(): Steps<void> {
    if (this.ready) return;
    this.#automaton.use(this.#root);
    this.#state = yield* this.#automaton.findAllowed(this.#state);
    const allowed = this.#state.allowed!;
    if (this.#state.accepts || !("ids" in allowed) || allowed.ids.length > 0) return;
    throw new HeedError(
      "ERR_ARGUMENT",
      "format: expected texts that the tokenizer can write, got one with a character that no token has",
    );
  }

  /** Ends the text: nobody asks any more how it could go on, and no token is allowed. */
  leave(): void {
    this.#left = true;
  }
}

/** Writes the bits of tokens, and of the stop tokens if the text may end, into `words`. */
export function writeAllowed(
  words: Int32Array,
  { allowed, accepts }: NextTokens,
  stopTokens: ReadonlySet<number>,
  mayStop = true,
): void {
  if ("bits" in allowed) words.set(allowed.bits);
  else {
    words.fill(0);
    for (const id of allowed.ids) words[id >> 5]! |= 1 << (id & 31);
  }
  for (const id of stopTokens)
    if (accepts && mayStop) words[id >> 5]! |= 1 << (id & 31);
    else words[id >> 5]! &= ~(1 << (id & 31));
}
