/** Compares the search for regular expressions in linear time with JavaScript's own. */
import fc from "fast-check";
import { expect } from "vitest";
import { HeedError } from "../../lib/index.js";
import { LinearExpression } from "../../lib/tokenizer/linear-expression.js";
import { replaceMatches } from "../../lib/tokenizer/text-pattern.js";
import { atOnce } from "../../lib/util/turns.js";
import { fuzz } from "./fuzz.js";

const character = fc.constantFrom(
  ..."a b c 日 😀 [ab] [^a] \\p{L} \\P{L} \\s . [😀-😂b] \\u{1F600} \\ud83d\\ude00".split(" "),
);
const count = fc.constantFrom("", "", "*", "+", "?", "{2}", "{1,2}", "{2,}", "*?", "+?", "??", "{0,2}?");
const expression = fc.letrec<{ choice: string }>((tie) => {
  const group = fc
    .tuple(fc.constantFrom("(?:", "(", "(?<name>", "(?=", "(?!", "(?<=", "(?<!"), tie("choice"))
    .map(([begin, body]) => (begin === "(?<name>" ? `(?:${body})` : `${begin}${body})`));
  const term = fc
    .tuple(fc.oneof({ weight: 3, arbitrary: character }, group), count)
    .map(([part, often]) => part + (/^\(\?<?[=!]/.test(part) ? "" : often));
  const part = fc.oneof({ weight: 8, arbitrary: term }, fc.constantFrom("^", "$", "\\b", "\\B"));
  return {
    choice: fc
      .array(fc.array(part, { maxLength: 4, depthIdentifier: "e" }), {
        minLength: 1,
        maxLength: 3,
        depthIdentifier: "e",
      })
      .map((options) => options.map((parts) => parts.join("")).join("|")),
  };
}).choice;
const texts = fc.array(fc.constantFrom("a", "a", "b", "c", " ", "日", "😀", "\n", "\ud83d"), { maxLength: 24 });

fuzz(
  "regular expressions, 40 texts in a case",
  fc.tuple(expression, fc.array(texts, { minLength: 40, maxLength: 40 })),
  { ci: 400, nightly: 10_000 },
  ([source, list]) => {
    const own = new RegExp(source, "gu");
    let linear;
    try {
      linear = new LinearExpression(source);
    } catch (error) {
      // In JavaScript the result of these depends on how the search got there.
      expect(error).toBeInstanceOf(HeedError);
      expect((error as Error).message).toMatch(/may be empty/);
      return;
    }
    for (const text of list.map((parts) => parts.join(""))) {
      const spans = Array.from(text.matchAll(own), ({ 0: match, index }) => [index, index + match.length]);
      // V8 also finds empty matches between the halves of a character, contrary to the standard.
      if (spans.some(([index]) => index! > 0 && text.codePointAt(index! - 1)! > 0xffff)) continue;
      expect({ text, spans: [...linear.matches(text)].filter(Boolean) }).toEqual({ text, spans });
      const replaced = atOnce(replaceMatches(linear, text, (match) => `<${match}$>`));
      expect(replaced).toBe(text.replace(own, "<$&$$>"));
    }
  },
);
