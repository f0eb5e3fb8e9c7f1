/**
 * Agents of ordinary clients run to their end against a running server: a model that decides by itself calls a tool, reads
 * the result, calls again, and answers.
 */
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { type BaseMessage, HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool as langChainTool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { generateText, stepCountIs, streamText, tool, ToolLoopAgent } from "ai";
import OpenAI from "openai";
import type {
  ResponseFunctionToolCall,
  ResponseInputItem,
  ResponseOutputItem,
} from "openai/resources/responses/responses.js";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { z } from "zod";
import { createServer } from "../../lib/server/index.js";
import { agentModel, cities, finalAnswer, question, toolName, weatherOf } from "../plugins/agent-model.js";
import { until } from "./support.js";

globalThis.AI_SDK_LOG_WARNINGS = false;

const app = await createServer({ models: { agent: await agentModel() } });
const url = `${await app.listen({ host: "127.0.0.1", port: 0 })}/v1`;
afterAll(() => app.close());

/** Cities that tools were called with. */
let called: string[] = [];
/** Function that is called within a tool. */
let within: () => void = () => undefined;
beforeEach(() => {
  [called, within] = [[], () => undefined];
});
const run = ({ city }: { city: string }): string => {
  called.push(city);
  within();
  return weatherOf(city);
};
const place = z.object({ city: z.string() });
const parameters = z.toJSONSchema(place) as Record<string, unknown>;

/** Resolves when the server has no request any more. */
const idle = () =>
  until(async () => /^heed_engine_kv_pages_used\{model="agent"\} 0$/m.test((await app.inject("/metrics")).body));

describe("openai", () => {
  const openai = new OpenAI({ baseURL: url, apiKey: "none", maxRetries: 0 });
  const runnable = {
    type: "function" as const,
    function: { name: toolName, description: "Tells it.", parameters, parse: (text: string) => place.parse(JSON.parse(text)), function: run }, // prettier-ignore
  };
  const body = { model: "agent", messages: [{ role: "user" as const, content: question }], tools: [runnable] };

  test("runTools", async () => {
    const runner = openai.chat.completions.runTools(body);
    expect(await runner.finalContent()).toBe(finalAnswer);
    expect(called).toEqual(cities);
    expect(runner.messages.map(({ role }) => role)).toEqual([
      ...["user", "assistant", "tool", "assistant", "tool", "assistant"],
    ]);
    expect((await runner.totalUsage()).completion_tokens).toBeGreaterThan(100);
  });

  test("runTools with a stream", async () => {
    const runner = openai.chat.completions.runTools({ ...body, stream: true });
    let text = "";
    runner.on("content", (delta) => (text += delta));
    expect(await runner.finalContent()).toBe(finalAnswer);
    expect([text, called]).toEqual([finalAnswer, cities]);
  });

  test.each([false, true])("runTools is aborted in a tool; stream: %s", async (stream) => {
    const leaving = new AbortController();
    within = () => leaving.abort();
    const runner = openai.chat.completions.runTools({ ...body, stream } as typeof body, { signal: leaving.signal });
    await expect(runner.finalContent()).rejects.toBeInstanceOf(OpenAI.APIUserAbortError);
    expect(called).toEqual(cities.slice(0, 1));
    await idle();
  });

  const flat = { type: "function" as const, name: toolName, description: "Tells it.", parameters, strict: false };
  test.each([
    ["whole conversations", false, false],
    ["whole conversations, streamed", false, true],
    ["previous_response_id", true, false],
    ["previous_response_id, streamed", true, true],
  ])("a loop over responses with %s", async (_, stored, streamed) => {
    let input: ResponseInputItem[] = [{ role: "user", content: question }];
    let previous: string | undefined;
    for (let turn = 0; turn < 5; turn++) {
      const asked = { model: "agent", input, tools: [flat], ...(previous && { previous_response_id: previous }) };
      const response = streamed
        ? await openai.responses.stream(asked).finalResponse()
        : await openai.responses.create({ ...asked, store: stored });
      const output: readonly ResponseOutputItem[] = response.output;
      const calls = output.flatMap((item): ResponseFunctionToolCall[] => (item.type === "function_call" ? [item] : []));
      if (calls.length === 0) {
        expect([response.output_text, response.status, turn]).toEqual([finalAnswer, "completed", 2]);
        break;
      }
      const results = calls.map(({ call_id, arguments: given }): ResponseInputItem => ({
        ...{ type: "function_call_output", call_id },
        output: run(place.parse(JSON.parse(given))),
      }));
      if (stored) [input, previous] = [results, response.id];
      else input = [...input, ...calls, ...results];
    }
    expect(called).toEqual(cities);
  });
});

describe.each([
  ["compatible servers", () => createOpenAICompatible({ name: "heed", baseURL: url })("agent")],
  ["OpenAI, by /v1/responses", () => createOpenAI({ baseURL: url, apiKey: "none" })("agent")],
  ["OpenAI, by /v1/chat/completions", () => createOpenAI({ baseURL: url, apiKey: "none" }).chat("agent")],
])("the AI SDK's provider for %s", (_, model) => {
  const tools = { [toolName]: tool({ description: "Tells it.", inputSchema: place, execute: run }) };
  const settings = () => ({ model: model(), tools, stopWhen: stepCountIs(5), maxRetries: 0 });

  test("generateText", async () => {
    const { text, steps, finishReason } = await generateText({ ...settings(), prompt: question });
    expect([text, called, finishReason]).toEqual([finalAnswer, cities, "stop"]);
    expect(steps.map(({ finishReason }) => finishReason)).toEqual(["tool-calls", "tool-calls", "stop"]);
  });

  test("stopWhen ends earlier", async () => {
    const { steps } = await generateText({ ...settings(), stopWhen: stepCountIs(1), prompt: question });
    expect([steps.length, called]).toEqual([1, cities.slice(0, 1)]);
  });

  test("streamText", async () => {
    const result = streamText({ ...settings(), prompt: question });
    let text = "";
    for await (const part of result.textStream) text += part;
    expect([text, called, await result.finishReason]).toEqual([finalAnswer, cities, "stop"]);
  });

  test("ToolLoopAgent, whole and in a stream", async () => {
    const agent = new ToolLoopAgent(settings());
    expect((await agent.generate({ prompt: question })).text).toBe(finalAnswer);
    const { textStream } = await agent.stream({ prompt: question });
    let text = "";
    for await (const part of textStream) text += part;
    expect([text, called]).toEqual([finalAnswer, [...cities, ...cities]]);
  });

  test("abort in a tool", async () => {
    const leaving = new AbortController();
    within = () => leaving.abort();
    const asked = { ...settings(), prompt: question, abortSignal: leaving.signal };
    await expect(generateText(asked)).rejects.toThrow(/abort/i);
    expect(called).toEqual(cities.slice(0, 1));
    const again = new AbortController();
    within = () => again.abort();
    const kinds: string[] = [];
    for await (const { type } of streamText({ ...asked, abortSignal: again.signal }).fullStream) kinds.push(type);
    expect([kinds.at(-1), called]).toEqual(["abort", [cities[0], cities[0]]]);
    await idle();
  });
});

describe.each([false, true])("LangChain's ChatOpenAI, by responses: %s", (useResponsesApi) => {
  const asked = langChainTool(run, { name: toolName, description: "Tells it.", schema: place });
  const bound = () =>
    new ChatOpenAI({ ...{ model: "agent", apiKey: "none", maxRetries: 0, useResponsesApi }, configuration: { baseURL: url } }).bindTools([asked]); // prettier-ignore

  test.each([false, true])("a loop over its calls; stream: %s", async (streamed) => {
    const messages: BaseMessage[] = [new HumanMessage(question)];
    for (let turn = 0; turn < 5; turn++) {
      const answer = streamed ? await gathered(await bound().stream(messages)) : await bound().invoke(messages);
      messages.push(answer);
      if (answer.tool_calls!.length === 0) break;
      for (const call of answer.tool_calls!) {
        const result: unknown = await asked.invoke({ ...call, type: "tool_call" });
        if (!(result instanceof ToolMessage)) throw new Error("Expected the message of a result.");
        messages.push(result);
      }
    }
    expect([messages.at(-1)!.text, called, messages.length]).toEqual([finalAnswer, cities, 6]);
  });

  test("abort", async () => {
    const leaving = new AbortController();
    const read = async (): Promise<void> => {
      for await (const _ of await bound().stream(question, { signal: leaving.signal })) leaving.abort();
    };
    await expect(read()).rejects.toThrow(/abort/i);
    await idle();
  });
});

async function gathered<T extends { concat: (other: T) => T }>(stream: AsyncIterable<T>): Promise<T> {
  let whole: T | null = null;
  for await (const part of stream) whole = whole ? whole.concat(part) : part;
  return whole!;
}
