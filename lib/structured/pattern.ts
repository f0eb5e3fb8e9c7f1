// The parts of a regular expression, and the language that they stand for.
import type { Steps } from "../util/turns.js";
import { type Characters, allCharacters } from "./characters.js";
import { anyOf, type Expression, repeat, sequenceOf } from "./expression.js";
import type { Language } from "./language.js";
import type { Languages } from "./text-language.js";
import { isPauseDue, spend } from "./work.js";

/** A regular expression. */
export type Pattern =
  | { readonly kind: "characters"; readonly of: Characters }
  | { readonly kind: "sequence"; readonly parts: readonly Pattern[] }
  | { readonly kind: "choice"; readonly options: readonly Pattern[] }
  | { readonly kind: "repeat"; readonly of: Pattern; readonly least: number; readonly most: number }
  | { readonly kind: "look"; readonly of: Pattern; readonly negative: boolean }
  | { readonly kind: "start" }
  | { readonly kind: "end" };

/** Pattern of any character. */
export const anyPattern: Pattern = { kind: "characters", of: allCharacters };
export const emptyPattern: Pattern = { kind: "sequence", parts: [] };

/** Most repetitions of a part with a lookahead in it, which are written one after the other. */
const mostCopies = 16;

/** Returns the parts directly within a pattern. */
function within(pattern: Pattern): readonly Pattern[] {
  if (pattern.kind === "sequence") return pattern.parts;
  if (pattern.kind === "choice") return pattern.options;
  return pattern.kind === "repeat" || pattern.kind === "look" ? [pattern.of] : [];
}

/** Returns true if a pattern has an anchor or a lookahead. */
export function hasAssertions(pattern: Pattern): boolean {
  if (pattern.kind === "look" || pattern.kind === "start" || pattern.kind === "end") return true;
  return within(pattern).some(hasAssertions);
}

function hasStart(pattern: Pattern): boolean {
  return pattern.kind === "start" || within(pattern).some(hasStart);
}

/** Returns true if all that a pattern can match is the empty text. */
function isEmpty(pattern: Pattern): boolean {
  if (pattern.kind === "characters") return false;
  return pattern.kind === "look" || within(pattern).every(isEmpty);
}

/** Returns the smallest and the largest number of characters of what a pattern matches. */
function lengthsOf(pattern: Pattern): readonly [number, number] {
  if (pattern.kind === "characters") return [1, 1];
  if (pattern.kind === "repeat") {
    const [least, most] = lengthsOf(pattern.of);
    return [least * pattern.least, most === 0 ? 0 : most * pattern.most];
  }
  if (pattern.kind === "sequence") {
    const parts = pattern.parts.map(lengthsOf);
    return [parts.reduce((sum, [one]) => sum + one, 0), parts.reduce((sum, [, one]) => sum + one, 0)];
  }
  if (pattern.kind !== "choice") return [0, 0];
  return pattern.options
    .map(lengthsOf)
    .reduce(([least, most], [one, other]) => [Math.min(least, one), Math.max(most, other)], [Infinity, -Infinity]);
}

/**
 * Returns a pattern of the texts that a pattern without assertions matches and that have a number of characters; null if
 * no pattern can say that simply.
 */
export function withLength(pattern: Pattern, least: number, most: number): Pattern | null {
  spend(1);
  const [low, high] = lengthsOf(pattern);
  if (low >= least && high <= most) return pattern;
  if (low > most || high < least || least > most) return { kind: "choice", options: [] };
  if (pattern.kind === "choice") {
    const options = pattern.options.map((option) => withLength(option, least, most));
    return options.includes(null) ? null : { kind: "choice", options: options as Pattern[] };
  }
  if (pattern.kind === "repeat" && pattern.of.kind === "characters")
    return { ...pattern, least: Math.max(pattern.least, least), most: Math.min(pattern.most, most) };
  if (pattern.kind !== "sequence") return null;
  const { parts } = pattern;
  const variable = parts.filter((part) => lengthsOf(part)[0] !== lengthsOf(part)[1]);
  if (variable.length !== 1) return null;
  const [only] = variable as [Pattern];
  const fixed = low - lengthsOf(only)[0];
  const changed = withLength(only, Math.max(0, least - fixed), most - fixed);
  return changed && { kind: "sequence", parts: parts.map((part) => (part === only ? changed : part)) };
}

/** The length of a text that a lookahead demands, and the pattern without the lookahead. */
export interface Ahead {
  readonly rest: Pattern;
  readonly of: Characters;
  readonly least: number;
  readonly most: number;
  /** False if the lookahead allows further texts, which end with something that may be missing. */
  readonly exact: boolean;
}

/** Returns what a lookahead such as "(?=.{1,253}$)" at the beginning of a pattern says; null if there is none. */
export function lengthAhead(pattern: Pattern): Ahead | null {
  const [start, look, ...others] = pattern.kind === "sequence" ? pattern.parts : [];
  if (start?.kind !== "start" || look?.kind !== "look" || look.negative || look.of.kind !== "sequence") return null;
  const [counted, ...tail] = look.of.parts;
  if (counted?.kind !== "repeat" || counted.of.kind !== "characters" || tail.at(-1)?.kind !== "end") return null;
  if (tail.slice(0, -1).some((part) => hasAssertions(part) || lengthsOf(part)[0] > 0)) return null;
  return {
    ...{ rest: { kind: "sequence", parts: [start, ...others] }, of: counted.of.of },
    ...{ least: counted.least, most: counted.most, exact: tail.length === 1 },
  };
}

/**
 * Returns parts that match the same, without a largest number of repetitions before any characters, which may be further
 * ones: what has been repeated more often then stands for what has been repeated less often.
 */
function endless(parts: readonly Pattern[]): readonly Pattern[] {
  return parts.map((part, i) => {
    const next = parts[i + 1];
    const isFree = next?.kind === "repeat" && next.of === anyPattern && next.least === 0 && next.most === Infinity;
    return isFree && part.kind === "repeat" ? { ...part, most: Infinity } : part;
  });
}

/** Returns an expression for a pattern without assertions. */
export function* patternExpression(
  pattern: Pattern,
  character: (of: Characters) => Steps<Expression>,
): Steps<Expression> {
  const sets = new Map<string, Expression>();
  function* build(one: Pattern): Steps<Expression> {
    if (isPauseDue()) yield;
    if (one.kind === "characters") {
      spend(one.of.length);
      const key = one.of.join();
      const found = sets.get(key) ?? (yield* character(one.of));
      sets.set(key, found);
      return found;
    }
    if (one.kind === "repeat") return repeat(yield* build(one.of), one.least, one.most);
    const parts: Expression[] = [];
    for (const part of one.kind === "sequence" ? endless(one.parts) : within(one)) parts.push(yield* build(part));
    return one.kind === "sequence" ? sequenceOf(parts) : yield* anyOf(parts);
  }
  return yield* build(pattern);
}

/**
 * Returns the texts in which a pattern matches a part: with anchors and lookaheads, of which each is about all that
 * follows it.
 *
 * @throws what `refuse` throws for a part that cannot be expressed.
 */
export function* searchLanguage(pattern: Pattern, make: Languages, refuse: (what: string) => never): Steps<Language> {
  const any = make.repeat(make.characters(allCharacters), 1, Infinity);
  const later = make.sequence([any, yield* languageOf(pattern, make.all, false, make, refuse)]);
  return make.either([yield* languageOf(pattern, make.all, true, make, refuse), later]);
}

/** Returns the texts that a pattern matches as a whole. It throws what `refuse` throws. */
export function* wholeLanguage(pattern: Pattern, make: Languages, refuse: (what: string) => never): Steps<Language> {
  return yield* languageOf(pattern, make.empty, true, make, refuse);
}

/** Returns what a pattern matches, with `next` after it. `first` is true at the beginning of the text. */
function* languageOf(
  pattern: Pattern,
  next: Language,
  first: boolean,
  make: Languages,
  refuse: (what: string) => never,
): Steps<Language> {
  spend(1);
  if (isPauseDue()) yield;
  switch (pattern.kind) {
    case "characters":
      return make.sequence([make.characters(pattern.of), next]);
    case "start":
      return first ? next : make.none;
    case "end":
      return next.nullable ? make.empty : make.none;
    case "choice": {
      const options: Language[] = [];
      for (const option of pattern.options) options.push(yield* languageOf(option, next, first, make, refuse));
      return make.either(options);
    }
    case "look": {
      const ahead = yield* languageOf(pattern.of, make.all, first, make, refuse);
      return make.both([next, pattern.negative ? make.not(ahead) : ahead]);
    }
    case "sequence": {
      const { parts } = pattern;
      // A part is at the beginning if all before it are empty.
      const filled = parts.findIndex((part) => !isEmpty(part));
      const begins = (i: number): boolean => first && (filled === -1 || i <= filled);
      if (first && parts.some((part, i) => !begins(i) && hasStart(part) && mayBeEmpty(parts.slice(0, i))))
        return refuse('"^" after a part that may be empty');
      let after = next;
      for (let i = parts.length - 1; i >= 0; i--) after = yield* languageOf(parts[i]!, after, begins(i), make, refuse);
      return after;
    }
    case "repeat": {
      const { of, least, most } = pattern;
      if (!hasAssertions(of)) {
        const one = yield* languageOf(of, make.empty, first, make, refuse);
        return make.sequence([make.repeat(one, least, most), next]);
      }
      if (most === Infinity) return yield* withoutPart(of, least, next, make, refuse);
      if (most > mostCopies) return refuse("many repetitions of a part with an anchor or a lookahead");
      let after = next;
      for (let i = most; i > 0; i--) {
        const more = yield* languageOf(of, after, first && i === 1, make, refuse);
        after = i > least ? make.either([next, more]) : more;
      }
      return after;
    }
  }
}

/** Returns repetitions of a character before which a lookahead forbids something, up to the end of the text. */
function* withoutPart(
  of: Pattern,
  least: number,
  next: Language,
  make: Languages,
  refuse: (what: string) => never,
): Steps<Language> {
  const [look, character, ...others] = of.kind === "sequence" ? of.parts : [];
  const isKnown =
    look?.kind === "look" &&
    look.negative &&
    character?.kind === "characters" &&
    others.length === 0 &&
    !hasStart(look.of) &&
    next === make.empty;
  if (!isKnown) return refuse("a repeated part with an anchor or a lookahead");
  const forbidden = yield* languageOf(look.of, make.all, false, make, refuse);
  if (forbidden.nullable) return refuse("a repeated part with a lookahead for the empty text");
  return make.both([
    make.repeat(make.characters(character.of), least, Infinity),
    make.not(make.sequence([make.all, forbidden])),
  ]);
}

function mayBeEmpty(parts: readonly Pattern[]): boolean {
  return parts.every((part) => lengthsOf(part)[0] === 0);
}
