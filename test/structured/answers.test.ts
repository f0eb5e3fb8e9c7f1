/** Answers to conversations: how calls of tools and reasoning are written by each family, and read. */
import { describe, expect, test } from "vitest";
import { Engine } from "../../lib/engine/engine.js";
import { AnswerParser, type AnswerForm, type AnswerParts, reasoningOf } from "../../lib/structured/answer.js";
import { answersWithTools, toolFormatOf } from "../../lib/structured/tool-format.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import type { Tool, ToolCall } from "../../lib/tokenizer/tools.js";
import { smallGpt } from "../generate/models.js";
import { expectError, expectRejection } from "../support/errors.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";
import { automatonOf } from "./support.js";

interface Whole {
  text: string;
  reasoning: string;
  calls: Omit<ToolCall, "id">[];
}

function read(form: AnswerForm, pieces: readonly string[]): Whole {
  const parser = new AnswerParser(form);
  const parts: AnswerParts[] = [...pieces.map((piece) => parser.push(piece)), parser.end()];
  const calls: Omit<ToolCall, "id">[] = [];
  for (const { index, name, arguments: added } of parts.flatMap(({ toolCalls }) => toolCalls ?? [])) {
    const call = (calls[index] ??= { name: name!, arguments: "" });
    call.arguments += added;
  }
  const joined = (of: (part: AnswerParts) => string | undefined) => parts.map((part) => of(part) ?? "").join("");
  return { text: joined(({ text }) => text), reasoning: joined(({ reasoning }) => reasoning), calls };
}

const templates = {
  hermes: "{% for tool in tools %}{{ tool }}{% endfor %}<tool_call><think></think>",
  mistral: "{{ tools }}[TOOL_CALLS]",
  mistralArguments: "{{ tools }}[TOOL_CALLS][ARGS][THINK]",
  llama: '{{ tools }}<|python_tag|>{"name": function name, "parameters": dictionary}',
};
const weather = { name: "weather", arguments: '{"city": "São Paulo {1}", "days": [1, 2]}' };
const time = { name: "time", arguments: "{}" };

const recorded: [keyof typeof templates, string, Whole][] = [
  ["hermes", "Hello there.\nAnd more. ", { text: "Hello there.\nAnd more. ", reasoning: "", calls: [] }],
  [
    "hermes",
    `<tool_call>\n{"name": "weather", "arguments": ${weather.arguments}}\n</tool_call>`,
    { text: "", reasoning: "", calls: [weather] },
  ],
  [
    "hermes",
    `<think>\nI should look.\n</think>\n\nLet me see.\n<tool_call>\n{"name": "weather", "arguments": ${weather.arguments}}\n</tool_call>\n<tool_call>\n{"arguments": {}, "name": "time"}\n</tool_call>`,
    { text: "Let me see.", reasoning: "I should look.", calls: [weather, time] },
  ],
  [
    "hermes",
    "<think>\n\n</think>\n\nAn answer with <b> and <tool",
    { text: "An answer with <b> and <tool", reasoning: "", calls: [] },
  ],
  ["hermes", "<tool_call>not a call</tool_call>", { text: "not a call</tool_call>", reasoning: "", calls: [] }],
  [
    "mistral",
    `[TOOL_CALLS] [{"name": "weather", "arguments": ${weather.arguments}}, {"name": "time", "arguments": {}}]`,
    { text: "", reasoning: "", calls: [weather, time] },
  ],
  [
    "mistralArguments",
    `[THINK]Hm.[/THINK][TOOL_CALLS]weather[ARGS]${weather.arguments}[TOOL_CALLS]time[ARGS]{}`,
    { text: "", reasoning: "Hm.", calls: [weather, time] },
  ],
  ["llama", `{"name": "weather", "parameters": ${weather.arguments}}`, { text: "", reasoning: "", calls: [weather] }],
  [
    "llama",
    `<|python_tag|>{"name": "weather", "parameters": ${weather.arguments}}; {"name": "time", "parameters": {}}`,
    { text: "", reasoning: "", calls: [weather, time] },
  ],
  ["llama", "The braces {} are text.", { text: "The braces {} are text.", reasoning: "", calls: [] }],
];

test.each(recorded)("%s: %j", (family, text, expected) => {
  const template = templates[family];
  const form = { reasoning: reasoningOf(template), open: false, tools: toolFormatOf(template) };
  expect(read(form, [text])).toEqual(expected);
  expect(read(form, Array.from(text))).toEqual(expected);
  for (const size of [2, 3, 7]) expect(read(form, text.match(new RegExp(`[^]{1,${size}}`, "g"))!)).toEqual(expected);
});

test("reasoning that the prompt has begun", () => {
  const form = { reasoning: reasoningOf(templates.hermes), open: true, tools: null };
  expect(read(form, ["Hm", ".\n</thi", "nk>\n\nYes."])).toEqual({ text: "Yes.", reasoning: "Hm.", calls: [] });
});

const tools: Tool[] = [
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
const messages = [{ role: "user", content: "How is it?" }];

function chatEngine(template: string, speaks = ""): Engine {
  const chatTemplate = `{# ${template} #}{% for m in messages %}{{ m.role }}: {{ m.content }}{{ m.tool_calls | tojson if m.tool_calls else '' }}<|end|>{% endfor %}{{ tools | tojson if tools else '' }}assistant:${speaks}`;
  const tokenizer = new HuggingFaceTokenizer(byteLevelJson(), { config: { eos_token: "<|end|>" }, chatTemplate });
  return new Engine(smallGpt("cpu", { vocabularySize: 272, contextLength: 1024 }), { tokenizer });
}

describe.each(Object.entries(templates))("a random model with the template of %s", (_, template) => {
  test("calls the tool that it has to", async () => {
    await using engine = chatEngine(template);
    for (const toolChoice of ["required", { name: "weather" }] as const) {
      const sampled = { temperature: 1.3, maxTokens: 200, seed: 3, parallelToolCalls: false };
      const generation = engine.generate({ messages, tools, toolChoice, ...sampled });
      const deltas: string[] = [];
      for await (const { toolCalls } of generation) for (const delta of toolCalls ?? []) deltas.push(delta.arguments);
      const { text, toolCalls, finishReason } = await generation;
      if (finishReason === "length") continue;
      expect({ text, finishReason }).toEqual({ text: "", finishReason: "tool-calls" });
      expect(toolCalls).toHaveLength(1);
      const [{ id, name, arguments: given }] = toolCalls as [ToolCall];
      expect(id).toMatch(/^[A-Za-z0-9]{9}$/);
      expect(deltas.join("")).toBe(given);
      if (typeof toolChoice === "object") expect(name).toBe("weather");
      const parsed = JSON.parse(given) as { city?: string };
      if (name === "weather") expect(["Rome", "Oslo"]).toContain(parsed.city);
      else expect(parsed).toEqual({});
      const further = [
        ...messages,
        { role: "assistant", content: "", toolCalls: toolCalls! },
        { role: "tool", content: "sunny", toolCallId: id },
      ];
      expect((await engine.generate({ messages: further, maxTokens: 2 })).usage.promptTokens).toBeGreaterThan(100);
    }
  });
});

test.each(Object.entries(templates))(
  "a call that the model begins by itself follows the tools: %s",
  (family, template) => {
    const format = toolFormatOf(template)!;
    const automaton = automatonOf(new ByteTokenizer());
    const root = answersWithTools(format, tools, "auto", true)!;
    const after = (text: string) => automaton.after(automaton.start(root), Buffer.from(text));
    const named = family === "mistralArguments";
    const key = family === "llama" ? "parameters" : "arguments";
    const begin = {
      hermes: "Hm.\n<tool_call>\n",
      mistral: "Hm.[TOOL_CALLS] [",
      mistralArguments: "Hm.[TOOL_CALLS]",
      llama: "",
    }[family]!;
    const call = (name: string, given: string) =>
      begin + (named ? `${name}[ARGS]${given}` : `{"name": "${name}", "${key}": ${given}`);
    expect(after("Any text, é.")?.accepts).toBe(true);
    expect(after(call("weather", '{"city": "Rome", "days": 3}'))).not.toBeNull();
    expect(after(call("weather", '{"city": "Rome", "days": 3}'))?.accepts).toBe(named);
    for (const wrong of [
      call("whether", "{"),
      call("weather", '{"city": "Bonn"'),
      call("weather", "{}"),
      call("time", '{"a"'),
    ])
      expect(after(wrong)).toBeNull();
  },
);

test("a format and tools together", async () => {
  await using engine = chatEngine(templates.hermes);
  const { text, toolCalls } = await engine.generate({
    ...{ messages, tools, format: { type: "choice", choices: ["yes", "no"] }, temperature: 1, seed: 5, maxTokens: 200 },
  });
  if (!toolCalls) expect(["yes", "no"]).toContain(text);
});

test("a form comes after the reasoning", async () => {
  await using engine = chatEngine(templates.hermes, "<think>");
  const answer = await engine.generate({
    ...{ messages, format: { type: "choice", choices: ["yes", "no"] }, temperature: 1, seed: 5, maxTokens: 60 },
  });
  // A random model never ends its reasoning.
  expect(answer.text).toBe("");
  expect(answer.reasoning!.length).toBeGreaterThan(10);
});

test("errors", async () => {
  await using engine = chatEngine("nothing");
  const ask = (more: object) => engine.generate({ messages, maxTokens: 1, ...more });
  expectError(() => ask({ tools: [{ name: "a b" }] }), "ERR_ARGUMENT", /tools\[0\]\.name: expected 1 to 128 letters/);
  expectError(() => ask({ tools, toolChoice: "any" }), "ERR_ARGUMENT", /toolChoice: expected "auto"/);
  expectError(() => ask({ toolChoice: "required" }), "ERR_ARGUMENT", /expected tools to choose from, got none/);
  await using hermes = chatEngine(templates.hermes);
  const wrong = [{ name: "f", parameters: { properties: { a: { not: {} } } } }];
  expectError(
    () => hermes.generate({ messages, tools: wrong }),
    "ERR_ARGUMENT",
    /tool "f": parameters: schema at #\/properties\/a\/not/,
  );
  await expectRejection(engine.generate({ messages: [] }), "ERR_ARGUMENT", /at least one message/);
});
