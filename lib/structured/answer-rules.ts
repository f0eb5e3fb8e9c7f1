// What the answers to a prompt may be, and how they are read.
import { checkInteger } from "../util/check.js";
import { describe, HeedError } from "../util/errors.js";
import type { HuggingFaceTokenizer } from "../tokenizer/huggingface-tokenizer.js";
import { choosable, type Choosable, type Tool, type ToolChoice } from "../tokenizer/tools.js";
import type { Steps } from "../util/turns.js";
import { AnswerParser, type PartsParser, type ReasoningMarks, reasoningOf, withReasoning } from "./answer.js";
import { checkedExpression } from "./analysis.js";
import { mostCalls, type ToolFormat } from "./call-format.js";
import { choice, type Expression } from "./expression.js";
import { remembered, type UsedFormat } from "./format-cache.js";
import { checkFormat, formatExpression } from "./format-expression.js";
import { harmonyAnswers, harmonyEnd, harmonyNames, HarmonyParser, isHarmony } from "./harmony.js";
import type { OutputFormat } from "./output-format.js";
import type { CountedReasoning } from "./thinking-budget.js";
import { answersWithCalls, generalFormat, toolFormatOf, withoutSchema } from "./tool-format.js";

/** Rules of the answers to a prompt. */
export interface AnswerRules {
  /** Texts that are allowed, until the caller disposes them; null if all are. */
  readonly allowed: UsedFormat | null;
  /** Special tokens that texts show, since they separate the parts of an answer. */
  readonly shown: ReadonlySet<number>;
  /** Returns what separates an answer into its parts; null if it is a plain text. */
  readonly parser: (() => PartsParser) | null;
  /** Bound on the reasoning; null if there is none. */
  readonly reasoning: CountedReasoning | null;
}

/** Options of the answers to a conversation. */
export interface AnswerOptions {
  readonly format: OutputFormat | null;
  readonly tools: readonly Tool[];
  readonly toolChoice: ToolChoice;
  readonly parallelToolCalls: boolean;
  /** Most tokens of reasoning; null for no bound. */
  readonly thinkingBudget: number | null;
}

/** Finds the rules of the answers to a prompt. The signal ends the search. */
export type FindRules = (prompt: Int32Array, signal?: AbortSignal | null) => Promise<AnswerRules>;

/**
 * Returns a function that resolves to the rules of the answers to a prompt. Tools constrain an answer only if one of them
 * has to be called: otherwise the model is free to call them, and its calls are read.
 *
 * @throws ERR_ARGUMENT if an option is invalid; formats and the parameters of tools are read when the rules are asked for.
 */
export function answerRules(tokenizer: HuggingFaceTokenizer, options: AnswerOptions): FindRules {
  checkTools(options);
  if (options.thinkingBudget !== null) checkInteger("generate", "thinkingBudget", options.thinkingBudget, 0);
  if (options.format !== null) checkFormat(options.format);
  const template = tokenizer.chatTemplate?.source ?? "";
  const chosen = choosable(options.tools, options.toolChoice);
  if (isHarmony(template)) return harmonyRules(tokenizer, options, chosen);
  const reasoning = reasoningOf(template);
  const tools = options.tools.length === 0 ? null : (toolFormatOf(template, options.tools) ?? generalFormat);
  const names = [...(reasoning?.names ?? [reasoning?.begin, reasoning?.end]), ...(tools?.names ?? [])];
  const shown = specialTokens(
    tokenizer,
    names.filter((name) => name !== undefined),
  );
  const calls = mostCallsOf(options, chosen);
  const end = reasoning && tokensOf(tokenizer, reasoning.end);
  return async (prompt, signal) => {
    const open = reasoning !== null && isOpen(tokenizer, prompt, reasoning);
    const parser = reasoning || tools ? () => new AnswerParser({ reasoning, open, tools, mostCalls: calls }) : null;
    const { thinkingBudget: most, ...followed } = options;
    const key = [tools?.marker, tools?.names, String(tools?.begin), followed, reasoning?.begin, open];
    const allowed = allowsAll(options, chosen)
      ? null
      : await remembered(
          key,
          function* () {
            const answers = yield* allowedAnswers(tools, options, chosen);
            return reasoning ? withReasoning(answers, reasoning, open) : answers;
          },
          signal,
        );
    if (end === null || most === null) return { allowed, shown, parser, reasoning: null };
    const counter = (): PartsParser => new AnswerParser({ reasoning, open, tools: null });
    return { allowed, shown, parser, reasoning: { parser: counter, end, most } };
  };
}

function harmonyRules(tokenizer: HuggingFaceTokenizer, options: AnswerOptions, chosen: Choosable): FindRules {
  const { format, thinkingBudget: most, ...followed } = options;
  const shown = specialTokens(tokenizer, harmonyNames);
  const end = tokensOf(tokenizer, harmonyEnd);
  return async (_, signal) => {
    const allowed = allowsAll(options, chosen)
      ? null
      : await remembered(
          ["harmony", format, followed],
          function* () {
            const text = format && (yield* formatExpression(format));
            const { tools, forced } = chosen;
            const made = yield* harmonyAnswers(text, forced ? tools : tools.map((tool) => withoutSchema(tool)), forced);
            return yield* checkedExpression(made, "tools");
          },
          signal,
        );
    const parser = (): PartsParser => new HarmonyParser(mostCallsOf(options, chosen));
    return { allowed, shown, parser, reasoning: most === null ? null : { parser, end, most } };
  };
}

/** Returns the number of calls that end an answer, unless its form does. */
function mostCallsOf({ parallelToolCalls }: AnswerOptions, { forced }: Choosable): number {
  if (forced) return Infinity;
  return parallelToolCalls ? mostCalls : 1;
}

/** Returns the ids of the special tokens among these texts. */
function specialTokens(tokenizer: HuggingFaceTokenizer, names: readonly string[]): Set<number> {
  const ids = names.map((name) => tokenizer.tokenId(name)).filter((id) => id !== null);
  return new Set(ids.filter((id) => tokenizer.isSpecial(id)));
}

/** Returns the tokens of a text that a model writes between two parts of its answer. */
function tokensOf(tokenizer: HuggingFaceTokenizer, text: string): Int32Array {
  const id = tokenizer.tokenId(text);
  return id === null ? tokenizer.encode(text, { addSpecialTokens: false }) : Int32Array.of(id);
}

/** Returns true if a prompt ends within reasoning that it has begun. */
function isOpen(tokenizer: HuggingFaceTokenizer, prompt: Int32Array, { begin, end }: ReasoningMarks): boolean {
  const text = tokenizer.decode(prompt.subarray(-32), { special: true });
  return text.lastIndexOf(begin) > text.lastIndexOf(end);
}

/** Returns true if any answer is allowed. */
function allowsAll({ format }: AnswerOptions, { forced }: Choosable): boolean {
  return format === null && !forced;
}

/** Returns the answers that are allowed, unless all are. */
function* allowedAnswers(
  format: ToolFormat | null,
  options: AnswerOptions,
  { tools, forced, once }: Choosable,
): Steps<Expression> {
  if (format === null || tools.length === 0) return yield* formatExpression(options.format!);
  const followed = forced ? tools : tools.map((tool) => withoutSchema(tool, format));
  const made = yield* answersWithCalls(format, followed, options.parallelToolCalls && !once);
  const calls = yield* checkedExpression(made, "tools");
  return forced ? calls : choice(yield* formatExpression(options.format!), calls);
}

function checkTools({ tools, toolChoice }: AnswerOptions): void {
  if (!Array.isArray(tools))
    throw new HeedError("ERR_ARGUMENT", `tools: expected an array of tools, got ${describe(tools)}`);
  for (const [i, tool] of (tools as unknown[]).entries()) {
    const { name, parameters = {} } = Object(tool) as { name?: unknown; parameters?: unknown };
    if (typeof name !== "string" || !/^[\w.-]{1,128}$/.test(name))
      throw new HeedError(
        "ERR_ARGUMENT",
        `tools[${i}].name: expected 1 to 128 letters, digits, "_", "-" and ".", got ${describe(name)}`,
      );
    if (typeof parameters !== "object" || parameters === null)
      throw new HeedError(
        "ERR_ARGUMENT",
        `tools[${i}].parameters: expected a JSON schema, got ${describe(parameters)}`,
      );
  }
  if (toolChoice === "auto" || toolChoice === "none") return;
  if (tools.length === 0) throw new HeedError("ERR_ARGUMENT", "toolChoice: expected tools to choose from, got none");
  if (toolChoice === "required") return;
  const { name, allowed } = Object(toolChoice) as { name?: unknown; allowed?: unknown };
  const names = Array.isArray(allowed) ? (allowed as unknown[]) : [name];
  const other = names.find((one) => !tools.some((tool: Tool) => tool.name === one));
  if (names.length === 0 || other !== undefined || (name === undefined && allowed === undefined))
    throw new HeedError(
      "ERR_ARGUMENT",
      `toolChoice: expected "auto", "none", "required", the name of a tool or names of some, got ${describe(other ?? toolChoice)}`,
    );
}
