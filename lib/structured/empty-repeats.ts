// Expressions in which nothing is repeated that may be empty. To repeat the empty text makes no difference, but an automaton
// would try all numbers of repetitions: of those in (?:(?:a?){0,400}){0,400} there are 160,000.
import type { Steps } from "../util/turns.js";
import {
  choiceOf,
  empty,
  type Expression,
  lateRule,
  never,
  repeat,
  type Repeat,
  rule,
  type Rule,
  sequence,
  sequenceOf,
} from "./expression.js";
import { isPauseDue, spend } from "./work.js";

/**
 * Returns the same texts without repetitions of what may be empty. `rules` and `repeats` are those of the expression, and
 * `nullable` are the rules that the empty text matches. Rules that have such repetitions are changed.
 */
export function* withoutEmptyRepeats(
  root: Expression,
  rules: readonly Rule[],
  repeats: readonly Repeat[],
  nullable: ReadonlySet<Rule>,
): Steps<Expression> {
  const made = new NonEmpty(nullable);
  for (const one of repeats) {
    if (isPauseDue()) yield;
    if (made.isNullable(one.of) || one.of.kind === "repeat") return yield* changed(root, rules, made);
  }
  return root;
}

function* changed(root: Expression, rules: readonly Rule[], made: NonEmpty): Steps<Expression> {
  for (const one of rules) {
    const body = made.collapsed(one.body);
    if (body !== one.body) one.body = body;
    if (isPauseDue()) yield;
  }
  return made.collapsed(root);
}

/** Makes the parts of expressions without the empty text. */
class NonEmpty {
  readonly #rules: ReadonlySet<Rule>;
  readonly #nullable = new Map<Expression, boolean>();
  readonly #collapsed = new Map<Expression, Expression>();
  readonly #filled = new Map<Expression, Expression>();

  constructor(rules: ReadonlySet<Rule>) {
    this.#rules = rules;
  }

  /** Returns true if the empty text matches. */
  isNullable(one: Expression): boolean {
    if (one.kind === "byte") return false;
    if (one.kind === "rule") return one.late?.nullable ?? this.#rules.has(one);
    const known = this.#nullable.get(one);
    if (known !== undefined) return known;
    spend(0, 1 / 8);
    const found =
      one.kind === "sequence"
        ? one.parts.every((part) => this.isNullable(part))
        : one.kind === "choice"
          ? one.options.some((option) => this.isNullable(option))
          : one.least === 0 || this.isNullable(one.of);
    this.#nullable.set(one, found);
    return found;
  }

  /** Returns the same texts; the bodies of rules are left as they are. */
  collapsed(one: Expression): Expression {
    if (one.kind === "byte" || one.kind === "rule") return one;
    const known = this.#collapsed.get(one);
    if (known) return known;
    spend(1 / 8);
    let found: Expression;
    if (one.kind === "repeat") found = this.#repeat(one);
    else {
      const parts = one.kind === "sequence" ? one.parts : one.options;
      const own = parts.map((part) => this.collapsed(part));
      if (own.every((part, i) => part === parts[i])) found = one;
      else found = one.kind === "sequence" ? sequenceOf(own) : choiceOf(own);
    }
    this.#collapsed.set(one, found);
    return found;
  }

  #repeat(one: Repeat): Expression {
    const isNullable = this.isNullable(one.of);
    const of = isNullable ? this.#withoutEmpty(one.of) : this.collapsed(one.of);
    const least = isNullable ? 0 : one.least;
    if (one.most === 0 || of === never) return least === 0 ? empty : never;
    if (of === one.of && least === one.least && of.kind !== "repeat") return one;
    return repeated(of, least, one.most);
  }

  /** Returns the same texts but the empty one. */
  #withoutEmpty(one: Expression): Expression {
    if (!this.isNullable(one)) return this.collapsed(one);
    const known = this.#filled.get(one);
    if (known) return known;
    spend(1);
    if (one.kind === "rule") {
      if (one.late) return lateRule(one.name, { nullable: false }, () => this.#withoutEmpty(one.body));
      const own = rule(one.name, never);
      this.#filled.set(one, own);
      own.body = this.#withoutEmpty(one.body);
      return own;
    }
    let found: Expression = never;
    if (one.kind === "choice") found = choiceOf(one.options.map((option) => this.#withoutEmpty(option)));
    else if (one.kind === "repeat") found = one.most === 0 ? never : repeated(this.#withoutEmpty(one.of), 1, one.most);
    else if (one.kind === "sequence") {
      // The first part that is not empty is one of them, and all that come after it may be.
      const options: Expression[] = [];
      let after: Expression = empty;
      for (let i = one.parts.length - 1; i >= 0; i--) {
        const part = one.parts[i]!;
        const first = this.#withoutEmpty(part);
        if (first !== never) options.push(after === empty ? first : sequence(first, after));
        after = after === empty ? this.collapsed(part) : sequence(this.collapsed(part), after);
      }
      found = choiceOf(options);
    }
    this.#filled.set(one, found);
    return found;
  }
}

/** Returns repetitions; those of repetitions are counted together, if all numbers of them are possible. */
function repeated(of: Expression, least: number, most: number): Expression {
  if (of === never) return least === 0 ? empty : never;
  if (of.kind !== "repeat" || of.least > 1 || of.most === 0) return repeat(of, least, most);
  return repeat(of.of, least * of.least, of.most * most);
}
