/** Answers to conversations: how calls of tools and reasoning are written by each family, and read. */
import { describe, expect, test } from "vitest";
import { AnswerParser, reasoningOf } from "../../lib/structured/answer.js";
import type { Expression } from "../../lib/structured/expression.js";
import { mostCalls } from "../../lib/structured/call-format.js";
import { answersWithCalls, generalFormat, toolFormatOf } from "../../lib/structured/tool-format.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { choosable, type Tool, type ToolCall, type ToolChoice } from "../../lib/tokenizer/tools.js";
import { atOnce } from "../../lib/util/turns.js";
import { expectError, expectRejection } from "../support/errors.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";
import { callTemplates as templates, chatEngine, messages, read, readWith, time, tools, weather, type Whole } from "./call-templates.js"; // prettier-ignore
import { automatonOf } from "./support.js";

/** Warnings of all tests in this file. */
const warnings: string[] = [];
process.on("warning", ({ name, message }) => {
  if (name === "HeedWarning") warnings.push(message);
});

const romeFor3 = { name: "weather", arguments: '{"city": "Rome", "days": 3}' };

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
  [
    "tagged",
    "Let me see.\n<tool_call>\n<function=weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=time>\n</function>\n</tool_call>",
    {
      text: "Let me see.",
      reasoning: "",
      calls: [{ name: "weather", arguments: '{"city": "Rome", "days": 3}' }, time],
    },
  ],
  [
    "tagged",
    '<tool_call>\n<function=unknown>\n<parameter=code>\nif (a < b)\n\n  return "x";\n</parameter>\n</function>',
    {
      ...{ text: "", reasoning: "" },
      calls: [{ name: "unknown", arguments: '{"code": "if (a < b)\\n\\n  return \\"x\\";"}' }],
    },
  ],
  [
    "hermes",
    `<tool_call>[{"name": "weather", "arguments": ${weather.arguments}}, {"name": "time"}]</tool_call>`,
    { text: "", reasoning: "", calls: [weather, time] },
  ],
  [
    "hermes",
    '<tool_call>{"name": "weather", "arguments": "{\\"city\\": \\"Rome\\"}"}</tool_call>',
    { text: "", reasoning: "", calls: [{ name: "weather", arguments: '{"city": "Rome"}' }] },
  ],
  [
    "llama",
    '{"name": "Bob", "parameters": {}, "age": 3} is an object.',
    { text: '{"name": "Bob", "parameters": {}, "age": 3} is an object.', reasoning: "", calls: [] },
  ],
  ["llama", '{"a": 1}', { text: '{"a": 1}', reasoning: "", calls: [] }],
  [
    "glm",
    "I look.\n<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>\n<tool_call>time\n</tool_call>",
    { text: "I look.", reasoning: "", calls: [romeFor3, time] },
  ],
  [
    "glmOneLine",
    "<tool_call>weather<arg_key>city</arg_key><arg_value>Rome</arg_value><arg_key>days</arg_key><arg_value>3</arg_value></tool_call><tool_call>time</tool_call>",
    { text: "", reasoning: "", calls: [romeFor3, time] },
  ],
  [
    "minimax",
    '<minimax:tool_call>\n<invoke name="weather">\n<parameter name="city">Rome</parameter>\n<parameter name="days">3</parameter>\n</invoke>\n<invoke name="time">\n</invoke>\n</minimax:tool_call>',
    { text: "", reasoning: "", calls: [romeFor3, time] },
  ],
  [
    "deepseek",
    `<think>Hm.</think>I look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n\`\`\`json\n${weather.arguments}\n\`\`\`<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>time\n\`\`\`json\n{}\n\`\`\`<｜tool▁call▁end｜><｜tool▁calls▁end｜>`,
    { text: "I look.", reasoning: "Hm.", calls: [weather, time] },
  ],
  [
    "deepseek31",
    `<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>${weather.arguments}<｜tool▁call▁end｜><｜tool▁call▁begin｜>time<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>`,
    { text: "", reasoning: "", calls: [weather, time] },
  ],
  [
    "deepseek32",
    '<｜DSML｜function_calls>\n<｜DSML｜invoke name="weather">\n<｜DSML｜parameter name="city" string="true">12</｜DSML｜parameter>\n<｜DSML｜parameter name="days" string="false">3</｜DSML｜parameter>\n</｜DSML｜invoke>\n<｜DSML｜invoke name="time">\n</｜DSML｜invoke>\n</｜DSML｜function_calls>',
    { text: "", reasoning: "", calls: [{ name: "weather", arguments: '{"city": "12", "days": 3}' }, time] },
  ],
  [
    "kimi",
    `<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>${weather.arguments}<|tool_call_end|><|tool_call_begin|>functions.time:1<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>`,
    { text: "", reasoning: "", calls: [weather, time] },
  ],
  [
    "gemma4",
    '<|channel>thought\nHm, {.\n<channel|>I look.<|tool_call>call:weather{city:<|"|>a, "b" {c}: [<|"|>,days:3,more:{list:[1,true,null],<|"|>k<|"|>:<|"|>v<|"|>}}<tool_call|><|tool_call>call:time{}<tool_call|>',
    {
      ...{ text: "I look.", reasoning: "Hm, {." },
      calls: [
        {
          name: "weather",
          arguments: '{"city": "a, \\"b\\" {c}: [", "days": 3, "more": {"list":[1,true,null],"k":"v"}}',
        },
        time,
      ],
    },
  ],
  [
    "functionGemma",
    "<start_function_call>call:weather{city:<escape>Rome<escape>,days:3}<end_function_call><start_function_call>call:time{}<end_function_call>",
    { text: "", reasoning: "", calls: [romeFor3, time] },
  ],
  [
    "lfm",
    `Sure.\n<|tool_call_start|>[weather(city='It\\'s "x", (y)', days=[1, 2.5], on=True, what=None, more={'a': 'b', "c": False}), time()]<|tool_call_end|>`,
    {
      ...{ text: "Sure.", reasoning: "" },
      calls: [
        {
          name: "weather",
          arguments:
            '{"city": "It\'s \\"x\\", (y)", "days": [1,2.5], "on": true, "what": null, "more": {"a":"b","c":false}}',
        },
        time,
      ],
    },
  ],
  [
    "lfm",
    `<|tool_call_start|>[{"name": "weather", "arguments": ${weather.arguments}}, {"name": "time", "arguments": {}}]<|tool_call_end|>`,
    { text: "", reasoning: "", calls: [weather, time] },
  ],
  [
    "lfmObjects",
    `<|tool_call_start|>[{"name": "weather", "arguments": ${weather.arguments}}]<|tool_call_end|>`,
    { text: "", reasoning: "", calls: [weather] },
  ],
  [
    "cohere",
    `<|START_THINKING|>I look.<|END_THINKING|><|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "weather", "parameters": ${weather.arguments}},\n    {"tool_call_id": "1", "tool_name": "time", "parameters": {}}\n]<|END_ACTION|>`,
    { text: "", reasoning: "I look.", calls: [weather, time] },
  ],
  [
    "jamba",
    `<tool_calls>[\n{"name": "weather", "arguments": ${weather.arguments}},\n{"name": "time", "arguments": {}}\n]</tool_calls>`,
    { text: "", reasoning: "", calls: [weather, time] },
  ],
  [
    "phi",
    `<|tool_call|>[{"name": "weather", "arguments": ${weather.arguments}}, {"name": "time", "arguments": {}}]<|/tool_call|>`,
    { text: "", reasoning: "", calls: [weather, time] },
  ],
  [
    "granite",
    `<|tool_call|>[{"name": "weather", "arguments": ${weather.arguments}}, {"arguments": {}, "name": "time"}]`,
    { text: "", reasoning: "", calls: [weather, time] },
  ],
  [
    "functools",
    `functools[{"name": "weather", "arguments": ${weather.arguments}}]`,
    { text: "", reasoning: "", calls: [weather] },
  ],
  ["pythonList", "[weather(city='Rome', days=3), time()]", { text: "", reasoning: "", calls: [romeFor3, time] }],
  [
    "pythonList",
    "[A link](https://x.y) is text.",
    { text: "[A link](https://x.y) is text.", reasoning: "", calls: [] },
  ],
];

test.each(recorded)("%s: %j", (family, text, expected) => {
  const template = templates[family];
  const form = { reasoning: reasoningOf(template), open: false, tools: toolFormatOf(template, tools) };
  expect(read(form, [text])).toEqual(expected);
  expect(read(form, Array.from(text))).toEqual(expected);
  for (const size of [2, 3, 7]) expect(read(form, text.match(new RegExp(`[^]{1,${size}}`, "g"))!)).toEqual(expected);
});

test("an answer that is cut anywhere shows no marks", () => {
  for (const [family, text, whole] of recorded.filter(([, text]) => !text.includes("not a call"))) {
    const template = templates[family];
    for (let length = 0; length < text.length; length++) {
      const form = { reasoning: reasoningOf(template), open: false, tools: toolFormatOf(template, tools) };
      const cut = readWith(new AnswerParser(form), Array.from(text.slice(0, length)), true);
      // White space at its end depends on what follows.
      expect(whole.text.startsWith(cut.text.trimEnd()), `${family}: ${text.slice(0, length)}: ${cut.text}`).toBe(true);
      expect(whole.reasoning.startsWith(cut.reasoning.trimEnd())).toBe(true);
      for (const [i, { name, arguments: given }] of cut.calls.entries()) {
        expect(name).toBe(whole.calls[i]!.name);
        expect(whole.calls[i]!.arguments.startsWith(given), `${family}: ${given}`).toBe(true);
      }
    }
  }
});

test("the end of an answer that only looks like the beginning of a mark is kept", () => {
  for (const [family, template] of Object.entries(templates)) {
    const form = { reasoning: reasoningOf(template), open: false, tools: toolFormatOf(template, tools) };
    for (const text of ["1 <", "<", "a [", "x <t", "[TOOL", "<|", "a\n<tool_call"]) {
      for (const pieces of [[text], Array.from(text)])
        expect(read(form, pieces), `${family}: ${text}`).toEqual({ text, reasoning: "", calls: [] });
      // Nor is it lost when the answer goes on.
      expect(read(form, [text, " 2"]).text, `${family}: ${text}`).toBe(`${text} 2`);
    }
  }
});

test("reasoning that the prompt has begun", () => {
  const form = { reasoning: reasoningOf(templates.hermes), open: true, tools: null };
  expect(read(form, ["Hm", ".\n</thi", "nk>\n\nYes."])).toEqual({ text: "Yes.", reasoning: "Hm.", calls: [] });
});

/** Returns the answers that a choice of tools demands. */
function demanded(template: string, toolChoice: ToolChoice, several: boolean): Expression {
  const { tools: chosen, once } = choosable(tools, toolChoice);
  return atOnce(answersWithCalls(toolFormatOf(template, tools)!, chosen, several && !once));
}

test.each(Object.entries(templates))("calls that must be made follow the tools: %s", (_, template) => {
  const automaton = automatonOf(new ByteTokenizer());
  const format = toolFormatOf(template, tools)!;
  const accepts = (toolChoice: ToolChoice, several: boolean, text: string) => {
    const root = demanded(template, toolChoice, several);
    return automaton.after(automaton.start(root), Buffer.from(text))?.accepts ?? null;
  };
  const calls = (count: number) => format.write(Array.from({ length: count }, () => time));
  for (const count of [1, 2, 32]) expect(accepts("required", true, calls(count)), calls(count)).toBe(true);
  expect(accepts("required", true, calls(33))).toBeNull();
  expect(accepts("required", true, "")).not.toBe(true);
  expect(accepts("required", true, "Hm.")).toBeNull();
  for (const [toolChoice, several] of [
    ["required", false],
    [{ name: "time" }, true],
    [{ name: "time" }, false],
  ] as const) {
    expect(accepts(toolChoice, several, calls(1))).toBe(true);
    expect(accepts(toolChoice, several, calls(2))).toBeNull();
    expect(accepts(toolChoice, several, "")).not.toBe(true);
  }
  const one = (name: string, given: object) => format.write([{ name, arguments: JSON.stringify(given) }]);
  // White space within JSON is the grammar's own affair.
  const spaced = (text: string) => text.replaceAll(/":(?! )/g, '": ').replaceAll(',"', ', "');
  expect(accepts("required", true, spaced(one("weather", romeOnly)))).toBe(true);
  for (const wrong of [one("whether", {}), one("weather", { city: "Bonn" }), one("weather", {}), one("time", { a: 1 })])
    expect(accepts("required", true, spaced(wrong)), wrong).toBeNull();
  expect(accepts({ allowed: ["time"], required: true }, true, calls(2))).toBe(true);
  expect(accepts({ allowed: ["time"], required: true }, true, spaced(one("weather", romeOnly)))).toBeNull();
});

const romeOnly = { city: "Rome" };

test.each(Object.entries({ ...templates, general: "" }))("calls are read as they are written: %s", (_, template) => {
  const calls = [
    { name: "weather", arguments: JSON.stringify({ city: 'a "b" \' {c} [d], é', days: 3 }) },
    { name: "time", arguments: JSON.stringify({ list: [1, "x", null, { y: true }], o: {}, s: "" }) },
    { name: "time", arguments: "{}" },
  ];
  // Parameters that are not declared are read as texts in tags.
  const open: Tool[] = [{ name: "weather" }, { name: "time" }].map(({ name }) => ({
    name,
    parameters: { properties: { city: { type: "string" }, days: {}, list: {}, o: {}, s: {} } },
  }));
  const format = toolFormatOf(template, open) ?? generalFormat;
  const text = format.write(calls);
  for (const pieces of [[text], Array.from(text)]) {
    const { calls: found, ...others } = read({ reasoning: null, open: false, tools: format }, pieces);
    expect(others).toEqual({ text: "", reasoning: "" });
    expect(found.map(({ name, arguments: given }) => [name, JSON.parse(given) as unknown])).toEqual(
      calls.map(({ name, arguments: given }) => [name, JSON.parse(given) as unknown]),
    );
  }
});

test("an answer ends with as many calls as it may have", async () => {
  const tools = [{ name: "time" }];
  await using engine = chatEngine(templates.mistral);
  const ids = new HuggingFaceTokenizer(byteLevelJson(), { config: { eos_token: "<|end|>" } });
  for (const [mostCalls, expected] of [
    [1, 1],
    [2, 2],
  ]) {
    const parser = new AnswerParser({ reasoning: null, open: false, tools: toolFormatOf(templates.hermes), mostCalls: mostCalls! }); // prettier-ignore
    const call = '<tool_call>\n{"name": "time", "arguments": {}}\n</tool_call>\n';
    const { calls } = readWith(parser, Array.from(call.repeat(3)));
    expect([calls.length, parser.ended]).toEqual([expected, true]);
  }
  expect(mostCalls).toBe(32);
  // The model is free: it writes the letter that it is made to write, whatever the schemas of the tools are.
  const logitBias = { [ids.encode("a").at(-1)!]: 100 };
  const wrong = { name: "f", parameters: { properties: { a: { not: { items: { type: "null" } } } } } };
  for (const toolChoice of ["auto", { allowed: ["f"] }] as const) {
    const { text } = await engine.generate({ messages, tools: [...tools, wrong], toolChoice, maxTokens: 5, logitBias });
    expect(text).toBe("aaaaa");
  }
});

test("a model that would call for ever comes to an end", async () => {
  await using engine = chatEngine(templates.mistralArguments);
  const ids = new HuggingFaceTokenizer(byteLevelJson(), { config: { eos_token: "<|end|>" } });
  const logitBias = { [ids.endOfText!]: -100, [ids.encode("[")[0]!]: 50 };
  const sampled = { temperature: 1, seed: 1, maxTokens: 900, logitBias };
  const asked = { messages, tools: [{ name: "time" }], ...sampled };
  const { toolCalls, finishReason } = await engine.generate({ ...asked, toolChoice: "required" });
  expect([toolCalls!.length, finishReason]).toEqual([32, "tool-calls"]);
  const named = await engine.generate({ ...asked, toolChoice: { name: "time" }, parallelToolCalls: true });
  expect([named.toolCalls!.length, named.finishReason]).toEqual([1, "tool-calls"]);
});

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

test("values in tags are read by the types of their parameters", () => {
  const properties = {
    ...{ text: { type: "string" }, count: { type: "integer" }, on: { type: "boolean" }, any: {} },
    ...{
      list: { type: "array", items: { type: "integer" } },
      maybe: { anyOf: [{ type: "string" }, { type: "null" }] },
    },
    ...{ kind: { $ref: "#/$defs/kind" }, number: { type: "number" } },
  };
  const parameters = { type: "object", properties, $defs: { kind: { enum: ["1", "two"] } } };
  const given: [string, string, unknown][] = [
    ["text", "12", "12"],
    ["text", '"quoted"\n<b>', '"quoted"\n<b>'],
    ["count", "12", 12],
    ["count", "twelve", "twelve"],
    ["on", "True", true],
    ["on", "false", false],
    ["any", '{"a": 1}', { a: 1 }],
    ["any", "a text", "a text"],
    ["list", "[1, 2]", [1, 2]],
    ["maybe", "null", null],
    ["maybe", "nothing", "nothing"],
    ["kind", "1", "1"],
    ["number", "1.5", 1.5],
    ["undeclared", "7", "7"],
  ];
  const form = { reasoning: null, open: false, tools: toolFormatOf(templates.tagged, [{ name: "f", parameters }]) };
  for (const [name, text, value] of given) {
    const call = `<tool_call>\n<function=f>\n<parameter=${name}>\n${text}\n</parameter>\n</function>\n</tool_call>`;
    const { calls } = read(form, Array.from(call));
    expect(JSON.parse(calls[0]!.arguments), `${name}: ${text}`).toEqual({ [name]: value });
  }
});

test("a format and tools together: an answer is one or the other", async () => {
  await using engine = chatEngine(templates.mistral);
  const format = { type: "choice", choices: ["yes", "no"] } as const;
  const [bracket, brace] = ["[", "}"].map((text) => new HuggingFaceTokenizer(byteLevelJson()).encode(text).at(-1)!);
  const seen = new Set<string>();
  for (let seed = 0; seed < 40 && seen.size < 2; seed++) {
    // The model begins calls more seldom than choices.
    const logitBias = seed % 2 ? { [bracket!]: 8, [brace!]: 12 } : {};
    const answer = await engine.generate({ messages, tools, format, temperature: 1, seed, maxTokens: 300, logitBias });
    const { text, toolCalls, finishReason } = answer;
    if (finishReason === "length") continue;
    seen.add(toolCalls ? "calls" : "text");
    if (toolCalls) expect({ text, finishReason }).toEqual({ text: "", finishReason: "tool-calls" });
    else expect({ text, finishReason }).toEqual({ text: expect.stringMatching(/^(yes|no)$/), finishReason: "stop" });
  }
  expect(seen).toEqual(new Set(["calls", "text"]));
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

test("an answer may fill the context; a warning says once that one is cut while the model thinks", async () => {
  await using engine = chatEngine(templates.hermes, "<think>");
  const ids = new HuggingFaceTokenizer(byteLevelJson());
  const logitBias = { [ids.encode("a").at(-1)!]: 100 };
  for (let i = 0; i < 2; i++) {
    const { text, reasoning, finishReason, usage } = await engine.generate({ messages, logitBias });
    expect([text, finishReason]).toEqual(["", "length"]);
    expect(usage.promptTokens + usage.completionTokens).toBeGreaterThanOrEqual(1024);
    expect(reasoning!.length).toBeGreaterThan(256);
  }
  // Warnings are told in the next turn.
  await new Promise((resolve) => setImmediate(resolve));
  expect(warnings.filter((text) => text.includes("thinking"))).toHaveLength(1);
});

test("errors", async () => {
  await using engine = chatEngine("nothing");
  const ask = (more: object) => engine.generate({ messages, maxTokens: 1, ...more });
  expectError(() => ask({ tools: [{ name: "a b" }] }), "ERR_ARGUMENT", /tools\[0\]\.name: expected 1 to 128 letters/);
  expectError(() => ask({ tools, toolChoice: "any" }), "ERR_ARGUMENT", /toolChoice: expected "auto"/);
  expectError(() => ask({ tools, toolChoice: { allowed: [] } }), "ERR_ARGUMENT", /toolChoice: expected "auto"/);
  expectError(() => ask({ tools, toolChoice: { allowed: ["x"] } }), "ERR_ARGUMENT", /names of some, got "x"/);
  expectError(() => ask({ toolChoice: "required" }), "ERR_ARGUMENT", /expected tools to choose from, got none/);
  await using hermes = chatEngine(templates.hermes);
  const wrong = [{ name: "f", parameters: { properties: { a: { not: { items: { type: "null" } } } } } }];
  await expectRejection(
    hermes.generate({ messages, tools: wrong, toolChoice: "required" }),
    "ERR_ARGUMENT",
    /tool "f": parameters: schema at #\/properties\/a\/not/,
  );
  await expectRejection(engine.generate({ messages: [] }), "ERR_ARGUMENT", /at least one message/);
});
