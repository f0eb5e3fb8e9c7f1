// The parameters of a request that say what an answer has to be: formats and tools.
import type { ConversationOptions } from "../engine/engine-request.js";
import type { JsonSchema } from "../util/json-schema.js";
import type { OutputFormat } from "../structured/output-format.js";
import type { Tool, ToolChoice } from "../tokenizer/tools.js";
import { inputName } from "../structured/tool-input.js";
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

/** A tool that takes a text, which may have to follow a grammar. */
export interface CustomParameter {
  name: string;
  description?: string | null;
  format?: { type: "text" } | ({ type: "grammar" } & Partial<GrammarParameter> & { grammar?: GrammarParameter }) | null;
}

interface GrammarParameter {
  syntax: "lark" | "regex";
  definition: string;
}

/** A named tool in the form of chat completions, or in that of responses. */
interface NamedParameter {
  name?: string;
  function?: { name: string };
  custom?: { name: string };
}

/** A choice of tools. */
export type ToolChoiceParameter =
  | ("auto" | "none" | "required")
  | NamedParameter
  | { type: "allowed_tools"; mode?: "auto" | "required"; tools?: NamedParameter[]; allowed_tools?: AllowedParameter };

interface AllowedParameter {
  mode: "auto" | "required";
  tools: NamedParameter[];
}

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

const kind = (type: string): Schema => ({ type: "string", enum: [type] });
const syntax: Schema = { type: "string", enum: ["lark", "regex"] };
const definition: Schema = {
  ...{ type: "string", minLength: 1, maxLength: 2 ** 16 },
  "x-cost": "it is compiled once, refused by name beyond the limit of a schema's work, and kept for other requests",
};
const grammar = { syntax, definition };

/** Returns the fields of a custom tool. Responses have those of a grammar beside its type. */
function customFields(isFlat: boolean): Readonly<Record<string, Schema>> {
  return {
    ...{ name, description: optional(textSchema) },
    format: optional({
      ...object(
        {
          type: { type: "string", enum: ["text", "grammar"] },
          ...(isFlat ? grammar : { grammar: object(grammar, ["syntax", "definition"]) }),
        },
        ["type"],
      ),
      if: { properties: { type: { const: "grammar" } } },
      then: { required: isFlat ? ["syntax", "definition"] : ["grammar"] },
      description: "Form of the text that the tool takes: any, or that of a regular expression or a grammar of Lark.",
    }),
  };
}

/** Tools that OpenAI runs itself. */
const hosted = [
  ...["web_search", "web_search_preview", "file_search", "code_interpreter", "image_generation", "mcp"],
  ...["computer_use_preview", "computer", "local_shell", "shell", "apply_patch", "tool_search"],
];

/** Returns the schema of the tools of a request. Those of responses have their fields beside the type. */
export function toolsSchema(isFlat: boolean): Schema {
  const custom = customFields(isFlat);
  const forms = isFlat
    ? {
        function: object({ type: kind("function"), ...functionFields }, ["type", "name"]),
        custom: object({ type: kind("custom"), ...custom }, ["type", "name"]),
      }
    : {
        function: object({ type: kind("function"), function: object(functionFields, ["name"]) }, ["type", "function"]),
        custom: object({ type: kind("custom"), custom: object(custom, ["name"]) }, ["type", "custom"]),
      };
  return optional({
    ...{ type: "array", maxItems: 128, description: "Functions and custom tools that the model may call." },
    items: {
      ...{ type: "object", required: ["type"] },
      properties: { type: { type: "string", enum: ["function", "custom", ...hosted] } },
      allOf: Object.entries(forms).map(([type, then]) => ({ if: { properties: { type: { const: type } } }, then })),
    },
  });
}

/** Returns the schema of a choice of tools. */
export function toolChoiceSchema(isFlat: boolean): Schema {
  const named = (type: string): Schema =>
    isFlat
      ? object({ type: kind(type), name }, ["type", "name"])
      : object({ type: kind(type), [type]: object({ name }, ["name"]) }, [type]);
  const allowed = {
    mode: { type: "string", enum: ["auto", "required"] },
    tools: { type: "array", minItems: 1, maxItems: 128, items: { anyOf: [named("function"), named("custom")] } },
  };
  const list = { type: kind("allowed_tools") };
  return {
    anyOf: [
      { type: ["string", "null"], enum: ["auto", "none", "required", null] },
      ...[named("function"), named("custom")],
      isFlat
        ? object({ ...list, ...allowed }, ["type", "mode", "tools"])
        : object({ ...list, allowed_tools: object(allowed, ["mode", "tools"]) }, ["type", "allowed_tools"]),
    ],
    description: '"auto", "none", "required", a function, a custom tool or allowed tools',
  };
}

/** A tool of a request, in the form of responses. */
export type ToolParameter = { type: string } & FunctionParameter & CustomParameter;

/**
 * Returns the names of the custom tools among those of a request.
 *
 * @throws An `ApiError` if a tool is one that only OpenAI could run.
 */
export function customTools(tools: readonly { type: string; name?: string; custom?: { name: string } }[]): Set<string> {
  for (const [i, { type }] of tools.entries())
    if (hosted.includes(type)) {
      const text = `heed does not run the hosted tool ${JSON.stringify(type)}: it has only functions and custom tools, which the client runs.`;
      throw new ApiError(400, text, { param: `tools.${i}.type`, code: "unsupported_parameter" });
    }
  return new Set(tools.filter(({ type }) => type === "custom").map(({ name, custom }) => custom?.name ?? name!));
}

/** Options of an answer that follow from its format and tools. */
export interface AnswerParameters {
  readonly format?: FormatParameter | null | undefined;
  readonly tools: readonly (FunctionParameter & CustomParameter & { readonly type?: string })[];
  readonly toolChoice?: ToolChoiceParameter | null | undefined;
  readonly parallelToolCalls?: boolean | null | undefined;
  readonly thinkingBudget?: number | undefined;
}

/** Returns the engine's options for the format and tools of a request. */
export function answerOptions(
  given: AnswerParameters,
): ConversationOptions & { format?: OutputFormat; tools: Tool[]; toolChoice: ToolChoice } {
  const format = formatOf(given.format);
  return {
    ...(format && { format }),
    tools: given.tools.map((tool) => (tool.type === "custom" ? customTool(tool) : functionTool(tool))),
    toolChoice: toolChoiceOf(given.toolChoice),
    parallelToolCalls: given.parallelToolCalls ?? true,
    thinkingBudget: given.thinkingBudget,
  };
}

function functionTool({ name, description, parameters, strict: isStrict }: FunctionParameter): Tool {
  return {
    ...{ name, description: description ?? undefined, parameters: parameters ?? undefined },
    strict: isStrict === true,
  };
}

/** Returns a custom tool as a function whose only argument is the text. */
function customTool({ name, description, format }: CustomParameter): Tool {
  const grammar = format?.type === "grammar" ? (format.grammar ?? (format as GrammarParameter)) : null;
  const form = grammar && `Text that follows this ${grammar.syntax === "lark" ? "grammar of Lark" : "regular expression"}: ${grammar.definition}`; // prettier-ignore
  const text = { type: "string", ...(form && { description: form }) };
  return {
    ...{ name, description: description ?? undefined },
    parameters: {
      type: "object",
      properties: { [inputName]: text },
      required: [inputName],
      additionalProperties: false,
    },
    input: grammar ? { syntax: grammar.syntax, definition: grammar.definition } : { syntax: null, definition: "" },
  };
}

function nameOf({ name, function: called, custom }: NamedParameter): string {
  return called?.name ?? custom?.name ?? name!;
}

function toolChoiceOf(given: ToolChoiceParameter | null | undefined): ToolChoice {
  if (typeof given !== "object" || given === null) return given ?? "auto";
  if (!("type" in given) || given.type !== "allowed_tools") return { name: nameOf(given as NamedParameter) };
  const { mode, tools } = given.allowed_tools ?? (given as AllowedParameter);
  return { allowed: tools.map(nameOf), required: mode === "required" };
}

function formatOf(given: FormatParameter | null | undefined): OutputFormat | null {
  if (given?.type === "json_object") return { type: "json" };
  if (given?.type !== "json_schema") return null;
  if (given.schema) return { type: "json-schema", schema: given.schema, strict: given.strict === true };
  throw new ApiError(400, "Expected a schema for the format json_schema, got none.", { code: "invalid_value" });
}
