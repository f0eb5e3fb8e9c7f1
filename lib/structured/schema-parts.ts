// Schemas that consist of others: references, and several that all have to match.
import { describe, HeedError } from "../errors.js";
import type { JsonSchema } from "../json-schema.js";
import { spend } from "./work.js";

const types = ["string", "number", "integer", "array", "object", "boolean", "null"];

/** Returns the types that a schema names, or those that its keywords are for, or all. */
export function typesOf(schema: JsonSchema, place: string): string[] {
  const { type } = schema;
  if (type === undefined) return schema.properties === undefined ? untyped(schema) : ["object"];
  const list = [...new Set([type].flat())];
  const wrong = list.find((one) => !types.includes(one as string));
  if (wrong !== undefined || list.length === 0)
    throw new HeedError(
      "ERR_ARGUMENT",
      `schema at ${place}/type: expected ${types.join(", ")}, got ${describe(wrong)}`,
    );
  // Every integer is a number, so that both together are numbers.
  return (list as string[]).filter((one) => one !== "integer" || !list.includes("number"));
}

function untyped(schema: JsonSchema): string[] {
  const of = (names: readonly string[]): boolean => names.some((name) => schema[name] !== undefined);
  if (of(["items", "prefixItems", "minItems", "maxItems"])) return ["array"];
  if (of(["required", "additionalProperties"])) return ["object"];
  if (of(["minLength", "maxLength", "pattern", "format"])) return ["string"];
  if (of(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"])) return ["number"];
  return types.filter((type) => type !== "integer");
}

/** Returns the schema that a reference within the root names. */
export function resolved(root: unknown, reference: unknown, place: string): unknown {
  if (typeof reference !== "string" || !reference.startsWith("#"))
    throw new HeedError(
      "ERR_ARGUMENT",
      `schema at ${place}: expected a reference within the schema, such as "#/$defs/name", got ${describe(reference)}`,
    );
  let found: unknown = root;
  for (const part of reference.slice(1).split("/").slice(1)) {
    const name = decoded(part, place).replaceAll("~1", "/").replaceAll("~0", "~");
    const within: unknown =
      typeof found === "object" && found !== null && Object.hasOwn(found, name)
        ? (found as JsonSchema)[name]
        : undefined;
    if (within === undefined)
      throw new HeedError("ERR_ARGUMENT", `schema at ${place}: expected a schema at ${reference}, got none`);
    found = within;
  }
  return found;
}

function decoded(part: string, place: string): string {
  try {
    return decodeURIComponent(part);
  } catch (cause) {
    throw new HeedError("ERR_ARGUMENT", `schema at ${place}: expected a part of a URI, got ${describe(part)}`, {
      cause,
    });
  }
}

/** Keywords that say nothing about a value. */
const texts = ["title", "description", "default", "examples", "$comment", "$defs", "definitions", "$schema", "$id"];

/**
 * Returns a schema that matches what all of the schemas match.
 *
 * @throws ERR_ARGUMENT if they have different values of a keyword that cannot be joined.
 */
export function merged(schemas: readonly JsonSchema[], place: string): JsonSchema {
  const result: Record<string, unknown> = {};
  spend(4 * schemas.reduce((sum, schema) => sum + sizeOf(schema), 0));
  checkAdditional(schemas, place);
  for (const schema of schemas)
    for (const [name, value] of Object.entries(schema)) {
      const own = result[name];
      if (own === undefined || texts.includes(name)) result[name] = value;
      else result[name] = joint(name, own, value, place);
    }
  return result;
}

/** Returns the number of keywords and of the names in them. */
function sizeOf(schema: JsonSchema): number {
  const { properties, required } = schema;
  const names = Array.isArray(required) ? required.length : 0;
  return 1 + Object.keys(schema).length + Object.keys(properties ?? {}).length + names;
}

/** Checks that no part forbids the properties of another, since it is about its own properties only. */
function checkAdditional(schemas: readonly JsonSchema[], place: string): void {
  const names = schemas.map(({ properties }) =>
    Object.keys(properties ?? {})
      .sort()
      .join(),
  );
  const strict = schemas.some(({ additionalProperties = true }) => additionalProperties !== true);
  if (strict && new Set(names).size > 1)
    throw new HeedError(
      "ERR_ARGUMENT",
      `schema at ${place}: heed does not support additionalProperties where several schemas have different properties`,
    );
}

function joint(name: string, a: unknown, b: unknown, place: string): unknown {
  const [first, second] = [a, b].map((value): string | undefined => JSON.stringify(value));
  spend(((first?.length ?? 0) + (second?.length ?? 0)) / 64);
  if (first === second) return a;
  if (name === "required") return [...new Set([...(a as string[]), ...(b as string[])])];
  if (name === "properties") {
    const [own, others] = [a as JsonSchema, b as JsonSchema];
    const both = Object.keys(own).filter((key) => others[key] !== undefined);
    const members = both.map((key) => [
      key,
      merged([own[key] as JsonSchema, others[key] as JsonSchema], `${place}/${key}`),
    ]);
    return { ...own, ...others, ...Object.fromEntries(members) };
  }
  if (/^(min|exclusiveMin)/.test(name)) return Math.max(a as number, b as number);
  if (/^(max|exclusiveMax)/.test(name)) return Math.min(a as number, b as number);
  if (name === "type") {
    const others = [b].flat();
    return [a].flat().filter((type) => others.includes(type) || (type === "integer" && others.includes("number")));
  }
  throw new HeedError("ERR_ARGUMENT", `schema at ${place}: heed does not support different values of ${name} together`);
}
