// How models write calls of tools, by their chat templates.
import type { Tool } from "../tokenizer/tools.js";
import type { Steps } from "../util/turns.js";
import { mostFurther, type ToolFormat, type WrittenCall } from "./call-format.js";
import { CallScanner, NamedCallScanner } from "./call-scanner.js";
import { byte, choiceOf, empty, type Expression, literal, optionalPart, repeat, sequence } from "./expression.js";
import { colon, objectOf, separator, space } from "./json-expressions.js";
import { gemmaForm, type MemberForm, memberCall, MemberCallScanner, pythonForm, writeMemberCall } from "./member-calls.js"; // prettier-ignore
import { propertiesOrNone } from "./call-values.js";
import { deepseekTags, glmTags, minimaxTags, qwenTags, taggedCalls } from "./tagged-calls.js";
import { parametersOf } from "./tool-parameters.js";

/** Names of the members of a call that is an object. */
interface Keys {
  readonly name: string;
  readonly arguments: string;
}

const usualKeys: Keys = { name: "name", arguments: "arguments" };

function jsonCall(keys: Keys) {
  return function* (tool: Tool): Steps<Expression> {
    return objectOf(
      sequence(
        literal(JSON.stringify(keys.name)),
        colon,
        literal(JSON.stringify(tool.name)),
        separator,
        literal(JSON.stringify(keys.arguments)),
        colon,
        yield* parametersOf(tool),
      ),
    );
  };
}

function writeJsonCall({ name, arguments: given }: WrittenCall, keys: Keys): string {
  return `{"${keys.name}": ${JSON.stringify(name)}, "${keys.arguments}": ${given || "{}"}}`;
}

/** Returns `call` as often as a model may call, with `between` between two calls. */
function severally(call: Expression, between: Expression, several: boolean): Expression {
  return sequence(call, several ? repeat(sequence(between, call), 0, mostFurther) : empty);
}

/** Returns a format in which each call is an object between two texts. */
function objectCalls(marker: string, end: string): ToolFormat {
  return {
    ...{ marker, names: [marker, end], bare: null, around: [end, marker], begin: "{" },
    scanner: (index) => new CallScanner(index),
    call: jsonCall(usualKeys),
    calls: (call, several) =>
      severally(sequence(literal("\n"), call, literal(`\n${end}`)), literal(`\n${marker}`), several),
    write: (calls) => calls.map((call) => `${marker}\n${writeJsonCall(call, usualKeys)}\n${end}`).join("\n"),
  };
}

/** Returns a format in which the calls are a list of objects after a text, which may end with another. */
function listCalls(marker: string, { end = "", gap = "", keys = usualKeys } = {}): ToolFormat {
  return {
    ...{ marker, names: [marker, end].filter(Boolean), bare: null, begin: "{" },
    around: end === "" ? [marker] : [end, marker],
    scanner: (index) => new CallScanner(index),
    call: jsonCall(keys),
    calls: (call, several) =>
      sequence(space, literal("["), space, severally(call, separator, several), space, literal(`]${end}`)),
    write: (calls) => `${marker}${gap}[${calls.map((call) => writeJsonCall(call, keys)).join(", ")}]${end}`,
  };
}

/** Texts around calls that are a name and arguments. */
interface NamedForm {
  readonly marker: string;
  /** Text between the marker and the first call. */
  readonly first?: string;
  /** Texts before and after a name, after the arguments, between two calls and after the last. */
  readonly before?: string;
  readonly after: string;
  readonly end?: string;
  readonly between: string;
  readonly last?: string;
  readonly around: readonly string[];
  readonly begin: string | RegExp;
  readonly nameIn: (head: string) => string;
  /** True if the index of the call comes after its name. */
  readonly counts?: boolean;
}

/** Returns a format in which each call is a name and arguments. */
function namedCalls(form: NamedForm): ToolFormat {
  const { marker, first = "", before = "", after, end = "", between, last = "", around, begin, nameIn } = form;
  const counts = form.counts === true;
  const index = counts ? sequence(literal(":"), repeat(byte(0x30, 0x39), 1, 2)) : empty;
  return {
    ...{ marker, bare: null, around, begin, names: [marker, before, after, end, last, ...around].filter(Boolean) },
    scanner: (index) => new NamedCallScanner(index, nameIn),
    *call(tool) {
      return sequence(literal(before + tool.name), index, literal(after), yield* parametersOf(tool), literal(end));
    },
    calls: (call, several) => sequence(literal(first), severally(call, literal(between), several), literal(last)),
    write(calls) {
      const each = calls.map(
        (call, i) => before + call.name + (counts ? `:${i}` : "") + after + (call.arguments || "{}") + end,
      );
      return marker + first + each.join(between) + last;
    },
  };
}

/** Names of texts that are separate tokens in a text with several of them. */
const tokenNames = (text: string): string[] => text.match(/<[|｜][^>]*[|｜]>/g) ?? [];

const hermes = objectCalls("<tool_call>", "</tool_call>");

const mistral = listCalls("[TOOL_CALLS]", { gap: " " });

const mistralArguments = namedCalls({
  ...{ marker: "[TOOL_CALLS]", after: "[ARGS]", between: "[TOOL_CALLS]", around: ["[TOOL_CALLS]"], begin: /^[\w.-]/ },
  nameIn: (head) => /^\s*([\w.-]+)\s*(?:\[CALL_ID\][\w-]*)?\[ARGS\]\s*$/.exec(head)?.[1] ?? "",
});

/** Returns the format of DeepSeek R1 and V3, whose arguments stand in a block of code, or of V3.1. */
function deepseek(hasBlocks: boolean): ToolFormat {
  const [before, separates, end] = ["<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"];
  const form = {
    ...{ marker: "<｜tool▁calls▁begin｜>", last: "<｜tool▁calls▁end｜>", begin: before },
    around: ["```", end, "<｜tool▁calls▁end｜>", "<｜tool▁calls▁begin｜>"],
    nameIn: (head: string) =>
      /^<｜tool▁call▁begin｜>(?:function<｜tool▁sep｜>)?\s*([\w.-]+)\s*(?:<｜tool▁sep｜>|```json|\n)[^]*$/.exec(
        head,
      )?.[1] ?? "",
  };
  const made = hasBlocks
    ? namedCalls({ ...form, before: `${before}function${separates}`, after: "\n```json\n", end: `\n\`\`\`${end}`, between: "\n" }) // prettier-ignore
    : namedCalls({ ...form, before, after: separates, end, between: "" });
  return { ...made, names: [form.marker, before, separates, end, form.last] };
}

const kimi: ToolFormat = {
  ...namedCalls({
    ...{ marker: "<|tool_calls_section_begin|>", last: "<|tool_calls_section_end|>", between: "" },
    ...{ before: "<|tool_call_begin|>functions.", after: "<|tool_call_argument_begin|>", end: "<|tool_call_end|>" },
    ...{ around: ["<|tool_call_end|>", "<|tool_calls_section_end|>"], begin: "<|tool_call_begin|>" },
    nameIn: (head) => /^<\|tool_call_begin\|>\s*(?:functions\.)?([\w.-]+?)(?::\d+)?\s*<\|/.exec(head)?.[1] ?? "",
    counts: true,
  }),
  names: tokenNames(
    "<|tool_calls_section_begin|><|tool_calls_section_end|><|tool_call_begin|><|tool_call_argument_begin|><|tool_call_end|>",
  ),
};

/** Returns a format whose calls are written like those of a function. `list` says that they stand in brackets. */
function memberCalls(
  form: MemberForm,
  { marker, end, list }: { marker: string; end: string; list: boolean },
  tools: readonly Tool[] = [],
): ToolFormat {
  const { before, separator: comma, literals } = form;
  const bare = marker === "" ? "[" : null;
  const names = bare !== null && tools.length > 0 ? new Set(tools.map(({ name }) => name)) : null;
  const [opening, closing] = list ? ["[", "]"] : ["", ""];
  const between = list ? comma : end + marker;
  return {
    ...{ marker, bare, begin: before === "" ? /^[A-Za-z_]/ : before, declares: true },
    around: [end, marker, ...(list ? [",", "```python", "```"] : [])].filter(Boolean),
    names: [marker, end, ...literals.quotes].filter((name) => name.length > 1),
    scanner: (index) => new MemberCallScanner(index, form, names),
    call: (tool) => memberCall(tool, form),
    calls: (call, several) =>
      sequence(literal(opening), severally(call, literal(between), several), literal(closing + end)),
    write(calls) {
      const each = calls.map((call) => writeMemberCall(call.name, call.arguments, form));
      return marker + opening + each.join(between) + closing + end;
    },
  };
}

const lfmMarks = { marker: "<|tool_call_start|>", end: "<|tool_call_end|>" };
const lfmList = listCalls(lfmMarks.marker, { end: lfmMarks.end });

/** Returns LFM's format: calls in Python's form or as objects; either is read. */
function lfm(asObjects: boolean): ToolFormat {
  const python = memberCalls(pythonForm, { ...lfmMarks, list: true });
  return {
    ...(asObjects ? { ...lfmList, names: python.names, declares: false } : python),
    ...{ around: python.around, begin: /^[A-Za-z_{]/ },
    scanner: (index) => new EitherScanner(index),
  };
}

/** Reads a call that is an object or written like that of a function. */
class EitherScanner {
  readonly #index: number;
  #scanner: CallScanner | MemberCallScanner | null = null;

  constructor(index: number) {
    this.#index = index;
  }

  get done(): boolean {
    return this.#scanner?.done === true;
  }

  push(text: string): ReturnType<CallScanner["push"]> {
    this.#scanner ??= text.startsWith("{")
      ? new CallScanner(this.#index)
      : new MemberCallScanner(this.#index, pythonForm);
    return this.#scanner.push(text);
  }
}

function llama(tools: readonly Tool[]): ToolFormat {
  const names = tools.length > 0 ? new Set(tools.map(({ name }) => name)) : null;
  const keys = { name: "name", arguments: "parameters" };
  return {
    ...{ marker: "<|python_tag|>", names: ["<|python_tag|>"], bare: "{", around: [";"], begin: "{" },
    scanner: (index) => new CallScanner(index, names),
    call: jsonCall(keys),
    calls: (call, several) => severally(call, literal("; "), several),
    write: (calls) => calls.map((call) => writeJsonCall(call, keys)).join("; "),
  };
}

const cohereKeys: Keys = { name: "tool_name", arguments: "parameters" };

/** Texts in a chat template, and the format of its model; the first one counts whose texts are all there. */
const known: readonly [texts: readonly string[], format: (tools: readonly Tool[], template: string) => ToolFormat][] = [
  [["<function=", "<parameter="], (tools) => taggedCalls(qwenTags, tools)],
  [["<arg_key>", "<arg_value>"], (tools, template) => taggedCalls(glmTags(/<\/arg_key>(?:\\n|\s)+<arg_value>/.test(template)), tools)], // prettier-ignore
  [["｜DSML｜"], (tools) => taggedCalls(deepseekTags, tools)],
  [["<minimax:tool_call>"], (tools) => taggedCalls(minimaxTags, tools)],
  [["<｜tool▁calls▁begin｜>"], (_, template) => deepseek(template.includes("```json"))],
  [["<|tool_calls_section_begin|>"], () => kimi],
  [["<start_function_call>"], () => gemma("<start_function_call>", "<end_function_call>", "<escape>")],
  [["<|tool_call>call:"], () => gemma("<|tool_call>", "<tool_call|>", '<|"|>')],
  [["<|tool_call_start|>", '"name": "'], () => lfm(true)],
  [["<|tool_call_start|>"], () => lfm(false)],
  [["<|tool_list_start|>"], () => lfm(false)],
  [["<|START_ACTION|>"], () => listCalls("<|START_ACTION|>", { end: "<|END_ACTION|>", keys: cohereKeys })],
  [["<tool_calls>"], () => listCalls("<tool_calls>", { end: "</tool_calls>" })],
  [["<TOOLCALL>"], () => listCalls("<TOOLCALL>", { end: "</TOOLCALL>" })],
  [["functools["], () => listCalls("functools")],
  [["<tool_call>"], () => hermes],
  [["List of tools: ", "<|im_start|>"], () => lfm(false)],
  // Phi's own template says nothing of the calls, for which the vocabulary has two tokens.
  [["<|tool|>", "<|/tool|>"], () => listCalls("<|tool_call|>", { end: "<|/tool_call|>" })],
  [["<|tool_call|>"], () => listCalls("<|tool_call|>")],
  [["[TOOL_CALLS]", "[ARGS]"], () => mistralArguments],
  [["[TOOL_CALLS]"], () => mistral],
  [["<|python_tag|>"], llama],
  [["[func_name1("], (tools) => memberCalls(pythonForm, { marker: "", end: "", list: true }, tools)],
];

function gemma(marker: string, end: string, quote: string): ToolFormat {
  return memberCalls(gemmaForm(quote), { marker, end, list: false });
}

/** The format of a model whose chat template says nothing of calls. */
export const generalFormat = hermes;

/** Returns how the model of a chat template writes calls of tools; null if it says nothing that heed knows. */
export function toolFormatOf(template: string, tools: readonly Tool[] = []): ToolFormat | null {
  if (!template.includes("tool")) return null;
  const found = known.find(([texts]) => texts.every((text) => template.includes(text)));
  if (found) return found[1](tools, template);
  return template.includes("tools") && /"parameters"|ipython/.test(template) ? llama(tools) : null;
}

/** Returns answers that call some of these tools. */
export function* answersWithCalls(format: ToolFormat, tools: readonly Tool[], several: boolean): Steps<Expression> {
  const each: Expression[] = [];
  for (const tool of tools) each.push(yield* format.call(tool));
  const calls = format.calls(choiceOf(each), several);
  const { marker, bare } = format;
  return sequence(bare === null ? literal(marker) : optionalPart(literal(marker)), calls);
}

/** Returns the tool with any arguments: they are read, and not followed. */
export function withoutSchema(tool: Tool, format: ToolFormat | null = null): Tool {
  const properties = format?.declares ? [...propertiesOrNone(tool).keys()].map((name) => [name, {}] as const) : [];
  return { name: tool.name, parameters: { type: "object", properties: Object.fromEntries(properties) } };
}
