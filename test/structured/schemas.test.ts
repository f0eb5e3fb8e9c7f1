/** JSON schemas, keyword by keyword: what is accepted, what is not, and what is refused before a text begins. */
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import type { JsonSchema } from "../../lib/json-schema.js";
import type { Expression } from "../../lib/structured/expression.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { expectError } from "../support/errors.js";
import { nightly } from "../support/nightly.js";
import { ajvOf } from "./oracle.js";
import { sampler } from "./sample.js";
import { automatonOf, expressionOf } from "./support.js";

const automaton = automatonOf(new ByteTokenizer());
const read = (schema: object, strict = false): Expression =>
  expressionOf({ type: "json-schema", schema: schema as JsonSchema, strict });
const accepts = (root: Expression, text: string): boolean =>
  automaton.after(automaton.start(root), Buffer.from(text))?.accepts ?? false;

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

describe("zod's types", () => {
  interface Node {
    value: number;
    next?: Node | undefined;
  }
  const list: z.ZodType<Node> = z.object({ value: z.int(), next: z.lazy(() => list.optional()) });
  const base = { a: z.int() };
  const versions = Array.from({ length: 8 }, (_, i): [string, z.ZodType, string] => {
    const version = `v${i + 1}` as "v1";
    return [`uuid ${version}`, z.uuid({ version }), `2eb8aa08-aa98-${i + 1}1ea-b4aa-73b441d16380`];
  });
  const hash = (algorithm: "md5" | "sha1" | "sha256" | "sha384" | "sha512", bytes: number): typeof versions => [
    [algorithm, z.hash(algorithm), "0f".repeat(bytes)],
    [`${algorithm} base64`, z.hash(algorithm, { enc: "base64" }), Buffer.alloc(bytes).toString("base64")],
    [`${algorithm} base64url`, z.hash(algorithm, { enc: "base64url" }), Buffer.alloc(bytes).toString("base64url")],
  ];
  /** A type, and a value of it. What a JSON schema of zod does not say, such as what a JWT is, cannot be followed. */
  const types: [string, z.ZodType, unknown][] = [
    ["email", z.email(), "joe.d@example.com"],
    ["email of HTML", z.email({ pattern: z.regexes.html5Email }), "joe@example.com"],
    ["email of an RFC", z.email({ pattern: z.regexes.rfc5322Email }), "joe@example.com"],
    ["email with a length", z.email().min(8).max(60), "joe@example.com"],
    ["uuid", z.uuid(), "2eb8aa08-aa98-41ea-b4aa-73b441d16380"],
    ...versions,
    ["guid", z.guid(), "2eb8aa08-aa98-11ea-b4aa-73b441d16380"],
    ["url", z.url(), "https://example.com/a?b#c"],
    ["url with a length", z.url().max(50), "https://example.com/a?b#c"],
    ["hostname", z.hostname(), "www.example.com"],
    ["hostname with a length", z.hostname().max(40), "www.example.com"],
    ["emoji", z.emoji(), "😀"],
    ["base64", z.base64(), "aGVlZA=="],
    ["base64url", z.base64url(), "aGVlZA"],
    ["nanoid", z.nanoid(), "V1StGXR8_Z5jdHi6B-myT"],
    ["cuid2", z.cuid2(), "tz4a98xxat96iws9zmbrgj3a"],
    ["ulid", z.ulid(), "01ARZ3NDEKTSV4RRFFQ69G5FAV"],
    ["xid", z.xid(), "9m4e2mr0ui3e8a215n4g"],
    ["ksuid", z.ksuid(), "0ujtsYcgvSTl8PAuAdqWYSMnLOv"],
    ["e164", z.e164(), "+491234567890"],
    ["ipv4", z.ipv4(), "192.168.0.1"],
    ["ipv6", z.ipv6(), "2001:db8::1"],
    ["mac", z.mac(), "00:1A:2B:3C:4D:5E"],
    ["cidrv4", z.cidrv4(), "10.0.0.0/8"],
    ["cidrv6", z.cidrv6(), "2001:db8::/32"],
    ["hex", z.hex(), "0aF"],
    ...[hash("md5", 16), hash("sha1", 20), hash("sha256", 32), hash("sha384", 48), hash("sha512", 64)].flat(),
    ["date", z.iso.date(), "2024-02-29"],
    ["time", z.iso.time(), "12:30:00"],
    ["time of minutes", z.iso.time({ precision: -1 }), "12:30"],
    ["datetime", z.iso.datetime(), "2024-02-29T12:00:00Z"],
    ["datetime with an offset", z.iso.datetime({ offset: true, precision: 3 }), "2024-02-29T12:00:00.123+01:00"],
    ["local datetime", z.iso.datetime({ local: true }), "2024-02-29T12:00:00"],
    ["duration", z.iso.duration(), "P1DT2H"],
    ["lowercase", z.string().lowercase(), "ab 1"],
    ["uppercase", z.string().uppercase(), "AB 1"],
    ["includes", z.string().includes("a.b"), "xa.by"],
    ["startsWith and endsWith", z.string().startsWith("ab").endsWith("cd").max(20), "ab-cd"],
    ["regex", z.string().regex(/^a/).regex(/b$/), "a b"],
    ["length", z.string().length(5), "abcde"],
    ["template", z.templateLiteral(["a-", z.number(), "-", z.enum(["x", "y"])]), "a-1.5-y"],
    ["template of types", z.templateLiteral([z.email(), ":", z.uuid()]), "a@b.cd:2eb8aa08-aa98-41ea-b4aa-73b441d16380"],
    ["int32", z.int32(), -7],
    ["uint32", z.uint32(), 7],
    ["float32", z.float32(), 0.5],
    ["int", z.int(), 7],
    ["positive", z.number().positive(), 0.5],
    ["negative", z.number().negative(), -0.5],
    ["multipleOf", z.number().multipleOf(5), 15],
    ["record", z.record(z.string(), z.int()), { x: 1 }],
    ["record of an enum", z.record(z.enum(["a", "b"]), z.int()), { a: 1, b: 2 }],
    ["partialRecord", z.partialRecord(z.enum(["a", "b"]), z.int()), { b: 2 }],
    ["record of uuids", z.record(z.uuid(), z.boolean()), { "2eb8aa08-aa98-41ea-b4aa-73b441d16380": true }],
    ["tuple with more", z.tuple([z.int()], z.boolean()), [1, true, false]],
    ["intersection", z.intersection(z.object(base), z.object({ b: z.string().optional() })), { a: 1, b: "x" }],
    ["strictObject", z.strictObject({ ...base, b: z.string().optional() }), { a: 1 }],
    ["looseObject", z.looseObject(base), { a: 1, c: [] }],
    ["catchall", z.object(base).catchall(z.boolean()), { a: 1, c: true }],
    ["nullable", z.object({ a: z.int().nullable() }), { a: null }],
    ["optional", z.object({ a: z.int().optional() }), {}],
    ["default", z.object({ a: z.int().default(3) }), { a: 4 }],
    ["catch", z.object({ a: z.int().catch(3) }), { a: 4 }],
    ["readonly", z.object(base).readonly(), { a: 4 }],
    ["lazy", list, { value: 1, next: { value: 2 } }],
    ["json", z.json(), { a: [1, null] }],
  ];

  test.each(types)("%s", (_, type, value) => {
    for (const target of ["draft-2020-12", "draft-7"] as const) {
      const root = read(z.toJSONSchema(type, { target }));
      expect(type.safeParse(value).success).toBe(true);
      expect(accepts(root, JSON.stringify(value)), JSON.stringify(value)).toBe(true);
      const sample = sampler(root);
      for (let seed = 0; seed < (nightly ? 200 : 10); seed++) {
        const made: unknown = JSON.parse(sample(seed, seed === 0 ? 0 : 60));
        expect(type.safeParse(made).success, JSON.stringify(made)).toBe(true);
      }
    }
  });

  test("records, unions and the like", () => {
    const type = z.object({
      kind: z.discriminatedUnion("type", [
        z.object({ type: z.literal("a"), at: z.iso.datetime() }),
        z.object({ type: z.literal("b"), share: z.number().gt(0).lt(1) }),
      ]),
      byName: z.record(z.string().regex(/^[a-z]{1,8}$/), z.int().multipleOf(5)),
      pair: z.tuple([z.string().max(5), z.int()]).optional(),
      left: z.union([z.null(), z.email()]),
    });
    const sample = sampler(read(z.toJSONSchema(type)));
    for (let seed = 0; seed < 100; seed++) {
      const text = sample(seed, 200);
      expect(type.safeParse(JSON.parse(text)).success, text).toBe(true);
    }
  });
});

/** A group of the official test suite of JSON Schema. */
interface Group {
  description: string;
  schema: JsonSchema;
  tests: { description: string; data: unknown; valid: boolean }[];
}

test("the official test suite of draft 4", () => {
  const root = path.dirname(createRequire(import.meta.url).resolve("json-schema-test-suite/package.json"));
  const folder = path.join(root, "tests/draft4");
  /** Values that are valid and that heed does not write: docs/guides/structured-output.md says so. */
  const restricted = /additional properties are allowed|doesn't invalidate other properties|bignum|both anyOf valid/;
  const counts = { accepted: 0, refused: 0, missed: [] as string[] };
  for (const file of readdirSync(folder).filter((name) => name.endsWith(".json")))
    for (const { description, schema, tests } of JSON.parse(readFileSync(path.join(folder, file), "utf8")) as Group[]) {
      let found: Expression;
      try {
        found = read({ $schema: draft4, ...schema });
      } catch (error) {
        expect(error).toMatchObject({ code: "ERR_ARGUMENT" });
        counts.refused++;
        continue;
      }
      counts.accepted++;
      for (const { data, valid, description: about } of tests) {
        const accepted = ordersOf(data).some((value) => accepts(found, JSON.stringify(value)));
        const name = `${file}: ${description}: ${about}`;
        if (!valid) expect(accepted, name).toBe(false);
        else if (!accepted && !restricted.test(name)) counts.missed.push(name);
      }
    }
  expect(counts.missed).toEqual([]);
  expect(counts.accepted).toBeGreaterThanOrEqual(60);
});

/** Returns a value with the properties of an object in all orders. */
function ordersOf(value: unknown): unknown[] {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return [value];
  const orders = (list: [string, unknown][]): [string, unknown][][] =>
    list.length < 2 || list.length > 4
      ? [list]
      : list.flatMap((one) => orders(list.filter((other) => other !== one)).map((rest) => [one, ...rest]));
  return orders(Object.entries(value)).map((entries) => Object.fromEntries(entries));
}

const real = ["../../../shared", "../../../../shared"]
  .map((folder) => fileURLToPath(new URL(`${folder}/reference/schemas/schemas.jsonl.gz`, import.meta.url)))
  .map((file) => {
    try {
      return gunzipSync(readFileSync(file)).toString();
    } catch {
      return null;
    }
  })
  .find((text) => text !== null);

test.skipIf(real === undefined)("real schemas: what is generated is valid", { timeout: 30 * 60_000 }, () => {
  const lines = real!.trim().split("\n");
  const chosen = lines.filter((_, i) => nightly || i % 60 === 0);
  let accepted = 0;
  for (const line of chosen) {
    const { name, schema } = JSON.parse(line) as { name: string; schema: JsonSchema };
    let root: Expression;
    try {
      root = read(schema);
    } catch (error) {
      expect(error, name).toMatchObject({ code: "ERR_ARGUMENT" });
      continue;
    }
    accepted++;
    const valid = ajvOf(schema);
    if (!valid) continue;
    const sample = sampler(root);
    for (let seed = 0; seed < (nightly ? 10 : 4); seed++) {
      const text = sample(seed, seed === 0 ? 0 : 300);
      expect(valid(JSON.parse(text)), `${name}: ${text.slice(0, 300)}`).toBe(true);
    }
  }
  expect(accepted).toBeGreaterThan(0.9 * chosen.length);
});
