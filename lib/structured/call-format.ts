import type { Tool, ToolCallDelta } from "../tokenizer/tools.js";
import type { Steps } from "../util/turns.js";
import type { Expression } from "./expression.js";

/** Largest number of calls of an answer, so that a model that never stops calling comes to an end. */
export const mostCalls = 32;
/** Largest number of calls after the first one. */
export const mostFurther = mostCalls - 1;

/** Most characters before the arguments of a call: what is longer is no call. */
export const longestHead = 400;

/** Result of reading characters: what they add to a call, and how many of them belong to it. */
export interface Scanned {
  readonly delta: ToolCallDelta | null;
  readonly length: number;
  /** True if the text turns out to be no call; nothing of it has been given then. */
  readonly rejected?: boolean;
}

/** Reads a call. */
export interface Scanner {
  /** True if the call has ended. */
  readonly done: boolean;
  push(text: string): Scanned;
}

/** A call that is to be written. */
export interface WrittenCall {
  readonly name: string;
  /** The arguments as JSON. */
  readonly arguments: string;
}

/** A way to write calls. */
export interface ToolFormat {
  /** Text before the first call. */
  readonly marker: string;
  /** Character with which calls may begin without the marker, at the beginning of an answer; null if they may not. */
  readonly bare: string | null;
  /** Texts between and after calls, which belong to no call, as white space does not. */
  readonly around: readonly string[];
  /** Texts that are tokens of their own in some vocabularies. */
  readonly names: readonly string[];
  /** Beginning of a call: this text, or a first character of this kind. */
  readonly begin: string | RegExp;
  /** True if calls that are followed have no parameters besides those that tools declare. @default false */
  readonly declares?: boolean;
  scanner(index: number): Scanner;
  /** Returns the calls of a tool. */
  call(tool: Tool): Steps<Expression>;
  /** Returns the text after the marker, up to the end of the answer. */
  calls(call: Expression, several: boolean): Expression;
  /** Returns calls as the model writes them, with the marker. */
  write(calls: readonly WrittenCall[]): string;
}

/** Returns true if a text begins with a call, and null if that is not decided yet. */
export function beginsCall({ begin }: ToolFormat, text: string): boolean | null {
  if (typeof begin !== "string") return begin.test(text);
  if (text.startsWith(begin)) return true;
  return begin.startsWith(text) ? null : false;
}
