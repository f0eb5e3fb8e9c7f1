// Answers in the harmony format of gpt-oss (https://cookbook.openai.com/articles/openai-harmony): messages with headers.
//
//   <|channel|>analysis<|message|>Reasoning.<|end|><|start|>assistant<|channel|>final<|message|>Text.<|return|>
//   <|channel|>commentary to=functions.weather <|constrain|>json<|message|>{"city": "Rome"}<|call|>
import type { Tool } from "../tokenizer/tools.js";
import type { Steps } from "../util/turns.js";
import type { AnswerParts, PartsParser } from "./answer.js";
import { mostCalls } from "./call-format.js";
import { callId } from "./call-scanner.js";
import { choice, type Expression, literal, optionalPart, repeat, sequence } from "./expression.js";
import { textUntil } from "./free-text.js";
import { anyCharacter } from "./json-expressions.js";
import { parametersOf } from "./tool-parameters.js";

/** Special tokens of the format. */
export const harmonyNames = [
  ...(["<|start|>", "<|channel|>", "<|message|>", "<|constrain|>"] as const),
  ...(["<|end|>", "<|call|>", "<|return|>"] as const),
];

/** Text that ends a message, such as one of reasoning. */
export const harmonyEnd = "<|end|>";

/** Returns true if the model of a chat template answers in this format. */
export function isHarmony(template: string): boolean {
  return template.includes("<|channel|>") && template.includes("<|message|>");
}

const further = literal("<|start|>assistant");

/** Returns a message whose text is free, followed by another one. */
function freeMessage(channel: string, after: Expression): Expression {
  return sequence(literal(`<|channel|>${channel}<|message|>`), textUntil(harmonyEnd, sequence(further, after), false));
}

/**
 * Returns the answers that have a format, unless it is null, or call some of the tools; those that `demands` a call have no
 * text. An answer ends with a call, so that it has at most one.
 */
export function* harmonyAnswers(
  format: Expression | null,
  tools: readonly Tool[],
  demands: boolean,
): Steps<Expression> {
  const calls: Expression[] = [];
  for (const tool of tools)
    calls.push(
      sequence(
        literal(`<|channel|>commentary to=functions.${tool.name} `),
        optionalPart(literal("<|constrain|>")),
        literal("json<|message|>"),
        yield* parametersOf(tool),
      ),
    );
  const text = sequence(literal("<|channel|>final<|message|>"), format ?? repeat(anyCharacter, 0));
  const last = demands ? choice(...calls) : choice(text, ...calls);
  const spoken = demands || format !== null ? last : choice(last, freeMessage("commentary", last));
  return choice(spoken, freeMessage("analysis", spoken));
}

const ends = ["<|end|>", "<|call|>", "<|return|>", "<|start|>"];

/** Separates an answer, which comes in pieces, into its parts. */
export class HarmonyParser implements PartsParser {
  #held = "";
  /** Part of the message that is being read; null if its header is, or what stands before it. */
  #part: "reasoning" | "text" | "call" | null = null;
  #begun = false;
  #calls = 0;
  #reasoned = false;
  readonly #most: number;

  /** Reads at most `most` calls. */
  constructor(most = mostCalls) {
    this.#most = most;
  }

  get hasCalls(): boolean {
    return this.#calls > 0;
  }

  /** An answer of this form ends with a token after its call. */
  get ended(): boolean {
    return this.#part === null && this.#calls >= this.#most;
  }

  get reasons(): boolean {
    return this.#part === "reasoning";
  }

  push(piece: string): AnswerParts {
    this.#held += piece;
    return this.#take(false);
  }

  end(cut: boolean): AnswerParts {
    if (cut) {
      const begun = this.#part === null && !this.#begun && "<|channel|>".startsWith(this.#held.trimStart());
      this.#held = begun ? "" : this.#held.slice(0, this.#held.length - undecided(this.#held));
    }
    return this.#take(true);
  }

  #take(last: boolean): AnswerParts {
    const parts: AnswerParts = { text: "" };
    while (this.#held !== "" && (this.#part === null ? this.#header(parts, last) : this.#content(parts, last)));
    return parts;
  }

  #header(parts: AnswerParts, last: boolean): boolean {
    // A model that does not keep to the format writes text.
    const begun = this.#held.trimStart();
    if (!this.#begun && begun !== "" && !["<|", "to=", "assistant"].some((one) => begun.startsWith(one))) {
      const undecided = ["<|", "to=", "assistant"].some((one) => one.startsWith(begun));
      if (undecided && !last) return false;
      this.#part = "text";
      return true;
    }
    const at = this.#held.indexOf("<|message|>");
    if (at < 0) return false;
    const header = this.#held.slice(0, at);
    this.#held = this.#held.slice(at + "<|message|>".length);
    this.#begun = true;
    const [, recipient] = /\bto=([^\s<]+)/.exec(header) ?? [];
    const [, channel] = /<\|channel\|>\s*(\w+)/.exec(header) ?? [];
    if (recipient !== undefined) {
      this.#part = "call";
      const name = recipient.replace(/^functions\./, "");
      (parts.toolCalls ??= []).push({ index: this.#calls++, id: callId(), name, arguments: "" });
    } else if (channel === "analysis") {
      this.#part = "reasoning";
      if (this.#reasoned) parts.reasoning = `${parts.reasoning ?? ""}\n`;
      this.#reasoned = true;
    } else this.#part = "text";
    return true;
  }

  #content(parts: AnswerParts, last: boolean): boolean {
    const found = ends.map((end) => this.#held.indexOf(end)).filter((at) => at >= 0);
    const at = found.length > 0 ? Math.min(...found) : -1;
    const ready = at >= 0 ? at : last ? this.#held.length : this.#held.length - undecided(this.#held);
    this.#add(parts, this.#held.slice(0, ready));
    this.#held = this.#held.slice(ready);
    if (at < 0) return false;
    this.#part = null;
    return true;
  }

  #add(parts: AnswerParts, text: string): void {
    if (text === "") return;
    if (this.#part === "text") parts.text += text;
    else if (this.#part === "reasoning") parts.reasoning = (parts.reasoning ?? "") + text;
    else (parts.toolCalls ??= []).push({ index: this.#calls - 1, arguments: text });
  }
}

/** Returns the length of the end of a text that may become the end of a message. */
function undecided(text: string): number {
  const longest = Math.max(...ends.map(({ length }) => length)) - 1;
  for (let length = Math.min(longest, text.length); length > 0; length--)
    if (ends.some((end) => end.startsWith(text.slice(-length)))) return length;
  return 0;
}
