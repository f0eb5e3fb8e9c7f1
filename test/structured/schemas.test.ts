/** JSON schemas, keyword by keyword: what is accepted, what is not, and what is refused before a text begins. */
import { describe, expect, test } from "vitest";
import type { Expression } from "../../lib/structured/expression.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { expectError } from "../support/errors.js";
import { nightly } from "../support/nightly.js";
import { ajvOf } from "./oracle.js";
import { sampler } from "./sample.js";
import { acceptedBy, automatonOf, schemaOf as read } from "./support.js";

const automaton = automatonOf(new ByteTokenizer());
const accepts = (root: Expression, text: string): boolean => acceptedBy(automaton, root, text);

const draft4 = "http://json-schema.org/draft-04/schema#";
const draft7 = "http://json-schema.org/draft-07/schema#";
const object = (properties: object, ...required: string[]) => ({ type: "object", properties, required });

/** Schemas with values that are accepted and values that are not. Each is checked with ajv, too. */
const cases: Record<string, [schema: object, good: unknown[], bad: unknown[]]> = {
  "an anchor": [
    { $defs: { a: { $anchor: "here", type: "integer" } }, type: "array", items: { $ref: "#here" } },
    [[1, 2]],
    [["a"], 1],
  ],
  "a reference under an $id": [
    {
      $id: "https://example.com/root",
      $defs: {
        inner: { $id: "other", $defs: { x: { type: "integer" } }, type: "array", items: { $ref: "#/$defs/x" } },
        x: { type: "string" },
      },
      $ref: "other",
    },
    [[1]],
    [["a"]],
  ],
  "a reference with escapes": [
    { $defs: { "a/b~c d": { type: "null" } }, type: "array", items: { $ref: "#/$defs/a~1b~0c%20d" } },
    [[null]],
    [[1]],
  ],
  "siblings of $ref in allOf and anyOf": [
    {
      $defs: { text: { type: "string" } },
      allOf: [{ $ref: "#/$defs/text", maxLength: 2 }],
      anyOf: [{ $ref: "#/$defs/text", minLength: 1 }],
    },
    ["a", "ab"],
    ["", "abc", 1],
  ],
  "items and prefixItems of different subschemas": [
    {
      type: "array",
      allOf: [
        { prefixItems: [{ type: "integer" }], items: { type: ["string", "integer"] } },
        { items: { type: ["integer", "null"] } },
      ],
    },
    [[], [1], [1, 2]],
    [["a"], [1, "a"], [1, null]],
  ],
  "false in merging": [
    { allOf: [object({ a: false, b: {} }), object({ a: { type: "integer" } })] },
    [{}, { b: 1 }],
    [{ a: 1 }],
  ],
  "const beside enum and length": [{ enum: ["a", "abc", 5], const: "abc", maxLength: 3 }, ["abc"], ["a", 5]],
  "enum beside a pattern": [{ enum: ["ab", "b", 1, null], pattern: "^a" }, ["ab", 1, null], ["b"]],
  "large bounds": [{ type: "number", minimum: 1e20 }, [1e20, 5e20], [1, 1e19, -1e20]],
  "large integers": [
    { type: "integer", minimum: -1e21, exclusiveMaximum: 1e21 },
    [0, 999999999999999, -999999999999999],
    [0.5],
  ],
  "numbers near an exclusive 0": [
    { type: "number", exclusiveMinimum: 0, exclusiveMaximum: 1 },
    [0.5, 0.000001, 0.999999999999999],
    [0, 1, -0.5, 1.5],
  ],
  "small bounds": [{ type: "number", minimum: 0.0000001, maximum: 0.00025 }, [0.0000025, 0.0002], [0, 0.0003]],
  "bounds of draft 4": [
    { $schema: draft4, type: "number", minimum: 1, exclusiveMinimum: true, maximum: 2.5 },
    [1.1, 2.5],
    [1, 2.6],
  ],
  "negative bounds": [{ type: "number", minimum: -2.5, maximum: -0.25 }, [-2.5, -1, -0.25], [-2.6, -0.2, 0]],
  multiples: [{ type: "integer", minimum: -50, maximum: 1000, multipleOf: 35 }, [0, 35, -35, 980], [1, 34, 70.5, 1015]],
  "multiples among large values": [{ enum: [1.5e300, 7e20, 21, 22], multipleOf: 7 }, [7e20, 21], [1.5e300, 22]],
  "multiples of powers of ten": [{ type: "integer", multipleOf: 600 }, [0, 600, -1200, 6000], [60, 100, 900]],
  "oneOf of overlapping required": [
    {
      ...object({ a: { type: "integer" }, b: { type: "integer" } }),
      oneOf: [{ required: ["a"] }, { required: ["b"] }],
    },
    [{ a: 1 }, { b: 1 }],
    [{}, { a: 1, b: 1 }],
  ],
  "if, then and else": [
    {
      ...object({ kind: { enum: ["a", "b"] }, x: { type: "integer" } }, "kind"),
      if: { properties: { kind: { const: "a" } } },
      then: { required: ["x"] },
      else: { properties: { x: false } },
    },
    [{ kind: "a", x: 1 }, { kind: "b" }],
    [{ kind: "a" }, { kind: "b", x: 1 }],
  ],
  not: [{ ...object({ a: {}, b: {} }), not: { required: ["a"] } }, [{}, { b: 1 }], [{ a: 1 }]],
  "excluded values": [{ type: ["string", "integer"], not: { enum: ["a", 7] } }, ["b", "", 6, 70], ["a", 7]],
  dependentRequired: [
    { ...object({ a: {}, b: {} }), dependentRequired: { a: ["b"] } },
    [{}, { b: 1 }, { a: 1, b: 1 }],
    [{ a: 1 }],
  ],
  unevaluatedProperties: [
    { $defs: { base: object({ a: {} }) }, $ref: "#/$defs/base", properties: { b: {} }, unevaluatedProperties: false },
    [{ a: 1 }, { b: 1 }],
    [{ c: 1 }],
  ],
  contains: [
    { type: "array", contains: { const: 1 }, maxItems: 3 },
    [[1], ["a", 1], [2, 2, 1]],
    [[], [2], [1, 1, 1, 1]],
  ],
  "uniqueItems of a few values": [
    { type: "array", items: { enum: ["a", "b", null] }, uniqueItems: true, minItems: 1 },
    [["b"], ["b", "a"], [null, "a", "b"]],
    [[], ["a", "a"], ["c"]],
  ],
  "a tuple of draft 4": [
    { $schema: draft4, type: "array", items: [{ type: "integer" }, { type: "string" }], additionalItems: false },
    [[], [1], [1, "a"]],
    [["a"], [1, "a", 1]],
  ],
  "a tuple of draft 7": [
    { $schema: draft7, type: "array", items: [{ type: "integer" }], additionalItems: { type: "null" } },
    [[1], [1, null]],
    [[1, 1]],
  ],
  propertyNames: [
    { type: "object", propertyNames: { pattern: "^[a-z]+$", maxLength: 3 }, additionalProperties: { type: "integer" } },
    [{ a: 1, abc: 2 }, {}],
    [{ A: 1 }, { abcd: 1 }, { a: "x" }],
  ],
  "names that no text can have": [
    { type: "object", propertyNames: { minLength: 2, maxLength: 1 } },
    [{}],
    [{ a: 1 }, { "": 1 }],
  ],
  patternProperties: [
    {
      type: "object",
      patternProperties: { "^x-": { type: "integer" }, y$: { minimum: 3 } },
      additionalProperties: false,
    },
    [{ "x-a": 1 }, { "x-y": 3 }, { y: "a" }],
    [{ "x-a": "a" }, { "x-y": 1 }, { y: 1 }, { a: 1 }],
  ],
  "additionalProperties in one of several schemas": [
    { allOf: [object({ a: {}, b: {} }), { properties: { a: {} }, additionalProperties: false }] },
    [{ a: 1 }],
    [{ b: 1 }],
  ],
  "a required name without a schema": [
    { type: "object", properties: { a: {} }, required: ["b"] },
    [{ b: 1 }],
    [{ a: 1 }],
  ],
  "counted properties": [
    { ...object({ a: {}, b: {}, c: {} }), minProperties: 1, maxProperties: 2 },
    [{ b: 1 }, { a: 1, c: 1 }],
    [{}, { a: 1, b: 1, c: 1 }],
  ],
  "untyped minLength": [{ minLength: 3 }, ["abc", 5, null, [], {}], ["ab"]],
  "untyped properties": [{ properties: { a: { type: "integer" } } }, [{ a: 1 }, {}, "x", 5], [{ a: "x" }]],
  "untyped items": [{ items: { type: "integer" } }, [[1], "x", {}], [["x"]]],
  "a pattern beside lengths": [
    { type: "string", pattern: "^(ab)+$", minLength: 3, maxLength: 6 },
    ["abab", "ababab"],
    ["ab", "abababab"],
  ],
  "a pattern with lookaheads": [
    { type: "string", pattern: "^(?!.*--)(?=.*\\d)[a-z\\d-]+$" },
    ["a-1", "1"],
    ["abc", "a--1"],
  ],
  "two patterns": [{ allOf: [{ pattern: "^a" }, { pattern: "b$" }], type: "string" }, ["ab", "acb"], ["a", "b"]],
  "a pattern that needs JavaScript's older syntax": [{ type: "string", pattern: "^[\\w-.]+\\-$" }, ["a.b--"], ["a b-"]],
  "a format beside a pattern": [
    { type: "string", format: "email", pattern: "@example\\.com$" },
    ["joe@example.com"],
    ["joe@example.org", "@example.com"],
  ],
  "an unknown keyword and format": [{ type: "string", colour: "red", format: "colour" }, ["a"], [1]],
};

test.each(Object.entries(cases))("%s", (_, [schema, good, bad]) => {
  const root = read(schema);
  const valid = ajvOf(schema)!;
  for (const [values, expected] of [
    [good, true],
    [bad, false],
  ] as const)
    for (const value of values) {
      expect(valid(value), `ajv: ${JSON.stringify(value)}`).toBe(expected);
      expect(accepts(root, JSON.stringify(value)), JSON.stringify(value)).toBe(expected);
    }
  const sample = sampler(root);
  for (let seed = 0; seed < 20; seed++) {
    const text = sample(seed, 100);
    expect(valid(JSON.parse(text)), text).toBe(true);
  }
});

const refused: [schema: object, message: RegExp, strict?: boolean][] = [
  [{ type: "array", uniqueItems: true }, /schema at #\/uniqueItems: heed does not support/],
  [{ type: "array", contains: { const: 1 }, minContains: 2 }, /#\/minContains/],
  [{ allOf: [{ properties: null }] }, /#\/allOf\/0\/properties: expected an object, got null/],
  [{ properties: { a: { required: true } } }, /#\/properties\/a\/required: expected an array of names, got true/],
  [{ $defs: { a: { $anchor: "a" } }, $ref: "#b" }, /#\/\$ref: expected a schema at #b, got none/],
  [{ $ref: "#" }, /expected a schema that does not refer to itself/],
  [{ anyOf: [{ $ref: "#" }, { type: "null" }] }, /expected a schema that does not refer to itself/],
  [
    { oneOf: [{ type: "object" }, { properties: { a: { items: {} } } }] },
    /heed does not support the opposite of items/,
  ],
  [{ oneOf: [{ const: { a: 1, b: 2 } }, { const: { b: 2, a: 1 } }] }, /expected a text that can end/],
  [{ extends: {} }, /#\/extends: heed does not support this keyword/],
  [{ type: "string", colour: "red" }, /#\/colour: expected a keyword of JSON Schema/, true],
  [{ type: "string", format: "colour" }, /#\/format: heed does not support the format "colour"/, true],
  [{ type: "object", minProperties: 3 }, /#\/minProperties/],
];

test.each(refused)("%j is refused", (schema, message, strict = false) => {
  expectError(() => read(schema, strict), "ERR_ARGUMENT", message);
});

test("recursion: a part that would have to contain itself is left out", () => {
  const tree = { ...object({ left: { $ref: "#" }, value: { type: "integer" }, endless: { $ref: "#/$defs/e" } }) };
  const schema = { $defs: { e: object({ e: { $ref: "#/$defs/e" } }, "e") }, ...tree };
  const root = read(schema);
  expect(accepts(root, '{"left":{"left":{},"value":1}}')).toBe(true);
  expect(accepts(root, '{"left":{},"endl')).toBe(false);
  expect(automaton.after(automaton.start(root), Buffer.from('{"endl'))).toBeNull();
});

describe("formats", () => {
  const texts: Record<string, [good: string[], bad: string[]]> = {
    date: [
      ["2024-01-31", "2024-02-29", "2000-02-29", "2023-12-30"],
      ["2023-02-29", "1900-02-29", "2023-04-31", "2023-13-01", "2023-1-1"],
    ],
    "date-time": [
      ["2024-02-29T23:59:59.123Z", "2024-10-31T00:00:00+02:00"],
      ["2023-02-29T00:00:00Z", "2024-10-31"],
    ],
    duration: [
      ["P3Y6M4DT12H30M5S", "PT5M", "P2W"],
      ["P", "PT", "P1", "5M"],
    ],
    uri: [
      [
        "https://Example.com:8080/a%20b?q=1&r=%C3%A9#top",
        "http://[::1]/",
        "mailto:joe@example.com",
        "urn:isbn:0451450523",
      ],
      ["example.com", "http://a b", "http://a/%zz"],
    ],
    hostname: [
      ["a", "Example.com", "xn", `${"a".repeat(63)}.org`, "a-b.c"],
      ["-a", "a-", "a..b", "a".repeat(64)],
    ],
    ipv6: [
      ["::1", "2001:db8::8a2e:370:7334", "::ffff:1.2.3.4"],
      [":", "1::2::3", "12345::", "1:2:3:4:5:6:7"],
    ],
    uuid: [["2EB8AA08-aa98-11ea-b4aa-73b441d16380"], ["2EB8AA08aa9811eab4aa73b441d16380"]],
    "json-pointer": [
      ["", "/a~1b/0"],
      ["a", "/~2"],
    ],
  };

  test.each(Object.entries(texts))("%s", (format, [good, bad]) => {
    const schema = { type: "string", format };
    const [root, valid] = [read(schema), ajvOf(schema)!];
    for (const [list, expected] of [
      [good, true],
      [bad, false],
    ] as const)
      for (const text of list) {
        expect(valid(text), `ajv: ${text}`).toBe(expected);
        expect(accepts(root, JSON.stringify(text)), text).toBe(expected);
      }
    const sample = sampler(root);
    for (let seed = 0; seed < (nightly ? 1000 : 40); seed++) {
      const text = sample(seed, 60);
      expect(valid(JSON.parse(text)), text).toBe(true);
    }
  });
});

test("a pattern or a format with a large length is read soon", () => {
  const long = `https://example.com/${"a".repeat(180)}`;
  for (const [schema, text] of [
    [{ type: "string", format: "uri", maxLength: 2048 }, long],
    [{ type: "string", format: "email", maxLength: 254 }, "joe@example.com"],
    [{ type: "string", pattern: "^(ab|c)*$", maxLength: 1001 }, "ab".repeat(500)],
  ] as const) {
    const root = read(schema);
    expect(accepts(root, JSON.stringify(text))).toBe(true);
    expect(accepts(root, JSON.stringify(text.repeat(30)))).toBe(false);
  }
});

test("multiples of decimals are those that validators take for multiples", () => {
  for (const given of [
    { multipleOf: 0.01, minimum: 0 },
    { multipleOf: 0.5 },
    { multipleOf: 0.1, maximum: 3 },
    { multipleOf: 2.5 },
  ]) {
    const root = read({ type: "number", ...given });
    const valid = ajvOf({ type: "number", ...given })!;
    for (let i = -400; i < 400; i++) {
      const text = String(i / 100);
      expect(accepts(root, text), text).toBe(valid(Number(text)));
    }
    for (const text of ["100", "12345.5", "1000000000"])
      if (accepts(root, text)) expect(valid(Number(text))).toBe(true);
  }
  const whole = read({ type: "integer", multipleOf: 2.5 });
  expect(["5", "-10", "7", "2.5"].map((text) => accepts(whole, text))).toEqual([true, true, false, false]);
  expectError(() => read({ multipleOf: 1e-12 }), "ERR_ARGUMENT", /#\/multipleOf: heed does not support multiples/);
});
