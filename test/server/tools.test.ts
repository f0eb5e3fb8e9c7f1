/** Tools beyond functions that must be called: allowed ones, custom ones, and those of models whose templates show none. */
import OpenAI from "openai";
import { expect, test } from "vitest";
import { load } from "../../lib/load/load.js";
import { LanguageModel } from "../../lib/load/language-model.js";
import { InputReader, inputText } from "../../lib/server/custom-input.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { smallGpt } from "../generate/models.js";
import { noShared, sharedModel } from "../support/shared.js";
import { describeUnless } from "../support/skip.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";
import { start } from "./support.js";

const chatTemplate =
  "{#- <tool_call> -#}{% for m in messages %}{{ m.role }}: {{ m.content }}{{ m.tool_calls | tojson if m.tool_calls else '' }}<|end|>" +
  "{% endfor %}{{ tools | tojson if tools else '' }}assistant: ";

function tiny(template = chatTemplate): LanguageModel {
  const own = new HuggingFaceTokenizer(byteLevelJson(), { config: { eos_token: "<|end|>" }, chatTemplate: template });
  return new LanguageModel({
    ...{ model: smallGpt("cpu", { vocabularySize: 272, contextLength: 1500 }), tokenizer: own },
    defaults: { stopTokens: [own.endOfText!] },
  });
}

async function client(models: Record<string, LanguageModel> = { tiny: tiny() }): Promise<OpenAI> {
  const server = await start({ models });
  return new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
}

const messages = [{ role: "user" as const, content: "Why?" }];
const named = (name: string) => ({ type: "function" as const, function: { name, parameters: { type: "object", properties: {}, additionalProperties: false } } }); // prettier-ignore
/** An object without members, with the white space that a model may write in it. */
const noArguments = expect.stringMatching(/^\{\s*\}$/) as string;
/** Custom tools with the form of their input. */
const digits = { type: "grammar" as const, grammar: { syntax: "regex" as const, definition: '[0-9]{3}"\\n[xy]' } };
const lark = `
start: expr ";"          // a sum
expr: term (SP ADD SP term)~0..2 -> add
    | "[" expr "]"
?term: INT
SP: " "
ADD: "+" | "-"
%import common.INT
`;

test("only the allowed tools are called, or offered", async () => {
  const openai = await client();
  const tools = ["one", "two", "three"].map(named);
  const allowed = (mode: "auto" | "required", ...names: string[]) => ({
    ...{ type: "allowed_tools" as const },
    allowed_tools: { mode, tools: names.map((name) => ({ type: "function" as const, function: { name } })) },
  });
  for (let seed = 0; seed < 3; seed++) {
    const body = { model: "tiny", messages, tools, seed, parallel_tool_calls: false };
    const { choices } = await openai.chat.completions.create({ ...body, tool_choice: allowed("required", "two") });
    expect(choices[0]!.message.tool_calls).toMatchObject([{ function: { name: "two", arguments: noArguments } }]);
    const { output } = await openai.responses.create({
      ...{ model: "tiny", input: "Why?", parallel_tool_calls: false },
      tools: tools.map(({ function: one }) => ({ type: "function" as const, strict: false, ...one })),
      tool_choice: { type: "allowed_tools", mode: "required", tools: [{ type: "function", name: "three" }] },
    });
    expect(output).toMatchObject([{ type: "function_call", name: "three" }]);
  }
  const short = { model: "tiny", messages, tools, max_completion_tokens: 1 };
  const count = async (choice: ReturnType<typeof allowed> | "auto") =>
    (await openai.chat.completions.create({ ...short, tool_choice: choice })).usage!.prompt_tokens;
  expect(await count(allowed("auto", "one"))).toBeLessThan(await count("auto"));
  for (const tool_choice of [allowed("auto", "four"), allowed("required")])
    await expect(openai.chat.completions.create({ ...short, tool_choice })).rejects.toMatchObject({ status: 400 });
});

test("custom tools take a text that follows their grammar, whole and in parts", async () => {
  const openai = await client();
  const body = { model: "tiny", messages, seed: 4, temperature: 1.2 };
  for (const [format, pattern] of [
    [digits, /^[0-9]{3}"\n[xy]$/],
    [
      { type: "grammar" as const, grammar: { syntax: "lark" as const, definition: lark } },
      /^\[*\d+( [+-] \d+){0,2}\]*;$/,
    ],
  ] as const) {
    const custom = { type: "custom" as const, custom: { name: "code", description: "Runs it.", format } };
    const given = { ...body, tools: [custom], tool_choice: { type: "custom" as const, custom: { name: "code" } } };
    const { choices } = await openai.chat.completions.create({ ...given, max_completion_tokens: 300 });
    const [{ message, finish_reason: reason }] = choices as [(typeof choices)[0]];
    expect(reason).toBe("tool_calls");
    const [call] = message.tool_calls!;
    if (call?.type !== "custom") throw new Error("Expected a call of a custom tool.");
    expect(call.custom.input).toMatch(pattern);
    let streamed = "";
    for await (const chunk of await openai.chat.completions.create({
      ...given,
      stream: true,
      max_completion_tokens: 300,
    }))
      for (const delta of chunk.choices[0]?.delta.tool_calls ?? [])
        streamed += (delta as { custom?: { input?: string } }).custom?.input ?? "";
    expect(streamed).toBe(call.custom.input);
    const further = [...messages, message, { role: "tool" as const, tool_call_id: call.id, content: "done" }];
    await openai.chat.completions.create({
      model: "tiny",
      messages: further,
      tools: [custom],
      max_completion_tokens: 2,
    });
    // The same by the other interface.
    const flat = { type: "custom" as const, name: "code", format: { type: "grammar" as const, ...format.grammar } };
    const asked = {
      model: "tiny",
      input: "Why?",
      seed: 4,
      tools: [flat],
      tool_choice: { type: "custom" as const, name: "code" },
    };
    const answer = await openai.responses.create(asked);
    const [item] = answer.output;
    if (item?.type !== "custom_tool_call") throw new Error("Expected a call of a custom tool.");
    expect(item.input).toMatch(pattern);
    let parts = "";
    const kinds = new Set<string>();
    for await (const event of await openai.responses.create({ ...asked, stream: true })) {
      kinds.add(event.type);
      if (event.type === "response.custom_tool_call_input.delta") parts += event.delta;
      if (event.type === "response.custom_tool_call_input.done") expect(event.input).toBe(parts);
    }
    expect(parts).toMatch(pattern);
    expect(kinds.has("response.function_call_arguments.delta")).toBe(false);
    await openai.responses.create({
      ...{ model: "tiny", max_output_tokens: 2, previous_response_id: answer.id, tools: [flat] },
      input: [
        { type: "custom_tool_call_output", call_id: item.call_id, output: [{ type: "input_text", text: "done" }] },
      ],
    });
  }
});

test.each([
  ["start: a", /expected a definition of a/],
  ["begin: 1", /expected a part of a rule/],
  ['a: "x"', /expected a rule start/],
  ['start: start "x" | "y"', /begin with itself/],
  ["start: /a/i", /without flags/],
  ["%declare A\nstart: A", /expected %import or %ignore/],
  ['start: "x', /line 1/],
])("a grammar that is refused: %s", async (definition, message) => {
  const openai = await client();
  const format = { type: "grammar" as const, grammar: { syntax: "lark" as const, definition } };
  const tools = [{ type: "custom" as const, custom: { name: "code", format } }];
  const body = { model: "tiny", messages, tools, tool_choice: "required" as const, max_completion_tokens: 5 };
  await expect(openai.chat.completions.create(body)).rejects.toMatchObject({
    ...{ status: 400, message: expect.stringMatching(message) as string },
  });
});

test.each([
  [String.raw`start: /[.]\..\//s`, String.raw`^[.]\.[^]/$`],
  [String.raw`start: "\\x" "\x41" "\\d" "\d"`, String.raw`^\\xA\\d\\d$`],
])("escapes and dots of a grammar: %s", async (definition, pattern) => {
  const openai = await client();
  const format = { type: "grammar" as const, grammar: { syntax: "lark" as const, definition } };
  const tools = [{ type: "custom" as const, custom: { name: "code", format } }];
  for (const seed of [1, 2, 3]) {
    const body = { model: "tiny", messages, tools, seed, parallel_tool_calls: false };
    const { choices } = await openai.chat.completions.create({ ...body, tool_choice: "required" });
    const [call] = choices[0]!.message.tool_calls!;
    if (call?.type !== "custom") throw new Error("Expected a call of a custom tool.");
    expect(call.custom.input).toMatch(new RegExp(pattern, "u"));
  }
});

test("the text of a custom tool's call is read from any pieces", () => {
  const text = 'a "quoted"\\path\n\ttab é 😀 \ud83d';
  for (const json of [JSON.stringify({ input: text }), `{ "input" : ${JSON.stringify(text)} , "x": 1}`]) {
    for (const size of [1, 2, 3, 5, 100]) {
      const reader = new InputReader();
      const pieces = json.match(new RegExp(`[^]{1,${size}}`, "g"))!;
      expect(pieces.map((piece) => reader.push(piece)).join("") + reader.end()).toBe(text);
    }
    expect(inputText(json)).toBe(text);
  }
  expect(inputText('{"code": 1}')).toBe('{"code": 1}');
  expect(inputText('{"input": "cut he')).toBe("cut he");
});

test("what the template shows no tools of is called in a general form, which the log says once", async () => {
  const plain = tiny("{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>{% endfor %}assistant: ");
  const lines: string[] = [];
  const server = await start({
    models: { plain },
    logger: { level: "warn", stream: { write: (line: string) => void lines.push(line) } },
  });
  const openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
  const tools = [named("one")];
  for (const tool_choice of ["required", { type: "function" as const, function: { name: "one" } }] as const) {
    const body = { model: "plain", messages, tools, tool_choice, parallel_tool_calls: false };
    const { choices } = await openai.chat.completions.create(body);
    expect(choices[0]!.message.tool_calls).toMatchObject([{ function: { name: "one", arguments: noArguments } }]);
    const further = [
      ...messages,
      choices[0]!.message,
      { role: "tool" as const, tool_call_id: choices[0]!.message.tool_calls![0]!.id, content: "1" },
    ];
    await openai.chat.completions.create({ ...body, tool_choice: "auto", messages: further, max_completion_tokens: 2 });
  }
  expect(lines.filter((line) => line.includes("shows the model no such tools"))).toHaveLength(1);
});

const smol = sharedModel("SmolLM2-135M-Instruct-GGUF");
describeUnless(!smol && noShared)("SmolLM2, whose template shows no tools", () => {
  test("calls, reads the result, and answers", async () => {
    using model = await load(`${smol!}/SmolLM2-135M-Instruct.Q4_1.gguf`, { kind: "causal", device: "cpu" });
    const openai = await client({ smol: model });
    const parameters = {
      ...{ type: "object", required: ["city"], additionalProperties: false },
      properties: { city: { type: "string", enum: ["Rome", "Oslo"] } },
    };
    const tools = [{ type: "function" as const, function: { name: "get_weather", description: "Tells the weather of a city.", parameters } }]; // prettier-ignore
    const question = [{ role: "user" as const, content: "What is the weather in Rome?" }];
    const asked = { model: "smol", temperature: 0, tools, max_completion_tokens: 60 };
    const { choices } = await openai.chat.completions.create({ ...asked, messages: question, tool_choice: "required", parallel_tool_calls: false }); // prettier-ignore
    const { message } = choices[0]!;
    const [call] = message.tool_calls!;
    if (call?.type !== "function") throw new Error("Expected a call of a function.");
    expect([call.function.name, JSON.parse(call.function.arguments)]).toEqual(["get_weather", { city: "Rome" }]);
    const result = { role: "tool" as const, tool_call_id: call.id, content: "sunny, 25 °C" };
    const answer = await openai.chat.completions.create({ ...asked, messages: [...question, message, result], tool_choice: "none" }); // prettier-ignore
    expect(answer.choices[0]!.message.content).toMatch(/sunny|25/);
  }, 60_000);
});
