import type { Tool, ToolCallDelta } from "../tokenizer/tools.js";
import type { Steps } from "../turns.js";
import type { Expression } from "./expression.js";

/** Largest number of calls after the first one, so that a model that never stops calling comes to an end. */
export const mostFurther = 31;

/** Reads a call: returns what characters add to it, and how many of them belong to it. */
export interface Scanner {
  /** True if the call has ended. */
  readonly done: boolean;
  push(text: string): { delta: ToolCallDelta | null; length: number };
}

/** A way to write calls. */
export interface ToolFormat {
  /** Text before the first call. */
  readonly marker: string;
  /** True if calls may begin without the marker, where an answer begins with a brace. */
  readonly bare: boolean;
  /** Texts between and after calls, which belong to no call. */
  readonly around: RegExp;
  /** Texts that are tokens of their own in some vocabularies. */
  readonly names: readonly string[];
  /** Beginning of a call. */
  readonly begin: RegExp;
  scanner(index: number): Scanner;
  /** Returns the calls of a tool. */
  call(tool: Tool): Steps<Expression>;
  /** Returns the text after the marker, up to the end of the answer. */
  calls(call: Expression, several: boolean): Expression;
}
