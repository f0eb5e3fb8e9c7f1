// What the schema of a tool says about how the values of its parameters are written, for formats in which they are not JSON.
import type { JsonSchema } from "../util/json-schema.js";
import type { Tool } from "../tokenizer/tools.js";
import type { Steps } from "../util/turns.js";
import type { Expression } from "./expression.js";
import { schemaExpression } from "./schema-expression.js";
import { SchemaDocument } from "./schema-document.js";
import { typesOf } from "./schema-keywords.js";
import { withoutPauses } from "./work.js";

/** Kinds of values that a parameter may have. */
export interface Value {
  /** Texts that it may be, if there are only some; null if any may be. */
  readonly choices: readonly string[] | null;
  /** True if it may be a string. */
  readonly text: boolean;
  /** True if it may be something else than a string. */
  readonly other: boolean;
}

const anything: Value = { choices: null, text: true, other: true };
/** Value of a parameter that the tool does not declare. */
export const undeclared: Value = { choices: null, text: true, other: false };

/** Most schemas within schemas that are looked at. */
const mostDepth = 16;

/** Returns the schema to which a schema within `root` refers, or itself. */
export function resolved(schema: unknown, root: JsonSchema, depth = 0): unknown {
  if (typeof schema !== "object" || schema === null || depth > mostDepth) return schema;
  const { $ref } = schema as JsonSchema;
  if ($ref === undefined) return schema;
  const document = withoutPauses(SchemaDocument.of(root));
  return resolved(document.resolve($ref, { place: "#", base: document.root.base }).value, root, depth + 1);
}

/** Returns what a schema within `root` allows, as far as it decides how a value is written. */
export function valueOf(schema: unknown, root: JsonSchema, depth = 0): Value {
  const found = resolved(schema, root, depth);
  if (typeof found !== "object" || found === null || depth > mostDepth) return anything;
  const given = found as JsonSchema;
  const listed = given.const !== undefined ? [given.const] : given.enum;
  if (Array.isArray(listed)) {
    const texts = listed.filter((one) => typeof one === "string");
    const other = texts.length < listed.length;
    return { choices: other ? null : texts, text: texts.length > 0, other };
  }
  const options = given.anyOf ?? given.oneOf;
  if (Array.isArray(options)) {
    const values = options.map((option) => valueOf(option, root, depth + 1));
    return { choices: null, text: values.some(({ text }) => text), other: values.some(({ other }) => other) };
  }
  const types = given.allOf === undefined ? typesOf(given) : [];
  if (types.length === 0) return anything;
  return { choices: null, text: types.includes("string"), other: types.some((type) => type !== "string") };
}

/** Returns what `valueOf` does, or that a value may be anything if the schema cannot be read. */
export function valueOrAnything(schema: unknown, root: JsonSchema): Value {
  try {
    return valueOf(schema, root);
  } catch {
    return anything;
  }
}

/** Returns the schema of a tool's arguments that has the properties: the one to which it refers, or itself. */
function argumentsOf({ parameters = {} }: Tool): { properties?: unknown; required?: unknown } {
  return Object(resolved(parameters, parameters)) as { properties?: unknown; required?: unknown };
}

/** Returns the names of the parameters that a call must have. */
export function requiredOf(tool: Tool): Set<unknown> {
  const { required } = argumentsOf(tool);
  return new Set(Array.isArray(required) ? (required as unknown[]) : []);
}

/** Returns the parameters of a tool with their schemas. */
export function propertiesOf(tool: Tool): Map<string, unknown> {
  const { properties } = argumentsOf(tool);
  const names = [...requiredOf(tool)].filter((name) => typeof name === "string");
  return new Map<string, unknown>([
    ...names.map((name) => [name, {}] as const),
    ...Object.entries(typeof properties === "object" ? (properties ?? {}) : {}),
  ]);
}

/** Returns the parameters of a tool; none if its schema cannot be read. */
export function propertiesOrNone(tool: Tool): Map<string, unknown> {
  try {
    return propertiesOf(tool);
  } catch {
    return new Map();
  }
}

/** Returns a value as JSON that follows a schema within that of a tool's arguments. */
export function* jsonValue(schema: unknown, { parameters: root = {}, strict }: Tool): Steps<Expression> {
  const { $defs, definitions } = root;
  const known = { ...($defs !== undefined && { $defs }), ...(definitions !== undefined && { definitions }) };
  if (typeof schema !== "object") return yield* schemaExpression(schema === false ? { not: {} } : {}, { strict });
  return yield* schemaExpression({ ...known, ...(schema as JsonSchema) }, { strict });
}

/** Words of Python, and what they stand for. */
export const pythonWords: ReadonlyMap<string, boolean | null> = new Map<string, boolean | null>([
  ["True", true],
  ["False", false],
  ["None", null],
]);

/** Returns the value that a text stands for, as JSON. */
export function jsonOf(text: string, { text: mayBeText, other, choices }: Value): string {
  if (choices || !other) return JSON.stringify(text);
  const trimmed = text.trim();
  try {
    const value: unknown = pythonWords.has(trimmed) ? pythonWords.get(trimmed) : JSON.parse(trimmed);
    // A text in quotation marks is one that has them, if texts stand as they are.
    if (typeof value !== "string" || !mayBeText) return JSON.stringify(value);
  } catch {
    // It is a text.
  }
  return JSON.stringify(text);
}

/** Returns the members of arguments that are written as JSON; none if it is no object. */
export function membersOfJson(json: string): [name: string, value: unknown][] {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? Object.entries(value) : [];
  } catch {
    return [];
  }
}
