// Tools that a model may call, and its calls.
import type { JsonSchema } from "../json-schema.js";

/** A tool that a model may call: the caller runs it, and sends its result as a message of the role "tool". */
export interface Tool {
  /** Name of the tool: letters, digits, "_", "-" and ".". */
  name: string;
  /** Description of what the tool does, for the model. */
  description?: string | undefined;
  /** Schema of the arguments, which are an object. @default an object without properties */
  parameters?: JsonSchema | undefined;
}

/**
 * Says if the model calls tools: "auto" leaves it to the model, "none" forbids it, "required" asks for at least one call,
 * and a name asks for a call of that tool.
 */
export type ToolChoice = "auto" | "none" | "required" | { name: string };

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
