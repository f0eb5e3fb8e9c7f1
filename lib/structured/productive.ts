// Expressions without the parts that no text matches, such as an object that has to contain itself: a text that had begun
// with one could not end.
import type { Steps } from "../util/turns.js";
import { analysed } from "./analysis.js";
import { choiceOf, type Expression, never, repeat, rule, type Rule, sequenceOf } from "./expression.js";
import { isPauseDue, spend } from "./work.js";

/** Returns the same texts without parts that never end; `never` if nothing is left. */
export function* withoutEndless(root: Expression): Steps<Expression> {
  const { rules, ends } = yield* analysed(root);
  if (rules.length === ends.size) return root;
  const changed = new Map<Expression, Expression>();
  const made = new Map<Rule, Rule>(Array.from(ends, (one) => [one, rule(one.name, never)]));
  const without = (one: Expression): Expression => {
    if (one.kind === "byte") return one;
    if (one.kind === "rule") return one.late ? one : (made.get(one) ?? never);
    const known = changed.get(one);
    if (known) return known;
    spend(0, 1 / 8);
    const found =
      one.kind === "sequence"
        ? sequenceOf(one.parts.map(without))
        : one.kind === "choice"
          ? choiceOf(one.options.map(without))
          : repeat(without(one.of), one.least, one.most);
    changed.set(one, found);
    return found;
  };
  for (const [one, copy] of made) {
    copy.body = without(one.body);
    if (isPauseDue()) yield;
  }
  return without(root);
}
