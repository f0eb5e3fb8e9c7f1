/** Libraries that speak OpenAI's interface, against a running server: the AI SDK's providers and LangChain. */
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { HumanMessage } from "@langchain/core/messages";
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { embedMany, generateText, streamText } from "ai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createServer } from "../../lib/server/index.js";
import { conformsByAiSdk, conformsByLangChain, toolModel } from "../plugins/conformance.js";
import { chatModel, embeddingModel, until } from "./support.js";

globalThis.AI_SDK_LOG_WARNINGS = false;

const model = chatModel();
const encoder = embeddingModel();
const app = await createServer({ models: { tiny: model, tools: toolModel(), minilm: encoder }, apiKeys: ["alpha"] });
let url = "";
beforeAll(async () => {
  url = `${await app.listen({ host: "127.0.0.1", port: 0 })}/v1`;
});
afterAll(() => app.close());

const messages = [{ role: "user" as const, content: "Why?" }];
const endless = { [model.tokenizer.endOfText!]: -100 };
const expected = await model.chat(messages, { maxTokens: 8, seed: 1 });

/** Resolves when the server has no request any more. */
const idle = () =>
  until(async () => {
    const { body } = await app.inject({ url: "/metrics", headers: { authorization: "Bearer alpha" } });
    return /^heed_engine_kv_pages_used\{model="tiny"\} 0$/m.test(body);
  });

const compatible = (apiKey = "alpha") =>
  createOpenAICompatible({
    ...{ name: "heed", baseURL: url, apiKey, includeUsage: true, supportsStructuredOutputs: true },
  });
const openai = (apiKey = "alpha") => createOpenAI({ baseURL: url, apiKey });

describe.each([
  ["the AI SDK's provider for compatible servers", (name: string, key?: string) => compatible(key)(name)],
  ["the AI SDK's provider for OpenAI, by /v1/responses", (name: string, key?: string) => openai(key)(name)],
  ["the AI SDK's provider for OpenAI, by /v1/chat/completions", (name: string, key?: string) => openai(key).chat(name)],
] as const)("%s", (_, at) => {
  const settings = { maxOutputTokens: 8, maxRetries: 0 };
  describe("tools and objects", () => conformsByAiSdk(() => at("tools")));

  test("an answer, and a further turn with it", async () => {
    const { text, usage, finishReason, response } = await generateText({
      ...{ model: at("tiny"), messages, ...settings, temperature: 0 },
    });
    const greedy = await model.chat(messages, { maxTokens: 8, temperature: 0 });
    expect({ text, finishReason }).toEqual({ text: greedy.text, finishReason: greedy.finishReason });
    expect(usage).toMatchObject({
      inputTokens: greedy.usage.promptTokens,
      outputTokens: greedy.usage.completionTokens,
    });
    const providerOptions = { openai: { store: false } };
    const turns = [...messages, ...response.messages, { role: "user" as const, content: "?" }];
    await generateText({ model: at("tiny"), messages: turns, ...settings, maxOutputTokens: 2, providerOptions });
  });

  test("a stream", async () => {
    const result = streamText({ model: at("tiny"), messages, ...settings, temperature: 0 });
    let text = "";
    for await (const part of result.textStream) text += part;
    const greedy = await model.chat(messages, { maxTokens: 8, temperature: 0 });
    expect(text).toBe(greedy.text);
    expect(await result.finishReason).toBe(greedy.finishReason);
    expect(await result.usage).toMatchObject({ outputTokens: greedy.usage.completionTokens });
  });

  test("errors", async () => {
    const ask = (asked: Parameters<typeof generateText>[0]["model"], text = "Why?") =>
      generateText({ model: asked, prompt: text, ...settings });
    await expect(ask(at("huge"))).rejects.toMatchObject({ statusCode: 404 });
    await expect(ask(at("tiny", "beta"))).rejects.toMatchObject({ statusCode: 401, isRetryable: false });
    await expect(ask(at("tiny"), "Why? ".repeat(50))).rejects.toMatchObject({
      ...{ statusCode: 400, message: expect.stringContaining("maximum context length is 96 tokens") },
    });
  });

  test("abort ends the stream and frees the pages", async () => {
    const leaving = new AbortController();
    const parts: string[] = [];
    const { fullStream } = streamText({
      ...{ model: at("tiny"), messages, maxOutputTokens: 60, abortSignal: leaving.signal, maxRetries: 0 },
    });
    for await (const { type } of fullStream) {
      parts.push(type);
      if (type === "text-delta") leaving.abort();
    }
    expect(parts.at(-1)).toBe("abort");
    await idle();
  });
});

test("the AI SDK embeds", async () => {
  const values = ["unaffable", "cafe ."];
  const vectors = (await encoder.embed(values)).map((vector) => Array.from(vector));
  for (const provider of [compatible(), openai()]) {
    const { embeddings, usage } = await embedMany({ model: provider.embeddingModel("minilm"), values });
    expect(embeddings).toEqual(vectors);
    expect(usage.tokens).toBe(values.reduce((sum, text) => sum + encoder.tokenizer.encode(text).length, 0));
  }
});

describe("LangChain's ChatOpenAI", () => {
  const chat = (fields: ConstructorParameters<typeof ChatOpenAI>[0] = {}) =>
    new ChatOpenAI({
      ...{ model: "tiny", apiKey: "alpha", maxTokens: 8, maxRetries: 0, configuration: { baseURL: url } },
      ...{ modelKwargs: { seed: 1 }, ...fields },
    });

  describe("tools and objects", () =>
    conformsByLangChain(() => chat({ model: "tools", maxTokens: 300, modelKwargs: {} })));

  test("an answer, and a stream", async () => {
    const answer = await chat().invoke([new HumanMessage("Why?")]);
    expect(answer.content).toBe(expected.text);
    const { promptTokens: input, completionTokens: output } = expected.usage;
    expect(answer.usage_metadata).toMatchObject({ input_tokens: input, output_tokens: output });
    let text = "";
    for await (const chunk of await chat().stream("Why?")) text += chunk.text;
    expect(text).toBe(expected.text);
  });

  test("by /v1/responses", async () => {
    const answer = await chat({ useResponsesApi: true }).invoke("Why?");
    expect(answer.text).toBe(expected.text);
    let text = "";
    for await (const chunk of await chat({ useResponsesApi: true }).stream("Why?")) text += chunk.text;
    expect(text).toBe(expected.text);
  });

  test("errors", async () => {
    await expect(chat({ model: "huge" }).invoke("Why?")).rejects.toMatchObject({ status: 404 });
    await expect(chat({ apiKey: "beta" }).invoke("Why?")).rejects.toMatchObject({ status: 401 });
    await expect(chat().invoke("Why? ".repeat(50))).rejects.toThrow("maximum context length is 96 tokens");
  });

  test("abort ends the stream and frees the pages", async () => {
    const leaving = new AbortController();
    const long = chat({ maxTokens: 60, modelKwargs: { logit_bias: endless } });
    const read = async (): Promise<void> => {
      for await (const _ of await long.stream("Why?", { signal: leaving.signal })) leaving.abort();
    };
    await expect(read()).rejects.toThrow(/abort/i);
    await idle();
  });

  test("embeddings", async () => {
    const texts = ["unaffable", "cafe ."];
    const embeddings = new OpenAIEmbeddings({
      ...{ model: "minilm", apiKey: "alpha", configuration: { baseURL: url }, maxRetries: 0 },
    });
    const vectors = (await encoder.embed(texts)).map((vector) => Array.from(vector));
    expect(await embeddings.embedDocuments(texts)).toEqual(vectors);
  });
});
