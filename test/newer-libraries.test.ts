/**
 * Versions of libraries that need Node.js 22, on Node.js 22 (test/nodes): `ai` 7 with models in the process, and the
 * client of OpenAI, version 7, against a running server.
 */
import { existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { beforeAll, expect, test } from "vitest";
import { savePretrained } from "../lib/pretrained/save-pretrained.js";
import { chatModel, embeddingModel, rankingModel } from "./server/support.js";
import { agentModel, cities, finalAnswer, question, toolName } from "./plugins/agent-model.js";
import { expectChild } from "./support/child.js";
import { dist } from "./support/dist.js";
import { sharedFolder } from "./support/folder.js";
import { describeUnless, otherNodes } from "./support/skip.js";

const nodes = fileURLToPath(new URL("nodes/node_modules", import.meta.url));
const node = path.join(nodes, "node22/bin/node");
const url = (...parts: string[]): string => JSON.stringify(pathToFileURL(path.join(...parts)).href);

const folder = sharedFolder();
const folders = ["chat", "encoder", "classifier", "agent"].map((name) => JSON.stringify(path.join(folder, name)));
const models = { chat: chatModel(), encoder: embeddingModel(), classifier: rankingModel() };
const messages = [{ role: "user", content: "Why?" }];
const texts = ["cafe .", "unaffable", "aff"];

beforeAll(async () => {
  const { chat, encoder, classifier } = models;
  await savePretrained(path.join(folder, "chat"), chat.model, { tokenizer: chat.tokenizer });
  await savePretrained(path.join(folder, "encoder"), encoder.model, { tokenizer: encoder.tokenizer });
  await savePretrained(path.join(folder, "classifier"), classifier.model, { tokenizer: classifier.tokenizer });
  const { model, tokenizer, defaults } = await agentModel();
  await savePretrained(path.join(folder, "agent"), model, { tokenizer, defaults });
});

describeUnless(!existsSync(path.join(nodes, "ai")) && otherNodes)("Node 22 (npm ci --prefix test/nodes)", () => {
  test("ai 7", async () => {
    const output = await expectChild(
      `globalThis.AI_SDK_LOG_WARNINGS = false;
      const { embedMany, generateText, rerank, streamText } = await import(${url(nodes, "ai/dist/index.js")});
      const { heed: provider } = await import(${url(dist("plugins/ai/index.js"))});
      const [chat, encoder, classifier] = [${folders.join(", ")}];
      const call = { model: provider(chat), messages: ${JSON.stringify(messages)}, maxOutputTokens: 8, temperature: 0 };
      const { text, usage } = await generateText(call);
      let streamed = "";
      for await (const part of streamText(call).textStream) streamed += part;
      const documents = ${JSON.stringify(texts)};
      const { embeddings } = await embedMany({ model: provider.embedding(encoder), values: documents });
      const { ranking } = await rerank({ model: provider.reranking(classifier), query: "aff", documents });
      const order = ranking.map(({ originalIndex }) => originalIndex);
      await provider.close();
      console.log(JSON.stringify({ text, streamed, tokens: usage.outputTokens, embeddings, order }));`,
      ...([0, {}, [], node] as const),
    );
    const { chat, encoder, classifier } = models;
    const { text, usage } = await chat.chat(messages, { maxTokens: 8, temperature: 0 });
    const embeddings = (await encoder.embed(texts, { normalize: false })).map((vector) => Array.from(vector));
    const order = (await classifier.rank("aff", texts)).map(({ index }) => index);
    expect(JSON.parse(output)).toEqual({ text, streamed: text, tokens: usage.completionTokens, embeddings, order });
  });

  test("openai 7", async () => {
    const output = await expectChild(
      `const { default: OpenAI } = await import(${url(nodes, "openai/index.mjs")});
      const { createServer } = await import(${url(dist("server/index.js"))});
      const model = await heed.load(${folders[0]}, { kind: "causal" });
      const app = await createServer({ models: { tiny: model } });
      const openai = new OpenAI({ baseURL: await app.listen({ host: "127.0.0.1", port: 0 }) + "/v1", apiKey: "none" });
      const body = { model: "tiny", messages: ${JSON.stringify(messages)}, max_tokens: 8, temperature: 0 };
      const { choices } = await openai.chat.completions.create(body);
      let streamed = "";
      for await (const { choices } of await openai.chat.completions.create({ ...body, stream: true }))
        streamed += choices[0]?.delta.content ?? "";
      const { output_text: response } = await openai.responses.create({
        ...{ model: "tiny", input: "Why?", max_output_tokens: 8, temperature: 0 },
      });
      await app.close();
      model.dispose();
      console.log(JSON.stringify([choices[0].message.content, streamed, response]));`,
      ...([0, {}, [], node] as const),
    );
    const { text } = await models.chat.chat(messages, { maxTokens: 8, temperature: 0 });
    expect(JSON.parse(output)).toEqual([text, text, text]);
  });

  /** Declarations of a tool's function, which notes its calls. */
  const weather = `const called = [];
    const run = ({ city }) => (called.push(city), within?.(), city === "Oslo" ? "3 C" : "21 C");
    let within = null;
    const { z } = await import(${url(nodes, "zod/index.js")});
    const place = z.object({ city: z.string() });`;

  test("agents of ai 7", async () => {
    const output = await expectChild(
      `globalThis.AI_SDK_LOG_WARNINGS = false;
      const { generateText, isStepCount, streamText, tool, ToolLoopAgent } = await import(${url(nodes, "ai/dist/index.js")});
      const { heed: provider } = await import(${url(dist("plugins/ai/index.js"))});
      ${weather}
      const tools = { ${toolName}: tool({ inputSchema: place, execute: run }) };
      const settings = { model: provider(${folders[3]}), tools, stopWhen: isStepCount(5) };
      const prompt = ${JSON.stringify(question)};
      const read = async (stream) => { let text = ""; for await (const part of stream) text += part; return text; };
      const agent = new ToolLoopAgent(settings);
      const texts = [
        (await generateText({ ...settings, prompt })).text,
        await read(streamText({ ...settings, prompt }).textStream),
        (await agent.generate({ prompt })).text,
        await read((await agent.stream({ prompt })).textStream),
      ];
      const whole = called.splice(0);
      const leaving = new AbortController();
      within = () => leaving.abort();
      const ended = await generateText({ ...settings, prompt, abortSignal: leaving.signal }).then(() => "done", ({ name }) => name);
      await provider.close();
      console.log(JSON.stringify({ texts, whole, ended, called }));`,
      ...([0, {}, [], node] as const),
    );
    expect(JSON.parse(output)).toEqual({
      texts: Array(4).fill(finalAnswer),
      whole: Array(4).fill(cities).flat(),
      ...{ ended: "AbortError", called: cities.slice(0, 1) },
    });
  });

  test("agents of openai 7", async () => {
    const output = await expectChild(
      `const { default: OpenAI } = await import(${url(nodes, "openai/index.mjs")});
      const { createServer } = await import(${url(dist("server/index.js"))});
      ${weather}
      const model = await heed.load(${folders[3]}, { kind: "causal" });
      const app = await createServer({ models: { agent: model } });
      const openai = new OpenAI({ baseURL: await app.listen({ host: "127.0.0.1", port: 0 }) + "/v1", apiKey: "none", maxRetries: 0 });
      const definition = { name: ${JSON.stringify(toolName)}, parameters: z.toJSONSchema(place) };
      const runnable = { ...definition, function: run, parse: (text) => place.parse(JSON.parse(text)) };
      const content = ${JSON.stringify(question)};
      const body = { model: "agent", messages: [{ role: "user", content }], tools: [{ type: "function", function: runnable }] };
      const texts = [];
      for (const stream of [false, true])
        texts.push(await openai.chat.completions.runTools({ ...body, stream }).finalContent());
      let asked = { model: "agent", input: content, tools: [{ type: "function", strict: false, ...definition }] };
      for (let turn = 0; turn < 5; turn++) {
        const { id, output, output_text: text } = await openai.responses.create(asked);
        const calls = output.filter(({ type }) => type === "function_call");
        if (calls.length === 0) { texts.push(text); break; }
        const resultOf = ({ call_id, arguments: given }) =>
          ({ type: "function_call_output", call_id, output: run(JSON.parse(given)) });
        asked = { ...asked, input: calls.map(resultOf), previous_response_id: id };
      }
      const whole = called.splice(0);
      const leaving = new AbortController();
      within = () => leaving.abort();
      const runner = openai.chat.completions.runTools(body, { signal: leaving.signal });
      const ended = await runner.finalContent().then(() => "done", (error) => error instanceof OpenAI.APIUserAbortError);
      await app.close();
      model.dispose();
      console.log(JSON.stringify({ texts, whole, ended, called }));`,
      ...([0, {}, [], node] as const),
    );
    expect(JSON.parse(output)).toEqual({
      texts: Array(3).fill(finalAnswer),
      whole: Array(3).fill(cities).flat(),
      ...{ ended: true, called: cities.slice(0, 1) },
    });
  });
});
