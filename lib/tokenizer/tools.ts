// Tools that a model may call, and its calls.
import type { JsonSchema } from "../util/json-schema.js";
import { parseJson } from "./jinja/parse-json.js";

/** A tool that a model may call: the caller runs it, and sends its result as a message of the role "tool". */
export interface Tool {
  /** Name of the tool: letters, digits, "_", "-" and ".". */
  name: string;
  /** Description of what the tool does, for the model. */
  description?: string | undefined;
  /** Schema of the arguments, which are an object. @default an object without properties */
  parameters?: JsonSchema | undefined;
  /**
   * True if a keyword or format that no draft of JSON Schema knows is refused instead of ignored, when the tool has to be
   * called.
   *
   * @default false
   */
  strict?: boolean | undefined;
  /**
   * @internal Text that the tool takes as its only argument, `input`, whose form may be a regular expression or a grammar in
   * Lark's language. The parameters must say the same.
   */
  input?: { readonly syntax: "regex" | "lark" | null; readonly definition: string } | undefined;
}

/**
 * Says if the model calls tools: "auto" leaves it to the model, "none" forbids it, "required" asks for at least one call,
 * and a name asks for a call of that tool. A list of names allows these tools alone; with `required`, one of them has to be
 * called.
 */
export type ToolChoice =
  "auto" | "none" | "required" | { name: string } | { allowed: readonly string[]; required?: boolean | undefined };

/** @internal Meaning of a choice of tools. */
export interface Choosable {
  /** Tools that may be called. */
  readonly tools: readonly Tool[];
  /** Tools that the model is shown. */
  readonly shown: readonly Tool[];
  /** True if one of them has to be called. */
  readonly forced: boolean;
  /** True if there is exactly one call. */
  readonly once: boolean;
}

/** @internal Returns what a choice of tools means. */
export function choosable(tools: readonly Tool[], choice: ToolChoice): Choosable {
  if (choice === "none") return { tools: [], shown: [], forced: false, once: false };
  if (typeof choice === "string") return { tools, shown: tools, forced: choice === "required", once: false };
  if ("name" in choice) {
    const named = tools.filter(({ name }) => name === choice.name);
    return { tools: named, shown: tools, forced: true, once: true };
  }
  const allowed = tools.filter(({ name }) => choice.allowed.includes(name));
  const forced = choice.required === true;
  // What the model is not shown it does not call; if it has to call, its form leaves the others out.
  return { tools: allowed, shown: forced ? tools : allowed, forced, once: false };
}

/** A model's call of a tool. */
export interface ToolCall {
  /** Name of the call, with which a message of the role "tool" refers to it. */
  id: string;
  /** Name of the tool. */
  name: string;
  /** The arguments, which are JSON. */
  arguments: string;
}

/** A part of a call that is being generated. */
export interface ToolCallDelta {
  /** Index of the call among those of the text. */
  index: number;
  /** Name of the call, in its first part. */
  id?: string;
  /** Name of the tool, in the call's first part. */
  name?: string;
  /** Text that has been added to the arguments. */
  arguments: string;
}

/** Returns tools in the form that chat templates expect; null if there are none. */
export function templateTools(tools: readonly Tool[]): unknown[] | null {
  if (tools.length === 0) return null;
  return tools.map(({ name, description = "", parameters = { type: "object", properties: {} } }) => ({
    ...{ type: "function", function: { name, description, parameters } },
  }));
}

/** A message with the fields that templates may read besides `role` and `content`. */
interface MessageFields {
  toolCalls?: readonly ToolCall[] | undefined;
  toolCallId?: string | undefined;
  reasoning?: string | undefined;
  [key: string]: unknown;
}

/** Returns a message with its calls of tools in the form that chat templates expect: the arguments are objects. */
export function templateMessage(message: MessageFields): Record<string, unknown> {
  const { toolCalls, toolCallId, reasoning, ...rest } = message;
  return {
    ...rest,
    ...(toolCalls && toolCalls.length > 0 && { tool_calls: toolCalls.map(templateCall) }),
    ...(toolCallId !== undefined && { tool_call_id: toolCallId }),
    ...(reasoning !== undefined && { reasoning_content: reasoning }),
  };
}

function templateCall({ id, name, arguments: given }: ToolCall): object {
  return { id, type: "function", function: { name, arguments: objectOf(given) } };
}

/** Returns the object that JSON stands for, or the text itself if it is none. */
function objectOf(text: string): unknown {
  try {
    const value = parseJson(text);
    return typeof value === "object" && value !== null ? value : text;
  } catch {
    return text;
  }
}
