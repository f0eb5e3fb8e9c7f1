/** Requests for many answers: bounded before anything is made for them, and cheap as far as they are alike. */
import { describe, expect, test } from "vitest";
import { Engine } from "../../lib/engine/engine.js";
import { LanguageModel } from "../../lib/load/language-model.js";
import { GPT } from "../../lib/models/gpt.js";
import { someTokens } from "../generate/models.js";
import { collectGarbage } from "../support/gc.js";
import { expectNoPause } from "../support/pauses.js";
import { chatModel, type Client, type ErrorBody, eventsOf, start, until } from "./support.js";

const [text, chat] = ["/v1/completions", "/v1/chat/completions"];
const messages = [{ role: "user", content: "Why?" }];
const usual = { max_tokens: 2, seed: 1 };

/** Returns a model whose tokens cost little. */
function small(): LanguageModel {
  const { tokenizer } = chatModel();
  const size = { vocabularySize: 272, contextLength: 640, layers: 1, heads: 1, width: 8, dropout: 0 };
  return new LanguageModel({ model: new GPT(size, { seed: 1 }), tokenizer, defaults: { stopTokens: [] } });
}

async function refusalOf(client: Client, path: string, body: object): Promise<object> {
  const response = await client.post(path, body);
  return { status: response.status, ...((await response.json()) as ErrorBody).error };
}

describe("the answers to a request", () => {
  test("are as many as can run and wait, or it is refused before its prompts are read", async () => {
    const client = await start({ models: { tiny: chatModel() }, engine: { maxSequences: 4, maxQueue: 8 } });
    const prompts = (count: number): string[] => Array.from({ length: count }, (_, i) => `prompt ${i}`);
    const refused = { status: 429, type: "rate_limit_error", param: "n", code: "too_many_answers" };
    for (const stream of [false, true]) {
      for (const body of [{ prompt: "a", n: 13 }, { prompt: prompts(13) }, { prompt: prompts(5), n: 3 }])
        expect(await refusalOf(client, text, { ...usual, ...body, stream })).toMatchObject(refused);
      // Tokens that the model does not have would be refused when they are read.
      const unread = { prompt: Array(128).fill([1e9]), n: 128 };
      expect(await refusalOf(client, text, { ...usual, ...unread, stream })).toMatchObject({
        ...{ ...refused, message: expect.stringMatching(/at most 12 answers .* got 16384: 128 × n/) as string },
      });
      expect(await refusalOf(client, chat, { ...usual, messages, n: 13, stream })).toMatchObject(refused);
    }
    expect(await refusalOf(client, text, { prompt: "a", best_of: 128 })).toMatchObject({
      status: 400,
      param: "best_of",
    });
    expect(await refusalOf(client, "/v1/responses", { input: "a", n: 13 })).toMatchObject({ status: 400, param: "n" });
    const all = { ...usual, prompt: prompts(4), n: 3 };
    const { choices } = await client.answer<{ choices: { index: number }[] }>(text, all);
    expect(choices.map(({ index }) => index)).toEqual(Array.from({ length: 12 }, (_, i) => i));
    const most = await client.answer<{ choices: object[] }>(chat, { ...usual, messages, n: 12 });
    expect(most.choices).toHaveLength(12);
    expect(await eventsOf(await client.post(chat, { ...usual, messages, n: 12, stream: true }))).toContain("[DONE]");
  });

  test("all find room, or none begins", async () => {
    const client = await start({ models: { tiny: chatModel() }, engine: { maxSequences: 2, maxQueue: 4 } });
    const controller = new AbortController();
    const long = { prompt: "a", n: 4, max_tokens: 90, stop: "\n", logit_bias: { 10: -100 } };
    const endless = async (): Promise<void> => {
      while (!controller.signal.aborted)
        await client.post(text, long, { signal: controller.signal }).then(
          (response) => response.text(),
          () => undefined,
        );
    };
    const running = endless();
    await until(async () => (await client.metric("heed_engine_requests_running")) > 0);
    let refusal: object = {};
    await until(async () => {
      const response = await client.post(text, { prompt: "b", n: 6, max_tokens: 1 });
      refusal = { status: response.status, ...((await response.json()) as Partial<ErrorBody>).error };
      return response.status === 503;
    });
    expect(refusal).toMatchObject({ status: 503, code: "overloaded" });
    controller.abort();
    await running;
    await until(async () => (await client.metric("heed_engine_requests_running")) === 0);
    const { choices } = await client.answer<{ choices: object[] }>(text, { prompt: "b", n: 6, max_tokens: 1 });
    expect(choices).toHaveLength(6);
  });

  test("of the engine are refused alike", async () => {
    const { model } = chatModel();
    await using engine = new Engine(model, { maxSequences: 2, maxQueue: 1 });
    expect(() => engine.generate({ tokens: [1], n: 4 })).toThrow(expect.objectContaining({ code: "ERR_RANGE" }));
    const results = await Promise.allSettled([
      engine.generate({ tokens: [1], n: 3, maxTokens: 4 }),
      engine.generate({ tokens: [1], n: 2, maxTokens: 4 }),
    ]);
    expect(results).toMatchObject([{ status: "fulfilled" }, { status: "rejected", reason: { code: "ERR_BUSY" } }]);
  });

  test("begin and end in short turns, as many as there may be, with stop texts as long as they may be", async () => {
    const client = await start({ models: { tiny: small() } });
    const prompt = Array.from({ length: 128 }, (_, i) => `${i} `.repeat(40));
    const stop = Array.from({ length: 16 }, (_, i) => String.fromCharCode(97 + i).repeat(1000));
    await expectNoPause(async () => {
      const { choices } = await client.answer<{ choices: object[] }>(text, { prompt, n: 8, max_tokens: 2, stop });
      expect(choices).toHaveLength(1024);
    });
  });

  test("leave nothing behind that grows with their tokens", { timeout: 120_000 }, async () => {
    // The limit below is then 6 MB: four times the 1.6 MB by which the sizes differ of themselves.
    const tokens = 400;
    const client = await start({ models: { tiny: small() }, engine: { maxSequences: 128 } });
    const bias = Object.fromEntries(Array.from({ length: 256 }, (_, i) => [i, i === 97 ? 100 : 0]));
    const body = { messages, n: 128, max_tokens: tokens, logit_bias: bias, stream: true };
    const response = await client.post(chat, { ...body, logprobs: true, top_logprobs: 3 });
    // What is on its way to the client comes and goes, and is some megabytes: the least of several sizes counts.
    const due = [0.15, 0.2, 0.25, 0.3, 0.75, 0.8, 0.85, 0.9];
    const sizes: number[] = [];
    let events = 0;
    for await (const part of response.body as unknown as AsyncIterable<Uint8Array>) {
      events += Buffer.from(part).toString("latin1").split("data: ").length - 1;
      if (sizes.length === due.length || events < due[sizes.length]! * 128 * tokens) continue;
      await collectGarbage();
      const { heapUsed, arrayBuffers } = process.memoryUsage();
      sizes.push(heapUsed + arrayBuffers);
    }
    expect(events).toBeGreaterThanOrEqual(128 * tokens);
    // The tokens themselves stay; 3 kB a token did.
    const growth = Math.min(...sizes.slice(4)) - Math.min(...sizes.slice(0, 4));
    expect(growth / (0.6 * 128 * tokens)).toBeLessThan(200);
  });

  test("to a prompt of 30,000 tokens share it", { timeout: 120_000 }, async () => {
    const length = 30_000;
    const size = { vocabularySize: 64, contextLength: length + 8, layers: 1, heads: 1, width: 8, dropout: 0 };
    using model = new GPT(size, { seed: 1 });
    await using engine = new Engine(model);
    const tokens = Int32Array.from(someTokens(length, 1));
    await engine.generate({ tokens, maxTokens: 1 });
    await expectNoPause(async () => {
      const { choices, usage } = await engine.generate({ tokens, n: 128, maxTokens: 3, seed: 2, stopTokens: [] });
      expect(choices.map((choice) => choice.tokens.length)).toEqual(Array(128).fill(3));
      expect(usage.cachedTokens).toBeGreaterThan(length - 65);
    });
  });
});
