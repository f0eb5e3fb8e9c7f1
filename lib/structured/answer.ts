// The answer to a conversation: reasoning, text and calls of tools.
import type { ToolCallDelta } from "../tokenizer/tools.js";
import { choice, type Expression, literal, repeat, sequence } from "./expression.js";
import { textUntil } from "./free-text.js";
import type { Scanner, ToolFormat } from "./call-format.js";

/** Texts around reasoning. */
export interface ReasoningMarks {
  readonly begin: string;
  readonly end: string;
}

const marks: readonly ReasoningMarks[] = [
  { begin: "<think>", end: "</think>" },
  { begin: "[THINK]", end: "[/THINK]" },
];

/** Returns the marks that a chat template knows; null if its model does not reason. */
export function reasoningOf(template: string): ReasoningMarks | null {
  return marks.find(({ begin, end }) => template.includes(begin) || template.includes(end)) ?? null;
}

/** Returns the same answers with reasoning before them. `open` is true if the prompt has begun it. */
export function withReasoning(answer: Expression, { begin, end }: ReasoningMarks, open: boolean): Expression {
  const blank = repeat(choice(literal("\n"), literal(" ")), 0, 4);
  const reasoning = textUntil(end, sequence(blank, answer), false);
  return open ? reasoning : choice(answer, sequence(literal(begin), reasoning));
}

/** Parts that a text adds to an answer. */
export interface AnswerParts {
  text: string;
  reasoning?: string;
  toolCalls?: ToolCallDelta[];
}

/** Options of an `AnswerParser`. */
export interface AnswerForm {
  readonly reasoning: ReasoningMarks | null;
  /** True if the prompt has begun the reasoning. */
  readonly open: boolean;
  readonly tools: ToolFormat | null;
}

/** Reads an answer, which comes in pieces. */
export interface PartsParser {
  /** True if the answer has calls of tools. */
  readonly hasCalls: boolean;
  /** Returns the parts that a piece adds, as far as they are decided. */
  push(piece: string): AnswerParts;
  /**
   * Returns the rest of the answer. If it was cut, the beginning of a marker at its end counts as one; otherwise it is
   * text.
   */
  end(cut: boolean): AnswerParts;
}

/** Separates an answer, which comes in pieces, into its parts. */
export class AnswerParser implements PartsParser {
  readonly #form: AnswerForm;
  /** Text whose part is not decided. */
  #held = "";
  #mode: "start" | "reasoning" | "text" | "calls" | "between";
  #scanner: Scanner | null = null;
  #calls = 0;
  /** True if the white space at the beginning of the part is left out. */
  #trims = false;

  constructor(form: AnswerForm) {
    this.#form = form;
    this.#mode = form.reasoning && form.open ? "reasoning" : "start";
    this.#trims = this.#mode === "reasoning";
  }

  /** True if the answer has calls of tools. */
  get hasCalls(): boolean {
    return this.#calls > 0;
  }

  push(piece: string): AnswerParts {
    this.#held += piece;
    return this.#take(false);
  }

  end(cut: boolean): AnswerParts {
    if (cut) this.#dropMarker();
    return this.#take(true);
  }

  /** Leaves out the beginning of a marker at the end of the answer. */
  #dropMarker(): void {
    const { reasoning, tools } = this.#form;
    const held = this.#held;
    const begun = held.trimStart();
    if (this.#mode === "reasoning") this.#held = without(held, reasoning!.end);
    else if (this.#mode === "between") this.#held = /^[<[|]/.test(begun) ? "" : held;
    else if (this.#mode === "start" && begun !== "" && reasoning?.begin.startsWith(begun)) this.#held = "";
    else if (this.#mode !== "calls" && tools) this.#held = without(held, tools.marker);
  }

  #take(last: boolean): AnswerParts {
    const parts: AnswerParts = { text: "" };
    while (this.#step(parts, last));
    return parts;
  }

  /** Decides the next piece of the text that is held; returns false if there is none. */
  #step(parts: AnswerParts, last: boolean): boolean {
    if (this.#held === "") return false;
    if (this.#mode === "start") return this.#start(last);
    if (this.#mode === "calls") return this.#call(parts);
    if (this.#mode === "between") return this.#between(last);
    if (this.#mode === "reasoning" && this.#trims) {
      this.#held = this.#held.trimStart();
      if (this.#held === "") return false;
      this.#trims = false;
    }
    return this.#mode === "reasoning" ? this.#reasoning(parts, last) : this.#text(parts, last);
  }

  #start(last: boolean): boolean {
    const { reasoning, tools } = this.#form;
    const begun = this.#held.trimStart();
    if (begun === "" && !last) return false;
    if (reasoning && begun.startsWith(reasoning.begin)) {
      [this.#mode, this.#trims, this.#held] = ["reasoning", true, begun.slice(reasoning.begin.length)];
      return true;
    }
    if (!last && reasoning?.begin.startsWith(begun)) return false;
    if (tools?.bare && begun.startsWith("{")) {
      [this.#mode, this.#held] = ["calls", begun];
      return true;
    }
    if (this.#trims) this.#held = begun;
    this.#mode = "text";
    return true;
  }

  #reasoning(parts: AnswerParts, last: boolean): boolean {
    const { end } = this.#form.reasoning!;
    const at = this.#held.indexOf(end);
    const ready = at >= 0 ? at : last ? this.#held.length : this.#held.length - undecided(this.#held, end);
    const text = at >= 0 ? this.#held.slice(0, at).trimEnd() : this.#held.slice(0, ready);
    if (text !== "") parts.reasoning = (parts.reasoning ?? "") + text;
    this.#held = this.#held.slice(at >= 0 ? at + end.length : ready);
    if (at >= 0) [this.#mode, this.#trims] = ["start", true];
    return at >= 0;
  }

  #text(parts: AnswerParts, last: boolean): boolean {
    const { tools } = this.#form;
    if (!tools) {
      parts.text += this.#held;
      this.#held = "";
      return false;
    }
    const at = this.#held.indexOf(tools.marker);
    // White space before calls is left out.
    const ready = at >= 0 || last ? this.#held.length : this.#held.length - undecided(this.#held, tools.marker);
    const text = at >= 0 ? this.#held.slice(0, at).trimEnd() : this.#held.slice(0, ready);
    parts.text += text;
    this.#held = this.#held.slice(at >= 0 ? at + tools.marker.length : ready);
    if (at >= 0) this.#mode = "between";
    return at >= 0;
  }

  /** Skips what stands around calls. */
  #between(last: boolean): boolean {
    const { around, begin } = this.#form.tools!;
    const skipped = around.exec(this.#held)?.[0].length ?? 0;
    const rest = this.#held.slice(skipped);
    // The beginning of such a text is decided with its end.
    if (!last && /^[<[]/.test(rest) && rest.length < 12) {
      this.#held = rest;
      return false;
    }
    this.#held = rest;
    if (rest === "") return false;
    this.#mode = begin.test(rest) ? "calls" : "text";
    return true;
  }

  #call(parts: AnswerParts): boolean {
    this.#scanner ??= this.#form.tools!.scanner(this.#calls);
    const { delta, length } = this.#scanner.push(this.#held);
    this.#held = this.#held.slice(length);
    if (delta) (parts.toolCalls ??= []).push(delta);
    if (delta) this.#calls = Math.max(this.#calls, delta.index + 1);
    if (!this.#scanner.done) return false;
    this.#scanner = null;
    this.#mode = "between";
    return true;
  }
}

/** Returns a text without the beginning of a marker at its end, and without the white space before that. */
function without(text: string, marker: string): string {
  for (let length = Math.min(marker.length - 1, text.length); length > 0; length--)
    if (text.endsWith(marker.slice(0, length))) return text.slice(0, -length).trimEnd();
  return text;
}

/** Returns the length of the end of a text that may become a marker, with the white space before it. */
function undecided(text: string, marker: string): number {
  let longest = 0;
  for (let length = Math.min(marker.length - 1, text.length); length > 0 && longest === 0; length--)
    if (text.endsWith(marker.slice(0, length))) longest = length;
  const rest = text.slice(0, text.length - longest);
  return longest + rest.length - rest.trimEnd().length;
}
