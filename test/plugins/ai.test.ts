/** The AI SDK with models of heed in the process. */
import { once } from "node:events";
import { mkdir, rm } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";
import { NoSuchModelError } from "@ai-sdk/provider";
import {
  type AssistantContent,
  createProviderRegistry,
  embed,
  embedMany,
  generateObject,
  generateText,
  Output,
  rerank,
  stepCountIs,
  streamObject,
  streamText,
  tool,
  ToolLoopAgent,
} from "ai";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { addAdapter, setAdapter } from "../../lib/adapters/adapters.js";
import { createHeed, heed, type HeedLanguageModelOptions, type HeedProvider } from "../../lib/plugins/ai/index.js";
import { LazyModel } from "../../lib/plugins/lazy-model.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { shakeAdapter } from "../adapters/support.js";
import { expectError, expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { chatModel, embeddingModel, rankingModel } from "../server/support.js";
import { askedAgain, ScriptedModel, scripts, shownTools } from "./support.js";

// The AI SDK prints warnings otherwise.
globalThis.AI_SDK_LOG_WARNINGS = false;

const chat = chatModel();
const model = heed(chat);
const messages = [{ role: "user" as const, content: "Why?" }];
const settings = { maxOutputTokens: 8, seed: 1, maxRetries: 0 };

describe("text", () => {
  test("is that of the model", async () => {
    const expected = await chat.chat([{ role: "system", content: "Be brief." }, ...messages], {
      maxTokens: 8,
      seed: 1,
    });
    const { text, usage, finishReason, warnings } = await generateText({
      ...{ model, system: "Be brief.", prompt: "Why?", ...settings },
    });
    expect(text).toBe(expected.text);
    expect({ finishReason, warnings }).toEqual({ finishReason: expected.finishReason, warnings: [] });
    expect(usage).toMatchObject({
      inputTokens: expected.usage.promptTokens,
      outputTokens: expected.usage.completionTokens,
    });
  });

  test("fills the context if nothing limits it", async () => {
    const own = { logitBias: { [chat.tokenizer.endOfText!]: -100 } } satisfies HeedLanguageModelOptions;
    const { usage, finishReason } = await generateText({ model, messages, providerOptions: { heed: own } });
    expect(usage.totalTokens).toBe(chat.model.config.contextLength + 1);
    expect(finishReason).toBe("length");
  });

  test("comes in parts", async () => {
    const whole = await generateText({ model, messages, ...settings });
    const result = streamText({ model, messages, ...settings });
    let text = "";
    for await (const part of result.textStream) text += part;
    expect(text).toBe(whole.text);
    expect(await result.usage).toMatchObject({ outputTokens: whole.usage.outputTokens });
    expect(await result.finishReason).toBe(whole.finishReason);
  });

  test("follows every setting", async () => {
    const scripted = new ScriptedModel(scripts[1]);
    const sampling = { temperature: 0.7, topK: 9, topP: 0.9, presencePenalty: 0.3, frequencyPenalty: 0.2 };
    const own = {
      ...{ minP: 0.01, typicalP: 0.9, repetitionPenalty: 1.2, minTokens: 2, logitBias: { 65: 1 }, overflow: "slide" },
      ...{ variables: { enable_thinking: false }, format: { type: "choice", choices: ["yes", "no"] } },
    } satisfies HeedLanguageModelOptions;
    const given = { ...settings, ...sampling, stopSequences: ["e"], providerOptions: { heed: own } };
    await generateText({ model: heed(scripted), messages, ...given });
    const { signal: _, ...options } = scripted.asked[0]!.options;
    expect(options).toEqual({ maxTokens: 8, seed: 1, ...sampling, stop: ["e"], ...own });
  });

  test("comes from the adapter that a call names", async () => {
    const adapted = chatModel();
    for (const name of ["polite", "brief"]) {
      addAdapter(adapted.model, { name, rank: name.length, active: false });
      shakeAdapter(adapted.model, name);
    }
    const ask = async (adapter: string | null | undefined) => {
      const own = adapter === undefined ? {} : ({ adapter } satisfies HeedLanguageModelOptions);
      const { text } = await generateText({
        ...{ model: heed(adapted), messages, ...settings, temperature: 0, providerOptions: { heed: own } },
      });
      return text;
    };
    const adapters = ["polite", "brief", null, undefined];
    const texts = await Promise.all(adapters.map(ask));
    const expected: string[] = [];
    for (const active of ["polite", "brief", null]) {
      setAdapter(adapted.model, active);
      expected.push((await adapted.chat(messages, { maxTokens: 8, seed: 1, temperature: 0 })).text);
    }
    expect(new Set(expected).size).toBe(3);
    expect(texts).toEqual([...expected, expected[2]]);
    await expect(ask("rude")).rejects.toThrow(/adapter to be .+ which are polite, brief, or null, got "rude"/);
  });

  test("concurrent calls get the same texts", async () => {
    const alone = await generateText({ model, messages, ...settings });
    const calls = Array.from({ length: 4 }, () => generateText({ model, messages, ...settings }));
    for (const { text } of await Promise.all(calls)) expect(text).toBe(alone.text);
  });

  test("abort, before and within", async () => {
    const gone = AbortSignal.abort();
    await expect(generateText({ model, messages, abortSignal: gone })).rejects.toThrow("aborted");
    const leaving = new AbortController();
    const parts: string[] = [];
    const own = { logitBias: { [chat.tokenizer.endOfText!]: -100 } };
    const { fullStream } = streamText({
      ...{ model, messages, abortSignal: leaving.signal, providerOptions: { heed: own } },
    });
    for await (const { type } of fullStream) {
      parts.push(type);
      if (type === "text-delta") leaving.abort();
    }
    expect(parts.at(-1)).toBe("abort");
    expect(parts).not.toContain("finish");
  });

  test("a reader who leaves ends the generation", async () => {
    const { stream } = await model.doStream({ prompt: [{ role: "user", content: [{ type: "text", text: "Why?" }] }] });
    const reader = stream.getReader();
    expect(await reader.read()).toMatchObject({ value: { type: "stream-start" } });
    await reader.cancel();
    expect(await reader.read()).toEqual({ done: true, value: undefined });
  });
});

describe("tools and reasoning", () => {
  const weather = tool({
    description: "Returns the weather of a city",
    inputSchema: z.object({ city: z.string() }),
    execute: ({ city }) => ({ city, celsius: city === "Oslo" ? 3 : 21 }),
  });

  test("an agent calls tools and answers", async () => {
    const scripted = new ScriptedModel(...scripts);
    const agent = new ToolLoopAgent({ model: heed(scripted), tools: { weather }, stopWhen: stepCountIs(3) });
    const { text, steps } = await agent.generate({ prompt: "Oslo or Rome?" });
    expect(text).toBe("Cold in Oslo, warm in Rome.");
    expect(steps[0]).toMatchObject({
      ...{ text: "Let me see.", reasoningText: "They ask for the weather.", finishReason: "tool-calls" },
      toolCalls: [{ toolName: "weather", input: { city: "Oslo" } }, { input: { city: "Rome" } }],
    });
    const [first, second] = scripted.asked;
    expect(first!.options).toMatchObject({
      tools: shownTools,
      toolChoice: "auto",
    });
    expect(second!.messages).toEqual(askedAgain);
  });

  test("a stream has a block for each kind of part", async () => {
    const { fullStream } = streamText({
      ...{ model: heed(new ScriptedModel(scripts[0])), tools: { weather }, toolChoice: "required", prompt: "Oslo?" },
    });
    const types: string[] = [];
    // The tools run meanwhile.
    for await (const { type } of fullStream) if (types.at(-1) !== type && type !== "tool-result") types.push(type);
    expect(types).toEqual([
      ...["start", "start-step", "reasoning-start", "reasoning-delta", "reasoning-end"],
      ...[
        "text-start",
        "text-delta",
        "text-end",
        "tool-input-start",
        "tool-input-delta",
        "tool-input-end",
        "tool-call",
      ],
      ...["tool-input-start", "tool-input-delta", "tool-input-end", "tool-call"],
      ...["finish-step", "finish"],
    ]);
  });

  test("a message that only calls tools has no content", async () => {
    const scripted = new ScriptedModel(scripts[1], scripts[1]);
    const call = { type: "tool-call" as const, toolCallId: "a", toolName: "weather", input: { city: "Oslo" } };
    const output = { type: "text" as const, value: "cold" };
    const result = { type: "tool-result" as const, toolCallId: "a", toolName: "weather", output };
    const user = { role: "user" as const, content: "?" };
    const ask = (content: AssistantContent) =>
      generateText({
        model: heed(scripted),
        messages: [user, { role: "assistant", content }, { role: "tool", content: [result] }],
      });
    await ask([call]);
    await ask([{ type: "text", text: "Hm." }, call]);
    expect(scripted.asked.map(({ messages }) => messages[1]!.content)).toEqual([null, "Hm."]);
  });

  test("tools of a provider are left out with a warning", async () => {
    const scripted = new ScriptedModel(scripts[1]);
    const { warnings } = await generateText({
      ...{
        model: heed(scripted),
        prompt: "?",
        tools: { search: { type: "provider", id: "other.search", args: {} } as never },
      },
    });
    expect(warnings).toMatchObject([{ type: "unsupported", feature: "the provider's tool other.search" }]);
    expect(scripted.asked[0]!.options.tools).toBeUndefined();
  });

  test("the setting reasoning of ai 7 has no effect, which a warning says", async () => {
    const prompt = [{ role: "user" as const, content: [{ type: "text" as const, text: "Why?" }] }];
    const call = { prompt, maxOutputTokens: 1, reasoning: "high" };
    const { warnings } = await model.doGenerate(call);
    expect(warnings).toMatchObject([{ type: "unsupported", feature: "reasoning" }]);
    const usual = { ...call, reasoning: "provider-default" };
    expect((await model.doGenerate(usual)).warnings).toEqual([]);
  });

  test("an error in the middle of a stream is a part of it", async () => {
    const failing = new ScriptedModel({
      ...{ finishReason: "stop" },
      get events() {
        return (function* () {
          yield { text: "a" };
          throw new Error("The device has gone.");
        })() as never;
      },
    });
    const errors: unknown[] = [];
    const { fullStream, finishReason } = streamText({
      ...{ model: heed(failing), prompt: "?", onError: ({ error }) => void errors.push(error) },
    });
    for await (const _ of fullStream);
    expect(errors).toEqual([new Error("The device has gone.")]);
    expect(await finishReason).toBe("error");
  });
});

describe("objects", () => {
  const schema = z.object({ city: z.string() });
  const answering = () =>
    new ScriptedModel({ events: [{ text: '{"city":' }, { text: '"Oslo"}' }], finishReason: "stop" });
  const format = { type: "json-schema", schema: { type: "object", required: ["city"] } };

  test("by a schema, whole and in parts", async () => {
    const models = Array.from({ length: 4 }, answering);
    const [a, b, c, d] = models as [ScriptedModel, ScriptedModel, ScriptedModel, ScriptedModel];
    const output = Output.object({ schema });
    expect((await generateText({ model: heed(a), prompt: "?", output })).output).toEqual({ city: "Oslo" });
    const { partialOutputStream } = streamText({ model: heed(b), prompt: "?", output });
    const parts: unknown[] = [];
    for await (const part of partialOutputStream) parts.push(part);
    expect(parts.at(-1)).toEqual({ city: "Oslo" });
    /* eslint-disable @typescript-eslint/no-deprecated -- Many programs use them. */
    expect((await generateObject({ model: heed(c), prompt: "?", schema })).object).toEqual({ city: "Oslo" });
    const streamed = streamObject({ model: heed(d), prompt: "?", schema });
    for await (const _ of streamed.partialObjectStream);
    expect(await streamed.object).toEqual({ city: "Oslo" });
    for (const { asked } of models) expect(asked[0]!.options.format).toMatchObject(format);
  });

  test("without a schema", async () => {
    const scripted = answering();
    const { output } = await generateText({ model: heed(scripted), prompt: "?", output: Output.json() });
    expect(output).toEqual({ city: "Oslo" });
    expect(scripted.asked[0]!.options.format).toEqual({ type: "json" });
  });
});

describe("vectors and ranks", () => {
  const encoder = embeddingModel();
  const classifier = rankingModel();

  test("embed and embedMany return those of the model", async () => {
    const values = ["unaffable", "cafe .", "aff"];
    const expected = (await encoder.embed(values)).map((vector) => Array.from(vector));
    const many = await embedMany({ model: heed.embedding(encoder), values });
    expect(many.embeddings).toEqual(expected);
    const count = (text: string): number => encoder.tokenizer.encode(text).length;
    expect(many.usage.tokens).toBe(values.reduce((sum, value) => sum + count(value), 0));
    const one = await embed({ model: heed.embedding(encoder), value: "aff" });
    expect(one.embedding).toEqual(expected[2]);
    const cut = await embed({
      ...{ model: heed.embedding(encoder), value: "cafe cafe cafe", providerOptions: { heed: { maxLength: 3 } } },
    });
    expect(cut.usage.tokens).toBe(3);
  });

  test("rerank sorts texts and objects", async () => {
    const documents = ["cafe .", "unaffable", "aff"];
    const expected = await classifier.rank("aff", documents, { top: 2 });
    const { ranking, rerankedDocuments } = await rerank({
      ...{ model: heed.reranking(classifier), query: "aff", documents, topN: 2 },
    });
    expect(ranking.map(({ originalIndex: index, score }) => ({ index, score }))).toEqual(expected);
    expect(rerankedDocuments).toEqual(expected.map(({ index }) => documents[index]));
    const objects = await rerank({
      ...{ model: heed.reranking(classifier), query: "aff", documents: documents.map((text) => ({ text })) },
    });
    expect(objects.ranking).toHaveLength(3);
  });

  test("abort", async () => {
    const abortSignal = AbortSignal.abort();
    const model = heed.embedding(encoder);
    await expect(embed({ model, value: "aff", abortSignal })).rejects.toThrow("aborted");
    await expect(
      rerank({ model: heed.reranking(classifier), query: "aff", documents: ["aff"], abortSignal }),
    ).rejects.toThrow("aborted");
  });
});

describe("unknown models", () => {
  const types = ["languageModel", "embeddingModel", "rerankingModel"] as const;
  const values = ["a"];
  const use = (provider: HeedProvider, type: (typeof types)[number], name: string): PromiseLike<unknown> => {
    if (type === "languageModel") return generateText({ model: provider(name), messages });
    if (type === "embeddingModel") return embedMany({ model: provider.embedding(name), values });
    return rerank({ model: provider.reranking(name), query: "a", documents: values });
  };

  test.each(types)("of the type %s, and models of another kind", async (modelType) => {
    await using provider = createHeed();
    const folder = path.join(temporaryFolder(), "empty");
    await mkdir(folder);
    const other = path.join(temporaryFolder(), "other");
    await savePretrained(other, embeddingModel().model, { tokenizer: embeddingModel().tokenizer });
    // Every kind of encoder can embed.
    const others = modelType === "embeddingModel" ? [] : [other];
    for (const modelId of ["no-such-model", path.join(folder, "missing"), folder, ...others]) {
      const error: unknown = await Promise.resolve(use(provider, modelType, modelId)).catch((cause: unknown) => cause);
      expect(NoSuchModelError.isInstance(error)).toBe(true);
      expect(error).toMatchObject({ modelId, modelType, cause: { name: "HeedError" } });
      expect((error as Error).message).toContain(modelId);
    }
  });

  test("that are known at once", () => {
    for (const [act, modelId, modelType] of [
      [() => heed(""), "", "languageModel"],
      [() => heed.embedding(""), "", "embeddingModel"],
      [() => heed.reranking(""), "", "rerankingModel"],
      [() => heed.imageModel("gpt"), "gpt", "imageModel"],
    ] as const)
      expect(act).toThrow(expect.objectContaining({ name: "AI_NoSuchModelError", modelId, modelType }));
  });

  test("a model of the hub that the hub does not have, and a hub that does not answer", async () => {
    const hub = createServer((_, response) => response.writeHead(404).end("{}")).listen(0, "127.0.0.1");
    await once(hub, "listening");
    const hubUrl = `http://127.0.0.1:${(hub.address() as { port: number }).port}`;
    const ask = () =>
      generateText({ model: createHeed()("owner/name", { hubUrl, cacheDir: temporaryFolder() }), messages });
    await expect(ask()).rejects.toMatchObject({ modelId: "owner/name", modelType: "languageModel" });
    await new Promise((resolve) => hub.close(resolve));
    await expect(ask()).rejects.toMatchObject({ name: "HeedError", code: "ERR_IO" });
  });
});

describe("models by name", () => {
  test("are loaded once, and again after they have been closed", async () => {
    const folder = path.join(temporaryFolder(), "gpt");
    const save = () => savePretrained(folder, chat.model, { tokenizer: chat.tokenizer });
    await save();
    const provider = createHeed();
    const options = { device: "cpu", tokenizer: chat.tokenizer } as const;
    const ask = () => generateText({ model: provider(folder, options), messages, ...settings, temperature: 0 });
    const [first, second] = await Promise.all([ask(), ask()]);
    const expected = await generateText({ model, messages, ...settings, temperature: 0 });
    expect([first.text, second.text]).toEqual([expected.text, expected.text]);
    // Without the files it cannot be loaded again.
    await rm(folder, { recursive: true });
    expect((await ask()).text).toBe(expected.text);
    const gone = { name: "AI_NoSuchModelError", modelId: folder, cause: { code: "ERR_IO" } };
    await expect(generateText({ model: provider(folder), messages })).rejects.toMatchObject(gone);
    await provider(folder, options).close();
    await expect(ask()).rejects.toMatchObject(gone);
    await save();
    expect((await ask()).text).toBe(expected.text);
    const registry = createProviderRegistry({ heed: provider }, { separator: ">" });
    expect(registry.languageModel(`heed>${folder}`).modelId).toBe(folder);
    await provider.close();
    await rm(folder, { recursive: true });
    await expect(ask()).rejects.toMatchObject(gone);
  });

  test("are freed when they are closed", async () => {
    const folder = path.join(temporaryFolder(), "gpt");
    await savePretrained(folder, chat.model, { tokenizer: chat.tokenizer });
    const lazy = new LazyModel("test", "causal", folder);
    const gone = AbortSignal.abort();
    await expect(lazy.get(gone)).rejects.toThrow("aborted");
    const [a, b] = await Promise.all([lazy.get(), lazy.get()]);
    expect(b).toBe(a);
    await lazy.close();
    await expectRejection(a.generate("a"), "ERR_DISPOSED");
    const loading = lazy.get();
    await lazy.close();
    await expectRejection((await loading).generate("a"), "ERR_DISPOSED");
  });

  test("one that cannot be loaded is tried again", async () => {
    const folder = path.join(temporaryFolder(), "gpt");
    const provider = createHeed();
    const ask = () => generateText({ model: provider(folder), messages, ...settings });
    await expect(ask()).rejects.toMatchObject({ modelId: folder, modelType: "languageModel" });
    await savePretrained(folder, chat.model, { tokenizer: chat.tokenizer });
    await ask();
    await provider.close();
  });
});

describe("bad input", () => {
  test.each([
    ["another kind", () => heed(embeddingModel() as never), /a loaded LanguageModel, got a model of kind "encoder"/],
    ["options", () => heed("gpt", 5 as never), /expected options to be an object, got 5/],
    ["an unknown option", () => heed("gpt", { quantise: 8 } as never), /expected the options in .* got "quantise"/],
  ])("%s", (_, act, message) => {
    expectError(act, "ERR_ARGUMENT", message);
  });

  test("an unknown option of heed", async () => {
    const asked = generateText({ model, messages, ...settings, providerOptions: { heed: { min_p: 1 } } });
    await expect(asked).rejects.toMatchObject({
      code: "ERR_ARGUMENT",
      message: expect.stringContaining('got "min_p"'),
    });
  });

  test("a file in a prompt", async () => {
    const content = [{ type: "image" as const, image: new Uint8Array(8), mediaType: "image/png" }];
    const asked = generateText({ model, messages: [{ role: "user", content }], ...settings });
    await expect(asked).rejects.toMatchObject({ message: expect.stringContaining('got one of type "file"') });
  });

  test("a prompt beyond the context, in a stream too", async () => {
    const prompt = "Why? ".repeat(50);
    await expect(generateText({ model, prompt, ...settings })).rejects.toMatchObject({ code: "ERR_RANGE" });
    const errors: unknown[] = [];
    const { fullStream } = streamText({ model, prompt, ...settings, onError: ({ error }) => void errors.push(error) });
    for await (const _ of fullStream);
    expect(errors).toMatchObject([{ code: "ERR_RANGE" }]);
  });
});
