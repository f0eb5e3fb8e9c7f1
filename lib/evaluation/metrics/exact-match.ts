import { LinearExpression } from "../../tokenizer/linear-expression.js";

/** Differences between two texts that an exact match overlooks. */
export interface ExactMatchOptions {
  /** True if upper and lower case are the same. @default false */
  ignoreCase?: boolean;
  /** True if ASCII's punctuation is left out. @default false */
  ignorePunctuation?: boolean;
  /** True if the digits 0 to 9 are left out. @default false */
  ignoreNumbers?: boolean;
  /**
   * Patterns whose matches are left out, before anything else is done: regular expressions, or objects whose `without`
   * returns a text without what matches. Expressions with the flag u, and no other but g, are searched for in time
   * proportional to the text, unless they have back references or repeat what may be empty.
   * @default []
   */
  patternsToIgnore?: readonly (
    | RegExp
    | {
        /** Returns a text without what matches. */
        without(text: string): string;
      }
  )[];
}

type Pattern = RegExp | { without(text: string): string };

/** Matches the characters of Python's string.punctuation. */
const punctuation = /[!-/:-@[-`{-~]/g;

/**
 * Returns 1 if a text is the same as one of the references, and else 0.
 *
 * @example
 * exactMatch("Paris.", ["paris"], { ignoreCase: true, ignorePunctuation: true }); // 1
 */
export function exactMatch(text: string, references: readonly string[], options: ExactMatchOptions = {}): number {
  const given = simplified(text, options);
  return references.some((reference) => simplified(reference, options) === given) ? 1 : 0;
}

function simplified(text: string, options: ExactMatchOptions): string {
  const { ignoreCase = false, ignorePunctuation = false, ignoreNumbers = false, patternsToIgnore = [] } = options;
  let result = text;
  for (const pattern of patternsToIgnore) result = without(pattern, result);
  if (ignoreCase) result = result.toLowerCase();
  if (ignorePunctuation) result = result.replaceAll(punctuation, "");
  if (ignoreNumbers) result = result.replaceAll(/[0-9]/g, "");
  return result;
}

/** Expressions that are searched for in linear time, and null for those for which that is impossible. */
const linear = new WeakMap<RegExp, LinearExpression | null>();

function without(pattern: Pattern, text: string): string {
  if (!(pattern instanceof RegExp)) return pattern.without(text);
  const { source, flags } = pattern;
  const expression = linearOf(pattern);
  if (!expression) return text.replaceAll(new RegExp(source, flags.includes("g") ? flags : `${flags}g`), "");
  let rest = "";
  let at = 0;
  for (const match of expression.matches(text)) {
    if (!match) continue;
    rest += text.slice(at, match[0]);
    at = match[1];
  }
  return rest + text.slice(at);
}

function linearOf(pattern: RegExp): LinearExpression | null {
  const known = linear.get(pattern);
  if (known !== undefined) return known;
  let expression: LinearExpression | null = null;
  try {
    if (/^g?u$/.test(pattern.flags)) expression = new LinearExpression(pattern.source);
  } catch {
    // JavaScript's own engine finds these matches.
  }
  linear.set(pattern, expression);
  return expression;
}
