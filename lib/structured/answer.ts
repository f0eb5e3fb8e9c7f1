// The answer to a conversation: reasoning, text and calls of tools.
import type { ToolCallDelta } from "../tokenizer/tools.js";
import { choice, type Expression, literal, repeat, sequence } from "./expression.js";
import { textUntil } from "./free-text.js";
import { beginsCall, type Scanner, type ToolFormat } from "./call-format.js";

/** Texts around reasoning. */
export interface ReasoningMarks {
  readonly begin: string;
  readonly end: string;
  /** Texts that are tokens of their own in some vocabularies. @default both */
  readonly names?: readonly string[];
}

const marks: readonly ReasoningMarks[] = [
  { begin: "<think>", end: "</think>" },
  { begin: "[THINK]", end: "[/THINK]" },
  { begin: "<|channel>thought", end: "<channel|>", names: ["<|channel>", "<channel|>"] },
  { begin: "<|START_THINKING|>", end: "<|END_THINKING|>" },
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
  /** Largest number of calls, after which the answer has ended. @default Infinity */
  readonly mostCalls?: number;
}

/** Reads an answer, which comes in pieces. */
export interface PartsParser {
  /** True if the answer has calls of tools. */
  readonly hasCalls: boolean;
  /** True if the answer has all the calls that it may have. */
  readonly ended: boolean;
  /** True if the answer is within its reasoning. */
  readonly reasons: boolean;
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
  /** Text of the call that is being read, until it is known to be one. */
  #raw = "";
  /** True if the call that is being read has a name. */
  #isKnown = false;
  /** True if calls stand in a list. */
  #list = false;
  #calls = 0;
  /** True if the white space at the beginning of the part is left out. */
  #trims = false;

  constructor(form: AnswerForm) {
    this.#form = form;
    this.#mode = form.reasoning && form.open ? "reasoning" : "start";
    this.#trims = this.#mode === "reasoning";
  }

  get hasCalls(): boolean {
    return this.#calls > 0;
  }

  get ended(): boolean {
    return this.#mode === "between" && this.#calls >= (this.#form.mostCalls ?? Infinity);
  }

  get reasons(): boolean {
    return this.#mode === "reasoning";
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
    else if (this.#mode === "between") [this.#held, this.#raw] = [isBegun(tools!, begun) ? "" : held, ""];
    else if (this.#mode === "start" && begun !== "" && reasoning?.begin.startsWith(begun)) this.#held = "";
    else if (this.#mode === "calls") this.#raw = "";
    else if (tools) this.#held = without(held, tools.marker);
  }

  #take(last: boolean): AnswerParts {
    const parts: AnswerParts = { text: "" };
    while (!this.ended && this.#step(parts, last));
    // A call that has no name when the answer ends is none.
    if (last) parts.text += this.#raw;
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
    if (tools?.bare && begun.startsWith(tools.bare)) {
      // A list of calls has its bracket before them, and an object is one.
      [this.#mode, this.#held] = [tools.bare === "[" ? "between" : "calls", begun];
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
    const at = tools.marker === "" ? -1 : this.#held.indexOf(tools.marker);
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
    const tools = this.#form.tools!;
    for (let length = -1; length !== this.#held.length;) {
      length = this.#held.length;
      this.#skip(this.#held.length - this.#held.trimStart().length);
      const found = tools.around.find((text) => this.#held.startsWith(text));
      if (found) this.#skip(found.length);
      // The beginning of such a text is decided with its end.
      else if (!last && this.#held !== "" && isBegun(tools, this.#held)) return false;
      else if (!this.#list && this.#calls === 0 && this.#held.startsWith("[")) {
        this.#list = true;
        this.#skip(1);
      } else if (this.#list && /^[,\]]/.test(this.#held)) {
        if (this.#held.startsWith("]")) this.#list = false;
        this.#skip(1);
      }
    }
    if (this.#held === "") return false;
    this.#mode = beginsCall(tools, this.#held) ? "calls" : "text";
    if (this.#mode === "text") [this.#held, this.#raw] = [this.#raw + this.#held, ""];
    return true;
  }

  /** Leaves out what stands around calls. A list without a marker is text if there is no call in it. */
  #skip(length: number): void {
    if (this.#form.tools!.bare === "[" && this.#calls === 0) this.#raw += this.#held.slice(0, length);
    this.#held = this.#held.slice(length);
  }

  #call(parts: AnswerParts): boolean {
    this.#scanner ??= this.#form.tools!.scanner(this.#calls);
    const { delta, length, rejected } = this.#scanner.push(this.#held);
    this.#raw += this.#held.slice(0, length);
    this.#held = this.#held.slice(length);
    if (rejected) {
      parts.text += this.#raw;
      [this.#scanner, this.#raw, this.#mode] = [null, "", "text"];
      return true;
    }
    if (delta) {
      (parts.toolCalls ??= []).push(delta);
      this.#calls = Math.max(this.#calls, delta.index + 1);
      [this.#raw, this.#isKnown] = ["", true];
    } else if (this.#isKnown) this.#raw = "";
    if (!this.#scanner.done) return false;
    [this.#scanner, this.#raw, this.#isKnown] = [null, "", false];
    this.#mode = "between";
    return true;
  }
}

/** Returns true if a text may become one that stands around calls, or begins one. */
function isBegun({ around, begin }: ToolFormat, text: string): boolean {
  const texts = typeof begin === "string" ? [...around, begin] : around;
  return texts.some((one) => one.length > text.length && one.startsWith(text));
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
