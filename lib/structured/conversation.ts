// Conversations as a chat template can show them. What it cannot show is written as text in messages that it does: tools in
// the system message, calls in the answers that made them, results and the system's messages in those of the user.
import { checkLevels } from "../util/check.js";
import { describe, HeedError } from "../util/errors.js";
import type { HuggingFaceTokenizer } from "../tokenizer/huggingface-tokenizer.js";
import type { ChatMessage, ChatTemplate } from "../tokenizer/chat-template.js";
import { TemplateAbilities } from "../tokenizer/template-abilities.js";
import { templateTools, type Tool } from "../tokenizer/tools.js";
import type { ToolFormat } from "./call-format.js";
import { isHarmony } from "./harmony.js";
import { generalFormat, toolFormatOf } from "./tool-format.js";

/** A conversation for a chat template. */
export interface Conversation {
  readonly messages: readonly ChatMessage[];
  /** Tools in the form that templates expect; null if there are none, or the messages describe them. */
  readonly tools: unknown[] | null;
  /** True if the messages describe the tools, since the template does not. */
  readonly describesTools: boolean;
}

/** Most levels of a tool's schema, which chat templates read by recursion. */
const mostLevels = 512;

/**
 * Resolves to the tokens of a conversation as the tokenizer's template can show it. Tools whose schemas the template cannot
 * write, since it expects others, are described as those are of a template that shows none.
 *
 * @throws ERR_ARGUMENT, ERR_RANGE or the signal's reason, as `encodeChatAsync` does.
 */
export async function encodeConversation(
  tokenizer: HuggingFaceTokenizer,
  messages: readonly ChatMessage[],
  tools: readonly Tool[],
  options: Omit<NonNullable<Parameters<HuggingFaceTokenizer["encodeChatAsync"]>[1]>, "tools">,
): Promise<{ tokens: Int32Array; describesTools: boolean }> {
  const encode = async (describes: boolean): Promise<{ tokens: Int32Array; describesTools: boolean }> => {
    const { describesTools, ...shown } = conversationFor(tokenizer.chatTemplate!, messages, tools, describes);
    const tokens = await tokenizer.encodeChatAsync(shown.messages, { ...options, tools: shown.tools });
    return { tokens, describesTools };
  };
  try {
    return await encode(false);
  } catch (error) {
    if (tools.length === 0 || !(error instanceof HeedError && error.code === "ERR_ARGUMENT")) throw error;
    // The first error says what is wrong if it is not the tools.
    return await encode(true).catch(() => Promise.reject(error));
  }
}

/**
 * Returns a conversation and its tools as the template can show them. Messages that it shows stay as they are. With
 * `describes`, the messages describe the tools even if the template shows them.
 *
 * @throws ERR_ARGUMENT if the schema of a tool has too many levels.
 */
export function conversationFor(
  template: ChatTemplate,
  messages: readonly ChatMessage[],
  tools: readonly Tool[],
  describes = false,
): Conversation {
  for (const { name, parameters } of tools) checkLevels(`tool ${describe(name)}: parameters`, parameters, mostLevels);
  // Others are told what is wrong with them by the template.
  if (
    !Array.isArray(messages) ||
    messages.length === 0 ||
    !messages.every((message) => typeof message === "object" && message !== null)
  )
    return { messages, tools: templateTools(tools), describesTools: false };
  const abilities = TemplateAbilities.of(template);
  const adapted = new Adapted(template, abilities, messages);
  const shown = tools.length > 0 ? adapted.addTools(tools, describes) : "template";
  adapted.writeCalls();
  adapted.moveSystem();
  return {
    messages: adapted.messages,
    tools: shown === "template" ? templateTools(tools) : null,
    describesTools: shown === "described",
  };
}

class Adapted {
  messages: readonly ChatMessage[];
  readonly #source: string;
  readonly #abilities: TemplateAbilities;
  /** Messages that are results of calls, written as the user's. */
  readonly #results = new Set<ChatMessage>();

  constructor(template: ChatTemplate, abilities: TemplateAbilities, messages: readonly ChatMessage[]) {
    this.messages = messages;
    this.#source = template.source;
    this.#abilities = abilities;
  }

  /** Adds the tools to the system message, unless the template shows them. */
  addTools(tools: readonly Tool[], describes: boolean): "template" | "system" | "described" {
    const format = toolFormatOf(this.#source, tools);
    if (!describes && (isHarmony(this.#source) || this.#abilities.tools)) return "template";
    const [first, ...others] = this.messages;
    const hasSystem = first?.role === "system" && typeof first.content === "string";
    if (!describes && this.#abilities.toolsOfSystem) {
      const own = hasSystem ? first : { role: "system", content: "You are a helpful assistant with some tools." };
      this.messages = [{ ...own, tools: `[${tools.map(jsonOf).join(", ")}]` }, ...(hasSystem ? others : this.messages)];
      return "system";
    }
    const text = describedTools(tools, format ?? generalFormat);
    const content = hasSystem && first.content !== "" ? `${first.content}\n\n${text}` : text;
    this.messages = [{ ...(hasSystem ? first : { role: "system" }), content }, ...(hasSystem ? others : this.messages)];
    return "described";
  }

  /** Writes calls of tools and their results as the template reads them, or as text. */
  writeCalls(): void {
    if (!this.messages.some(({ role, toolCalls }) => role === "tool" || (toolCalls?.length ?? 0) > 0)) return;
    const format = toolFormatOf(this.#source) ?? generalFormat;
    const { calls, results } = this.#abilities;
    const written: ChatMessage[] = [];
    for (const message of this.messages) {
      if (message.role === "tool" && !results) this.#addResult(written, message);
      else if (!message.toolCalls || message.toolCalls.length === 0) written.push(message);
      else if (!calls) written.push(withWrittenCalls(message, format));
      else {
        const { toolCalls, ...rest } = message;
        const content = calls.emptyContent ? (message.content ?? "") : message.content;
        if (!calls.asText) written.push({ ...message, content });
        else
          written.push({
            ...rest,
            content,
            tool_calls: toolCalls.map(({ id, name, arguments: given }) => ({
              ...{ id, type: "function", function: { name, arguments: given } },
            })),
          });
      }
    }
    this.messages = written;
  }

  /** Adds the result of a call as a message of the user, or to the results before it. */
  #addResult(messages: ChatMessage[], { content }: ChatMessage): void {
    const text = `<tool_response>\n${content ?? ""}\n</tool_response>`;
    const last = messages.at(-1);
    const joins = last !== undefined && this.#results.has(last);
    const result = { role: "user", content: joins ? `${last.content}\n${text}` : text };
    this.#results.add(result);
    if (joins) messages.pop();
    messages.push(result);
  }

  /** Writes messages of the system that the template cannot show before the user's words that follow. */
  moveSystem(): void {
    const isMoved = (role: string, i: number): boolean =>
      role === "system" && !(i === 0 ? this.#abilities.system : this.#abilities.laterSystem);
    const moved: ChatMessage[] = [];
    let before: string[] = [];
    let hasMoved = this.#results.size > 0;
    for (const [i, message] of this.messages.entries()) {
      if (isMoved(message.role, i)) {
        if (message.content) before.push(message.content);
        hasMoved = true;
        continue;
      }
      if (before.length > 0 && message.role === "user" && typeof message.content === "string") {
        moved.push({ ...message, content: [...before, message.content].join("\n\n") });
        before = [];
      } else {
        // An answer does not speak for the system.
        if (before.length > 0) moved.push({ role: "user", content: before.join("\n\n") });
        before = [];
        moved.push(message);
      }
    }
    if (before.length > 0) moved.push({ role: "user", content: before.join("\n\n") });
    if (hasMoved) this.messages = this.#abilities.severalUsers ? moved : joinedUsers(moved);
  }
}

function withWrittenCalls({ toolCalls = [], content, ...rest }: ChatMessage, format: ToolFormat): ChatMessage {
  const calls = format.write(toolCalls);
  return { ...rest, role: rest.role, content: content ? `${content}\n${calls}` : calls };
}

/** Returns the messages with those of the user that follow one another as one. */
function joinedUsers(messages: readonly ChatMessage[]): ChatMessage[] {
  const joined: ChatMessage[] = [];
  for (const message of messages) {
    const last = joined.at(-1);
    if (last?.role !== "user" || message.role !== "user") joined.push(message);
    else joined.splice(-1, 1, { ...last, content: [last.content, message.content].join("\n\n") });
  }
  return joined;
}

function shownTool({ name, description = "", parameters = { type: "object", properties: {} } }: Tool): object {
  return { name, description, parameters };
}

/** Returns a tool as JSON. */
function jsonOf(tool: Tool): string {
  return JSON.stringify(shownTool(tool));
}

/** Returns words that describe tools to a model, and how it calls them. */
function describedTools(tools: readonly Tool[], format: ToolFormat): string {
  const example = format.write([{ name: "function_name", arguments: '{"argument": "value"}' }]);
  return [
    "You can call the following functions. Each line is one of them, with the JSON schema of its arguments:",
    ...tools.map(jsonOf),
    "",
    "To call a function, answer in exactly this form, with the function's name and its arguments:",
    example,
    "",
    "The result of a call comes in a later message. Call a function only if it helps; otherwise answer in words.",
  ].join("\n");
}
