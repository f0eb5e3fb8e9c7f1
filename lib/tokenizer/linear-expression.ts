// Regular expressions from strangers. JavaScript's own engine backtracks without a limit: (a|a)*b needs 2ⁿ steps to
// find out that no b follows n letters a. This engine finds the same matches in time proportional to the length of the
// text and of the expression. It backtracks too, but a step of the expression that has failed at a position of the text
// would fail there again, whatever came before, and is not tried twice. This does not hold for back references, nor for
// a repeated part that may be empty, which JavaScript matches depending on what came before; both are refused. See
// Davis, Servant and Lee, "Using Selective Memoization to Defeat Regular Expression Denial of Service" (2021).
import { HeedError } from "../util/errors.js";
import { CharacterSet, type Instruction, LinearSearch, quoted } from "./linear-search.js";
import { parseExpression, type Tree } from "./parse-expression.js";

/** Maximum number of instructions of an expression. A search takes at most this many steps for each character. */
const maxInstructions = 2048;

/**
 * Replacement for a regular expression with the flags g and u whose matches are searched for. Groups capture nothing.
 */
export class LinearExpression {
  readonly #program: Instruction[] = [];
  readonly #sets = new Map<string, CharacterSet>();
  readonly #start: number;
  #splits = 0;
  #looks = 0;

  /**
   * Compiles an expression.
   *
   * @throws ERR_FORMAT if the expression is too large, or cannot be searched for in linear time.
   */
  constructor(readonly source: string) {
    const tree = parseExpression(source);
    this.#start = this.#body(tree, false);
  }

  /** Yields all matches from left to right, and undefined whenever the caller may pause the work. */
  *matches(text: string): Generator<readonly [start: number, end: number] | undefined> {
    const [instructions, splits, looks] = [this.#program, this.#splits, this.#looks];
    const search = new LinearSearch({ source: this.source, instructions, start: this.#start, splits, looks }, text);
    for (let at = 0; at <= text.length;) {
      const end = yield* search.matchEnd(at);
      if (end >= 0) yield [at, end];
      at = end > at ? end : at + ((text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1);
    }
  }

  /** Compiles a complete expression and returns the index of its first instruction. */
  #body(tree: Tree, backwards: boolean): number {
    const start = this.#program.length;
    this.#compile(tree, backwards);
    this.#emit({ op: "match" });
    return start;
  }

  #compile(tree: Tree, backwards: boolean): void {
    switch (tree.kind) {
      case "character":
        this.#emit({ op: "character", set: this.#set(tree.source), backwards });
        break;
      case "assert":
        this.#emit({ op: "assert", holds: assertions[tree.sign] });
        break;
      case "look": {
        const jump = this.#emit({ op: "jump", to: 0 });
        const start = this.#body(tree.body, tree.behind);
        jump.to = this.#program.length;
        this.#emit({ op: "look", start, negative: tree.negative, index: this.#looks++ });
        break;
      }
      case "sequence":
        for (const part of backwards ? tree.parts.toReversed() : tree.parts) this.#compile(part, backwards);
        break;
      case "choice":
        this.#choice(tree.options, backwards);
        break;
      case "repeat":
        this.#repeat(tree, backwards);
    }
  }

  #choice(options: readonly Tree[], backwards: boolean): void {
    const ends = options.map((option, i) => {
      const split = i < options.length - 1 ? this.#split() : null;
      if (split) split.first = this.#program.length;
      this.#compile(option, backwards);
      const end = split && this.#emit({ op: "jump", to: 0 });
      if (split) split.second = this.#program.length;
      return end;
    });
    for (const end of ends) if (end) end.to = this.#program.length;
  }

  #repeat({ body, min, max, lazy }: Tree & { kind: "repeat" }, backwards: boolean): void {
    for (let i = 0; i < min; i++) {
      const at = this.#program.length;
      this.#compile(body, backwards);
      // The body has no instructions, so repeating it adds none.
      if (this.#program.length === at) break;
    }
    const splits: (Instruction & { op: "split" })[] = [];
    for (let i = min; i < (max === Infinity ? min + 1 : max); i++) {
      const at = this.#program.length;
      splits.push(this.#split());
      this.#compile(body, backwards);
      if (max === Infinity) this.#emit({ op: "jump", to: at });
    }
    for (const split of splits) {
      const inside = this.#program.indexOf(split) + 1;
      const after = this.#program.length;
      [split.first, split.second] = lazy ? [after, inside] : [inside, after];
    }
  }

  #split(): Instruction & { op: "split" } {
    return this.#emit({ op: "split", first: 0, second: 0, index: this.#splits++ });
  }

  #set(source: string): CharacterSet {
    let set = this.#sets.get(source);
    if (!set) this.#sets.set(source, (set = new CharacterSet(source)));
    return set;
  }

  #emit<T extends Instruction>(instruction: T): T {
    if (this.#program.push(instruction) > maxInstructions)
      throw new HeedError(
        "ERR_FORMAT",
        `tokenizer: expected a regular expression of at most ${maxInstructions} steps when its repetitions are written out, ` +
          `got ${quoted(this.source)}`,
      );
    return instruction;
  }
}

const isWord = (text: string, at: number): boolean => /^\w/.test(text.charAt(at));
const atBoundary = (text: string, at: number): boolean => isWord(text, at - 1) !== isWord(text, at);

const assertions: Readonly<Record<"^" | "$" | "b" | "B", (text: string, at: number) => boolean>> = {
  "^": (_, at) => at === 0,
  $: (text, at) => at === text.length,
  b: atBoundary,
  B: (text, at) => !atBoundary(text, at),
};
