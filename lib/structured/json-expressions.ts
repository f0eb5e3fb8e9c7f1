// Expressions for the parts of JSON. They are the same for all schemas, so the automaton's work for them is done once.
import { atOnce, type Steps } from "../util/turns.js";
import { allCharacters, type Characters, intersection, oneOfCharacters } from "./characters.js";
import {
  byte,
  choice,
  type Expression,
  literal,
  never,
  optionalPart,
  repeat,
  rule,
  type Rule,
  sequence,
  sequenceOf,
} from "./expression.js";
import { isPauseDue } from "./work.js";

const digit = byte(0x30, 0x39);
const hexadecimal = choice(digit, byte(0x41, 0x46), byte(0x61, 0x66));

/**
 * White space between the parts of a value: none, one space, or a new line with its indentation. Without a limit, a model
 * could write white space forever.
 */
export const space: Expression = rule(
  "white space",
  choice(sequence(), literal(" "), sequence(literal("\n"), repeat(choice(literal(" "), literal("\t")), 0, 40))),
);

/** Characters of a string that stand for themselves. */
const plain: Characters = [
  [0x20, 0x21],
  [0x23, 0x5b],
  [0x5d, 0xd7ff],
  [0xe000, 0x10ffff],
];
const plainCharacter = atOnce(oneOfCharacters(plain));
// A surrogate alone is no character, and two of them would be counted as one.
const hexadecimalEscape = sequence(
  literal("u"),
  choice(
    sequence(
      choice(digit, byte(0x41, 0x43), byte(0x45, 0x46), byte(0x61, 0x63), byte(0x65, 0x66)),
      repeat(hexadecimal, 3, 3),
    ),
    sequence(choice(byte(0x44), byte(0x64)), byte(0x30, 0x37), repeat(hexadecimal, 2, 2)),
  ),
);
const escape = sequence(literal("\\"), choice(...Array.from('"\\/bfnrt', literal), hexadecimalEscape));

/** One character of a string, however it is written. */
const character: Expression = choice(plainCharacter, escape);

const shortEscapes: Readonly<Record<number, string>> = {
  8: "\\b",
  9: "\\t",
  10: "\\n",
  12: "\\f",
  13: "\\r",
  0x22: '\\"',
  0x5c: "\\\\",
};

/** Returns one character of a set, as it is written in a string; the same expression for all characters each time. */
export function* stringCharacter(of: Characters): Steps<Expression> {
  return of.join() === allCharacters.join() ? anyStringCharacter : yield* charactersOfString(of);
}

function* charactersOfString(of: Characters): Steps<Expression> {
  const escaped: Expression[] = [];
  for (const [low, high] of of)
    for (let point = low; point <= Math.min(high, 0x5c); point++)
      if (point < 0x20 || point === 0x22 || point === 0x5c)
        escaped.push(literal(shortEscapes[point] ?? `\\u${point.toString(16).padStart(4, "0")}`));
  return choice(yield* oneOfCharacters(intersection(of, plain)), ...escaped);
}

const anyStringCharacter = atOnce(charactersOfString(allCharacters));

/** Returns a character of a key that is written without an escape, other than these. */
export function* keyCharacter(except: readonly string[]): Steps<Expression> {
  if (except.length === 0) return plainCharacter;
  const points = except.map((one) => one.codePointAt(0)!).sort((a, b) => a - b);
  const rest: [number, number][] = [];
  for (const [low, high] of plain) {
    let next = low;
    for (const point of points.filter((one) => low <= one && one <= high)) {
      if (point > next) rest.push([next, point - 1]);
      next = point + 1;
    }
    if (next <= high) rest.push([next, high]);
  }
  return yield* oneOfCharacters(rest);
}

/** Returns a string with a number of characters between these. */
export function stringOf(least: number, most: number): Expression {
  if (least === 0 && most === Infinity) return anyString;
  return quoted(repeat(character, least, most));
}

export function quoted(content: Expression): Rule {
  return rule("a string", sequence(literal('"'), content, literal('"')));
}

export const anyString: Rule = quoted(repeat(character, 0));

const wholeNumber = choice(literal("0"), sequence(byte(0x31, 0x39), repeat(digit, 0, 14)));
/** Digits after the point; their number is limited, since a model could write them forever. */
export const fraction: Expression = sequence(literal("."), repeat(digit, 1, 16));
const exponent = sequence(
  choice(literal("e"), literal("E")),
  optionalPart(choice(literal("+"), literal("-"))),
  choice(sequence(byte(0x31, 0x39), optionalPart(digit)), literal("0")),
);

/** An integer of at most 15 digits, which JavaScript's numbers hold. */
export const integer: Rule = rule("an integer", sequence(optionalPart(literal("-")), wholeNumber));
export const number: Rule = rule(
  "a number",
  sequence(optionalPart(literal("-")), wholeNumber, optionalPart(fraction), optionalPart(exponent)),
);
/** A number without a sign. */
export const naturalNumber: Rule = rule(
  "a number of at least 0",
  sequence(wholeNumber, optionalPart(fraction), optionalPart(exponent)),
);
export const boolean: Rule = rule("a boolean", choice(literal("true"), literal("false")));
export const nullValue: Rule = rule("null", literal("null"));

/** Returns `of` a number of times, with commas between. */
export function list(of: Expression, least: number, most: number): Expression {
  if (most === 0) return sequence();
  const further = repeat(sequence(separator, of), Math.max(0, least - 1), most - 1);
  const some = sequence(of, further);
  return least === 0 ? optionalPart(some) : some;
}

export const separator: Expression = sequence(literal(","), space);
export const colon: Expression = sequence(literal(":"), space);

export function objectOf(members: Expression): Expression {
  return enclosed("{", members, "}");
}

export function arrayOf(items: Expression): Expression {
  return enclosed("[", items, "]");
}

/** Returns an expression between brackets, as one list of parts, so that those that begin alike are found to do so. */
function enclosed(first: string, content: Expression, last: string): Expression {
  if (content === never) return never;
  const parts = content.kind === "sequence" ? content.parts : [content];
  return sequenceOf([literal(first), space, ...parts, space, literal(last)]);
}

export const anyValue: Rule = rule("a value", () => sequence());
export const anyObject: Rule = rule("an object", objectOf(list(sequence(anyString, colon, anyValue), 0, Infinity)));
export const anyArray: Rule = rule("an array", arrayOf(list(anyValue, 0, Infinity)));
anyValue.body = choice(anyString, number, anyObject, anyArray, boolean, nullValue);

/** Returns a value as JSON, with white space where other values have it. */
export function* jsonLiteral(value: unknown): Steps<Expression> {
  if (isPauseDue()) yield;
  if (typeof value !== "object" || value === null) return literal(JSON.stringify(value));
  const parts: Expression[] = [];
  if (Array.isArray(value)) {
    for (const item of value) parts.push(yield* jsonLiteral(item));
    return arrayOf(joined(parts));
  }
  for (const [key, member] of Object.entries(value))
    parts.push(sequence(literal(JSON.stringify(key)), colon, yield* jsonLiteral(member)));
  return objectOf(joined(parts));
}

/** Returns the parts with commas between. */
export function joined(parts: readonly Expression[]): Expression {
  return sequenceOf(parts.flatMap((part, i) => (i === 0 ? [part] : [separator, part])));
}

/** One character of any kind, for texts that are not JSON. */
export const anyCharacter: Expression = atOnce(oneOfCharacters(allCharacters));
