// What a text may still become while it is generated.
import { HeedError } from "../errors.js";
import type { Automaton, State, TokenSet } from "./automaton.js";
import type { Expression } from "./expression.js";

/** A text that has to match, of which some tokens have been generated. */
export class Constraint {
  readonly #automaton: Automaton;
  #state: State;

  /** @throws ERR_ARGUMENT if the text cannot begin with any token. */
  constructor(automaton: Automaton, root: Expression) {
    this.#automaton = automaton;
    this.#state = automaton.start(root);
    this.#check();
  }

  /** True if the text may end here. */
  get accepts(): boolean {
    return this.#state.accepts;
  }

  /** True if the text can only end here. */
  get ended(): boolean {
    return this.#state.accepts && this.#state.edges.length === 0;
  }

  /** Tokens that may follow. The same object stands for the same tokens. */
  get allowed(): TokenSet {
    return this.#automaton.allowed(this.#state);
  }

  /**
   * Goes on with a token, which must be allowed.
   *
   * @throws ERR_ARGUMENT if the text cannot end after it, and there is no token with which it could go on.
   */
  accept(token: number): void {
    const next = this.#automaton.after(this.#state, this.#automaton.trie.tokens[token]!);
    if (!next) throw new HeedError("ERR_INTERNAL", `format: expected a token that it allows, got ${token}`);
    this.#state = next;
    this.#check();
  }

  #check(): void {
    if (this.#state.accepts) return;
    const { allowed } = this;
    const none = "ids" in allowed ? allowed.ids.length === 0 : false;
    if (!none) return;
    throw new HeedError(
      "ERR_ARGUMENT",
      "format: expected texts that the tokenizer can write, got one with a character that no token has",
    );
  }
}

/** Writes the bits of tokens, and of the stop tokens if the text may end, into `words`. */
export function writeAllowed(
  words: Int32Array,
  { allowed, accepts }: Constraint,
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
