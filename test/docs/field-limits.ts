/** The fields of the server's routes with their limits, from the schemas of the routes. */
import { bytes, count } from "./limits-text.js";

/** A JSON schema. */
export type Schema = Readonly<Record<string, unknown>>;

/** A field of a body. */
export interface FieldLimit {
  /** Path of the field: those within others follow a dot, and those of items follow `[]`. */
  path: string;
  /** Description of the values that may be given, with their limit; null if there is none. */
  limit: string | null;
  /** Memory of a value at the limit in bytes; Infinity if it follows from the body alone. */
  memory: number;
  /** Description of the costs of a value at the limit, besides its own bytes. */
  cost: string | null;
}

/** Returns the fields of a schema, each of its alternatives by itself. */
export function fieldLimits(schema: Schema, path = "", cost: string | null = null): FieldLimit[] {
  const own = (schema["x-cost"] as string | undefined) ?? cost;
  const row = (limit: string | null, memory: number): FieldLimit => ({ path, limit, memory, cost: own });
  if (schema["x-unsupported"]) return [row("not supported", 0)];
  if (schema["x-limit"]) return [row(schema["x-limit"] as string, Infinity)];
  if (schema.enum !== undefined) return [row(`one of ${(schema.enum as unknown[]).map((one) => JSON.stringify(one)).join(", ")}`, 64)]; // prettier-ignore
  if ("const" in schema) return [row(JSON.stringify(schema.const), 64)];
  const alternatives = (schema.anyOf ?? schema.oneOf) as Schema[] | undefined;
  if (alternatives) return alternatives.flatMap((one) => fieldLimits(one, path, own));
  // Items that differ by their type have a schema for each.
  const conditions = schema.allOf as { then: Schema }[] | undefined;
  if (conditions)
    return conditions.flatMap(({ then }) => {
      const [kind] = ((then.properties as Record<string, Schema>).type?.enum ?? ["item"]) as string[];
      return fieldLimits(then, `${path}<${kind}>`, own);
    });
  const types = [schema.type ?? []].flat().filter((type) => type !== "null") as string[];
  if (types.length === 0) return schema.type === "null" ? [] : [row(null, Infinity)];
  return types.flatMap((type) => ofType(type, schema, row, path));
}

function ofType(
  type: string,
  schema: Schema,
  row: (limit: string | null, memory: number) => FieldLimit,
  path: string,
): FieldLimit[] {
  const number = (name: string): number | null => (typeof schema[name] === "number" ? schema[name] : null);
  switch (type) {
    case "boolean":
      return [row("true or false", 8)];
    case "integer":
    case "number": {
      const [low, high] = [number("minimum") ?? number("exclusiveMinimum"), number("maximum") ?? number("exclusiveMaximum")]; // prettier-ignore
      const open = number("minimum") === null ? "above " : "";
      const what = type === "integer" ? "integer" : "number";
      return [row(low === null || high === null ? null : `${what}, ${open}${count(low)} to ${count(high)}`, 8)];
    }
    case "string": {
      const longest = number("maxLength");
      return [row(longest === null ? null : `text of ${count(longest)} characters`, 2 * (longest ?? Infinity))];
    }
    case "array": {
      const most = number("maxItems");
      const items = fieldLimits((schema.items ?? {}) as Schema, `${path}[]`);
      const memory = (most ?? Infinity) * Math.max(8, ...items.map((item) => item.memory));
      return [row(most === null || !schema.items ? null : `array of ${count(most)}`, memory), ...items];
    }
    case "object":
      return ofObject(schema, row, path, number("maxProperties"));
    default:
      return [row(null, Infinity)];
  }
}

function ofObject(
  schema: Schema,
  row: (limit: string | null, memory: number) => FieldLimit,
  path: string,
  most: number | null,
): FieldLimit[] {
  const properties = Object.entries((schema.properties ?? {}) as Record<string, Schema>);
  const rows = properties.flatMap(([name, one]) => fieldLimits(one, path === "" ? name : `${path}.${name}`));
  const others = schema.additionalProperties;
  if (others === false) return path === "" ? rows : [row("object with these fields", 64), ...rows];
  if (typeof others !== "object" || others === null) return [row(null, Infinity), ...rows];
  const names = schema.propertyNames as { maxLength?: number } | undefined;
  const longest = names?.maxLength ?? null;
  const limit = most === null || longest === null ? null : `object of ${count(most)} names, each of ${longest} characters`; // prettier-ignore
  return [row(limit, (most ?? Infinity) * (2 * (longest ?? Infinity) + 8)), ...rows, ...fieldLimits(others as Schema, `${path}.*`)]; // prettier-ignore
}

/** Returns the rows of a table of fields. What a body cannot hold costs as much as the body. */
export function fieldRows(fields: readonly FieldLimit[], body: number): string[][] {
  return fields
    .filter(({ limit }) => limit !== "not supported")
    .map(({ path, limit, memory, cost }) => {
      const held = memory >= body ? "as much as the body" : bytes(memory);
      return [`\`${path}\``, (limit ?? "**none**").replaceAll("|", "\\|"), cost === null ? held : `${held}; ${cost}`];
    });
}
