/** LangChain with models of heed in the process. */
import path from "node:path";
import { InMemoryCache } from "@langchain/core/caches";
import { BaseCallbackHandler } from "@langchain/core/callbacks/base";
import {
  AIMessage,
  type AIMessageChunk,
  HumanMessage,
  SystemMessage,
  type ToolMessage,
  trimMessages,
} from "@langchain/core/messages";
import { StringOutputParser } from "@langchain/core/output_parsers";
import { ChatPromptTemplate } from "@langchain/core/prompts";
import { tool } from "@langchain/core/tools";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { addAdapter, setAdapter } from "../../lib/adapters/adapters.js";
import { ChatHeed, HeedEmbeddings } from "../../lib/plugins/langchain/index.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { chatModel, embeddingModel } from "../server/support.js";
import { shakeAdapter } from "../adapters/support.js";
import { expectError, expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { Programs } from "../support/programs.js";
import { toolModel } from "./conformance.js";
import { askedAgain, ScriptedModel, scripts, shownTools } from "./support.js";

const model = chatModel();
const settings = { maxTokens: 8, seed: 1 };
const chat = new ChatHeed({ model, ...settings });
/** Resolves to the sum of the parts of an answer. */
async function sumOf(stream: AsyncIterable<AIMessageChunk>): Promise<AIMessageChunk> {
  const chunks: AIMessageChunk[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks.reduce((sum, chunk) => sum.concat(chunk));
}
const question = [{ role: "user", content: "Why?" }];

describe("invoke and stream", () => {
  test("the answer is that of the model", async () => {
    const expected = await model.chat([{ role: "system", content: "Be brief." }, ...question], settings);
    const answer = await chat.invoke([new SystemMessage("Be brief."), new HumanMessage("Why?")]);
    expect(answer.content).toBe(expected.text);
    const { promptTokens: input, completionTokens: output } = expected.usage;
    expect(answer.usage_metadata).toEqual({
      ...{ input_tokens: input, output_tokens: output, total_tokens: input + output },
      input_token_details: { cache_read: 0 },
    });
    expect(answer.response_metadata).toMatchObject({ model_name: "GPT", finish_reason: expected.finishReason });
  });

  test("parts add up to the answer", async () => {
    const expected = await chat.invoke("Why?");
    const tokens: string[] = [];
    class Listener extends BaseCallbackHandler {
      name = "listener";
      override handleLLMNewToken(token: string): void {
        tokens.push(token);
      }
    }
    const whole = await sumOf(await chat.stream("Why?", { callbacks: [new Listener()] }));
    const { content, usage_metadata, response_metadata } = expected;
    expect(whole).toMatchObject({ content, usage_metadata });
    expect(response_metadata).toMatchObject(whole.response_metadata);
    expect(tokens.join("")).toBe(content);
  });

  test("a batch, and a chain", async () => {
    const alone = await Promise.all(["Why?", "Who?"].map((text) => chat.invoke(text)));
    const batch = await chat.batch(["Why?", "Who?"]);
    expect(batch.map(({ content }) => content)).toEqual(alone.map(({ content }) => content));
    const chain = ChatPromptTemplate.fromTemplate("{word}?").pipe(chat).pipe(new StringOutputParser());
    expect(await chain.invoke({ word: "Why" })).toBe(alone[0]!.content);
  });

  test("settings of the model and of a call", async () => {
    const scripted = new ScriptedModel(scripts[1], scripts[1]);
    const warm = new ChatHeed({ model: scripted, temperature: 0.7, minP: 0.1, stop: ["."] });
    await warm.invoke("Why?");
    await warm.invoke("Why?", { temperature: 0, stop: ["!"], variables: { enable_thinking: false } });
    const { contextLength: maxTokens } = model.model.config;
    expect(scripted.asked.map(({ options }) => options)).toEqual([
      { maxTokens, temperature: 0.7, minP: 0.1, stop: ["."] },
      { maxTokens, temperature: 0, minP: 0.1, stop: ["!"], variables: { enable_thinking: false } },
    ]);
  });

  test("the adapter of the model and of a call", async () => {
    const adapted = chatModel();
    for (const name of ["polite", "brief"]) {
      addAdapter(adapted.model, { name, rank: name.length, active: false });
      shakeAdapter(adapted.model, name);
    }
    const cache = new InMemoryCache();
    const polite = new ChatHeed({ model: adapted, cache, ...settings, temperature: 0, adapter: "polite" });
    const answers = await Promise.all([
      polite.invoke("Why?"),
      polite.invoke("Why?", { adapter: "brief" }),
      polite.invoke("Why?", { adapter: null }),
    ]);
    const expected: string[] = [];
    for (const active of ["polite", "brief", null]) {
      setAdapter(adapted.model, active);
      expected.push((await adapted.chat(question, { ...settings, temperature: 0 })).text);
    }
    expect(new Set(expected).size).toBe(3);
    expect(answers.map(({ content }) => content)).toEqual(expected);
    await expect(polite.invoke("Why?", { adapter: "rude" })).rejects.toThrow(/which are polite, brief, or null/);
  });

  test("a cache tells settings apart", async () => {
    const cache = new InMemoryCache();
    const greedy = new ChatHeed({ model, cache, maxTokens: 4, temperature: 0 });
    const first = await greedy.invoke("Why?");
    expect((await greedy.invoke("Why?")).content).toBe(first.content);
    const other = new ChatHeed({ model, cache, maxTokens: 8, temperature: 0 });
    expect(await other.invoke("Why?")).toMatchObject({ usage_metadata: { output_tokens: 8 } });
  });

  test("abort", async () => {
    await expect(chat.invoke("Why?", { signal: AbortSignal.abort() })).rejects.toThrow(/abort/i);
    const leaving = new AbortController();
    const endless = new ChatHeed({ model, logitBias: { [model.tokenizer.endOfText!]: -100 } });
    const read = async (): Promise<void> => {
      for await (const _ of await endless.stream("Why?", { signal: leaving.signal })) leaving.abort();
    };
    await expect(read()).rejects.toThrow(/abort/i);
  });
});

describe("tools", () => {
  const weather = tool(({ city }) => ({ city, celsius: city === "Oslo" ? 3 : 21 }), {
    name: "weather",
    description: "Returns the weather of a city",
    schema: z.object({ city: z.string() }),
  });

  test("are called, and get their results", async () => {
    const scripted = new ScriptedModel(...scripts);
    const bound = new ChatHeed({ model: scripted }).bindTools([weather], { tool_choice: "any" });
    const asked = new HumanMessage("Oslo or Rome?");
    const calling = await bound.invoke([asked]);
    expect(calling.tool_calls).toMatchObject([
      { id: "call_1", name: "weather", args: { city: "Oslo" } },
      { id: "call_2", name: "weather", args: { city: "Rome" } },
    ]);
    expect(calling.additional_kwargs.reasoning_content).toBe("They ask for the weather.");
    const results = await Promise.all(calling.tool_calls!.map((call) => weather.invoke(call)));
    const answer = await bound.invoke([asked, calling, ...(results as ToolMessage[])]);
    expect(answer.content).toBe("Cold in Oslo, warm in Rome.");
    const [first, second] = scripted.asked;
    expect(first!.options).toMatchObject({
      tools: shownTools,
      toolChoice: "required",
    });
    expect(second!.messages).toEqual(askedAgain);
  });

  test("calls come in parts", async () => {
    const bound = new ChatHeed({ model: new ScriptedModel(scripts[0]) }).bindTools([weather]);
    const whole = await sumOf(await bound.stream("Oslo?"));
    expect(whole.tool_calls).toMatchObject([{ args: { city: "Oslo" } }, { args: { city: "Rome" } }]);
    expect(whole.response_metadata.finish_reason).toBe("tool-calls");
  });

  test("a call without JSON is invalid", async () => {
    const toolCalls = [{ index: 0, id: "call_1", name: "weather", arguments: '{"city":' }];
    const scripted = new ScriptedModel({ events: [{ text: "", toolCalls }], finishReason: "length" });
    const answer = await new ChatHeed({ model: scripted }).invoke("Oslo?");
    expect(answer.tool_calls).toEqual([]);
    expect(answer.invalid_tool_calls).toMatchObject([{ id: "call_1", name: "weather", args: '{"city":' }]);
  });

  test.each([
    ["auto", "auto"],
    ["none", "none"],
    ["required", "required"],
    ["weather", { name: "weather" }],
    [{ type: "function", function: { name: "weather" } }, { name: "weather" }],
  ])("the choice %j", async (tool_choice, expected) => {
    const scripted = new ScriptedModel(scripts[1]);
    await new ChatHeed({ model: scripted }).invoke("?", { tools: [weather], tool_choice });
    expect(scripted.asked[0]!.options.toolChoice).toEqual(expected);
  });
});

test("a message that only calls tools has no content", async () => {
  const scripted = new ScriptedModel(scripts[1], scripts[1]);
  const tool_calls = [{ id: "a", name: "weather", args: { city: "Oslo" } }];
  const results = { role: "tool", content: "cold", tool_call_id: "a" };
  await new ChatHeed({ model: scripted }).invoke(["?", new AIMessage({ content: "", tool_calls }), results]);
  await new ChatHeed({ model: scripted }).invoke(["?", new AIMessage("")]);
  const contents = scripted.asked.map(({ messages }) => messages.map(({ content }) => content));
  expect(contents).toEqual([
    ["?", null, "cold"],
    ["?", ""],
  ]);
});

test("strict schemas have no keywords that JSON Schema does not know", async () => {
  const tools = toolModel();
  const schema = {
    ...{ title: "place", type: "object", required: ["city"], additionalProperties: false },
    properties: { city: { enum: ["Oslo"], fanciness: 3 } },
  };
  const own = new ChatHeed({ model: tools, maxTokens: 200, seed: 1 });
  const asked = { type: "function", function: { name: "place", parameters: schema } };
  const bound = (strict: boolean) => own.bindTools([asked], { tool_choice: "any", strict }).invoke("?");
  expect((await bound(false)).tool_calls!.length).toBeGreaterThan(0);
  await expectRejection(bound(true), "ERR_ARGUMENT", /fanciness/);
  for (const method of ["jsonSchema", "functionCalling"]) {
    const ask = (strict: boolean) => own.withStructuredOutput(schema, { method, strict }).invoke("?");
    expect(await ask(false)).toEqual({ city: "Oslo" });
    await expectRejection(ask(true), "ERR_ARGUMENT", /fanciness/);
  }
});

describe("structured output", () => {
  const schema = z.object({ city: z.string() });
  const answering = (text: string) => new ScriptedModel({ events: [{ text }], finishReason: "stop" });

  test("by a schema", async () => {
    const scripted = answering('{"city":"Oslo"}');
    const structured = new ChatHeed({ model: scripted }).withStructuredOutput(schema);
    const found: { city: string } = await structured.invoke("Where?");
    expect(found).toEqual({ city: "Oslo" });
    expect(scripted.asked[0]!.options.format).toMatchObject({
      ...{ type: "json-schema", schema: { type: "object", properties: { city: { type: "string" } } } },
    });
    const json = { type: "object", properties: { city: { type: "string" } } };
    const raw = new ChatHeed({ model: answering('{"city":"Oslo"}') }).withStructuredOutput(json, { includeRaw: true });
    expect(await raw.invoke("Where?")).toMatchObject({ parsed: { city: "Oslo" }, raw: { content: '{"city":"Oslo"}' } });
  });

  test("by a tool, and as any JSON", async () => {
    const toolCalls = [{ index: 0, id: "call_1", name: "place", arguments: '{"city":"Oslo"}' }];
    const scripted = new ScriptedModel({ events: [{ text: "", toolCalls }], finishReason: "tool-calls" });
    const options = { method: "functionCalling", name: "place" };
    const called = new ChatHeed({ model: scripted }).withStructuredOutput(schema, options);
    expect(await called.invoke("Where?")).toEqual({ city: "Oslo" });
    expect(scripted.asked[0]!.options.toolChoice).toEqual({ name: "place" });
    const any = answering('{"city":"Oslo"}');
    const parsed = await new ChatHeed({ model: any }).withStructuredOutput(schema, { method: "jsonMode" }).invoke("?");
    expect(parsed).toEqual({ city: "Oslo" });
    expect(any.asked[0]!.options.format).toEqual({ type: "json" });
  });
});

test("embeddings are those of the model", async () => {
  const encoder = embeddingModel();
  const texts = ["unaffable", "cafe ."];
  const embeddings = new HeedEmbeddings({ model: encoder });
  const expected = (await encoder.embed(texts)).map((vector) => Array.from(vector));
  expect(await embeddings.embedDocuments(texts)).toEqual(expected);
  expect(await embeddings.embedQuery("cafe .")).toEqual(expected[1]);
  const [longer] = await encoder.embed(["cafe ."], { normalize: false });
  const own = new HeedEmbeddings({ model: encoder, normalize: false });
  expect(await own.embedQuery("cafe .")).toEqual(Array.from(longer!));
});

test("a model by name is loaded when it is first used", async () => {
  const folder = path.join(temporaryFolder(), "gpt");
  const load = { device: "cpu", tokenizer: model.tokenizer } as const;
  await using named = new ChatHeed({ model: folder, load, maxTokens: 6, temperature: 0 });
  await savePretrained(folder, model.model, { tokenizer: model.tokenizer });
  const expected = await new ChatHeed({ model, maxTokens: 6, temperature: 0 }).invoke("Why?");
  for (const { content } of await named.batch(["Why?", "Why?"])) expect(content).toBe(expected.content);
  await named.close();
  expect((await named.invoke("Why?")).content).toBe(expected.content);
});

describe("tokens are counted", () => {
  test("by the model's tokenizer", async () => {
    for (const text of ["", "Why is the sky blue?", "näïve 🦊 ".repeat(9)])
      expect(await chat.getNumTokens(text)).toBe(model.tokenizer.encode(text).length);
    const blocks = [
      { type: "text", text: "Why " },
      { type: "image_url", image_url: "data:" },
      { type: "text", text: "?" },
    ];
    expect(await chat.getNumTokens(blocks)).toBe(model.tokenizer.encode("Why ?").length);
  });

  test("when messages are trimmed", async () => {
    const messages = ["One whale.", "Two whales.", "Three whales."].map((text) => new HumanMessage(text));
    const count = async (text: string): Promise<number> => chat.getNumTokens(text);
    const maxTokens = (await count("Two whales.")) + (await count("Three whales.")) + 1;
    const kept = await trimMessages(messages, { maxTokens, strategy: "last", tokenCounter: chat });
    expect(kept.map(({ content }) => content)).toEqual(["Two whales.", "Three whales."]);
  });
});

test("classes can be extended, as the declarations say", () => {
  const programs = new Programs(temporaryFolder());
  programs.add(
    "extended",
    `import { ChatHeed, type ChatHeedInput, HeedEmbeddings } from "heed/langchain";
    export class Mine extends ChatHeed {}
    export class Own extends ChatHeed {
      readonly kept: string;
      constructor(fields: ChatHeedInput) {
        super(fields);
        this.kept = this._llmType();
      }
      override _llmType(): string {
        return "own";
      }
    }
    export class MyEmbeddings extends HeedEmbeddings {}
    const mine: ChatHeed = new Mine({ model: "gpt", temperature: 0 });
    console.log(mine, new MyEmbeddings({ model: "bert" }));`,
  );
  expect(programs.compile()).toEqual([]);
});

test("a class that extends ChatHeed answers as it does", async () => {
  class Mine extends ChatHeed {}
  const expected = await chat.invoke("Why?");
  expect((await new Mine({ model, ...settings }).invoke("Why?")).content).toBe(expected.content);
});

describe("bad input", () => {
  test("unknown settings, which the error names", async () => {
    const own = { model, temperature: 0, temprature: 1, max_tokens: 8 };
    const message = /ChatHeed: expected settings .*, got "temprature", "max_tokens"$/;
    expectError(() => new ChatHeed(own), "ERR_ARGUMENT", message);
    await expectRejection(chat.invoke("?", { topk: 5 } as never), "ERR_ARGUMENT", /, got "topk"$/);
    const read = async (): Promise<void> => {
      for await (const _ of await chat.stream("?", { responseFormat: {} } as never));
    };
    await expectRejection(read(), "ERR_ARGUMENT", /, got "responseFormat"$/);
    expectError(
      () => new HeedEmbeddings({ model: embeddingModel(), normalise: true } as never),
      "ERR_ARGUMENT",
      /normalise/,
    );
    expectError(() => new ChatHeed({ model: "gpt", load: { quantise: 8 } as never }), "ERR_ARGUMENT", /quantise/);
  });

  test("settings of LangChain are none of them", async () => {
    const cache = new InMemoryCache();
    const calls = { tags: ["a"], metadata: { b: 1 }, callbacks: [], maxRetries: 1, verbose: false };
    const own = new ChatHeed({ model, ...settings, ...calls, cache, maxConcurrency: 2 });
    const config = {
      ...calls,
      verbose: undefined,
      runName: "run",
      configurable: {},
      timeout: 60_000,
      recursionLimit: 9,
    };
    const expected = await chat.invoke("Why?");
    expect((await own.invoke("Why?", config)).content).toBe(expected.content);
    expect((await own.withConfig({ tags: ["c"], stop: [] }).invoke("Why?")).content).toBe(expected.content);
  });

  test("models of another kind, methods and tools", async () => {
    expectError(() => new ChatHeed({ model: embeddingModel() as never }), "ERR_ARGUMENT");
    expectError(() => new HeedEmbeddings({ model: model as never }), "ERR_ARGUMENT");
    expectError(() => chat.withStructuredOutput({}, { method: "magic" }), "ERR_ARGUMENT");
    await expectRejection(chat.invoke("?", { tools: [{ type: "magic" }] }), "ERR_ARGUMENT");
  });

  test("messages with images, and prompts beyond the context", async () => {
    const image = new HumanMessage({ content: [{ type: "image_url", image_url: { url: "data:" } }] });
    await expectRejection(chat.invoke([image]), "ERR_ARGUMENT", /expected the blocks .* got one of type "image_url"/);
    await expectRejection(chat.invoke("Why? ".repeat(50)), "ERR_RANGE");
    await expect(chat.invoke([new AIMessage("Hm.")])).resolves.toBeInstanceOf(AIMessage);
  });
});
