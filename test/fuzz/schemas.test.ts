/** Compares what heed makes of random JSON schemas with ajv. */
import fc from "fast-check";
import { expect } from "vitest";
import { HeedError } from "../../lib/index.js";
import type { JsonSchema } from "../../lib/util/json-schema.js";
import type { Expression } from "../../lib/structured/expression.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { ajvOf } from "../structured/oracle.js";
import { sampler } from "../structured/sample.js";
import { automatonOf, expressionOf } from "../structured/support.js";
import { fuzz } from "./fuzz.js";

const name = fc.constantFrom("a", "b", "c");
const text = fc.string({ unit: fc.constantFrom("a", "b", "1", "é", '"'), maxLength: 3 });
const number = fc.oneof(
  fc.integer({ min: -12, max: 12 }),
  fc.constantFrom(0.5, -0.25, 1e-7, 1e15, -1e21, 2.75, 0.1, 9007199254740994, 1.5e300),
);
const pattern = fc.constantFrom("^a", "b$", "^[ab]*$", "1", "^(?!a)", "^(?:ab|1é)+$", "^.{2}$", "[^a]");
const value = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 2 },
    fc.oneof(text, number, fc.constant(null), fc.boolean()),
    fc.array(tie("value"), { maxLength: 3 }),
    fc.dictionary(name, tie("value"), { maxKeys: 3, noNullPrototype: true }),
  ),
})).value;

/** Keywords with small values, so that several of them are often about the same thing. */
const schema = fc.letrec<{ schema: unknown }>((tie) => {
  const some = tie("schema");
  const list = fc.array(some, { minLength: 1, maxLength: 3 });
  const byName = fc.dictionary(name, some, { maxKeys: 3, noNullPrototype: true });
  const count = fc.nat({ max: 3 });
  const type = fc.constantFrom("string", "number", "integer", "array", "object", "boolean", "null");
  const keywords: Record<string, fc.Arbitrary<unknown>> = {
    type: fc.oneof(type, fc.uniqueArray(type, { minLength: 1, maxLength: 3 })),
    enum: fc.array(value, { minLength: 1, maxLength: 4 }),
    const: value,
    ...{ minLength: count, maxLength: count, pattern, format: fc.constantFrom("date", "uuid", "email", "colour") },
    ...{ minimum: number, maximum: number, exclusiveMinimum: number, exclusiveMaximum: number },
    multipleOf: fc.constantFrom(1, 2, 7, 30, 0.5),
    ...{ items: some, prefixItems: list, minItems: count, maxItems: count, uniqueItems: fc.boolean(), contains: some },
    ...{ properties: byName, required: fc.uniqueArray(name, { maxLength: 2 }), additionalProperties: some },
    ...{ patternProperties: fc.dictionary(pattern, some, { maxKeys: 2, noNullPrototype: true }) },
    ...{ propertyNames: some, minProperties: count, maxProperties: count },
    ...{ dependentRequired: fc.dictionary(name, fc.uniqueArray(name), { maxKeys: 2, noNullPrototype: true }) },
    dependentSchemas: fc.dictionary(name, some, { maxKeys: 1, noNullPrototype: true }),
    ...{ anyOf: list, oneOf: list, allOf: list, not: some, if: some, then: some, else: some },
    ...{ unevaluatedProperties: some, unevaluatedItems: some },
    ...{ $ref: fc.constantFrom("#/$defs/a", "#/$defs/b", "#b"), colour: value },
  };
  const pairs = Object.entries(keywords).map(([key, given]) => given.map((one) => [key, one] as const));
  const made = fc
    .array(fc.oneof(...pairs), { minLength: 1, maxLength: 4 })
    .map((all) => Object.fromEntries(all) as JsonSchema)
    // ajv says that an empty array contains what its first item would have to be.
    .filter((one) => !("prefixItems" in one && "contains" in one));
  return { schema: fc.oneof({ maxDepth: 3 }, fc.boolean(), made, made, made) };
}).schema;

const root = fc.record({
  given: schema.filter((one) => typeof one === "object"),
  a: schema,
  b: schema.map((one) => (typeof one === "object" ? { ...one, $anchor: "b" } : { $anchor: "b" })),
});
const automaton = automatonOf(new ByteTokenizer());

/** Returns ajv's function for a schema; null if ajv cannot read it. What the function itself fails on counts as valid. */
function judgeOf(whole: object): ((value: unknown) => boolean) | null {
  const valid = ajvOf(whole);
  // It loses items that an inner "unevaluatedItems" has evaluated, depending on their number.
  if (!valid || JSON.stringify(whole).split('"unevaluatedItems"').length > 2) return null;
  return (value) => {
    try {
      return valid(value);
    } catch (error) {
      // It has forgotten what "additionalProperties" beside it has evaluated, or has left out what a "not" in "oneOf" has.
      expect((error as Error).message).toMatch(
        /^Cannot (?:set|read) properties of undefined|^(?:items|props)\d+ is not defined/,
      );
      return true;
    }
  };
}

fuzz(
  "random schemas, 12 texts and 12 values in a case",
  fc.tuple(root, fc.array(value, { minLength: 12, maxLength: 12 }), fc.nat()),
  { ci: 150, nightly: 20_000 },
  ([{ given, a, b }, values, seed]) => {
    const whole = { ...(given as JsonSchema), $defs: { a, b } };
    let found: Expression;
    try {
      found = expressionOf({ type: "json-schema", schema: whole });
    } catch (error) {
      expect(error).toBeInstanceOf(HeedError);
      expect((error as HeedError).message).toMatch(/^(?:schema at #|format)/);
      return;
    }
    const valid = judgeOf(whole);
    if (!valid) return;
    const sample = sampler(found);
    // Whole numbers from 2^53 on change when JavaScript reads them, so that a multiple may be none afterwards.
    const rounded = JSON.stringify(whole).includes("multipleOf") ? /\d{16}/ : /$^/;
    for (let i = 0; i < 12; i++) {
      const made = sample(seed + i, i === 0 ? 0 : 80);
      if (!rounded.test(made)) expect(valid(JSON.parse(made)), made).toBe(true);
    }
    for (const one of values) {
      const accepted = automaton.after(automaton.start(found), Buffer.from(JSON.stringify(one)))?.accepts ?? false;
      if (accepted) expect(valid(one), JSON.stringify(one)).toBe(true);
    }
  },
);
