// A conversation as the text that a model was trained on: the Jinja template that comes with the model, run by Hugging
// Face's interpreter.
import { createRequire } from "node:module";
import type { Template } from "@huggingface/jinja";
import { describe, HeedError } from "../errors.js";
import { stripFunctions, withStripFunctions } from "./jinja-strip.js";

const require = createRequire(import.meta.url);

export interface ChatMessage {
  role: string;
  content: string;
  /** What else a template looks at: tool_calls, name, … */
  [key: string]: unknown;
}

export interface ChatOptions {
  /** Whether the text ends where the model's answer begins; true unless given. */
  addGenerationPrompt?: boolean;
  /** Tools that the model may call, as the template wants them. */
  tools?: readonly unknown[] | null;
  /** Further variables of the template. */
  variables?: Readonly<Record<string, unknown>>;
}

export class ChatTemplate {
  readonly source: string;
  readonly #template: Template;
  readonly #variables: Readonly<Record<string, unknown>>;

  /** `variables` are seen by every text: bos_token, eos_token, … Throws ERR_FORMAT for what is not a template. */
  constructor(source: string, variables: Readonly<Record<string, unknown>> = {}) {
    this.source = source;
    this.#variables = variables;
    // Loaded here, since most programs render no template.
    const jinja = require("@huggingface/jinja") as typeof import("@huggingface/jinja");
    try {
      this.#template = new jinja.Template(source);
      withStripFunctions(this.#template.parsed);
    } catch (cause) {
      throw new HeedError("ERR_FORMAT", `chat template: expected a Jinja template: ${(cause as Error).message}`, {
        cause,
      });
    }
  }

  /** Throws ERR_ARGUMENT where the messages are none, or the template refuses them. */
  render(messages: readonly ChatMessage[], options: ChatOptions = {}): string {
    checkMessages(messages);
    const { addGenerationPrompt = true, tools = null, variables = {} } = options;
    try {
      return this.#template.render({
        ...stripFunctions,
        ...this.#variables,
        ...variables,
        messages,
        tools,
        add_generation_prompt: addGenerationPrompt,
      });
    } catch (cause) {
      throw new HeedError("ERR_ARGUMENT", `chat template: expected messages it takes: ${(cause as Error).message}`, {
        cause,
      });
    }
  }
}

function checkMessages(messages: unknown): void {
  if (!Array.isArray(messages) || messages.length === 0)
    throw new HeedError(
      "ERR_ARGUMENT",
      `chat template: expected messages in an array of at least one, got ${describe(messages)}`,
    );
  for (const [i, message] of messages.entries()) {
    const role = (message as { role?: unknown } | null)?.role;
    if (typeof role !== "string")
      throw new HeedError("ERR_ARGUMENT", `chat template: expected messages[${i}].role, got ${describe(role)}`);
  }
}
