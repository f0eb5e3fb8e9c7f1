// What a chat template can show. Templates say it nowhere, so that each is tried with a small conversation of marked texts:
// what does not appear in the prompt, or makes the template fail, is what it cannot show.
import { HeedError } from "../util/errors.js";
import type { ChatMessage, ChatTemplate } from "./chat-template.js";

const mark = (name: string): string => `heed${name}mark`;
const [spoken, answered, instructed] = ["spoken", "answered", "instructed"].map(mark) as [string, string, string];
const [named, argued, valued, returned] = ["named", "argued", "valued", "returned"].map(mark) as [
  ...[string, string, string, string],
];

const user: ChatMessage = { role: "user", content: spoken };
const assistant: ChatMessage = { role: "assistant", content: answered };
const system: ChatMessage = { role: "system", content: instructed };
const tool = {
  type: "function",
  function: {
    ...{ name: named, description: named },
    parameters: { type: "object", properties: { [argued]: { type: "string", description: argued } }, required: [] },
  },
};
const id = "abcdefghi";

/** Forms of the messages with calls that a template reads. */
export interface CallsAbility {
  /** True if the arguments have to be a text, as OpenAI's are; otherwise they are an object. */
  readonly asText: boolean;
  /** True if the content of a message without text has to be an empty text, and not null. */
  readonly emptyContent: boolean;
}

/** Most work of a template for one of the small conversations. One that needs more is taken to show everything. */
const mostWork = 50_000;

/** Abilities of a chat template, each of which is found when it is first asked for. */
export class TemplateAbilities {
  readonly #template: ChatTemplate;
  readonly #known = new Map<string, unknown>();

  private constructor(template: ChatTemplate) {
    this.#template = template;
  }

  /** Returns the abilities of a template. */
  static of(template: ChatTemplate): TemplateAbilities {
    const found = known.get(template) ?? new TemplateAbilities(template);
    known.set(template, found);
    return found;
  }

  /** True if the template shows a system message that comes first. */
  get system(): boolean {
    return this.#once("system", () => this.#shows([system, user], [instructed, spoken]));
  }

  /** True if it shows a system message within a conversation. */
  get laterSystem(): boolean {
    return this.#once("laterSystem", () => this.#shows([user, assistant, system, user], [instructed]));
  }

  /** True if it takes several messages of a user without an answer between them. */
  get severalUsers(): boolean {
    const second = mark("second");
    return this.#once("severalUsers", () => this.#shows([user, { ...user, content: second }], [spoken, second]));
  }

  /** True if it shows tools. */
  get tools(): boolean {
    // Some show the names of functions alone, and some those of their parameters.
    const shows = (messages: ChatMessage[]): boolean =>
      this.#shows(messages, [named], [tool]) || this.#shows(messages, [argued], [tool]);
    return this.#once("tools", () => shows([user]) || (this.system && shows([system, user])));
  }

  /** True if it shows tools that are a text of the first system message. */
  get toolsOfSystem(): boolean {
    return this.#once("toolsOfSystem", () => this.#shows([{ ...system, tools: named }, user], [named]));
  }

  /** Form of the messages with calls of tools; null if it shows none. */
  get calls(): CallsAbility | null {
    return this.#once("calls", () => {
      for (const emptyContent of [false, true]) {
        const [asObject, asText] = [false, true].map((asText) =>
          this.#render(called({ asText, emptyContent }), this.tools ? [tool] : null),
        );
        const [showsObject, showsText] = [asObject, asText].map((text) => includes(text, [valued]));
        if (!showsObject && !showsText) continue;
        // Python writes an object with other quotes than JSON's.
        const isPython = asObject?.includes(`'${argued}': '${valued}'`) === true;
        return { asText: !showsObject || (isPython && showsText === true), emptyContent };
      }
      return null;
    });
  }

  /** True if it shows messages of the role "tool". */
  get results(): boolean {
    return this.#once("results", () => {
      const { calls } = this;
      const before = calls ? called(calls).slice(0, -1) : [user, assistant];
      const result = { role: "tool", content: returned, name: named, toolCallId: id };
      const text = this.#render([...before, result], this.tools ? [tool] : null);
      return text === undefined || includes(text, [returned]);
    });
  }

  #once<T>(name: string, find: () => T): T {
    if (!this.#known.has(name)) this.#known.set(name, find());
    return this.#known.get(name) as T;
  }

  #shows(messages: readonly ChatMessage[], texts: readonly string[], tools: readonly unknown[] | null = null): boolean {
    return includes(this.#render(messages, tools), texts);
  }

  /** Returns the text of a conversation, null if the template fails, and undefined if that takes long. */
  #render(messages: readonly ChatMessage[], tools: readonly unknown[] | null): string | null | undefined {
    try {
      return this.#template.renderWithin(mostWork, messages, { tools, rawControlTokens: true })?.text;
    } catch (error) {
      if (error instanceof HeedError) return null;
      throw error;
    }
  }
}

const known = new WeakMap<ChatTemplate, TemplateAbilities>();

function called({ asText, emptyContent }: CallsAbility): ChatMessage[] {
  const given = { [argued]: valued };
  const call = { id, type: "function", function: { name: named, arguments: asText ? `{"${argued}": "${valued}"}` : given } }; // prettier-ignore
  return [
    user,
    { role: "assistant", content: emptyContent ? "" : null, tool_calls: [call] },
    { role: "tool", content: returned, name: named, toolCallId: id },
  ];
}

/** Returns true if a text contains all of these, or was not made because it takes long. */
function includes(text: string | null | undefined, parts: readonly string[]): boolean {
  return text === undefined || (text !== null && parts.every((part) => text.includes(part)));
}
