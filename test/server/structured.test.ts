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
