/** Formats and tools by the official client of OpenAI, against a running server. */
import { Ajv } from "ajv";
import OpenAI from "openai";
import { describe, expect, test } from "vitest";
import { LanguageModel } from "../../lib/load/language-model.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { smallGpt } from "../generate/models.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";
import { start } from "./support.js";

const chatTemplate =
  "{#- <tool_call> -#}{% for m in messages %}{{ m.role }}: {{ m.content }}{{ m.tool_calls | tojson if m.tool_calls else '' }}<|end|>" +
  "{% endfor %}{{ tools | tojson if tools else '' }}assistant: ";
const tokenizer = new HuggingFaceTokenizer(byteLevelJson(), { config: { eos_token: "<|end|>" }, chatTemplate });
const model = new LanguageModel({
  ...{ model: smallGpt("cpu", { vocabularySize: 272, contextLength: 1500 }), tokenizer },
  defaults: { stopTokens: [tokenizer.endOfText!] },
});
const messages = [{ role: "user" as const, content: "Why?" }];
const schema = {
  ...{ type: "object", required: ["kind", "n"], additionalProperties: false },
  properties: { kind: { enum: ["a", "b"] }, n: { type: "integer", minimum: 0, maximum: 99 } },
};
const parameters = { type: "object", properties: { city: { enum: ["Rome", "Oslo"] } }, required: ["city"] };
const tools = [
  { type: "function" as const, function: { name: "weather", description: "Tells the weather.", parameters } },
];
const ajv = new Ajv();
/** Parameters with a keyword that JSON Schema does not know. */
const fancy = { ...parameters, fanciness: 3 };

async function client(): Promise<OpenAI> {
  const server = await start({ models: { tiny: model } });
  return new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
}

describe("chat completions", () => {
  test("JSON with a schema, parsed by the client's helper", async () => {
    const openai = await client();
    const format = { type: "json_schema" as const, json_schema: { name: "answer", schema, strict: true } };
    const body = { model: "tiny", messages, response_format: format, seed: 1 };
    const { choices } = await openai.chat.completions.parse(body);
    expect(ajv.validate(schema, choices[0]!.message.parsed)).toBe(true);
    const streamed = await openai.chat.completions.stream(body).finalChatCompletion();
    expect(streamed.choices[0]!.message.content).toBe(choices[0]!.message.content);
  });

  test("any JSON, and a schema that is refused", async () => {
    const openai = await client();
    const body = { model: "tiny", messages, max_completion_tokens: 20 };
    const any = await openai.chat.completions.create({ ...body, response_format: { type: "json_object" } });
    expect(any.choices[0]!.message.content).toMatch(/^[{[]/);
    const format = {
      type: "json_schema" as const,
      json_schema: { name: "x", schema: { not: { items: { type: "null" } } } },
    };
    await expect(openai.chat.completions.create({ ...body, response_format: format })).rejects.toMatchObject({
      ...{ status: 400, message: expect.stringContaining("schema at #/not") as string },
    });
  });

  test("a call of a tool, whole and in parts, and its result", async () => {
    const openai = await client();
    const body = {
      model: "tiny",
      messages,
      tools,
      tool_choice: "required" as const,
      parallel_tool_calls: false,
      seed: 1,
    };
    const { choices } = await openai.chat.completions.create(body);
    const [{ message, finish_reason: reason }] = choices as [(typeof choices)[0]];
    expect(reason).toBe("tool_calls");
    const [call] = message.tool_calls!;
    if (call?.type !== "function") throw new Error("Expected a call of a function.");
    expect(call.function.name).toBe("weather");
    expect(ajv.validate(parameters, JSON.parse(call.function.arguments))).toBe(true);
    const streamed = await openai.chat.completions.stream(body).finalChatCompletion();
    expect(streamed.choices[0]).toMatchObject({
      finish_reason: "tool_calls",
      message: { tool_calls: [{ type: "function", function: call.function }] },
    });
    const further = [...messages, message, { role: "tool" as const, tool_call_id: call.id, content: "sunny" }];
    await openai.chat.completions.create({ model: "tiny", messages: further, tools, max_completion_tokens: 2 });
    const named = { type: "function" as const, function: { name: "weather" } };
    const again = await openai.chat.completions.create({ ...body, tool_choice: named });
    expect(again.choices[0]!.finish_reason).toBe("tool_calls");
    const wrong = { ...body, tool_choice: { type: "function" as const, function: { name: "time" } } };
    await expect(openai.chat.completions.create(wrong)).rejects.toMatchObject({ status: 400 });
  });
});

test("a function that is named is called once, with parallel calls or without", async () => {
  const openai = await client();
  const time = { type: "function" as const, function: { name: "time", parameters: { type: "object" } } };
  // A line break is what another call begins with.
  const [line] = tokenizer.encode("\n");
  for (const parallel_tool_calls of [true, false]) {
    const asked = { model: "tiny", parallel_tool_calls, seed: 2, logit_bias: { [line!]: 100 } };
    const tool_choice = { type: "function" as const, function: { name: "weather" } };
    const body = { ...asked, messages, tools: [...tools, time], tool_choice };
    const whole = (await openai.chat.completions.create(body)).choices[0]!;
    const streamed = (await openai.chat.completions.stream(body).finalChatCompletion()).choices[0]!;
    for (const { message, finish_reason: reason } of [whole, streamed]) {
      expect(reason).toBe("tool_calls");
      const names = message.tool_calls!.map((call) => (call.type === "function" ? call.function.name : null));
      expect(names).toEqual(["weather"]);
    }
    const functions = [...tools, time].map(({ function: { name, parameters } }) => ({
      ...{ type: "function" as const, name, parameters, strict: false },
    }));
    const { output } = await openai.responses.create({
      ...{ model: "tiny", input: "Why?", parallel_tool_calls, tools: functions },
      tool_choice: { type: "function", name: "weather" },
    });
    expect(output).toMatchObject([{ type: "function_call", name: "weather" }]);
  }
});

test("strict schemas have no keywords that JSON Schema does not know", async () => {
  const openai = await client();
  const body = { model: "tiny", messages, max_completion_tokens: 2 };
  const chat = (strict: boolean | null | undefined) => [
    openai.chat.completions.create({
      ...body,
      response_format: { type: "json_schema", json_schema: { name: "x", schema: fancy, strict: strict! } },
    }),
    openai.chat.completions.create({
      ...body,
      tools: [{ type: "function", function: { name: "x", parameters: fancy, strict: strict! } }],
      tool_choice: "required",
    }),
    openai.responses.create({
      ...{ model: "tiny", input: "Why?", max_output_tokens: 2 },
      text: { format: { type: "json_schema", name: "x", schema: fancy, strict: strict! } },
    }),
    openai.responses.create({
      ...{ model: "tiny", input: "Why?", max_output_tokens: 2 },
      tools: [{ type: "function", name: "x", parameters: fancy, strict: strict! }],
      tool_choice: "required",
    }),
  ];
  for (const asked of chat(true))
    await expect(asked).rejects.toMatchObject({ status: 400, message: expect.stringContaining("fanciness") as string });
  for (const strict of [false, null, undefined]) await Promise.all(chat(strict));
});

test("a message that only calls tools has the content null in the template", async () => {
  const template =
    "{#- <tool_call> -#}{% for m in messages %}[{{ 'null' if m.content is none else m.content | tojson }}]{{ m.tool_calls | tojson if m.tool_calls }}{% endfor %}" +
    "{{ tools | tojson if tools }}";
  const own = new HuggingFaceTokenizer(byteLevelJson(), {
    ...{ config: { eos_token: "<|end|>" }, chatTemplate: template },
  });
  const gpt = smallGpt("cpu", { vocabularySize: 272, contextLength: 512 });
  const server = await start({ models: { tiny: new LanguageModel({ model: gpt, tokenizer: own }) } });
  const tool_calls = [{ id: "a", type: "function", function: { name: "weather", arguments: "{}" } }];
  const conversation = (content: object) => [
    ...messages,
    { role: "assistant", ...content, tool_calls },
    { role: "tool", tool_call_id: "a", content: "sunny" },
  ];
  const callText = '[{"id": "a", "type": "function", "function": {"name": "weather", "arguments": {}}}]';
  for (const [content, shown] of [
    [{ content: null }, "null"],
    [{}, "null"],
    [{ content: "" }, '""'],
    [{ content: "Hm." }, '"Hm."'],
  ] as const) {
    const asked = { model: "tiny", messages: conversation(content) };
    const { tokens } = await server.answer<{ tokens: number[] }>("/tokenize", asked);
    expect(own.decode(tokens)).toBe(`["Why?"][${shown}]${callText}["sunny"]`);
    const { usage } = await server.answer<{ usage: { prompt_tokens: number } }>("/v1/chat/completions", {
      ...{ ...asked, max_tokens: 1 },
    });
    expect(usage.prompt_tokens).toBe(tokens.length);
  }
  const call = { type: "function_call", call_id: "a", name: "weather", arguments: "{}" };
  const reasoning = { type: "reasoning", summary: [], content: [{ type: "reasoning_text", text: "Hm?" }] };
  const result = { type: "function_call_output", call_id: "a", output: "sunny" };
  for (const [items, shown] of [
    [[call, result], `[null]${callText}["sunny"]`],
    [[reasoning, call, result], `[null]${callText}["sunny"]`],
    [[{ role: "assistant", content: "Hm." }, call, result], `["Hm."]${callText}["sunny"]`],
    [[reasoning], '[""]'],
  ] as const) {
    const body = { model: "tiny", max_output_tokens: 1, input: [...messages, ...items] };
    const { usage } = await server.answer<{ usage: { input_tokens: number } }>("/v1/responses", body);
    // The template writes no token that begins a text.
    expect(usage.input_tokens).toBe(own.encode(`["Why?"]${shown}`).length - 1);
  }
});

describe("responses", () => {
  const functions = [{ type: "function" as const, name: "weather", parameters, strict: true }];

  test("JSON with a schema", async () => {
    const openai = await client();
    const format = { type: "json_schema" as const, name: "answer", schema, strict: true };
    const response = await openai.responses.parse({ model: "tiny", input: "Why?", text: { format } });
    expect(ajv.validate(schema, response.output_parsed)).toBe(true);
  });

  test("a call of a function, whole and in parts, and its result", async () => {
    const openai = await client();
    const body = {
      model: "tiny",
      input: "Why?",
      tools: functions,
      tool_choice: "required" as const,
      parallel_tool_calls: false,
    };
    const response = await openai.responses.create(body);
    const [call] = response.output;
    if (call?.type !== "function_call") throw new Error("Expected a call of a function.");
    expect(ajv.validate(parameters, JSON.parse(call.arguments))).toBe(true);
    const final = await openai.responses.stream(body).finalResponse();
    expect(final.output[0]).toMatchObject({ type: "function_call", name: "weather" });
    const output = { type: "function_call_output" as const, call_id: call.call_id, output: "sunny" };
    const input = [{ role: "user" as const, content: "Why?" }, call, output];
    const further = await openai.responses.create({ model: "tiny", input, tools: functions, max_output_tokens: 2 });
    expect(further.usage!.input_tokens).toBeGreaterThan(response.usage!.input_tokens);
  });
});
