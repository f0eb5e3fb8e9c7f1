// JSON schemas of the bodies. The server documents them (OpenAPI) and refuses what does not match them, by the name of
// the first parameter that is wrong. Fields that they do not know are ignored by name, unless the server is strict.
import { Ajv, type ErrorObject, type ValidateFunction } from "ajv";
import { describe, shortened } from "../util/errors.js";
import { mostWork } from "../structured/work.js";
import { ApiError } from "./api-error.js";

/** A JSON schema. */
export type Schema = Readonly<Record<string, unknown>>;

/** Longest text that a model reads, in characters. A server's limit of the body is usually lower. */
export const longestText = 2 ** 24;
/** Longest name or identifier, in characters. */
export const longestName = 1024;
/** Largest number of messages, parts and other items. */
export const mostItems = 2 ** 16;
/** Largest number of tokens, and of other things that are counted in i32. */
export const mostTokens = 2 ** 31 - 1;

/** Schema of a text that a model reads. */
export const textSchema: Schema = { type: "string", maxLength: longestText };
/** Schema of the tokens of a text. */
export const tokensSchema: Schema = {
  ...{ type: "array", minItems: 1, maxItems: 2 ** 22 },
  items: { type: "integer", minimum: 0, maximum: mostTokens },
};
/** Schema of a name or an identifier. */
export const nameSchema: Schema = { type: "string", maxLength: longestName };
/** Schema of a value that clients send back and that is not read. */
export const unread: Schema = { "x-limit": "any JSON: it is not read" };
/** Schema of a JSON schema, whose work is limited when it is compiled. */
export const schemaOfSchema: Schema = {
  ...{ type: "object", additionalProperties: true },
  "x-limit": `a JSON schema, whose automaton takes at most ${mostWork} steps`,
  "x-cost": "it is compiled once, refused by name beyond that limit, and kept for other requests",
};

/** Returns the schema of an object with these properties and no others. */
export function object(properties: Readonly<Record<string, Schema>>, required: readonly string[] = []): Schema {
  return { type: "object", properties, required, additionalProperties: false };
}

/** Returns a schema that also allows null, which has the same meaning as no value. */
export function optional(schema: Schema): Schema {
  return { ...schema, type: [schema.type, "null"].flat() };
}

/** Returns the schema of a parameter that OpenAI has and heed has not: only values that ask for nothing are allowed. */
export function unsupported(...neutral: readonly unknown[]): Schema {
  return { enum: [null, ...neutral], description: "Not supported.", "x-unsupported": true };
}

/** Returns the schema of a parameter that changes nothing here. */
export function idle(schema: Schema): Schema {
  return optional({ description: "It changes nothing.", ...schema, "x-idle": true });
}

// One error is enough for the answer, and looking for all of them takes a time that grows with the body.
const ajv = new Ajv({ allowUnionTypes: true, verbose: true, allErrors: false });
/** Largest number of unknown fields whose names are kept for a body. */
const mostUnknown = 16;
/** Names of the unknown fields of the body that is being checked, which happens in one go. */
let unknown = new Set<string>();
ajv.addKeyword({
  ...({ keyword: "x-known", type: "object", schemaType: "boolean", errors: false } as const),
  validate: (_: boolean, data: object, parent?: Schema, at?: { instancePath: string }) => {
    const properties = parent!.properties as Schema;
    for (const name of Object.keys(data))
      if (!Object.hasOwn(properties, name) && unknown.size < mostUnknown)
        unknown.add(fieldName(at!.instancePath, name));
    return true;
  },
});
// What docs/limits.md says about a field: its limit, if it is none that a schema has, and what a value at the limit costs.
for (const keyword of ["x-unsupported", "x-idle", "x-limit", "x-cost"]) ajv.addKeyword(keyword);
ajv.addKeyword("example");

/** Result of comparing a body with its schema. */
export interface Checked {
  readonly error: ApiError | null;
  /** Names of fields that the schema does not know, at most 16; those of array items have [] in place of their index. */
  readonly ignored: readonly string[];
}

/** Programs that compare values with a schema, for each of the two ways to treat unknown fields. */
const programs = { strict: new WeakMap<Schema, ValidateFunction>(), lenient: new WeakMap<Schema, ValidateFunction>() };

/**
 * Returns a function that compares a body with the schema. If it is `strict`, an unknown field is an error. The schema is
 * compiled when the first body comes, and once for all servers: for all routes it would take half of a server's start.
 */
export function validator(schema: Schema, strict = false): (value: unknown) => Checked {
  const compiled = programs[strict ? "strict" : "lenient"];
  return (value) => {
    let matches = compiled.get(schema);
    if (!matches) compiled.set(schema, (matches = ajv.compile(strict ? schema : lenient(schema))));
    unknown = new Set();
    const error = matches(value) ? null : apiErrorOfSchema(matches.errors!);
    return { error, ignored: [...unknown] };
  };
}

/** Returns the schema with unknown fields collected where it refuses them. */
function lenient<T>(schema: T): T {
  if (Array.isArray(schema)) return schema.map((one: unknown) => lenient(one)) as T;
  if (typeof schema !== "object" || schema === null) return schema;
  const entries = Object.entries(schema).map(([key, value]: [string, unknown]): [string, unknown] =>
    key === "additionalProperties" && value === false ? ["x-known", true] : [key, lenient(value)],
  );
  return Object.fromEntries(entries) as T;
}

/** Returns the name of a field with the path to it: "messages[].name". */
function fieldName(path: string, name: string): string {
  const parts = [...path.split("/").slice(1), name].map((part) => (/^\d+$/.test(part) ? "[]" : part));
  return shortened(parts.join(".").replaceAll(".[]", "[]"), 80);
}

function apiErrorOfSchema(errors: readonly ErrorObject[]): ApiError {
  // Of several alternatives, the one that matched furthest is the one that was meant. A condition says nothing by itself.
  const error = errors
    .filter(({ keyword }) => keyword !== "if")
    .reduce((found, next) => (depthOf(next) >= depthOf(found) ? next : found));
  const { keyword, params, message, data, parentSchema } = error;
  const at = error.instancePath.slice(1).replaceAll("/", ".");
  const within = (name: unknown): string => [at, String(name)].filter(Boolean).join(".");
  if (keyword === "additionalProperties") {
    const param = within(params.additionalProperty);
    return new ApiError(400, `Unknown parameter: ${describe(param)}.`, { param, code: "unknown_parameter" });
  }
  if (keyword === "required") {
    const param = within(params.missingProperty);
    return new ApiError(400, `Missing parameter: ${describe(param)}.`, { param, code: "missing_required_parameter" });
  }
  const param = at || null;
  const name = shortened(param ?? "the body", 200);
  if (parentSchema?.["x-unsupported"]) {
    const text = `Unsupported parameter: heed does not support ${describe(name)} with this value.`;
    return new ApiError(400, text, { param, code: "unsupported_parameter" });
  }
  const { description } = parentSchema as { description?: string };
  const choices = keyword === "enum" ? `: ${(params.allowedValues as unknown[]).join(", ")}` : "";
  const wanted =
    keyword === "anyOf" && description ? `expected ${description}` : `${message?.replace(",null", "")}${choices}`;
  return new ApiError(400, `${name}: ${wanted}, got ${describe(data)}.`, { param, code: "invalid_value" });
}

function depthOf({ instancePath }: ErrorObject): number {
  return instancePath.split("/").length;
}
