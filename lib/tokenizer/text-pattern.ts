// What a tokenizer.json searches a text for: a text, or a regular expression as Hugging Face's own library reads it
// (Oniguruma's). Matches come one by one, so that a search of a long text can rest between them.
import { describe, HeedError } from "../errors.js";
import { isKnownExpression } from "./known-expressions.js";
import { LinearExpression } from "./linear-expression.js";
import { libraryParts } from "./library-parts.js";

/** A match from `start` up to `end`. */
export type Span = readonly [start: number, end: number];

export interface TextPattern {
  /** Yields all matches from left to right, and undefined where work can rest. */
  matches(text: string): Generator<Span | undefined>;
}

/** The "pattern" of a part: a text or a regular expression. */
export function patternOf(pattern: unknown): TextPattern {
  const { String: literal, Regex: source } = Object(pattern) as { String?: unknown; Regex?: unknown };
  if (typeof literal === "string") return literalPattern(literal);
  if (typeof source === "string") return expressionPattern(source);
  throw new HeedError(
    "ERR_FORMAT",
    `tokenizer.json: expected a pattern with a String or a Regex, got ${describe(pattern)}`,
  );
}

/** A pattern that is this text; nothing matches an empty one. */
export function literalPattern(literal: string): TextPattern {
  return {
    *matches(text) {
      if (literal === "") return;
      for (let at = text.indexOf(literal); at >= 0; at = text.indexOf(literal, at + literal.length))
        yield [at, at + literal.length];
    },
  };
}

/** Throws ERR_FORMAT for an expression of a stranger that cannot be searched for in linear time. */
export function expressionPattern(source: string, { trusted = isKnownExpression(source) } = {}): TextPattern {
  const expression = translated(source);
  return trusted ? new NativePattern(expression) : new LinearExpression(expression.source);
}

/** An expression of Oniguruma's in JavaScript's form. */
function translated(source: string): RegExp {
  const { normalizer } = libraryParts({ type: "Replace", pattern: { Regex: source }, content: "" });
  return (normalizer as unknown as { pattern: RegExp }).pattern;
}

/** A run of characters of one kind; of the ones that are trusted none has to be longer than `longestRun`. */
const runs = /^(?:\\[pPsSdD](?:\{[^}]*\})?|\[(?:\\[^]|[^\]\\])*\]|[^\\()[\]{}|^$.*+?])(?:[*+?]|\{\d+(?:,\d*)?\})?$/;
/** UTF-16 units that are searched at once for a run. */
const windowLength = 2 ** 16;
const longestRun = 8;

/** An expression that JavaScript's own engine searches for. */
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
      // Others may have searched with the expression since.
      this.#expression.lastIndex = from;
      const found = this.#expression.exec(text);
      if (!found) return;
      const end = found.index + found[0].length;
      yield [found.index, end];
      at = end > found.index ? end : end + ((text.codePointAt(end) ?? 0) > 0xffff ? 2 : 1);
    }
  }

  /** A place up to which there is no match. The engine takes a long time for a long text without one. */
  *#skipped(text: string, from: number): Generator<undefined, number> {
    let at = from;
    for (; text.length - at > windowLength; yield) {
      this.#expression.lastIndex = 0;
      const found = this.#expression.exec(text.slice(at, at + windowLength));
      if (found) return at + found.index;
      // A run that ends behind the window may begin before.
      at += windowLength - longestRun;
      if (text.codePointAt(at - 1)! > 0xffff) at--;
    }
    return at;
  }
}

/** A text in which `content` makes something else of each match. */
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

/** Texts in one, which is whole in memory. */
export function* joinTexts(parts: readonly string[], last = ""): Generator<undefined, string> {
  const joined: string[] = [];
  for (let i = 0; i < parts.length; i += 4096) {
    joined.push(parts.slice(i, i + 4096).join(""));
    yield;
  }
  joined.push(last);
  return joined.join("");
}
