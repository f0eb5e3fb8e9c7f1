// How models write calls of tools, by their chat templates.
import type { Tool, ToolChoice } from "../tokenizer/tools.js";
import { atOnce, type Steps } from "../turns.js";
import { mostFurther, type ToolFormat } from "./call-format.js";
import { CallScanner, NamedCallScanner } from "./call-scanner.js";
import { complement, oneOfCharacters } from "./characters.js";
import { choice, choiceOf, empty, type Expression, literal, optionalPart, repeat, sequence } from "./expression.js";
import { textUntil } from "./free-text.js";
import { anyCharacter, colon, objectOf, separator, space } from "./json-expressions.js";
import { taggedCalls } from "./tagged-calls.js";
import { parametersOf } from "./tool-parameters.js";

function jsonCall(key: string) {
  return function* (tool: Tool): Steps<Expression> {
    return objectOf(
      sequence(
        literal('"name"'),
        colon,
        literal(JSON.stringify(tool.name)),
        separator,
        literal(`"${key}"`),
        colon,
        yield* parametersOf(tool),
      ),
    );
  };
}

const hermes: ToolFormat = {
  ...{
    marker: "<tool_call>",
    names: ["<tool_call>", "</tool_call>"],
    bare: false,
    around: /^(?:\s|<\/tool_call>|<tool_call>)+/,
    begin: /^\{/,
  },
  scanner: (index) => new CallScanner(index),
  call: jsonCall("arguments"),
  calls(call, several) {
    const one = sequence(literal("\n"), call, literal("\n</tool_call>"));
    return sequence(one, several ? repeat(sequence(literal("\n<tool_call>"), one), 0, mostFurther) : empty);
  },
};

const mistral: ToolFormat = {
  ...{ marker: "[TOOL_CALLS]", names: ["[TOOL_CALLS]"], bare: false, around: /^[\s,[\]]+/, begin: /^\{/ },
  scanner: (index) => new CallScanner(index),
  call: jsonCall("arguments"),
  calls: (call, several) =>
    sequence(
      space,
      literal("["),
      call,
      several ? repeat(sequence(separator, call), 0, mostFurther) : empty,
      literal("]"),
    ),
};

const mistralArguments: ToolFormat = {
  ...{
    marker: "[TOOL_CALLS]",
    names: ["[TOOL_CALLS]", "[ARGS]"],
    bare: false,
    around: /^(?:\s|\[TOOL_CALLS\])+/,
    begin: /^[\w.-]/,
  },
  scanner: (index) => new NamedCallScanner(index, "[ARGS]"),
  *call(tool) {
    return sequence(literal(`${tool.name}[ARGS]`), yield* parametersOf(tool));
  },
  calls: (call, several) =>
    sequence(call, several ? repeat(sequence(literal("[TOOL_CALLS]"), call), 0, mostFurther) : empty),
};

const llama: ToolFormat = {
  ...{ marker: "<|python_tag|>", names: ["<|python_tag|>"], bare: true, around: /^[\s;]+/, begin: /^\{/ },
  scanner: (index) => new CallScanner(index),
  call: jsonCall("parameters"),
  calls: (call, several) => sequence(call, several ? repeat(sequence(literal("; "), call), 0, mostFurther) : empty),
};

/** Returns how the model of a chat template writes calls of tools; null if it says nothing that heed knows. */
export function toolFormatOf(template: string, tools: readonly Tool[] = []): ToolFormat | null {
  if (!template.includes("tools")) return null;
  if (template.includes("<function=") && template.includes("<parameter=")) return taggedCalls(tools);
  if (template.includes("<tool_call>")) return hermes;
  if (template.includes("[TOOL_CALLS]")) return template.includes("[ARGS]") ? mistralArguments : mistral;
  if (template.includes("<|python_tag|>") || /"parameters"|ipython/.test(template)) return llama;
  return null;
}

/** A character that begins no call without a marker. */
const other = atOnce(oneOfCharacters(complement([[0x7b, 0x7b]])));

/** Returns the answers that a choice of tools allows; null if any answer is allowed. */
export function* answersWithTools(
  format: ToolFormat,
  tools: readonly Tool[],
  toolChoice: ToolChoice,
  several: boolean,
): Steps<Expression | null> {
  if (toolChoice === "none" || tools.length === 0) return null;
  const chosen = typeof toolChoice === "object" ? tools.filter(({ name }) => name === toolChoice.name) : tools;
  const each: Expression[] = [];
  for (const tool of chosen) each.push(yield* format.call(tool));
  const call = choiceOf(each);
  // A tool that is named is called once.
  const calls = format.calls(call, several && typeof toolChoice !== "object");
  const { marker, bare } = format;
  if (toolChoice !== "auto") return sequence(bare ? optionalPart(literal(marker)) : literal(marker), calls);
  if (!bare) return textUntil(marker, calls, true);
  return choice(calls, sequence(literal(marker), calls), sequence(other, repeat(anyCharacter, 0)), empty);
}
