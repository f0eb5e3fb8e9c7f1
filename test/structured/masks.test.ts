/** The tokens that may follow, compared with a look at each token: with tokens that end within characters and names. */
import { describe, expect, test } from "vitest";
import { atOnce } from "../../lib/util/turns.js";
import { Automaton } from "../../lib/structured/automaton.js";
import { Constraint } from "../../lib/structured/constraint.js";
import type { Expression } from "../../lib/structured/expression.js";
import type { OutputFormat } from "../../lib/structured/output-format.js";
import { tokenTrie } from "../../lib/structured/token-trie.js";
import { Random } from "../support/random.js";
import { expressionOf, idsAllowed } from "./support.js";

/** Characters of all lengths, next to those that free texts may not have: U+2028, escapes and controls. */
const characters = [
  "a",
  "b",
  "Z",
  "1",
  " ",
  "é",
  "€",
  "\u2028",
  "\u2029",
  "\u0080",
  "\u00a0",
  "𝛼",
  '"',
  "\\",
  "\n",
].concat([
  ...[
    "\u007f",
    ":",
    ",",
    "{",
    "}",
    "_",
    "\ud7ff",
    "\ue000",
    "\uffff",
    "\u{10ffff}",
    "\t",
    "/",
    "\u2027",
    "\u202a",
    "0",
  ],
]);

/** Returns a vocabulary of all bytes, of bytes that are no characters, and of texts of up to 40 characters or parts of them. */
function tokensOf(seed: number): Uint8Array[] {
  const random = new Random(seed);
  const tokens: Uint8Array[] = Array.from({ length: 256 }, (_, one) => Uint8Array.of(one));
  // Overlong forms, half a surrogate, too large a character, a continuation without a beginning.
  const broken = [
    "c080",
    "c1a1",
    "e081a1",
    "f08181a1",
    "e08080",
    "f0808080",
    "eda080",
    "f4908080",
    "80616161",
    "61c3",
    "c3a9c3",
    "e282",
    "f09d9b",
    "ff61",
  ];
  for (const one of broken) tokens.push(Buffer.from(one, "hex"), Buffer.from(`6161${one}61`, "hex"));
  while (tokens.length < 2000) {
    const few = random.integer(3) > 0;
    const length = 1 + random.integer(random.integer(4) > 0 ? 6 : 40);
    const text = Array.from({ length }, () => characters[random.integer(few ? 6 : characters.length)]!).join("");
    const bytes = Buffer.from(text);
    tokens.push(bytes.subarray(random.integer(8) === 0 ? 1 : 0, bytes.length - (random.integer(8) === 0 ? 1 : 0)));
  }
  return tokens.filter(({ length }) => length > 0);
}

const tokens = tokensOf(1);
const automaton = new Automaton(atOnce(tokenTrie((id) => tokens[id]!, tokens.length, tokens.length)));

/** Compares the tokens at each place of some random texts. */
function compare(root: Expression, seed: number): void {
  const random = new Random(seed);
  let constraint = new Constraint(automaton, root);
  let state = automaton.start(root);
  for (let i = 0; i < 24; i++) {
    if (constraint.ended) [constraint, state] = [new Constraint(automaton, root), automaton.start(root)];
    const expected: number[] = [];
    for (const [id, bytes] of tokens.entries()) if (automaton.after(state, bytes)) expected.push(id);
    const found = idsAllowed(constraint, tokens.length).filter((id) => id < tokens.length);
    expect(found).toEqual(expected);
    if (expected.length === 0) return;
    const next = expected[random.integer(expected.length)]!;
    constraint.accept(next);
    state = automaton.after(state, tokens[next]!)!;
  }
}

const schema = (given: object): OutputFormat => ({ type: "json-schema", schema: given as Record<string, unknown> });
const string = { type: "string" };

describe("masks are those of a look at each token", () => {
  test.each<[string, OutputFormat]>([
    ["any string", schema(string)],
    ["few characters", schema({ ...string, maxLength: 3 })],
    ["some characters", schema({ ...string, minLength: 2, maxLength: 30 })],
    ["strings in a list, with what follows", schema({ type: "array", items: string })],
    [
      "names that are not those of the schema",
      schema({ properties: { ab: string, aZ: true }, additionalProperties: string }),
    ],
    ["names of a pattern", schema({ type: "object", patternProperties: { "^.{1,25}$": { type: "null" } } })],
    [
      "names of a pattern and of the schema",
      schema({ properties: { a: string }, patternProperties: { "^a": true, b$: string } }),
    ],
    ["a pattern somewhere in a short string", schema({ ...string, pattern: "[ab]1", maxLength: 9 })],
    ["a beginning, and any characters", schema({ ...string, pattern: "^a.*b" })],
    [
      "a pattern somewhere in a string of one length",
      schema({ ...string, pattern: "[ab]+", minLength: 6, maxLength: 6 }),
    ],
    [
      "words with a largest number and length",
      schema({ ...string, pattern: "^(?:\\S+\\s+){0,3}\\S+$", maxLength: 14 }),
    ],
    ["an end that a short string must have", schema({ ...string, pattern: "aab1$", maxLength: 7 })],
    [
      "many words, in a text that is longer than most tokens",
      schema({ ...string, pattern: "^(?:\\S+\\s+){0,9}\\S+$", minLength: 30, maxLength: 60 }),
    ],
    ["an end that a long string must have", schema({ ...string, pattern: "aab1$", maxLength: 45 })],
    ["letters and digits, but not everywhere", schema({ ...string, pattern: "^[a-zA-Z0-9]{0,5}_.*$", maxLength: 20 })],
    ["any of many numbers", schema({ type: "number", minimum: -12345.678, maximum: 9876543.21 })],
    [
      "any of many objects",
      schema({
        anyOf: Array.from({ length: 12 }, (_, i) => ({
          type: "object",
          properties: { a: { ...string, maxLength: i }, b: { const: i } },
          required: ["a"],
        })),
      }),
    ],
    ["as many letters as that somewhere", schema({ ...string, pattern: "[a-zA-Z]{12}" })],
    ["pairs somewhere", schema({ ...string, pattern: "(?:a1|[bZ]){2,3}" })],
    ["an expression that forbids an end", schema({ ...string, pattern: "^(?!.*b$)" })],
    ["all but line ends", { type: "regex", pattern: ".{2,12}" }],
    ["any characters and a mark", { type: "regex", pattern: "[^]*Z[^]{0,3}" }],
    ["a grammar", { type: "grammar", grammar: 'root ::= [^a]* "a" [^"]{0,4}' }],
    [
      "a rule with a limit, and a character that it may have, too",
      { type: "grammar", grammar: 'root ::= text "a" text "b"\ntext ::= [^\\x00-\\x1f]{0,5}' },
    ],
    [
      "a limit, and another limit",
      { type: "grammar", grammar: 'root ::= [^\\x00-\\x1f]{0,3} "\\n" text text\ntext ::= [^\\x00-\\x1f"]{0,4}' },
    ],
    [
      "a limit to what may be two characters",
      { type: "grammar", grammar: 'root ::= "\\x00" ([^\\x00-\\x1f] "a"?){0,3} "\\n"' },
    ],
    [
      "short strings of two lengths",
      schema({ anyOf: [2, 5].map((maxLength) => ({ type: "array", items: { ...string, maxLength } })) }),
    ],
    [
      "short strings of a pattern in a list",
      schema({ type: "array", items: { ...string, pattern: "^[^]*$", maxLength: 6, minLength: 2 } }),
    ],
    ["any JSON", { type: "json" }],
  ])("%s", (_, format) => {
    const root = expressionOf(format);
    for (let seed = 0; seed < 3; seed++) compare(root, seed);
  });
});
