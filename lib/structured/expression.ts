// Expressions over bytes: what a grammar, a regular expression and a JSON schema become. They are never compiled as a
// whole; see automaton.ts.
import { append } from "../util/append.js";
import type { Steps } from "../util/turns.js";
import { isPauseDue, spend } from "./work.js";

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
  /** Numbers of plain characters of each set that may be its next ones, whichever they are; see plain-characters.ts. */
  plain?: readonly number[] | undefined;
  /** Largest number of characters of its texts, if it is known. */
  most?: number | undefined;
  /**
   * Set for a rule of texts with a limit to their length: a rule without the limit, and the number of characters up to which
   * both go on in the same ways.
   */
  unlimited?: Unlimited | undefined;
}

/** A rule that goes on as another one does for some characters, whichever they are. */
export interface Unlimited {
  readonly characters: number;
  readonly rule: () => Rule;
}

/**
 * Returns a rule whose body is made when it is needed; see `Rule.late`. A text may need very many of them, so that a body
 * is not kept: the rules and bytes in one that is made again have to be the same.
 */
export function lateRule(
  name: string,
  { nullable, plain, most, unlimited }: { readonly nullable: boolean } & Pick<Rule, "plain" | "most" | "unlimited">,
  make: () => Expression,
): Rule {
  let kept: WeakRef<Expression> | null = null;
  return {
    ...{ kind: "rule", name, late: { nullable }, plain, most, unlimited },
    get body() {
      const body = kept?.deref() ?? make();
      if (kept?.deref() !== body) kept = new WeakRef(body);
      return body;
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
  if (parts.includes(empty)) return sequenceOf(parts.filter((part) => part !== empty));
  if (parts.length === 0) return empty;
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
  if (of === empty || most === 0) return empty;
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
  spend(1 + text.length / 2, 1 + text.length / 20);
  return sequenceOf(Array.from(encoder.encode(text), (one) => byte(one)));
}

/**
 * Returns one of the texts. Texts that begin alike share their beginning, so that each byte leaves few of them: there may
 * be thousands.
 */
export function* oneOfTexts(texts: readonly string[]): Steps<Expression> {
  const different = new Set<string>();
  const encoded: Uint8Array[] = [];
  for (const text of texts) {
    spend(2 + text.length / 2);
    if (!different.has(text)) encoded.push(encoder.encode(text));
    different.add(text);
    if (isPauseDue()) yield;
  }
  return yield* branches(encoded, 0);
}

/** Returns one of the texts, without their first `from` bytes, which are the same. */
function* branches(texts: readonly Uint8Array[], from: number): Steps<Expression> {
  const [first] = texts as [Uint8Array];
  let same = from;
  while (same < first.length && texts.every((text) => text[same] === first[same])) {
    same++;
    spend(0, texts.length / 64);
    if (isPauseDue()) yield;
  }
  const start = Array.from(first.subarray(from, same), (one) => byte(one));
  if (texts.length === 1) return sequenceOf(start);
  const groups = new Map<number | undefined, Uint8Array[]>();
  for (const text of texts) {
    const group = groups.get(text[same]);
    if (group) group.push(text);
    else groups.set(text[same], [text]);
  }
  spend(0, texts.length / 16);
  const options: Expression[] = [];
  for (const [next, group] of groups) {
    options.push(next === undefined ? empty : yield* branches(group, same));
    if (isPauseDue()) yield;
  }
  return sequenceOf([...start, choiceOf(options)]);
}

/**
 * Returns one of the options, in which those that begin alike share their beginning: an expression may have thousands of
 * them.
 */
export function* anyOf(options: readonly Expression[]): Steps<Expression> {
  return options.length === 1 ? options[0]! : yield* joinedOptions(options.map(partsOf));
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
      append(
        pending,
        one.options.filter(({ kind }) => kind === "sequence"),
      );
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
function* joinedOptions(options: readonly (readonly Expression[])[]): Steps<Expression> {
  const groups = new Map<Expression | null, (readonly Expression[])[]>();
  for (const parts of options) {
    spend(1);
    const group = groups.get(parts[0] ?? null);
    if (group) group.push(parts);
    else groups.set(parts[0] ?? null, [parts]);
    if (isPauseDue()) yield;
  }
  const joined: Expression[] = [];
  for (const group of groups.values()) joined.push(yield* beginningAlike(group));
  return choiceOf(joined);
}

/** Returns one of the lists of parts, of which all have the same first one, or none. */
function* beginningAlike(group: readonly (readonly Expression[])[]): Steps<Expression> {
  const [first] = group as [readonly Expression[]];
  if (group.length === 1) return sequenceOf(first);
  let same = 0;
  while (same < first.length && group.every((parts) => parts[same] === first[same])) {
    same++;
    spend(group.length / 8);
    if (isPauseDue()) yield;
  }
  // Without a first part there is only the empty text, however often.
  if (same === 0) return empty;
  return sequenceOf([...first.slice(0, same), yield* joinedOptions(group.map((parts) => parts.slice(same)))]);
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
