// The parameters of a request that say what an answer has to be: formats and tools.
import type { ConversationOptions } from "../engine/engine-request.js";
import type { JsonSchema } from "../json-schema.js";
import type { OutputFormat } from "../structured/output-format.js";
import type { Tool, ToolChoice } from "../tokenizer/tools.js";
import { ApiError } from "./api-error.js";
import {
  idle,
  nameSchema,
  object,
  optional,
  type Schema,
  schemaOfSchema,
  textSchema,
  unsupported,
} from "./json-schema.js";

/** A format of an answer: a text, any JSON, or JSON with a schema. */
export type FormatParameter =
  | { type: "text" }
  | { type: "json_object" }
  | { type: "json_schema"; schema?: JsonSchema | null; strict?: boolean | null };

/** A tool that the model may call. */
export interface FunctionParameter {
  name: string;
  description?: string | null;
  parameters?: JsonSchema | null;
  strict?: boolean | null;
}

/** A choice of tools. */
export type ToolChoiceParameter = "auto" | "none" | "required" | { name: string };

const name: Schema = { type: "string", pattern: "^[a-zA-Z0-9_.-]{1,128}$", maxLength: 128 };

const strict = optional({
  type: "boolean",
  description: "If true, keywords that JSON Schema does not know are refused. Schemas are followed without it, too.",
});

/** Fields of a format with a schema. */
export const jsonSchemaFields: Readonly<Record<string, Schema>> = {
  name: { ...nameSchema, description: "Name of the schema for its readers. It changes nothing." },
  description: idle({ ...textSchema, description: "Text for the model, which does not see the form of its answer." }),
  schema: optional(schemaOfSchema),
  strict,
};

/** Returns the schema of a format that has fields besides its type only if the type is "json_schema". */
export function formatSchema(fields: Readonly<Record<string, Schema>>, required: readonly string[]): Schema {
  const type = { type: "string", enum: ["text", "json_object", "json_schema"] };
  const others = Object.keys(fields).map((name): [string, Schema] => [name, unsupported()]);
  return optional({
    ...object({ type, ...fields }, ["type"]),
    if: { properties: { type: { const: "json_schema" } } },
    then: { required },
    else: { properties: Object.fromEntries(others) },
    description: "Form that the answer has to have: any text, any JSON, or JSON of a schema.",
  });
}

/** Fields of a tool that is a function. */
export const functionFields: Readonly<Record<string, Schema>> = {
  name,
  description: optional(textSchema),
  parameters: optional(schemaOfSchema),
  strict,
};

/** Returns the schema of a choice of tools; a function is named by `named`. */
export function toolChoiceSchema(named: Schema): Schema {
  return {
    anyOf: [{ type: ["string", "null"], enum: ["auto", "none", "required", null] }, named],
    description: '"auto", "none", "required" or a function',
  };
}

export const functionName: Schema = object({ name }, ["name"]);

/** Options of an answer that follow from its format and tools. */
export interface AnswerParameters {
  readonly format?: FormatParameter | null | undefined;
  readonly tools: readonly FunctionParameter[];
  readonly toolChoice?: ToolChoiceParameter | null | undefined;
  readonly parallelToolCalls?: boolean | null | undefined;
}

/** Returns the engine's options for the format and tools of a request. */
export function answerOptions(
  given: AnswerParameters,
): ConversationOptions & { format?: OutputFormat; tools: Tool[]; toolChoice: ToolChoice } {
  const format = formatOf(given.format);
  return {
    ...(format && { format }),
    tools: given.tools.map(({ name, description, parameters, strict: isStrict }) => ({
      ...{ name, description: description ?? undefined, parameters: parameters ?? undefined },
      strict: isStrict === true,
    })),
    toolChoice: given.toolChoice ?? "auto",
    parallelToolCalls: given.parallelToolCalls ?? true,
  };
}

function formatOf(given: FormatParameter | null | undefined): OutputFormat | null {
  if (given?.type === "json_object") return { type: "json" };
  if (given?.type !== "json_schema") return null;
  if (given.schema) return { type: "json-schema", schema: given.schema, strict: given.strict === true };
  throw new ApiError(400, "Expected a schema for the format json_schema, got none.", { code: "invalid_value" });
}
