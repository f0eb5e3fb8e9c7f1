// Expressions over bytes: what a grammar, a regular expression and a JSON schema become. They are never compiled as a
// whole; see automaton.ts.
import { HeedError } from "../errors.js";
import { spend } from "./work.js";

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
  /**
   * Set for a rule that is made when a text gets there, of which there may be very many. Its texts can end, and are empty
   * only if `nullable` is true; what it can begin with are bytes.
   */
  readonly late?: { readonly nullable: boolean };
}

/** Returns a rule whose body is made when it is needed first; see `Rule.late`. */
export function lateRule(name: string, nullable: boolean, make: () => Expression): Rule {
  let body: Expression | null = null;
  return {
    ...{ kind: "rule", name, late: { nullable } },
    get body() {
      return (body ??= make());
    },
  };
}

/** The empty text. */
export const empty: Sequence = { kind: "sequence", parts: [] };
/** No text at all. */
export const never: Choice = { kind: "choice", options: [] };

const ranges = new Map<number, ByteRange>();

/** Returns a range of bytes; the same one each time, so that parts that are equal are found to be so. */
export function byte(low: number, high = low): ByteRange {
  const key = 256 * low + high;
  const found = ranges.get(key) ?? { kind: "byte", low, high };
  ranges.set(key, found);
  return found;
}

export function sequence(...parts: readonly Expression[]): Expression {
  return sequenceOf(parts);
}

/** Returns all parts, one after the other. Unlike `sequence`, it takes any number of them. */
export function sequenceOf(parts: readonly Expression[]): Expression {
  if (parts.includes(never)) return never;
  return parts.length === 1 ? parts[0]! : { kind: "sequence", parts };
}

export function choice(...options: readonly Expression[]): Expression {
  return choiceOf(options);
}

/** Returns one of the options. Unlike `choice`, it takes any number of them. */
export function choiceOf(options: readonly Expression[]): Expression {
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
  spend(1 + text.length / 2);
  return sequenceOf(Array.from(encoder.encode(text), (one) => byte(one)));
}

/**
 * Returns one of the texts. Texts that begin alike share their beginning, so that each byte leaves few of them: there may
 * be thousands.
 */
export function oneOfTexts(texts: readonly string[]): Expression {
  for (const { length } of texts) spend(2 + length / 2);
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
  if (groups.length === 1) return sequenceOf(start);
  const options = groups.map((group) => (group[0]!.length === same ? empty : branches(group, same)));
  return sequenceOf([...start, choiceOf(options)]);
}

/**
 * Returns one of the options, in which those that begin alike share their beginning: an expression may have thousands of
 * them.
 */
export function anyOf(options: readonly Expression[]): Expression {
  return options.length === 1 ? options[0]! : joinedOptions(options.map(partsOf));
}

/**
 * Returns the number of options that may begin alike, in an expression of `anyOf`, and the number of ways in which those
 * can begin together.
 */
export function likeness(of: Expression): { options: number; ways: number } {
  const result = { options: 0, ways: 0 };
  const known = new Map<Rule, number>();
  const pending: Expression[] = [of];
  for (let one = pending.pop(); one; one = pending.pop()) {
    if (one.kind === "sequence") {
      for (const part of one.parts) if (part.kind === "choice") pending.push(part);
    } else if (one.kind === "choice") {
      const [options, ways] = [one.options.filter((option) => firstOf(option)?.kind !== "byte"), result.ways];
      result.options = Math.max(result.options, options.length);
      result.ways = Math.max(
        ways,
        options.reduce((sum, option) => sum + waysOf(option, known), 0),
      );
      pending.push(...one.options.filter(({ kind }) => kind === "sequence"));
    }
  }
  return result;
}

function firstOf(one: Expression): Expression | undefined {
  return one.kind === "sequence" ? one.parts[0] && firstOf(one.parts[0]) : one;
}

/** Returns the number of ways in which an expression can begin; those after a part that may be empty are left out. */
function waysOf(one: Expression, known: Map<Rule, number>): number {
  if (one.kind === "byte") return 1;
  if (one.kind === "repeat") return waysOf(one.of, known);
  if (one.kind === "choice") return one.options.reduce((sum, option) => sum + waysOf(option, known), 0);
  if (one.kind === "sequence") return one.parts[0] ? waysOf(one.parts[0], known) : 0;
  spend(1);
  const found = one.late ? 1 : known.get(one);
  if (found !== undefined) return found;
  known.set(one, 0);
  const ways = waysOf(one.body, known);
  known.set(one, ways);
  return ways;
}

/** Returns one of the lists of parts. */
function joinedOptions(options: readonly (readonly Expression[])[]): Expression {
  const groups = new Map<Expression | null, (readonly Expression[])[]>();
  for (const parts of options) {
    spend(1);
    const group = groups.get(parts[0] ?? null);
    if (group) group.push(parts);
    else groups.set(parts[0] ?? null, [parts]);
  }
  return choiceOf(
    Array.from(groups.values(), (group) => {
      const [first] = group as [readonly Expression[], ...(readonly Expression[])[]];
      if (group.length === 1) return sequenceOf(first);
      let same = 0;
      while (same < first.length && group.every((parts) => parts[same] === first[same])) same++;
      spend((same * group.length) / 8);
      const start = first.slice(0, same);
      // Without a first part there is only the empty text, however often.
      if (same === 0) return empty;
      return sequenceOf([...start, joinedOptions(group.map((parts) => parts.slice(same)))]);
    }),
  );
}

/** Returns the parts of an expression, of which those that are texts are bytes. */
function partsOf(one: Expression): readonly Expression[] {
  if (one.kind !== "sequence") return [one];
  return one.parts.flatMap((part) => (isText(part) ? part.parts : [part]));
}

/** Returns true if an expression is a single text, as bytes. */
export function isText(one: Expression): one is Sequence {
  return one.kind === "sequence" && one.parts.every(({ kind }) => kind === "byte");
}

/**
 * Checks that every rule can end, and that none begins with itself.
 *
 * @throws ERR_ARGUMENT with `what` if one cannot.
 */
export function checkExpression(root: Expression, what: string): void {
  const { ends, nullable, rules } = analysed(root);
  const endless = rules.find((one) => !ends.has(one));
  if (endless || !canEnd(root, ends))
    throw new HeedError(
      "ERR_ARGUMENT",
      `${what}: expected a text that can end, got ${endless ? `${endless.name}, which never ends` : "one that never ends"}`,
    );
  const clear = new Set<Rule>();
  for (const one of rules) checkStart(one, nullable, new Set(), clear, what);
}

/** Returns the rules of an expression, those that some text matches and those that the empty text matches. */
export function analysed(root: Expression): {
  rules: readonly Rule[];
  ends: ReadonlySet<Rule>;
  nullable: ReadonlySet<Rule>;
} {
  // Rules that are called come before their callers, so that one round does without recursion.
  const { rules, size } = rulesOf(root);
  const [ends, nullable] = [new Set<Rule>(), new Set<Rule>()];
  for (let before = -1; before < ends.size + nullable.size;) {
    before = ends.size + nullable.size;
    spend(size / 16);
    for (const one of rules) {
      if (!ends.has(one) && canEnd(one.body, ends)) ends.add(one);
      if (!nullable.has(one) && isNullable(one.body, nullable)) nullable.add(one);
    }
  }
  return { rules, ends, nullable };
}

/** Returns the rules of an expression, each after those that it calls unless they call it, and the number of its parts. */
function rulesOf(root: Expression): { rules: Rule[]; size: number } {
  const [found, done] = [new Set<Rule>(), new Set<Rule>()];
  const pending: Expression[] = [root];
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
    if (one.kind === "rule" && !one.late) {
      found.add(one);
      pending.push(one.body);
      continue;
    }
    pending.pop();
    if (one.kind === "sequence") for (const part of one.parts) pending.push(part);
    else if (one.kind === "choice") for (const option of one.options) pending.push(option);
    else if (one.kind === "repeat") pending.push(one.of);
  }
  return { rules: [...done], size };
}

/** Returns true if some text matches, given the rules that some text is known to match. */
function canEnd(one: Expression, known: ReadonlySet<Rule>): boolean {
  if (one.kind === "byte") return true;
  if (one.kind === "rule") return one.late !== undefined || known.has(one);
  if (one.kind === "sequence") return one.parts.every((part) => canEnd(part, known));
  if (one.kind === "choice") return one.options.some((option) => canEnd(option, known));
  return one.least === 0 || canEnd(one.of, known);
}

function isNullable(one: Expression, known: ReadonlySet<Rule>): boolean {
  if (one.kind === "byte") return false;
  if (one.kind === "rule") return one.late?.nullable ?? known.has(one);
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
  if (one.kind === "rule") return one.late ? [] : [one];
  if (one.kind === "choice") return one.options.flatMap((option) => startsOf(option, nullable));
  if (one.kind === "repeat") return one.most === 0 ? [] : startsOf(one.of, nullable);
  const last = one.parts.findIndex((part) => !isNullable(part, nullable));
  const first = last === -1 ? one.parts : one.parts.slice(0, last + 1);
  return first.flatMap((part) => startsOf(part, nullable));
}
