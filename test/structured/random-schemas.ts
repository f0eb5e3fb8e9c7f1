/** Random JSON schemas whose values are short, so that a random text of them ends. */
import fc from "fast-check";
import type { JsonSchema } from "../../lib/util/json-schema.js";

const name = fc.constantFrom("a", "b", "name", "näme", "x y", 'q"t', "age", "1");
const word = fc.string({ maxLength: 5, unit: "grapheme" });
const count = fc.nat({ max: 3 });

const between = (low: string, high: string, range: fc.Arbitrary<number>) =>
  fc.tuple(range, range).map(([a, b]): JsonSchema => ({ [low]: Math.min(a, b), [high]: Math.max(a, b) }));
const either = <T>(...options: fc.Arbitrary<T>[]): fc.Arbitrary<T> => fc.oneof(...options);

const scalar: fc.Arbitrary<JsonSchema> = either<JsonSchema>(
  fc.constantFrom<JsonSchema>({ type: "boolean" }, { type: "null" }, { type: "integer" }, { type: "number" }),
  fc.constantFrom<JsonSchema>({ type: ["integer", "null"] }, { type: ["string", "boolean"], maxLength: 2 }),
  fc
    .uniqueArray(either<unknown>(word, fc.integer(), fc.boolean(), fc.constant(null)), { minLength: 1, maxLength: 4 })
    .map((values) => ({ enum: values })),
  either<unknown>(word, fc.double({ noNaN: true, noDefaultInfinity: true }), fc.constant({ a: [1, "x"] })).map(
    (value) => ({ const: value }),
  ),
  between("minLength", "maxLength", fc.nat({ max: 12 })).map((range) => ({ type: "string", ...range })),
  fc
    .constantFrom(
      "^[a-z]{1,4}$",
      "^(?:ab|c\\d)+?x{2}$",
      '^\\p{Lu}é[^a-z"]$',
      '^\\s?[\\\\"]\\w$',
      "^[\\u{1F600}-\\u{1F64F}]{2}$",
    )
    .map((pattern) => ({ type: "string", pattern })),
  fc.constantFrom("date", "time", "date-time", "uuid", "ipv4").map((format) => ({ type: "string", format })),
  between("minimum", "maximum", fc.integer({ min: -1200, max: 1200 })).map((range) => ({ type: "integer", ...range })),
  between("minimum", "maximum", fc.integer({ min: -30, max: 30 })).map((range) => ({ type: "number", ...range })),
  fc
    .integer({ min: -100, max: 100 })
    .map((low) => ({ type: "integer", exclusiveMinimum: low, exclusiveMaximum: low + 9 })),
);

function array(items: fc.Arbitrary<JsonSchema>): fc.Arbitrary<JsonSchema> {
  const list = fc
    .tuple(items, between("minItems", "maxItems", count))
    .map(([of, range]): JsonSchema => ({ type: "array", items: of, ...range }));
  const tuple = fc.tuple(
    fc.array(items, { minLength: 1, maxLength: 3 }),
    either<unknown>(items, fc.constant(false)),
    between("minItems", "maxItems", count),
  );
  return either(
    list,
    tuple.map(([prefixItems, of, range]): JsonSchema => {
      const minItems = of === false ? Math.min(range.minItems as number, prefixItems.length) : range.minItems;
      return { type: "array", prefixItems, items: of, ...range, minItems };
    }),
  );
}

function object(values: fc.Arbitrary<JsonSchema>): fc.Arbitrary<JsonSchema> {
  const members = fc.uniqueArray(fc.tuple(name, values, fc.boolean()), { maxLength: 4, selector: ([key]) => key });
  return fc
    .tuple(members, fc.constantFrom<unknown>(undefined, false))
    .map(([list, additionalProperties]): JsonSchema => ({
      ...{ type: "object", properties: Object.fromEntries(list.map(([key, value]) => [key, value])) },
      required: list.filter(([, , needed]) => needed).map(([key]) => key),
      ...(additionalProperties === false && { additionalProperties }),
    }));
}

function combined(of: fc.Arbitrary<JsonSchema>): fc.Arbitrary<JsonSchema> {
  return either(
    fc.array(of, { minLength: 1, maxLength: 3 }).map((anyOf): JsonSchema => ({ anyOf })),

    of.map((one): JsonSchema => ({
      $defs: { one },
      type: "object",
      properties: { first: { $ref: "#/$defs/one" }, second: { $ref: "#/$defs/one" } },
    })),
  );
}

/** Schemas whose texts are short. */
export const schemas: fc.Arbitrary<JsonSchema> = either<JsonSchema>(
  scalar,
  array(scalar),
  object(scalar),
  object(either(scalar, array(scalar), object(scalar))),
  combined(scalar),
);
