// The keywords of JSON Schema: which of them say nothing about a value, and what form the values of the others have.
import { describe, HeedError } from "../util/errors.js";
import type { JsonSchema } from "../util/json-schema.js";
import { placeName } from "./place-name.js";
import { invalid, isObject, type SchemaDocument, type SchemaNode, unsupported } from "./schema-document.js";
import { knownFormats, unsupportedFormats } from "./string-formats.js";
import { spend } from "./work.js";

/** Types of values. An integer is a number as well. */
export const types = ["string", "number", "integer", "array", "object", "boolean", "null"] as const;

export type Type = (typeof types)[number];

/** Keywords that a draft knows and that say nothing about a value. */
const annotations = new Set([
  ...[
    "title",
    "description",
    "default",
    "examples",
    "$schema",
    "$id",
    "id",
    "$comment",
    "$defs",
    "definitions",
    "$anchor",
  ],
  ...["$dynamicAnchor", "$recursiveAnchor", "$vocabulary", "deprecated", "readOnly", "writeOnly", "contentMediaType"],
  ...["contentEncoding", "contentSchema"],
]);

/** Keywords of which each is about the values of one type. */
const asserted: Readonly<Record<string, readonly string[]>> = {
  string: ["minLength", "maxLength", "pattern", "format"],
  number: ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"],
  array: [
    ...["items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems"],
    ...["contains", "minContains", "maxContains"],
  ],
  object: [
    ...["properties", "required", "additionalProperties", "patternProperties", "propertyNames"],
    ...["minProperties", "maxProperties"],
  ],
};

/** Keywords of which each has schemas for the same value, or for the same value in some cases. */
export const applicators: readonly string[] = [
  ...["$ref", "$dynamicRef", "$recursiveRef", "allOf", "anyOf", "oneOf", "not", "if", "then", "else"],
  ...["dependencies", "dependentRequired", "dependentSchemas", "unevaluatedProperties", "unevaluatedItems"],
];

/** Keywords that only old drafts know. */
const refused = new Set(["divisibleBy", "disallow", "extends"]);

const known = new Set([...annotations, ...Object.values(asserted).flat(), ...applicators, "type", "enum", "const"]);

/** Returns true if a keyword demands something of a value. */
export function isAssertion(name: string): boolean {
  return known.has(name) && !annotations.has(name);
}

/** Returns true if a node demands something of the values of a type. */
export function isAbout({ schema, made }: SchemaNode, type: Type): boolean {
  return made !== null || asserted[type === "integer" ? "number" : type]?.some((name) => name in schema) === true;
}

/** Largest number of characters, items or properties that a schema may ask for. */
const mostCount = 100_000;

/**
 * Checks that the keywords of a schema have the right form, and that heed knows them. With `strict`, it refuses those that
 * no draft knows, too.
 *
 * @throws ERR_ARGUMENT with the place of the keyword.
 */
export function checkKeywords({ schema, place }: SchemaNode, document: SchemaDocument, strict: boolean): void {
  const names = Object.keys(schema);
  spend(names.length);
  for (const name of names) {
    if (refused.has(name)) throw unsupported(`${place}/${name}`);
    if (strict && !known.has(name) && !name.startsWith("x-"))
      throw new HeedError(
        "ERR_ARGUMENT",
        `${placeName(`schema at ${place}/${name}`)}: expected a keyword of JSON Schema, since the schema is strict, got ${describe(name)}`,
      );
    const wanted = formOf(name, schema[name], document);
    if (wanted !== null) throw invalid(`${place}/${name}`, wanted, schema[name]);
  }
  checkFormat(schema, place, strict);
}

function checkFormat({ format }: JsonSchema, place: string, strict: boolean): void {
  if (format === undefined) return;
  if (typeof format !== "string") throw invalid(`${place}/format`, "the name of a format", format);
  const names = Object.keys(knownFormats).join(", ");
  if (unsupportedFormats.has(format) || (strict && knownFormats[format] === undefined))
    throw unsupported(`${place}/format`, `the format ${describe(format)}; those are ${names}`);
}

/** Returns what a keyword's value should be, if it is something else; otherwise null. */
function formOf(name: string, value: unknown, { draft }: SchemaDocument): string | null {
  const isMap = (of: (one: unknown) => boolean): boolean => isObject(value) && Object.values(value).every(of);
  const isSchema = (one: unknown): boolean => isObject(one) || typeof one === "boolean";
  const isNames = (one: unknown): boolean => Array.isArray(one) && one.every((each) => typeof each === "string");
  switch (name) {
    case "type":
      return typeOf(value) === null ? types.join(", ") : null;
    case "enum":
      return Array.isArray(value) && value.length > 0 ? null : "an array of values";
    case "allOf":
    case "anyOf":
    case "oneOf":
      return Array.isArray(value) && value.length > 0 ? null : "an array of schemas";
    case "prefixItems":
      return Array.isArray(value) || draft < 2020 ? null : "an array of schemas";
    case "properties":
    case "patternProperties":
    case "dependentSchemas":
      return isMap(isSchema) ? null : isObject(value) ? "schemas by names" : "an object";
    case "dependencies":
      return isMap((one) => isSchema(one) || isNames(one)) ? null : "schemas or lists of names by names";
    case "dependentRequired":
      return isMap(isNames) ? null : "lists of names by names";
    case "required":
      return isNames(value) ? null : "an array of names";
    case "minimum":
    case "maximum":
      return typeof value === "number" && !Number.isNaN(value) ? null : "a number";
    case "exclusiveMinimum":
    case "exclusiveMaximum":
      if (typeof value === "boolean") return draft === 4 || draft === 3 || draft === 2020 ? null : "a number";
      return typeof value === "number" && !Number.isNaN(value) ? null : "a number";
    case "multipleOf":
      return typeof value === "number" && value > 0 && value < Infinity ? null : "a number above 0";
    case "minLength":
    case "maxLength":
    case "minItems":
    case "maxItems":
    case "minProperties":
    case "maxProperties":
    case "minContains":
    case "maxContains":
      return value === Infinity || (Number.isSafeInteger(value) && (value as number) >= 0) ? null : "a whole number";
    case "pattern":
      return typeof value === "string" ? null : "a regular expression";
    case "uniqueItems":
      return typeof value === "boolean" ? null : "true or false";
    default:
      return null;
  }
}

/** Returns the types that a value of the keyword "type" names; null if it is none. */
function typeOf(value: unknown): readonly Type[] | null {
  const list = [...new Set([value].flat())];
  return list.length > 0 && list.every((one) => (types as readonly unknown[]).includes(one)) ? (list as Type[]) : null;
}

/** Returns the types that the values of a schema can have, by its keyword "type" alone. */
export function typesOf({ type }: JsonSchema): readonly Type[] {
  const list = (type === undefined ? null : typeOf(type)) ?? types;
  // Every integer is a number, so that both together are numbers.
  return list.filter((one) => one !== "integer" || !list.includes("number"));
}

/** Returns the types that two lists have in common, of which each has at most one of "number" and "integer". */
export function commonTypes(a: readonly Type[], b: readonly Type[]): readonly Type[] {
  return a.flatMap((one) => {
    if (b.includes(one)) return [one];
    return (one === "integer" || one === "number") && (b.includes("integer") || b.includes("number"))
      ? ["integer"]
      : [];
  });
}

/**
 * Returns the smallest and the largest count that two keywords of several nodes allow.
 *
 * @throws ERR_ARGUMENT if a smallest count is too large.
 */
export function countsOf(nodes: readonly SchemaNode[], low: string, high: string): readonly [number, number] {
  let [least, most] = [0, Infinity];
  for (const { schema, place } of nodes) {
    const own = (schema[low] ?? 0) as number;
    if (own > mostCount) throw unsupported(`${place}/${low}`, `more than ${mostCount}`);
    least = Math.max(least, own);
    most = Math.min(most, (schema[high] ?? Infinity) as number);
  }
  // More than a text can have is no limit.
  return [least, most > mostText ? Infinity : most];
}

const mostText = 2 ** 31;

/** Returns the place of the first node that has one of the keywords. */
export function placeOf(nodes: readonly SchemaNode[], ...names: readonly string[]): string {
  for (const { schema, place } of nodes) {
    const name = names.find((one) => one in schema);
    if (name !== undefined) return `${place}/${name}`;
  }
  return nodes[0]?.place ?? "#";
}
