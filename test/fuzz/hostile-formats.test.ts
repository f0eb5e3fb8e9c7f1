/**
 * Formats that somebody made to hold up a server: repeated empties, crowds of alternatives, deep nesting, and schemas of
 * megabytes. Each is followed or refused, in short turns of the event loop and within a limit of memory.
 */
import fc from "fast-check";
import { expect } from "vitest";
import { HeedError } from "../../lib/util/errors.js";
import type { JsonSchema } from "../../lib/util/json-schema.js";
import { Automaton } from "../../lib/structured/automaton.js";
import { Constraint } from "../../lib/structured/constraint.js";
import { formatExpression } from "../../lib/structured/format-expression.js";
import type { OutputFormat } from "../../lib/structured/output-format.js";
import { tokenTrie } from "../../lib/structured/token-trie.js";
import { atOnce, inTurns } from "../../lib/util/turns.js";
import { idsAllowed } from "../structured/support.js";
import { expectNoPause } from "../support/pauses.js";
import { Random } from "../support/random.js";
import { fuzz } from "./fuzz.js";

const random = new Random(5);
const letters = 'abcdefghijklmnopqrstuvwxyz "{}[],:0123456789';
const words = Array.from({ length: 4000 }, () =>
  Array.from({ length: 2 + random.integer(9) }, () => letters[random.integer(letters.length)]).join(""),
);
const tokens = [
  ...Array.from({ length: 256 }, (_, one) => Uint8Array.of(one)),
  ...words.map((word) => Buffer.from(word)),
];
const trie = atOnce(tokenTrie((id) => tokens[id]!, tokens.length, tokens.length));

const count = fc.constantFrom(0, 1, 2, 3, 9, 30, 400, 5000, 100_000);
const times = fc.oneof(
  fc.constantFrom("*", "+", "?"),
  fc.tuple(count, count).map(([a, b]) => `{${Math.min(a, b)},${Math.max(a, b)}}`),
  count.map((n) => `{0,${n}}`),
);
/** Returns a text that is repeated, but not so often that it has megabytes. */
const often = (text: string, n: number): string => text.repeat(Math.min(n, Math.ceil(60_000 / (text.length + 1))));

/** Regular expressions that are small, and those in which a part stands thousands of times, or at a great depth. */
const pattern = fc.letrec<{ any: string }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 5 },
    fc.constantFrom(
      "",
      "a",
      "b",
      ".",
      "[^a]",
      "\\d",
      "\\p{L}",
      "\\p{Script=Greek}",
      "a{0}",
      "ab",
      "(?:)",
      "é",
      "[a-z]",
    ),
    fc.tuple(tie("any"), times).map(([of, how]) => `(?:${of})${how}`),
    fc.array(tie("any"), { minLength: 2, maxLength: 5 }).map((options) => `(?:${options.join("|")})`),
    fc.tuple(tie("any"), tie("any")).map((parts) => parts.join("")),
    fc.tuple(tie("any"), fc.constantFrom("=", "!")).map(([of, kind]) => `(?${kind}${of})`),
    fc.tuple(tie("any"), fc.constantFrom(3, 50, 3000)).map(([of, n]) => often(`(?:${of})`, n)),
    fc
      .tuple(tie("any"), fc.constantFrom(3, 40, 9500), times)
      .map(([of, n, how]) => "(?:".repeat(n) + of + `|a)${how}`.repeat(n)),
  ),
})).any;

/** Grammars whose rules begin with each other, or with what may be empty. */
const grammar = fc
  .tuple(
    fc.array(
      fc.array(
        fc.array(fc.constantFrom('"a"', '""', '"b"?', "[^x]*", "r0", "r1?", "r2*", "(r3 | )", "(r1 r1)+"), {
          maxLength: 4,
        }),
        {
          minLength: 1,
          maxLength: 3,
        },
      ),
      { minLength: 4, maxLength: 4 },
    ),
    fc.constantFrom(1, 30, 2000),
  )
  .map(([rules, n]) => {
    const named = rules.map((options, i) => `r${i} ::= ${options.map((parts) => parts.join(" ")).join(" | ")}`);
    const chain = Array.from({ length: n }, (_, i) => `c${i} ::= c${i + 1} c${i + 1}?`);
    return [`root ::= r0 "." c0`, ...named, ...chain, `c${n} ::= "b"?`].join("\n");
  });

/** Returns a schema within `n` others. */
function nested(n: number, around: (inner: JsonSchema) => JsonSchema): JsonSchema {
  let schema: JsonSchema = { type: "null" };
  for (let i = 0; i < n; i++) schema = around(schema);
  return schema;
}

const list = <T>(n: number, of: (i: number) => T): T[] => Array.from({ length: n }, (_, i) => of(i));
const byName = <T>(n: number, of: (i: number) => T): Record<string, T> =>
  Object.fromEntries(list(n, (i) => [`n${i}`, of(i)] as const));

const size = fc.constantFrom(3, 60, 900, 9500);
const schema: fc.Arbitrary<JsonSchema> = fc.oneof(
  fc.tuple(pattern, fc.nat({ max: 3 })).map(([of, i]): JsonSchema => {
    return {
      type: "string",
      pattern: of,
      ...[{}, { maxLength: 40 }, { minLength: 300, maxLength: 100_000 }, { format: "email" }][i],
    };
  }),
  fc.tuple(pattern, pattern).map(([a, b]): JsonSchema => ({
    patternProperties: { [a]: { type: "null" }, [b]: true },
    additionalProperties: false,
  })),
  fc
    .tuple(pattern, size)
    .map(([of, n]): JsonSchema => ({ type: "object", properties: byName(n, () => ({ type: "string", pattern: of })) })),
  fc
    .tuple(size, fc.boolean())
    .map(([n, wide]): JsonSchema => ({ const: wide ? "x".repeat(300 * n) : list(20 * n, (i) => i) })),
  fc
    .tuple(size, pattern)
    .map(([n, of]): JsonSchema => ({ enum: list(4 * n, (i) => (i % 3 === 0 ? [i] : `value ${i}`)), pattern: of })),
  size.map((n): JsonSchema => ({
    anyOf: list(n, (i) => ({ type: "object", properties: { a: { minimum: i } }, required: ["a"] })),
  })),
  size.map((n): JsonSchema => ({ oneOf: list(n, (i) => ({ type: "array", minItems: i, items: { maxLength: i } })) })),
  size.map((n): JsonSchema => ({ allOf: list(n, (i) => ({ anyOf: [{ minLength: i }, { maxItems: i }] })) })),
  size.map((n): JsonSchema => ({
    required: list(4 * n, (i) => `n${i}`),
    minProperties: 2,
    dependentRequired: byName(n, () => ["n1"]),
  })),
  fc
    .tuple(size, fc.nat({ max: 4 }))
    .map(([n, i]) =>
      nested(
        n,
        (inner) =>
          [
            { type: "array", items: inner },
            { type: "object", properties: { a: inner }, required: ["a"] },
            { not: inner },
            { allOf: [{ anyOf: [inner, { type: "string" }] }] },
            { if: inner, then: { minLength: 1 }, else: false },
          ][i] as JsonSchema,
      ),
    ),
  fc.tuple(size, fc.nat({ max: 2 }), fc.integer({ min: 1, max: 7 })).map(([n, i, step]): JsonSchema => {
    const to = (at: number): object => ({ $ref: `#/$defs/n${at % n}` });
    const $defs = byName(
      n,
      (at) =>
        [
          to(at + step),
          { type: "object", properties: { l: to(step * at + 1), r: to(3 * at + step) }, maxProperties: at },
          { type: "array", items: to(at + step), anyOf: [to(step * at + 1), { minItems: at }] },
        ][i],
    );
    return { ...to(0), $defs };
  }),
);

const format = fc.oneof<fc.Arbitrary<OutputFormat>[]>(
  pattern.map((of) => ({ type: "regex", pattern: of })),
  grammar.map((of) => ({ type: "grammar", grammar: of })),
  schema.map((of) => ({ type: "json-schema", schema: of })),
  fc
    .tuple(size, fc.constantFrom("a", "ab", "é"))
    .map(([n, of]) => ({ type: "choice", choices: list(n, (i) => `${of.repeat(i % 700)}${i}`) })),
);

/** Reads a format and generates some tokens of it. */
async function follow(given: OutputFormat, automaton: Automaton, seed: number): Promise<void> {
  const drawn = new Random(seed);
  const constraint = new Constraint(automaton, await inTurns(formatExpression(given)));
  for (let i = 0; i < 12 && !constraint.ended; i++) {
    await inTurns(constraint.findAllowed());
    const ids = idsAllowed(constraint, tokens.length);
    const id = ids[drawn.integer(ids.length)]!;
    if (id === tokens.length) return;
    constraint.accept(id);
  }
}

fuzz("hostile formats", fc.tuple(format, fc.nat()), { ci: 60, nightly: 4000 }, async ([given, seed]) => {
  const automaton = new Automaton(trie);
  let most = 0;
  await expectNoPause(async () => {
    try {
      await follow(given, automaton, seed);
    } catch (error) {
      expect(error).toBeInstanceOf(HeedError);
      expect((error as HeedError).code).toBe("ERR_ARGUMENT");
      expect((error as HeedError).message.length).toBeLessThanOrEqual(1000);
    }
    most = Math.max(most, automaton.bytes);
  });
  expect(most).toBeLessThan(32 * 2 ** 20);
});
