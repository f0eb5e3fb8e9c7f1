// The patterns that a tokenizer.json searches a text for: a literal text, or a regular expression in the syntax of
// Oniguruma, which Hugging Face's own library uses. Matches come one by one, so that a search of a long text can pause
// between them.
import { describe, HeedError } from "../util/errors.js";
import { isKnownExpression } from "./known-expressions.js";
import { LinearExpression } from "./linear-expression.js";
import { libraryParts } from "./library-parts.js";

/** A match from `start` to `end`, which is exclusive. */
export type Span = readonly [start: number, end: number];

/** A pattern that texts are searched for. */
export interface TextPattern {
  /** Yields all matches from left to right, and undefined whenever the caller may pause the work. */
  matches(text: string): Generator<Span | undefined>;
}

/**
 * Compiles the "pattern" of a part: a literal text or a regular expression.
 *
 * @throws ERR_FORMAT if it is neither, or an expression that cannot be searched for in linear time.
 */
export function patternOf(pattern: unknown): TextPattern {
  const { String: literal, Regex: source } = Object(pattern) as { String?: unknown; Regex?: unknown };
  if (typeof literal === "string") return literalPattern(literal);
  if (typeof source === "string") return expressionPattern(source);
  throw new HeedError(
    "ERR_FORMAT",
    `tokenizer.json: expected a pattern with a String or a Regex, got ${describe(pattern)}`,
  );
}

/** Returns a pattern that matches this text. The empty text matches nowhere. */
export function literalPattern(literal: string): TextPattern {
  return {
    *matches(text) {
      if (literal === "") return;
      for (let at = text.indexOf(literal); at >= 0; at = text.indexOf(literal, at + literal.length))
        yield [at, at + literal.length];
    },
  };
}

/**
 * Returns a pattern that matches a regular expression.
 *
 * @throws ERR_FORMAT if the expression is not trusted and cannot be searched for in linear time.
 */
export function expressionPattern(source: string, { trusted = isKnownExpression(source) } = {}): TextPattern {
  const expression = translated(source);
  return trusted ? new NativePattern(expression) : new LinearExpression(expression.source);
}

/** Translates an expression in Oniguruma's syntax to JavaScript's. */
function translated(source: string): RegExp {
  const { normalizer } = libraryParts({ type: "Replace", pattern: { Regex: source }, content: "" });
  return (normalizer as unknown as { pattern: RegExp }).pattern;
}

/**
 * Matches expressions that match runs of characters of one kind. No trusted one of them requires a run longer than
 * `longestRun`.
 */
const runs = /^(?:\\[pPsSdD](?:\{[^}]*\})?|\[(?:\\[^]|[^\]\\])*\]|[^\\()[\]{}|^$.*+?])(?:[*+?]|\{\d+(?:,\d*)?\})?$/;
/** Number of UTF-16 units that are searched at once for a run. */
const windowLength = 2 ** 16;
const longestRun = 8;

/** A regular expression that JavaScript's own engine searches for. */
class NativePattern implements TextPattern {
  readonly #expression: RegExp;
  readonly #isRun: boolean;

  constructor(expression: RegExp) {
    this.#expression = expression;
    this.#isRun = runs.test(expression.source);
  }

  *matches(text: string): Generator<Span | undefined> {
    for (let at = 0; at <= text.length;) {
      const from: number = this.#isRun ? yield* this.#skipped(text, at) : at;
      // Another search may have used the expression in the meantime.
      this.#expression.lastIndex = from;
      const found = this.#expression.exec(text);
      if (!found) return;
      const end = found.index + found[0].length;
      yield [found.index, end];
      at = end > found.index ? end : end + ((text.codePointAt(end) ?? 0) > 0xffff ? 2 : 1);
    }
  }

  /**
   * Returns a position before which nothing matches. On a long text without a match the engine takes a long time, so
   * the text is searched in windows.
   */
  *#skipped(text: string, from: number): Generator<undefined, number> {
    let at = from;
    for (; text.length - at > windowLength; yield) {
      this.#expression.lastIndex = 0;
      const found = this.#expression.exec(text.slice(at, at + windowLength));
      if (found) return at + found.index;
      // A run that ends after the window may begin in it.
      at += windowLength - longestRun;
      if (text.codePointAt(at - 1)! > 0xffff) at--;
    }
    return at;
  }
}

/** Returns a text in which every match is replaced by the result of `content`. */
export function* replaceMatches(
  pattern: TextPattern,
  text: string,
  content: (match: string) => string,
): Generator<undefined, string> {
  const parts: string[] = [];
  let from = 0;
  let step = 0;
  for (const match of pattern.matches(text)) {
    if (++step % 256 === 0) yield;
    if (!match) continue;
    parts.push(text.slice(from, match[0]), content(text.slice(...match)));
    from = match[1];
  }
  return from === 0 && parts.length === 0 ? text : yield* joinTexts(parts, text.slice(from));
}

/**
 * Joins texts into one flat string. Adding strings up with + would make a tree of them that the engine flattens later,
 * all at once.
 */
export function* joinTexts(parts: readonly string[], last = ""): Generator<undefined, string> {
  const joined: string[] = [];
  for (let i = 0; i < parts.length; i += 4096) {
    joined.push(parts.slice(i, i + 4096).join(""));
    yield;
  }
  joined.push(last);
  return joined.join("");
}
