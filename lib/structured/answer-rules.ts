// What the answers to a prompt may be, and how they are read.
import { describe, HeedError } from "../errors.js";
import type { HuggingFaceTokenizer } from "../tokenizer/huggingface-tokenizer.js";
import type { Tool, ToolChoice } from "../tokenizer/tools.js";
import type { Steps } from "../turns.js";
import { AnswerParser, type PartsParser, reasoningOf, withReasoning } from "./answer.js";
import { checkedExpression } from "./analysis.js";
import type { ToolFormat } from "./call-format.js";
import { choice, type Expression } from "./expression.js";
import { remembered, type UsedFormat } from "./format-cache.js";
import { checkFormat, formatExpression } from "./format-expression.js";
import { harmonyAnswers, harmonyNames, HarmonyParser, isHarmony } from "./harmony.js";
import type { OutputFormat } from "./output-format.js";
import { answersWithTools, toolFormatOf } from "./tool-format.js";

/** Rules of the answers to a prompt. */
export interface AnswerRules {
  /** Texts that are allowed, until the caller disposes them; null if all are. */
  readonly allowed: UsedFormat | null;
  /** Special tokens that texts show, since they separate the parts of an answer. */
  readonly shown: ReadonlySet<number>;
  /** Returns what separates an answer into its parts; null if it is a plain text. */
  readonly parser: (() => PartsParser) | null;
}

/** Options of the answers to a conversation. */
export interface AnswerOptions {
  readonly format: OutputFormat | null;
  readonly tools: readonly Tool[];
  readonly toolChoice: ToolChoice;
  readonly parallelToolCalls: boolean;
}

/** Finds the rules of the answers to a prompt. The signal ends the search. */
export type FindRules = (prompt: Int32Array, signal?: AbortSignal | null) => Promise<AnswerRules>;

/**
 * Returns a function that resolves to the rules of the answers to a prompt.
 *
 * @throws ERR_ARGUMENT if an option is invalid, or does not fit the chat template; formats and the parameters of tools
 *   are read when the rules are asked for.
 */
export function answerRules(tokenizer: HuggingFaceTokenizer, options: AnswerOptions): FindRules {
  checkTools(options);
  if (options.format !== null) checkFormat(options.format);
  const template = tokenizer.chatTemplate?.source ?? "";
  if (isHarmony(template)) return harmonyRules(tokenizer, options);
  const reasoning = reasoningOf(template);
  const tools = options.tools.length === 0 ? null : toolFormat(template, options);
  const names = [reasoning?.begin, reasoning?.end, ...(tools?.names ?? [])].filter((name) => name !== undefined);
  const shown = specialTokens(tokenizer, names);
  return async (prompt, signal) => {
    const open = reasoning !== null && isOpen(tokenizer, prompt, reasoning);
    const parser = reasoning || tools ? () => new AnswerParser({ reasoning, open, tools }) : null;
    const key = [tools?.marker, tools?.names, String(tools?.begin), options, reasoning?.begin, open];
    const allowed = allowsAll(tools, options)
      ? null
      : await remembered(
          key,
          function* () {
            const answers = yield* allowedAnswers(tools, options);
            return reasoning ? withReasoning(answers, reasoning, open) : answers;
          },
          signal,
        );
    return { allowed, shown, parser };
  };
}

function harmonyRules(tokenizer: HuggingFaceTokenizer, options: AnswerOptions): FindRules {
  const { format, tools, toolChoice } = options;
  const any = format === null && (tools.length === 0 || toolChoice === "none");
  const shown = specialTokens(tokenizer, harmonyNames);
  return async (_, signal) => {
    const allowed = any
      ? null
      : await remembered(
          ["harmony", options],
          function* () {
            const made = (yield* harmonyAnswers(format && (yield* formatExpression(format)), tools, toolChoice))!;
            return yield* checkedExpression(made, "tools");
          },
          signal,
        );
    return { allowed, shown, parser: () => new HarmonyParser() };
  };
}

/** Returns the ids of the special tokens among these texts. */
function specialTokens(tokenizer: HuggingFaceTokenizer, names: readonly string[]): Set<number> {
  const ids = names.map((name) => tokenizer.tokenId(name)).filter((id) => id !== null);
  return new Set(ids.filter((id) => tokenizer.isSpecial(id)));
}

/** Returns true if a prompt ends within reasoning that it has begun. */
function isOpen(
  tokenizer: HuggingFaceTokenizer,
  prompt: Int32Array,
  { begin, end }: { begin: string; end: string },
): boolean {
  const text = tokenizer.decode(prompt.subarray(-32), { special: true });
  return text.lastIndexOf(begin) > text.lastIndexOf(end);
}

/** Returns true if any answer is allowed. */
function allowsAll(tools: ToolFormat | null, { format, toolChoice }: AnswerOptions): boolean {
  return format === null && (tools === null || toolChoice === "none");
}

/** Returns the answers that are allowed, unless all are. */
function* allowedAnswers(tools: ToolFormat | null, options: AnswerOptions): Steps<Expression> {
  const { format, toolChoice, parallelToolCalls } = options;
  if (tools === null || toolChoice === "none") return yield* formatExpression(format!);
  const both = format !== null && toolChoice === "auto";
  const made = (yield* answersWithTools(tools, options.tools, both ? "required" : toolChoice, parallelToolCalls))!;
  const calls = yield* checkedExpression(made, "tools");
  return both ? choice(yield* formatExpression(format), calls) : calls;
}

function toolFormat(template: string, { tools, toolChoice }: AnswerOptions): ToolFormat | null {
  const found = toolFormatOf(template, tools);
  if (found || toolChoice === "auto" || toolChoice === "none") return found;
  throw new HeedError(
    "ERR_ARGUMENT",
    "toolChoice: expected a chat template whose calls of tools heed knows (Llama 3, Qwen, Hermes, Mistral, gpt-oss), got another one",
  );
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
  const { name } = Object(toolChoice) as { name?: unknown };
  if (!tools.some((tool: Tool) => tool.name === name))
    throw new HeedError(
      "ERR_ARGUMENT",
      `toolChoice: expected "auto", "none", "required" or the name of a tool, got ${describe(name ?? toolChoice)}`,
    );
}
