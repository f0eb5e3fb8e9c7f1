/**
 * Tests of tools and objects that every way to a model of heed has to pass: in the process or over HTTP, by the AI SDK or
 * by LangChain. The models are random, so that only what is enforced comes out right.
 */
import type { BaseChatModel } from "@langchain/core/language_models/chat_models";
import { tool as langChainTool } from "@langchain/core/tools";
import {
  generateText,
  jsonSchema,
  type LanguageModel as AiModel,
  Output,
  stepCountIs,
  streamText,
  tool,
  ToolLoopAgent,
} from "ai";
import { expect, test } from "vitest";
import { z } from "zod";
import { LanguageModel } from "../../lib/load/language-model.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { smallGpt } from "../generate/models.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";

/** Returns a random GPT whose chat template writes calls of tools as Hermes and Qwen do. */
export function toolModel(): LanguageModel {
  const chatTemplate = `{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}{{ m.role }}: {{ m.content }}
{% for call in m.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}<|end|>{% endfor %}
{% if add_generation_prompt %}assistant: {% endif %}`;
  const tokenizer = new HuggingFaceTokenizer(byteLevelJson(), { config: { eos_token: "<|end|>" }, chatTemplate });
  const model = smallGpt("cpu", { vocabularySize: 272, contextLength: 2048 });
  // Some of the interfaces have no seed.
  const defaults = { stopTokens: [tokenizer.endOfText!], seed: 1 };
  return new LanguageModel({ model, tokenizer, defaults });
}

const place = z.object({ city: z.enum(["Oslo", "Rome"]), days: z.int().min(0).max(99) });
const results: unknown[] = [];
const weather = tool({
  description: "Returns the weather of a city",
  inputSchema: place,
  execute: ({ city }) => {
    results.push(city);
    return { celsius: city === "Oslo" ? 3 : 21 };
  },
});
const time = tool({ description: "Returns the time", inputSchema: z.object({}), execute: () => "noon" });
const settings = { maxOutputTokens: 300, maxRetries: 0 };
/** Parameters with a keyword that JSON Schema does not know. */
const fancy = {
  type: "object" as const,
  properties: { city: { type: "string" as const, maxLength: 4, fanciness: 3 } },
  ...{ required: ["city"], additionalProperties: false },
};

/** Tests a model of the AI SDK. */
export function conformsByAiSdk(model: () => AiModel): void {
  test("calls of tools", async () => {
    const tools = { weather, time };
    const call = { model: model(), prompt: "Oslo?", tools, ...settings };
    const { toolCalls, finishReason } = await generateText({
      ...call,
      toolChoice: { type: "tool", toolName: "weather" },
    });
    expect(finishReason).toBe("tool-calls");
    // A tool that is named is called once.
    expect(toolCalls.map(({ toolName, input }) => [toolName, place.safeParse(input).success])).toEqual([
      ["weather", true],
    ]);
    const any = await generateText({ ...call, toolChoice: "required" });
    expect(["weather", "time"]).toContain(any.toolCalls[0]!.toolName);
    const none = await generateText({ ...call, toolChoice: "none", maxOutputTokens: 5 });
    expect(none.toolCalls).toEqual([]);
  });

  test("strict tools have no keywords that JSON Schema does not know", async () => {
    const ask = (strict: boolean) => {
      const inputSchema = jsonSchema<{ city: string }>(fancy);
      const asked = tool({ description: "Asks", inputSchema, strict, execute: () => "asked" });
      return generateText({ model: model(), prompt: "Oslo?", tools: { asked }, toolChoice: "required", ...settings });
    };
    expect((await ask(false)).toolCalls.length).toBeGreaterThan(0);
    await expect(ask(true)).rejects.toThrow(/fanciness/);
  });

  test("calls of tools in a stream", async () => {
    const { fullStream, toolCalls } = streamText({
      ...{ model: model(), prompt: "Oslo?", tools: { weather }, toolChoice: "required", ...settings },
    });
    const written: Record<string, string> = {};
    for await (const part of fullStream)
      if (part.type === "tool-input-delta") written[part.id] = (written[part.id] ?? "") + part.delta;
    const calls = await toolCalls;
    expect(calls.length).toBeGreaterThan(0);
    for (const { toolCallId, input } of calls) expect(JSON.parse(written[toolCallId]!)).toEqual(input);
  });

  test("an agent", async () => {
    results.length = 0;
    const agent = new ToolLoopAgent({
      ...{ model: model(), tools: { weather }, stopWhen: stepCountIs(2), ...settings },
      prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
      providerOptions: { openai: { store: false } },
    });
    const { steps } = await agent.generate({ prompt: "Oslo?" });
    expect(steps).toHaveLength(2);
    expect(steps[0]!.toolResults.map(({ input }) => (input as { city: string }).city)).toEqual(results);
    // The call and its result are part of the second step's prompt.
    const { usage } = await generateText({ model: model(), prompt: "Oslo?", ...settings, maxOutputTokens: 1 });
    expect(steps[1]!.usage.inputTokens).toBeGreaterThan(usage.inputTokens! + 30);
  });

  test("objects, whole and in parts", async () => {
    const call = { model: model(), prompt: "Where?", output: Output.object({ schema: place }), ...settings };
    expect(place.parse((await generateText(call)).output)).toBeDefined();
    const result = streamText(call);
    for await (const _ of result.partialOutputStream);
    expect(place.parse(await result.output)).toBeDefined();
  });
}

/** Tests a chat model of LangChain. */
export function conformsByLangChain(chat: () => BaseChatModel): void {
  const asked = langChainTool(() => "noon", { name: "weather", description: "Returns the weather", schema: place });

  test("calls of tools, whole and in parts", async () => {
    const bound = chat().bindTools!([asked], { tool_choice: "any" });
    const { tool_calls } = await bound.invoke("Oslo?");
    expect(tool_calls!.length).toBeGreaterThan(0);
    for (const { name, args } of tool_calls!) expect([name, place.safeParse(args).success]).toEqual(["weather", true]);
    const parts = [];
    for await (const part of await bound.stream("Oslo?")) parts.push(part);
    const whole = parts.reduce((sum, part) => sum.concat(part));
    expect(whole.tool_calls!.every(({ args }) => place.safeParse(args).success)).toBe(true);
    const answered = await chat().invoke([
      ...[{ role: "user", content: "Oslo?" }, whole],
      ...whole.tool_calls!.map(({ id }) => ({ role: "tool", content: "cold", tool_call_id: id! })),
    ]);
    expect(answered.usage_metadata).toBeDefined();
  });

  test("a tool that is named is called once", async () => {
    const other = langChainTool(() => "noon", { name: "time", description: "Returns the time", schema: z.object({}) });
    const bound = chat().bindTools!([asked, other], { tool_choice: "weather" });
    const { tool_calls } = await bound.invoke("Oslo?");
    expect(tool_calls!.map(({ name, args }) => [name, place.safeParse(args).success])).toEqual([["weather", true]]);
  });

  test("strict tools have no keywords that JSON Schema does not know", async () => {
    const ask = (strict: boolean) => {
      const definition = { name: "asked", description: "Asks", parameters: fancy, strict };
      const bound = chat().bindTools!([{ type: "function", function: definition }], { tool_choice: "any" });
      return bound.invoke("Oslo?");
    };
    expect((await ask(false)).tool_calls!.length).toBeGreaterThan(0);
    await expect(ask(true)).rejects.toThrow(/fanciness/);
  });

  test("objects", async () => {
    for (const method of ["jsonSchema", "functionCalling"]) {
      const structured = chat().withStructuredOutput(place, { method, name: "place" });
      expect(place.parse(await structured.invoke("Where?"))).toBeDefined();
    }
  });
}
