// Expressions over bytes: what a grammar, a regular expression and a JSON schema become. They are never compiled as a
// whole; see automaton.ts.
import { HeedError } from "../errors.js";

/** A set of texts, as bytes of UTF-8. */
export type Expression = ByteRange | Sequence | Choice | Repeat | Rule;

/** One byte from `low` to `high`. */
export interface ByteRange {
  readonly kind: "byte";
  readonly low: number;
  readonly high: number;
}

/** The parts one after another. */
export interface Sequence {
  readonly kind: "sequence";
  readonly parts: readonly Expression[];
}

/** One of the options. */
export interface Choice {
  readonly kind: "choice";
  readonly options: readonly Expression[];
}

/** `of` at least `least` and at most `most` times. */
export interface Repeat {
  readonly kind: "repeat";
  readonly of: Expression;
  readonly least: number;
  readonly most: number;
}

/** An expression with a name, which may contain itself. The automaton calls it, so that its work is done once. */
export interface Rule {
  readonly kind: "rule";
  readonly name: string;
  body: Expression;
}

/** The empty text. */
export const empty: Sequence = { kind: "sequence", parts: [] };
/** No text at all. */
export const never: Choice = { kind: "choice", options: [] };

export function byte(low: number, high = low): ByteRange {
  return { kind: "byte", low, high };
}

export function sequence(...parts: readonly Expression[]): Expression {
  if (parts.includes(never)) return never;
  return parts.length === 1 ? parts[0]! : { kind: "sequence", parts };
}

export function choice(...options: readonly Expression[]): Expression {
  const possible = options.filter((option) => option !== never);
  if (possible.length === 0) return never;
  return possible.length === 1 ? possible[0]! : { kind: "choice", options: possible };
}

export function repeat(of: Expression, least: number, most = Infinity): Expression {
  if (of === never) return least === 0 ? empty : never;
  return least === 1 && most === 1 ? of : { kind: "repeat", of, least, most };
}

export function optionalPart(of: Expression): Expression {
  return repeat(of, 0, 1);
}

/** Returns a rule, whose body is made when it exists, so that the body can contain it. */
export function rule(name: string, body: Expression | ((self: Rule) => Expression)): Rule {
  const made: Rule = { kind: "rule", name, body: empty };
  made.body = typeof body === "function" ? body(made) : body;
  return made;
}

const encoder = new TextEncoder();

export function literal(text: string): Expression {
  return sequence(...Array.from(encoder.encode(text), (one) => byte(one)));
}

/**
 * Returns one of the texts. Texts that begin alike share their beginning, so that each byte leaves few of them: there may
 * be thousands.
 */
export function oneOfTexts(texts: readonly string[]): Expression {
  const sorted = [...new Set(texts)].map((text) => encoder.encode(text)).sort((a, b) => Buffer.compare(a, b));
  return branches(sorted, 0);
}

/** Returns one of the sorted texts, without their first `from` bytes, which are the same. */
function branches(texts: readonly Uint8Array[], from: number): Expression {
  const [first, last] = [texts[0]!, texts.at(-1)!];
  let same = from;
  while (same < first.length && first[same] === last[same]) same++;
  const groups: Uint8Array[][] = [];
  for (const text of texts) {
    const group = groups.at(-1);
    if (group && group[0]![same] === text[same]) group.push(text);
    else groups.push([text]);
  }
  const start = Array.from(first.subarray(from, same), (one) => byte(one));
  if (groups.length === 1) return sequence(...start);
  const options = groups.map((group) => (group[0]!.length === same ? empty : branches(group, same)));
  return sequence(...start, choice(...options));
}

/**
 * Checks that every rule can end, and that none begins with itself.
 *
 * @throws ERR_ARGUMENT with `what` if one cannot.
 */
export function checkExpression(root: Expression, what: string): void {
  // Rules that are called come before their callers, so that a chain of rules is done in one round.
  const rules = [...rulesOf(root)].reverse();
  const [ends, nullable] = [new Set<Rule>(), new Set<Rule>()];
  for (let before = -1; before < ends.size + nullable.size;) {
    before = ends.size + nullable.size;
    for (const one of rules) {
      if (canEnd(one.body, ends)) ends.add(one);
      if (isNullable(one.body, nullable)) nullable.add(one);
    }
  }
  const endless = rules.find((one) => !ends.has(one));
  if (endless || !canEnd(root, ends))
    throw new HeedError(
      "ERR_ARGUMENT",
      `${what}: expected a text that can end, got ${endless ? `${endless.name}, which never ends` : "one that never ends"}`,
    );
  const clear = new Set<Rule>();
  for (const one of rules) checkStart(one, nullable, new Set(), clear, what);
}

function rulesOf(root: Expression): Set<Rule> {
  const found = new Set<Rule>();
  const pending: Expression[] = [root];
  for (let one = pending.pop(); one; one = pending.pop()) {
    if (one.kind === "sequence") pending.push(...one.parts);
    else if (one.kind === "choice") pending.push(...one.options);
    else if (one.kind === "repeat") pending.push(one.of);
    else if (one.kind === "rule" && !found.has(one)) {
      found.add(one);
      pending.push(one.body);
    }
  }
  return found;
}

/** Returns true if some text matches, given the rules that some text is known to match. */
function canEnd(one: Expression, known: ReadonlySet<Rule>): boolean {
  if (one.kind === "byte") return true;
  if (one.kind === "rule") return known.has(one);
  if (one.kind === "sequence") return one.parts.every((part) => canEnd(part, known));
  if (one.kind === "choice") return one.options.some((option) => canEnd(option, known));
  return one.least === 0 || canEnd(one.of, known);
}

function isNullable(one: Expression, known: ReadonlySet<Rule>): boolean {
  if (one.kind === "byte") return false;
  if (one.kind === "rule") return known.has(one);
  if (one.kind === "sequence") return one.parts.every((part) => isNullable(part, known));
  if (one.kind === "choice") return one.options.some((option) => isNullable(option, known));
  return one.least === 0 || isNullable(one.of, known);
}

/** Follows the rules with which a rule can begin. */
function checkStart(one: Rule, nullable: ReadonlySet<Rule>, open: Set<Rule>, clear: Set<Rule>, what: string): void {
  if (clear.has(one)) return;
  if (open.has(one))
    throw new HeedError("ERR_ARGUMENT", `${what}: expected no rule to begin with itself, got ${one.name}, which does`);
  open.add(one);
  for (const first of startsOf(one.body, nullable)) checkStart(first, nullable, open, clear, what);
  open.delete(one);
  clear.add(one);
}

/** Returns the rules with which an expression can begin. */
function startsOf(one: Expression, nullable: ReadonlySet<Rule>): Rule[] {
  if (one.kind === "byte") return [];
  if (one.kind === "rule") return [one];
  if (one.kind === "choice") return one.options.flatMap((option) => startsOf(option, nullable));
  if (one.kind === "repeat") return one.most === 0 ? [] : startsOf(one.of, nullable);
  const last = one.parts.findIndex((part) => !isNullable(part, nullable));
  const first = last === -1 ? one.parts : one.parts.slice(0, last + 1);
  return first.flatMap((part) => startsOf(part, nullable));
}
