/** Texts that have to match: what the automaton allows, for every kind of format and of vocabulary. */
import { Ajv2020 } from "ajv/dist/2020.js";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { JsonSchema } from "../../lib/util/json-schema.js";
import type { OutputFormat } from "../../lib/structured/output-format.js";
import { Constraint } from "../../lib/structured/constraint.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import type { Tokenizer } from "../../lib/tokenizer/tokenizer.js";
import { expectError } from "../support/errors.js";
import { nightly } from "../support/nightly.js";
import { Random } from "../support/random.js";
import { byteLevelJson, unigramJson } from "../tokenizer/fixtures.js";
import { schemas } from "./random-schemas.js";
import { automatonOf, expressionOf, idsAllowed, randomText } from "./support.js";

const tokenizers: Record<string, Tokenizer> = {
  bytes: new ByteTokenizer(),
  "byte-level": new HuggingFaceTokenizer(byteLevelJson()),
  unigram: new HuggingFaceTokenizer(unigramJson(true)),
};
const automata = Object.entries(tokenizers).map(([name, tokenizer]) => [name, automatonOf(tokenizer)] as const);
const ajv = new Ajv2020({ strict: false });
for (const format of ["date", "time", "date-time", "uuid", "ipv4"])
  ajv.addFormat(format, (text) => (format === "date" ? !Number.isNaN(Date.parse(text)) : text.length > 0));

describe("random schemas", () => {
  test.each(automata)("%s", (_, automaton) => {
    let ended = 0;
    fc.assert(
      fc.property(schemas, fc.nat(), (schema, seed) => {
        const root = expressionOf({ type: "json-schema", schema });
        const found = randomText(automaton, root, seed, 600);
        if (!found.ended) return;
        ended++;
        const valid = ajv.compile(schema);
        expect(valid(JSON.parse(found.text)), `${found.text}: ${ajv.errorsText(valid.errors)}`).toBe(true);
      }),
      { numRuns: nightly ? 1000 : 40, seed: nightly ? undefined : 1 } as object,
    );
    expect(ended).toBeGreaterThan(nightly ? 900 : 34);
  });
});

test("the tokens that are allowed are those after which the text goes on", () => {
  fc.assert(
    fc.property(schemas, fc.nat(), fc.nat({ max: automata.length - 1 }), (schema, seed, which) => {
      const [, automaton] = automata[which]!;
      const root = expressionOf({ type: "json-schema", schema });
      const random = new Random(seed);
      const constraint = new Constraint(automaton, root);
      const { tokens, size } = automaton.trie;
      let state = automaton.start(root);
      for (let i = 0; i < 30 && !constraint.ended; i++) {
        const ids = idsAllowed(constraint, size).filter((id) => id < size);
        const expected = [...tokens.keys()].filter(
          (id) => tokens[id]!.length > 0 && automaton.after(state, tokens[id]!) !== null,
        );
        expect(ids).toEqual(expected);
        const id = ids[random.integer(ids.length)]!;
        state = automaton.after(state, tokens[id]!)!;
        constraint.accept(id);
      }
    }),
    { numRuns: nightly ? 500 : 15 },
  );
});

const matches: Record<string, [OutputFormat, string[], string[]]> = {
  regex: [
    { type: "regex", pattern: "(?:ab|[c-eé]+)?x{2,3}\\d" },
    ["xx1", "abxxx2", "cédxx0"],
    ["", "abx1", "xx", "axx1"],
  ],
  "regex with anchors": [{ type: "regex", pattern: "^a$|b" }, ["a", "b"], ["ab", ""]],
  "regex with classes": [
    { type: "regex", pattern: "[^\\s\\w]\\u{1F600}\\.\\p{Lu}." },
    ["-😀.ÄX", "é😀.Ab"],
    ["a😀.Äx", "-😀.äx", "-😀.A\n"],
  ],
  choice: [{ type: "choice", choices: ["yes", "yes, sir", "näin"] }, ["yes", "yes, sir", "näin"], ["", "yes,", "no"]],
  grammar: [
    {
      type: "grammar",
      grammar: '# sums\nroot ::= term ([+-] term)*\nterm ::= [0-9]+ | "(" root ")"\n  | \'\\u0078\'{2,3}',
    },
    ["1", "12+(3-4)", "((1))-2", "xx+xxx"],
    ["", "1+", "(1", "1)", "x"],
  ],
  json: [
    { type: "json" },
    ["{}", '{"a": [1, -2.5e3, "\\u00e9", {"b": null}]}', "[]", "[[]]"],
    ["", "1", "[1", '{"a"}', '{"a": 01}'],
  ],
  "any other member": [
    {
      type: "json-schema",
      schema: { type: "object", properties: { age: { type: "integer" } }, additionalProperties: { type: "string" } },
    },
    ['{"age": 1, "ag": "x"}', '{"agee": "", "b": "c"}', '{"age": 5}', "{}"],
    ['{"age": "x"}', '{"b": 1}', '{"b": "c", "age": "x"}', '{"a\\u0067e": "x"}'],
  ],
  recursion: [
    {
      type: "json-schema",
      schema: {
        $defs: {
          tree: {
            type: "object",
            properties: { next: { $ref: "#/$defs/tree" }, n: { type: "null" } },
            required: ["n"],
          },
        },
        $ref: "#/$defs/tree",
      },
    },
    ['{"n": null}', '{"next": {"next": {"n": null}, "n": null}, "n": null}'],
    ["{}", '{"next": {}, "n": null}'],
  ],
  "disjoint options": [
    {
      type: "json-schema",
      schema: {
        oneOf: [
          { type: "object", properties: { kind: { const: "a" } }, required: ["kind"] },
          { type: "object", properties: { kind: { const: "b" }, n: { type: "integer" } }, required: ["kind"] },
        ],
      },
    },
    ['{"kind": "a"}', '{"kind":"b","n":3}', '{\n  "kind": "b"\n}'],
    ['{"kind": "c"}', '{"kind": "a", "n": 3}'],
  ],
  "a long text": [
    { type: "json-schema", schema: { type: "string", minLength: 3, maxLength: 300 } },
    [`"${"é".repeat(300)}"`, '"a\\n\\u00e9"'],
    ['"ab"', `"${"x".repeat(301)}"`],
  ],
};

test.each(Object.entries(matches))("%s", (_, [format, good, bad]) => {
  const root = expressionOf(format);
  for (const [, automaton] of automata)
    for (const [texts, expected] of [
      [good, true],
      [bad, false],
    ] as const)
      for (const text of texts)
        expect(automaton.after(automaton.start(root), Buffer.from(text))?.accepts ?? false, text.slice(0, 50)).toBe(
          expected,
        );
});

test("integers between bounds, all of them and no others", () => {
  const automaton = automata[0]![1];
  const random = new Random(3);
  for (let i = 0; i < (nightly ? 200 : 6); i++) {
    const [a, b] = [random.integer(2500) - 1250, random.integer(2500) - 1250];
    const [minimum, maximum] = [Math.min(a, b), Math.max(a, b)];
    const root = expressionOf({ type: "json-schema", schema: { type: "integer", minimum, maximum } });
    for (let n = -1300; n <= 1300; n++)
      expect(automaton.after(automaton.start(root), Buffer.from(String(n)))?.accepts ?? false).toBe(
        minimum <= n && n <= maximum,
      );
  }
});

const schemaError = (schema: object): OutputFormat => ({
  type: "json-schema",
  schema: schema as Record<string, unknown>,
});
const refused: [OutputFormat, RegExp][] = [
  [
    schemaError({ type: "object", properties: { a: { type: "array", uniqueItems: true } } }),
    /schema at #\/properties\/a\/uniqueItems: heed does not support/,
  ],
  [
    schemaError({ not: { properties: { a: { type: "array", items: { type: "null" } } } } }),
    /schema at #\/not\/properties\/a\/not\/items: heed does not support the opposite of items/,
  ],
  [schemaError({ type: "text" }), /schema at #\/type: expected string.*got "text"/],
  [schemaError({ $ref: "#/$defs/x" }), /schema at #\/\$ref: expected a schema at #\/\$defs\/x/],
  [schemaError({ $ref: "https://x.org" }), /expected a reference within the schema/],
  [
    schemaError({ oneOf: [{ type: "integer" }, { type: "number" }] }),
    /schema at #\/oneOf: heed does not support options of which/,
  ],
  [schemaError({ type: "string", pattern: "(" }), /schema at #\/pattern: expected a regular expression/],
  [
    schemaError({ type: "string", pattern: "(?<=a)b" }),
    /schema at #\/pattern: expected a regular expression without "\(\?<"/,
  ],
  [schemaError({ type: "string", format: "regex" }), /schema at #\/format: heed does not support the format "regex"/],
  [
    schemaError({ type: "number", multipleOf: 1e-12 }),
    /#\/multipleOf: heed does not support multiples of numbers with so many digits/,
  ],
  [schemaError({ type: "integer", minimum: "1" }), /#\/minimum: expected a number, got "1"/],
  [schemaError({ type: "string", minLength: 3, maxLength: 2 }), /expected a text that can end/],
  [
    schemaError({
      $defs: { a: { type: "object", properties: { a: { $ref: "#/$defs/a" } }, required: ["a"] } },
      $ref: "#/$defs/a",
    }),
    /#\/\$defs\/a, which never ends|never ends/,
  ],
  [{ type: "regex", pattern: "\\bword" }, /format.pattern: expected a regular expression without "\\b"/],
  [{ type: "choice", choices: [] }, /format.choices: expected an array/],
  [{ type: "grammar", grammar: "root ::= a" }, /grammar, line 1, column 10: expected a rule named a/],
  [{ type: "grammar", grammar: 'start ::= "a"' }, /expected a rule named root/],
  [{ type: "grammar", grammar: 'root ::= "a' }, /expected the end of a text/],
  [{ type: "grammar", grammar: 'root ::= root "a" | "b"' }, /expected no rule to begin with itself, got root/],
  [{ type: "xml" } as never, /format.type: expected json, .*got "xml"/],
];

test("choices that begin alike are told apart", () => {
  const text = fc.string({ unit: fc.constantFrom("a", "b", "é", "\u{1f40b}", '"'), maxLength: 5 });
  const [, automaton] = automata[0]!;
  fc.assert(
    fc.property(fc.array(text, { minLength: 1, maxLength: 12 }), fc.array(text), (choices, others) => {
      const start = automaton.start(expressionOf({ type: "choice", choices }));
      for (const one of [...choices, ...others])
        expect(automaton.after(start, Buffer.from(one))?.accepts ?? false, one).toBe(choices.includes(one));
    }),
    { numRuns: nightly ? 5000 : 200 },
  );
});

test("a format may be long, but not nested without a limit", () => {
  const names = Array.from({ length: 3000 }, (_, i) => `name ${i}`);
  const properties = Object.fromEntries(names.map((name) => [name, { type: "null" }]));
  const schema = { type: "object", properties, required: names };
  const [, automaton] = automata[0]!;
  for (const format of [{ type: "choice", choices: names } as const, { type: "json-schema", schema } as const])
    expect(new Constraint(automaton, expressionOf(format)).ended).toBe(false);
  const optional: OutputFormat = { type: "json-schema", schema: { type: "object", properties } };
  expectError(() => expressionOf(optional), "ERR_ARGUMENT", /more than 1024 properties that are not required/);
  let deep: JsonSchema = { type: "null" };
  for (let i = 0; i < 20_000; i++) deep = { type: "array", items: deep };
  const nested: OutputFormat[] = [
    { type: "json-schema", schema: deep },
    { type: "regex", pattern: `${"(?:".repeat(50_000)}a${")".repeat(50_000)}` },
    { type: "grammar", grammar: `root ::= ${"(".repeat(50_000)}"a"${")".repeat(50_000)}` },
  ];
  for (const format of nested)
    expectError(() => expressionOf(format), "ERR_ARGUMENT", /expected parts that are nested less deeply/);
});

test.each(refused)("%j is refused", (format, message) => {
  expectError(() => expressionOf(format), "ERR_ARGUMENT", message);
});
