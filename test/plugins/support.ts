/** Models with chat templates that know tools, and models whose answers are written down. */
import { Generation, type GenerationEvent } from "../../lib/generate/generation.js";
import type { FinishReason } from "../../lib/generate/sequence.js";
import { type ChatGenerationOptions, LanguageModel } from "../../lib/load/language-model.js";
import type { ChatMessage } from "../../lib/tokenizer/chat-template.js";
import { chatModel } from "../server/support.js";

/** An answer that is written down. */
export interface Script {
  events: readonly Omit<GenerationEvent, "choice" | "tokens">[];
  finishReason: FinishReason;
}

/** A model that gives answers that are written down, one after the other, and remembers what it was asked. */
export class ScriptedModel extends LanguageModel {
  readonly asked: { messages: readonly ChatMessage[]; options: ChatGenerationOptions }[] = [];
  readonly #scripts: Script[];

  constructor(...scripts: Script[]) {
    const { model, tokenizer } = chatModel();
    super({ model, tokenizer });
    this.#scripts = scripts;
  }

  override chat(messages: readonly ChatMessage[], options: ChatGenerationOptions = {}): Generation {
    this.asked.push({ messages, options });
    const { events, finishReason } = this.#scripts.shift()!;
    return new Generation(async (end) => {
      end.promptTokens = 3;
      end.finishReasons[0] = finishReason;
      return (async function* () {
        for (const event of events) yield { choice: 0, tokens: [1], ...event };
      })();
    });
  }
}

/** An answer that calls a tool after some thought, and an answer with its result. */
export const scripts: [Script, Script] = [
  {
    events: [
      { text: "", reasoning: "They ask for " },
      { text: "", reasoning: "the weather." },
      { text: "Let me see." },
      { text: "", toolCalls: [{ index: 0, id: "call_1", name: "weather", arguments: '{"city":' }] },
      { text: "", toolCalls: [{ index: 0, arguments: '"Oslo"}' }] },
      { text: "", toolCalls: [{ index: 1, id: "call_2", name: "weather", arguments: '{"city":"Rome"}' }] },
    ],
    finishReason: "tool-calls",
  },
  { events: [{ text: "Cold in Oslo, " }, { text: "warm in Rome." }], finishReason: "stop" },
];

/** Conversation with which a library asks again after it has run the tools that `scripts` calls. */
export const askedAgain = [
  { role: "user", content: "Oslo or Rome?" },
  {
    ...{ role: "assistant", content: "Let me see.", reasoning: "They ask for the weather." },
    toolCalls: [
      { id: "call_1", name: "weather", arguments: '{"city":"Oslo"}' },
      { id: "call_2", name: "weather", arguments: '{"city":"Rome"}' },
    ],
  },
  { role: "tool", name: "weather", toolCallId: "call_1", content: '{"city":"Oslo","celsius":3}' },
  { role: "tool", name: "weather", toolCallId: "call_2", content: '{"city":"Rome","celsius":21}' },
];

/** Tools that a library presents to the model. */
export const shownTools = [
  { name: "weather", description: "Returns the weather of a city", parameters: { required: ["city"] } },
];
