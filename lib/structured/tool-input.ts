// Tools that take a text instead of arguments: OpenAI's custom tools. Models call them like others, with an argument that is
// the text.
import type { Tool } from "../tokenizer/tools.js";
import type { Steps } from "../util/turns.js";
import { oneOfCharacters } from "./characters.js";
import {
  byte,
  choiceOf,
  type Expression,
  lateRule,
  literal,
  repeat,
  rule,
  type Rule,
  sequenceOf,
} from "./expression.js";
import { larkExpression } from "./lark.js";
import { regularExpression } from "./regular-expression.js";

/** Name of the argument that is the text. */
export const inputName = "input";

/**
 * Returns the texts that a tool takes; null if it takes any, or arguments.
 *
 * @throws ERR_ARGUMENT if its grammar is invalid or not supported.
 */
export function* inputOf({ input }: Tool): Steps<Expression | null> {
  if (!input?.syntax) return null;
  if (input.syntax === "lark") return yield* larkExpression(input.definition);
  return yield* regularExpression(input.definition, { character: oneOfCharacters, what: "grammar" });
}

const shortEscapes: Readonly<Record<number, string>> = {
  ...{ 8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 0x22: '\\"', 0x5c: "\\\\" },
};

/** Returns texts as they are written within the quotes of a JSON string. */
export function inJsonString(of: Expression, made = new Map<Rule, Rule>()): Expression {
  switch (of.kind) {
    case "byte":
      return escapedBytes(of.low, of.high);
    case "sequence":
      return sequenceOf(of.parts.map((part) => inJsonString(part, made)));
    case "choice":
      return choiceOf(of.options.map((option) => inJsonString(option, made)));
    case "repeat":
      return repeat(inJsonString(of.of, made), of.least, of.most);
    case "rule": {
      const known = made.get(of);
      if (known) return known;
      if (of.late) {
        const late = lateRule(`${of.name}, escaped`, { nullable: of.late.nullable }, () => inJsonString(of.body, made));
        made.set(of, late);
        return late;
      }
      const own = rule(`${of.name}, escaped`, sequenceOf([]));
      made.set(of, own);
      own.body = inJsonString(of.body, made);
      return own;
    }
  }
}

function escapedBytes(low: number, high: number): Expression {
  const options: Expression[] = [];
  let from = low;
  const add = (to: number): void => {
    if (from <= to) options.push(byte(from, to));
  };
  for (let one = low; one <= Math.min(high, 0x5c); one++) {
    if (one >= 0x20 && one !== 0x22 && one !== 0x5c) continue;
    add(one - 1);
    options.push(literal(shortEscapes[one] ?? `\\u${one.toString(16).padStart(4, "0")}`));
    from = one + 1;
  }
  add(high);
  return choiceOf(options);
}
