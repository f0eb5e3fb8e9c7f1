// One of a schema's alternatives: what its schemas say together.
import type { JsonSchema } from "../util/json-schema.js";
import type { SchemaNode } from "./schema-document.js";
import { commonTypes, type Type, types, typesOf } from "./schema-keywords.js";
import { spend } from "./work.js";

/** Schemas without keywords that name further schemas for the same value; all of them have to match. */
export type Term = readonly SchemaNode[];

/** Returns the types that the values of a term can have. */
export function typesOfTerm(term: Term): readonly Type[] {
  let found: readonly Type[] = types.filter((type) => type !== "integer");
  for (const { schema } of term) {
    found = commonTypes(found, typesOf(schema));
    const constants = constantsOf(schema);
    if (constants) {
      spend(constants.length / 8);
      const own = new Set(constants.map(typeOfValue));
      found = found.filter((type) => own.has(type === "integer" ? "number" : type));
    }
  }
  return found;
}

/** Returns the values of "const" or "enum"; null if there are none. */
export function constantsOf(schema: JsonSchema): readonly unknown[] | null {
  if ("const" in schema) return [schema.const];
  return Array.isArray(schema.enum) ? (schema.enum as unknown[]) : null;
}

function typeOfValue(value: unknown): Type {
  if (value === null) return "null";
  return Array.isArray(value) ? "array" : (typeof value as Type);
}
