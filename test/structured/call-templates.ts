/**
 * Beginnings of chat templates by which heed recognises how models write calls, a reader of their answers, and a random model
 * with such a template.
 */
import { Engine } from "../../lib/engine/engine.js";
import { AnswerParser, type AnswerForm, type AnswerParts, type PartsParser } from "../../lib/structured/answer.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import type { Tool, ToolCall } from "../../lib/tokenizer/tools.js";
import { smallGpt } from "../generate/models.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";

export const callTemplates = {
  hermes: "{% for tool in tools %}{{ tool }}{% endfor %}<tool_call><think></think>",
  mistral: "{{ tools }}[TOOL_CALLS]",
  mistralArguments: "{{ tools }}[TOOL_CALLS][ARGS][THINK]",
  llama: '{{ tools }}<|python_tag|>{"name": function name, "parameters": dictionary}',
  tagged: "{{ tools }}<tool_call><function=name><parameter=name>",
  glm: "{{ tools }}<tool_call>{name}\n<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n</tool_call>",
  glmOneLine: "{{ tools }}<tool_call>{name}<arg_key>{key}</arg_key><arg_value>{value}</arg_value></tool_call>",
  minimax: "{{ tools }}<minimax:tool_call>",
  deepseek: "{{ tools }}<think></think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>```json",
  deepseek31: "{{ tools }}<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>name<｜tool▁sep｜>",
  deepseek32: "{{ tools }}<｜DSML｜function_calls>",
  kimi: "{{ tools }}<|tool_calls_section_begin|>",
  gemma4: '{{ tools }}<|tool_call>call:name{key:<|"|>value<|"|>}<tool_call|><|channel>thought<channel|>',
  functionGemma: "{{ tools }}<start_function_call>call:",
  lfm: "{{ tools }}<|tool_call_start|>[",
  lfmObjects: `{{ tools }}<|tool_call_start|>[{"name": "`,
  cohere: "{{ tools }}<|START_ACTION|><|START_THINKING|><|END_THINKING|>",
  jamba: "{{ tools }}<tool_calls>",
  phi: "{{ messages[0]['tools'] }}<|tool|><|/tool|>",
  granite: "{{ tools }}<|tool_call|>",
  functools: "{{ tools }}functools[",
  pythonList: "{{ tools }}[func_name1(params_name1=params_value1)]",
};

/** Parts of an answer, with the arguments as they were written. */
export interface Whole {
  text: string;
  reasoning: string;
  calls: Omit<ToolCall, "id">[];
}

/** Reads an answer that comes in pieces. */
export function read(form: AnswerForm, pieces: readonly string[]): Whole {
  return readWith(new AnswerParser(form), pieces);
}

/** Reads an answer with a parser; `cut` says that a limit has cut it. */
export function readWith(parser: PartsParser, pieces: readonly string[], cut = false): Whole {
  const parts: AnswerParts[] = [...pieces.map((piece) => parser.push(piece)), parser.end(cut)];
  const calls: Omit<ToolCall, "id">[] = [];
  for (const { index, name, arguments: added } of parts.flatMap(({ toolCalls }) => toolCalls ?? [])) {
    const call = (calls[index] ??= { name: name!, arguments: "" });
    call.arguments += added;
  }
  const joined = (of: (part: AnswerParts) => string | undefined) => parts.map((part) => of(part) ?? "").join("");
  return { text: joined(({ text }) => text), reasoning: joined(({ reasoning }) => reasoning), calls };
}

/** Calls of the tools. */
export const weather = { name: "weather", arguments: '{"city": "São Paulo {1}", "days": [1, 2]}' };
export const time = { name: "time", arguments: "{}" };

/** Tools that the tests offer. */
export const tools: Tool[] = [
  {
    name: "weather",
    description: "Tells the weather.",
    parameters: {
      type: "object",
      properties: { city: { enum: ["Rome", "Oslo"] }, days: { type: "integer", minimum: 1, maximum: 5 } },
      required: ["city"],
    },
  },
  { name: "time" },
];
export const messages = [{ role: "user", content: "How is it?" }];

/** Returns an engine of a random model; `speaks` is the beginning of its answers. */
export function chatEngine(template: string, speaks = ""): Engine {
  const chatTemplate = `{# ${template} #}{% for m in messages %}{{ m.role }}: {{ m.content }}{{ m.tool_calls | tojson if m.tool_calls else '' }}<|end|>{% endfor %}{{ tools | tojson if tools else '' }}assistant:${speaks}`;
  const tokenizer = new HuggingFaceTokenizer(byteLevelJson(), { config: { eos_token: "<|end|>" }, chatTemplate });
  return new Engine(smallGpt("cpu", { vocabularySize: 272, contextLength: 1024 }), { tokenizer });
}
