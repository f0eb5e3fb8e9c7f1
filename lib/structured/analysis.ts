// What an expression has in it: rules that never end, that begin with themselves, or that the empty text matches.
import { HeedError } from "../util/errors.js";
import type { Steps } from "../util/turns.js";
import { withoutEmptyRepeats } from "./empty-repeats.js";
import type { Expression, Repeat, Rule } from "./expression.js";
import { placeName } from "./place-name.js";
import { isPauseDue, spend } from "./work.js";

/**
 * Returns the same texts, without repetitions of the empty text. Checks that every rule can end, and that none begins with
 * itself.
 *
 * @throws ERR_ARGUMENT with `what` if one cannot.
 */
export function* checkedExpression(root: Expression, what: string): Steps<Expression> {
  const { ends, nullable, rules, repeats } = yield* analysed(root);
  const endless = rules.find((one) => !ends.has(one));
  if (endless || !canEnd(root, ends))
    throw new HeedError(
      "ERR_ARGUMENT",
      `${placeName(what)}: expected a text that can end, got ${endless ? `${placeName(endless.name)}, which never ends` : "one that never ends"}`,
    );
  yield* checkStarts(rules, nullable, what);
  return yield* withoutEmptyRepeats(root, rules, repeats, nullable);
}

/** Returns the rules of an expression, those that some text matches and those that the empty text matches. */
export function* analysed(root: Expression): Steps<{
  rules: readonly Rule[];
  repeats: readonly Repeat[];
  ends: ReadonlySet<Rule>;
  nullable: ReadonlySet<Rule>;
}> {
  // Rules that are called come before their callers, so that one round does without recursion.
  const { rules, repeats, size } = yield* rulesOf(root);
  const [ends, nullable] = [new Set<Rule>(), new Set<Rule>()];
  for (let before = -1; before < ends.size + nullable.size;) {
    before = ends.size + nullable.size;
    for (const one of rules) {
      spend(size / 16 / rules.length);
      if (!ends.has(one) && canEnd(one.body, ends)) ends.add(one);
      if (!nullable.has(one) && isNullable(one.body, nullable)) nullable.add(one);
      if (isPauseDue()) yield;
    }
  }
  return { rules, repeats, ends, nullable };
}

/**
 * Returns the rules of an expression, each after those that it calls unless they call it, its repetitions, and the number
 * of its parts.
 */
function* rulesOf(root: Expression): Steps<{ rules: Rule[]; repeats: Repeat[]; size: number }> {
  const [found, done] = [new Set<Rule>(), new Set<Rule>()];
  const pending: Expression[] = [root];
  const repeats: Repeat[] = [];
  let size = 0;
  for (let one = pending.at(-1); one; one = pending.at(-1)) {
    if (one.kind === "rule" && found.has(one)) {
      // All that it calls has been looked at.
      done.add(one);
      pending.pop();
      continue;
    }
    size++;
    spend(1 / 8);
    if (isPauseDue()) yield;
    if (one.kind === "rule" && !one.late) {
      found.add(one);
      pending.push(one.body);
      continue;
    }
    pending.pop();
    if (one.kind === "sequence") for (const part of one.parts) pending.push(part);
    else if (one.kind === "choice") for (const option of one.options) pending.push(option);
    else if (one.kind === "repeat") {
      repeats.push(one);
      pending.push(one.of);
    }
  }
  return { rules: [...done], repeats, size };
}

/** Returns the number of parts of an expression. */
export function* partsWithin(root: Expression): Steps<number> {
  return (yield* rulesOf(root)).size;
}

/** Returns true if some text matches, given the rules that some text is known to match. */
function canEnd(one: Expression, known: ReadonlySet<Rule>): boolean {
  if (one.kind === "byte") return true;
  if (one.kind === "rule") return one.late !== undefined || known.has(one);
  if (one.kind === "sequence") return one.parts.every((part) => canEnd(part, known));
  if (one.kind === "choice") return one.options.some((option) => canEnd(option, known));
  return one.least === 0 || canEnd(one.of, known);
}

/** Returns true if the empty text matches, given the rules that it is known to match. */
function isNullable(one: Expression, known: ReadonlySet<Rule>): boolean {
  if (one.kind === "byte") return false;
  if (one.kind === "rule") return one.late?.nullable ?? known.has(one);
  if (one.kind === "sequence") return one.parts.every((part) => isNullable(part, known));
  if (one.kind === "choice") return one.options.some((option) => isNullable(option, known));
  return one.least === 0 || isNullable(one.of, known);
}

/** Follows the rules with which each rule can begin. */
function* checkStarts(rules: readonly Rule[], nullable: ReadonlySet<Rule>, what: string): Steps<void> {
  const [open, clear] = [new Set<Rule>(), new Set<Rule>()];
  // A list instead of recursion, because a chain of rules may be long.
  const path: { rule: Rule; starts: Rule[] }[] = [];
  const enter = (one: Rule): void => {
    if (open.has(one))
      throw new HeedError(
        "ERR_ARGUMENT",
        `${placeName(what)}: expected no rule to begin with itself, got ${placeName(one.name)}, which does`,
      );
    const starts = new Set<Rule>();
    addStarts(one.body, nullable, starts);
    open.add(one);
    path.push({ rule: one, starts: [...starts] });
  };
  for (const one of rules) {
    if (!clear.has(one)) enter(one);
    for (let last = path.at(-1); last; last = path.at(-1)) {
      spend(0, 1 / 8);
      if (isPauseDue()) yield;
      const next = last.starts.pop();
      if (next && !clear.has(next)) enter(next);
      if (next) continue;
      path.pop();
      open.delete(last.rule);
      clear.add(last.rule);
    }
  }
}

/** Adds the rules with which an expression can begin; returns true if it may be empty. */
function addStarts(one: Expression, nullable: ReadonlySet<Rule>, found: Set<Rule>): boolean {
  if (one.kind === "byte") return false;
  if (one.kind === "rule") {
    if (!one.late) found.add(one);
    return one.late?.nullable ?? nullable.has(one);
  }
  if (one.kind === "sequence") return one.parts.every((part) => addStarts(part, nullable, found));
  if (one.kind === "repeat") return one.most === 0 || addStarts(one.of, nullable, found) || one.least === 0;
  return one.options.reduce((any, option) => addStarts(option, nullable, found) || any, false);
}
