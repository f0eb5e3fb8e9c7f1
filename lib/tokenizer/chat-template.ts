// Turns a conversation into the text form that a model was trained on. The form is a Jinja template that comes with the
// model; it gives the text that Python's Jinja2 gives with the settings of Hugging Face's transformers.
import { describe, HeedError } from "../util/errors.js";
import { LongWork } from "./jinja/bounds.js";
import { Untrusted } from "./jinja/convert.js";
import { appendRanges, rangesWithin } from "./jinja/ranges.js";
import { JinjaTemplate, type RenderedText } from "./jinja/template.js";
import { templateMessage, type ToolCall } from "./tools.js";

/** A message of a conversation. */
export interface ChatMessage {
  /** Author of the message: "system", "user", "assistant", "tool" or another role that the template knows. */
  role: string;
  /** Text of the message; null for a message of the role "assistant" that has calls of tools and no text. */
  content: string | null;
  /** Calls of tools that a message of the role "assistant" consists of. */
  toolCalls?: readonly ToolCall[] | undefined;
  /** Id of the call whose result a message of the role "tool" is. */
  toolCallId?: string | undefined;
  /** Reasoning of the model before the answer that a message of the role "assistant" is. */
  reasoning?: string | undefined;
  /** Further fields that a template reads, such as `name`. */
  [key: string]: unknown;
}

/** Options for turning a conversation into text. */
export interface ChatOptions {
  /** True if the text ends with the beginning of the model's answer. @default true */
  addGenerationPrompt?: boolean;
  /** Tools that the model may call, in the form that the template expects. @default null */
  tools?: readonly unknown[] | null;
  /** Further variables of the template. @default {} */
  variables?: Readonly<Record<string, unknown>>;
  /**
   * True if the names of control tokens ("<|im_end|>") in messages, tools and documents become these tokens, as they did
   * before heed told them from those of the template. By default only the template and the assistant's messages can say
   * them: whoever writes the other messages could otherwise end a turn and begin one of the system.
   *
   * @default false
   */
  rawControlTokens?: boolean;
}

/**
 * Chat template of a model. Templates may come from strangers, so rendering is limited in time and memory.
 *
 * @example
 * const source = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}";
 * const template = new ChatTemplate(source, { eos_token: "</s>" });
 * template.render([{ role: "user", content: "Hello" }]); // "user: Hello</s>"
 */
export class ChatTemplate {
  /** The template in Jinja's language. */
  readonly source: string;
  readonly #template: JinjaTemplate;
  /** @internal Variables that are available in every rendering. */
  readonly variables: Readonly<Record<string, unknown>>;

  /**
   * Parses a template. `variables` are available in every rendering: `bos_token`, `eos_token` and others.
   *
   * @throws ERR_FORMAT if `source` is not a Jinja template.
   */
  constructor(source: string, variables: Readonly<Record<string, unknown>> = {}) {
    this.source = source;
    this.variables = variables;
    try {
      this.#template = new JinjaTemplate(source, settings);
    } catch (cause) {
      throw new HeedError("ERR_FORMAT", `chat template: expected a Jinja template: ${reason(cause)}`, { cause });
    }
  }

  /**
   * Returns the conversation as text.
   *
   * @throws ERR_ARGUMENT if there are no messages, or the template rejects them.
   * @throws ERR_RANGE if the template exceeds the work or the length of text that it is allowed for these messages.
   */
  render(messages: readonly ChatMessage[], options: ChatOptions = {}): string {
    return this.#render(messages, { ...options, rawControlTokens: true }).text;
  }

  /**
   * @internal Returns the conversation as text, with the parts that come from messages which are not the assistant's,
   * from tools or from documents. There are none if `rawControlTokens` is true.
   */
  renderText(messages: readonly ChatMessage[], options: ChatOptions = {}): RenderedText {
    return this.#render(messages, options);
  }

  /** @internal Does the same, or returns null if more work than `most` units of some 0.1 µs is needed. */
  renderWithin(most: number, messages: readonly ChatMessage[], options: ChatOptions = {}): RenderedText | null {
    try {
      return this.#render(messages, options, { longWork: most });
    } catch (error) {
      if (error instanceof LongWork) return null;
      throw error;
    }
  }

  /**
   * @internal Returns the text with marks around the parts that {% generation %} … {% endgeneration %} marks as the
   * assistant's own.
   */
  renderMarked(messages: readonly ChatMessage[], options: ChatOptions, marks: readonly [string, string]): RenderedText {
    return this.#render(messages, options, { marks });
  }

  #render(
    messages: readonly ChatMessage[],
    options: ChatOptions,
    { marks = null, longWork = Infinity }: { marks?: readonly [string, string] | null; longWork?: number } = {},
  ): RenderedText {
    checkMessages(messages);
    const { addGenerationPrompt = true, tools = null, variables = {}, rawControlTokens = false } = options;
    const outside = (value: unknown): unknown => (rawControlTokens ? value : new Untrusted(value));
    try {
      const given = messages.map(templateMessage);
      const seen = {
        documents: null,
        ...this.variables,
        ...variables,
        ...("documents" in variables && { documents: outside(variables.documents) }),
        messages: rawControlTokens ? given : given.map(untrustedMessage),
        tools: outside(tools),
        add_generation_prompt: addGenerationPrompt,
      };
      // Only what the caller gives raises the bounds; the variables that came with the template do not.
      const input = { variables, messages: given, tools };
      return this.#template.renderText({ variables: seen, input, longWork }, marks);
    } catch (cause) {
      if (cause instanceof LongWork) throw cause;
      if (cause instanceof HeedError || cause instanceof RangeError)
        throw new HeedError("ERR_RANGE", `chat template ${describe(this.source)}: ${reason(cause)}`, { cause });
      throw new HeedError(
        "ERR_ARGUMENT",
        `chat template: expected messages that the template accepts: ${reason(cause)}`,
        { cause },
      );
    }
  }
}

/** Returns a message whose texts are untrusted, unless it is the assistant's. Its role chooses the template's words. */
function untrustedMessage(message: { readonly role?: unknown }): object {
  const { role, ...others } = message;
  if (role === "assistant") return message;
  const entries = Object.entries(others).map(([name, value]) => [name, value === undefined ? value : new Untrusted(value)]); // prettier-ignore
  return { role, ...(Object.fromEntries(entries) as object) };
}

/** The settings of transformers. */
const settings = { trimBlocks: true, lstripBlocks: true, keepTrailingNewline: false, strict: false };

/** Characters that stand for the borders of the assistant's text. Unicode keeps them for programs' own use. */
const [opening, closing] = ["\uFDD0", "\uFDD1"];

/**
 * @internal Returns the conversation as text, and the parts of it that the template marks as the assistant's own by
 * {% generation %} … {% endgeneration %}; null if the template has no such marks.
 *
 * @throws ERR_ARGUMENT or ERR_RANGE as `render` does, and ERR_ARGUMENT if a message contains U+FDD0 or U+FDD1.
 */
export function renderMarked(
  template: ChatTemplate,
  messages: readonly ChatMessage[],
  options: ChatOptions = {},
): (RenderedText & { answers: [from: number, to: number][] }) | null {
  if (!/{%[-+]?\s*generation\b/.test(template.source)) return null;
  if (/[\uFDD0\uFDD1]/.test(JSON.stringify(messages)))
    throw new HeedError("ERR_ARGUMENT", "chat template: expected messages without U+FDD0 and U+FDD1, got one of them");
  const rendered = template.renderMarked(messages, options, [opening, closing]);
  const answers: [number, number][] = [];
  const untrusted: [number, number][] = [];
  let [text, end] = ["", 0];
  for (const part of rendered.text.split(/(?=[\uFDD0\uFDD1])/)) {
    if (part.startsWith(opening)) answers.push([text.length, text.length]);
    else if (part.startsWith(closing) && answers.length > 0) answers.at(-1)![1] = text.length;
    const shown = part.replace(/^[\uFDD0\uFDD1]/, "");
    end += part.length;
    appendRanges(untrusted, rangesWithin(rendered.untrusted, end - shown.length, end), text.length);
    text += shown;
  }
  return { text, answers, untrusted };
}

/** Returns why a template failed. JavaScript throws a RangeError if the stack or a string overflows. */
function reason(cause: unknown): string {
  if (cause instanceof RangeError) return `expected parts that are nested less deeply (${cause.message})`;
  return (cause as Error).message;
}

function checkMessages(messages: unknown): void {
  if (!Array.isArray(messages) || messages.length === 0)
    throw new HeedError(
      "ERR_ARGUMENT",
      `chat template: expected messages to be an array of at least one message, got ${describe(messages)}`,
    );
  for (const [i, message] of messages.entries()) {
    const role = (message as { role?: unknown } | null)?.role;
    if (typeof role !== "string")
      throw new HeedError(
        "ERR_ARGUMENT",
        `chat template: expected messages[${i}].role to be a string, got ${describe(role)}`,
      );
  }
}
