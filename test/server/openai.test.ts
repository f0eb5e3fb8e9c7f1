/** The official client of OpenAI, against a running server. */
/* eslint-disable @typescript-eslint/no-deprecated -- "seed" and "max_tokens" are what most programs send. */
import OpenAI from "openai";
import { describe, expect, test, vi } from "vitest";
import { chatModel, embeddingModel, rankingModel, start, until } from "./support.js";

const model = chatModel();
const encoder = embeddingModel();
const messages = [{ role: "user" as const, content: "Why?" }];

async function client(options: ConstructorParameters<typeof OpenAI>[0] = {}) {
  const server = await start({ models: { tiny: model, minilm: encoder }, apiKeys: ["alpha"] });
  return { server, openai: new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "alpha", maxRetries: 0, ...options }) };
}

describe("chat", () => {
  test("an answer, and a further turn with it", async () => {
    const { openai } = await client();
    const answer = await openai.chat.completions.create({ model: "tiny", messages, max_tokens: 6, seed: 1 });
    const [choice] = answer.choices;
    const expected = await model.chat(messages, { maxTokens: 6, seed: 1 });
    expect(choice!.message.content).toBe(expected.text);
    expect(answer.usage!.total_tokens).toBe(expected.usage.promptTokens + expected.usage.completionTokens);
    await openai.chat.completions.create({
      ...{ model: "tiny", max_tokens: 2 },
      messages: [...messages, choice!.message, { role: "user", content: "And?" }],
    });
  });

  test("a stream, by events and by its helper", async () => {
    const { openai } = await client();
    const body = { model: "tiny", messages, max_tokens: 8, seed: 2 };
    const whole = await openai.chat.completions.create(body);
    let text = "";
    let total = 0;
    const stream = await openai.chat.completions.create({
      ...{ ...body, stream: true, stream_options: { include_usage: true } },
    });
    for await (const { choices, usage } of stream) {
      text += choices[0]?.delta.content ?? "";
      total = usage?.total_tokens ?? total;
    }
    expect({ text, total }).toEqual({ text: whole.choices[0]!.message.content, total: whole.usage!.total_tokens });
    const helper = openai.chat.completions.stream(body);
    const { choices } = await helper.finalChatCompletion();
    expect(choices[0]).toMatchObject({ message: { content: text }, finish_reason: whole.choices[0]!.finish_reason });
  });

  test("several answers with log-probabilities", async () => {
    const { openai } = await client();
    const body = {
      model: "tiny",
      messages,
      max_tokens: 5,
      min_tokens: 5,
      seed: 3,
      n: 3,
      logprobs: true,
      top_logprobs: 4,
    };
    const { choices, usage } = await openai.chat.completions.create(body);
    expect(choices.map(({ index }) => index)).toEqual([0, 1, 2]);
    expect(new Set(choices.map(({ message }) => message.content)).size).toBeGreaterThan(1);
    expect(usage!.completion_tokens).toBe(15);
    for (const { logprobs } of choices) {
      expect(logprobs!.content).toHaveLength(5);
      for (const { logprob, top_logprobs: top } of logprobs!.content!) {
        expect(top).toHaveLength(4);
        expect(top.map((one) => one.logprob)).toEqual(top.map((one) => one.logprob).sort((a, b) => b - a));
        expect(logprob).toBeLessThanOrEqual(top[0]!.logprob);
        expect(Math.exp(top[0]!.logprob)).toBeGreaterThan(1 / 272);
      }
    }
    const streamed = await openai.chat.completions.stream(body).finalChatCompletion();
    expect(streamed.choices.map(({ message }) => message.content)).toEqual(
      choices.map(({ message }) => message.content),
    );
    expect(streamed.choices.map(({ logprobs }) => logprobs!.content)).toEqual(
      choices.map(({ logprobs }) => logprobs!.content),
    );
  });

  test("abort ends the stream and frees the pages", async () => {
    const { openai, server } = await client();
    const stream = await openai.chat.completions.create({ model: "tiny", messages, stream: true, max_tokens: 60 });
    for await (const _ of stream) break;
    stream.controller.abort();
    const headers = { authorization: "Bearer alpha" };
    const metrics = async () => (await fetch(`${server.url}/metrics`, { headers })).text();
    await until(async () => /^heed_engine_kv_pages_used\{model="tiny"\} 0$/m.test(await metrics()));
  });
});

describe("completions", () => {
  test("log-probabilities, in one piece and in parts", async () => {
    const { openai } = await client();
    const body = { model: "tiny", prompt: "Call me", max_tokens: 6, seed: 1, logprobs: 2 };
    const { choices } = await openai.completions.create(body);
    const found = choices[0]!.logprobs!;
    expect(found.tokens).toHaveLength(found.token_logprobs!.length);
    expect(found.text_offset![0]).toBe(0);
    const tokens: string[] = [];
    const offsets: number[] = [];
    for await (const { choices } of await openai.completions.create({ ...body, stream: true })) {
      tokens.push(...(choices[0]!.logprobs?.tokens ?? []));
      offsets.push(...(choices[0]!.logprobs?.text_offset ?? []));
    }
    expect({ tokens, offsets }).toEqual({ tokens: found.tokens, offsets: found.text_offset });
  });

  test("n answers to each of several prompts", async () => {
    const { openai } = await client();
    const body = { model: "tiny", prompt: ["Call me", "The whale"], max_tokens: 4, seed: 1, n: 2 };
    const { choices, usage } = await openai.completions.create(body);
    expect(choices.map(({ index }) => index)).toEqual([0, 1, 2, 3]);
    const single = await openai.completions.create({ ...body, prompt: "The whale" });
    expect(choices.slice(2).map(({ text }) => text)).toEqual(single.choices.map(({ text }) => text));
    const prompts = body.prompt.map((prompt) => model.tokenizer.encode(prompt).length);
    expect(usage!.prompt_tokens).toBe(prompts[0]! + prompts[1]!);
  });
});

test("answers say how many tokens of the prompt the prefix cache had", async () => {
  const { openai } = await client();
  const content = "Why? ".repeat(13);
  const body = { model: "tiny", messages: [{ role: "user" as const, content }], max_tokens: 2 };
  const first = await openai.chat.completions.create(body);
  expect(first.usage!.prompt_tokens_details).toEqual({ cached_tokens: 0 });
  // Whole pages of 64 tokens are shared, and the logits of the last token are computed.
  const cached = Math.floor((first.usage!.prompt_tokens - 1) / 64) * 64;
  expect(cached).toBeGreaterThan(0);
  const second = await openai.chat.completions.create(body);
  expect(second.usage!.prompt_tokens_details).toEqual({ cached_tokens: cached });
  const response = await openai.responses.create({ model: "tiny", input: content, max_output_tokens: 2 });
  expect(response.usage!.input_tokens_details).toMatchObject({ cached_tokens: cached });
  for await (const { usage } of await openai.chat.completions.create({
    ...{ ...body, stream: true, stream_options: { include_usage: true } },
  }))
    if (usage) expect(usage.prompt_tokens_details).toEqual({ cached_tokens: cached });
});

describe("responses", () => {
  test("an answer", async () => {
    const { openai } = await client();
    const body = { model: "tiny", instructions: "Be brief.", input: "Why?", max_output_tokens: 6, seed: 1 };
    const response = await openai.responses.create(body);
    const expected = await model.chat([{ role: "system", content: "Be brief." }, ...messages], {
      maxTokens: 6,
      seed: 1,
    });
    expect(response.output_text).toBe(expected.text);
    expect(response.usage!.input_tokens).toBe(expected.usage.promptTokens);
    expect(response.status).toBe(expected.finishReason === "stop" ? "completed" : "incomplete");
    // A further turn gets the earlier answer back as a part of its input.
    const items = response.output.filter((item) => item.type === "message");
    await openai.responses.create({
      ...{ model: "tiny", max_output_tokens: 2 },
      input: [{ role: "user", content: "Why?" }, ...items, { role: "user", content: "And?" }] as never,
    });
  });

  test("a stream", async () => {
    const { openai } = await client();
    const body = { model: "tiny", input: "Why?", max_output_tokens: 6, seed: 1 };
    const whole = await openai.responses.create(body);
    const types: string[] = [];
    let text = "";
    for await (const event of await openai.responses.create({ ...body, stream: true })) {
      expect(event.sequence_number).toBe(types.length);
      types.push(event.type);
      if (event.type === "response.output_text.delta") text += event.delta;
    }
    expect(text).toBe(whole.output_text);
    expect([...new Set(types)]).toEqual([
      "response.created",
      "response.in_progress",
      "response.output_item.added",
      "response.content_part.added",
      "response.output_text.delta",
      "response.output_text.done",
      "response.content_part.done",
      "response.output_item.done",
      `response.${whole.status}`,
    ]);
    const final = await openai.responses.stream(body).finalResponse();
    expect(final.output_text).toBe(whole.output_text);
  });

  test("there is no memory of earlier responses", async () => {
    const { openai } = await client();
    const asked = openai.responses.create({ model: "tiny", input: "Why?", previous_response_id: "resp_1" });
    await expect(asked).rejects.toMatchObject({ status: 400, param: "previous_response_id" });
  });
});

describe("embeddings", () => {
  test("vectors are those of the model", async () => {
    const { openai } = await client();
    const input = ["unaffable", "cafe ."];
    const expected = await encoder.embed(input);
    // The client asks for base64 by itself and turns it into numbers.
    for (const format of [undefined, "float"] as const) {
      const { data, usage } = await openai.embeddings.create({
        ...{ model: "minilm", input, ...(format && { encoding_format: format }) },
      });
      expect(data.map(({ embedding }) => embedding)).toEqual(expected.map((vector) => Array.from(vector)));
      expect(usage.prompt_tokens).toBe(input.reduce((sum, text) => sum + encoder.tokenizer.encode(text).length, 0));
    }
    const single = await openai.embeddings.create({ model: "minilm", input: "cafe ." });
    expect(single.data[0]!.embedding).toHaveLength(expected[1]!.length);
  });

  test("texts are encoded once, to count their tokens and to embed them", async () => {
    const { openai } = await client();
    const encode = vi.spyOn(encoder.tokenizer, "encodeAsync");
    try {
      await openai.embeddings.create({ model: "minilm", input: ["unaffable", "cafe ."] });
      expect(encode.mock.calls.map(([text]) => text)).toEqual(["unaffable", "cafe ."]);
    } finally {
      encode.mockRestore();
    }
  });

  test("a text that is too long is refused, or cut", async () => {
    const { openai } = await client();
    const input = "cafe ".repeat(20);
    const body = { model: "minilm", input };
    await expect(openai.embeddings.create(body)).rejects.toMatchObject({ code: "context_length_exceeded" });
    const { data } = await openai.embeddings.create({ ...body, truncate: true } as never);
    expect(data).toHaveLength(1);
  });

  test("documents by their relevance", async () => {
    const { openai } = await client();
    const documents = ["un . s", { text: "cafe unaffable" }, "affa"];
    const body = { model: "minilm", query: "cafe unaffable", documents, return_documents: true, top_n: 2 };
    const { results } = (await openai.post("/rerank", { body })) as {
      results: { index: number; relevance_score: number; document: { text: string } }[];
    };
    expect(results).toHaveLength(2);
    expect(results[0]).toMatchObject({ index: 1, document: { text: "cafe unaffable" } });
    expect(results[0]!.relevance_score).toBeCloseTo(1, 5);
    expect(results[1]!.relevance_score).toBeLessThan(results[0]!.relevance_score);
  });

  test("documents by a cross-encoder", async () => {
    using model = rankingModel();
    const server = await start({ models: { cross: model }, logger: false });
    const documents = ["un . s", "cafe unaffable", "affa", "cafe"];
    const body = { query: "cafe", documents };
    interface Answer {
      results: { index: number; relevance_score: number }[];
      usage: { total_tokens: number };
    }
    const [{ results, usage }, ...others] = await Promise.all([
      server.answer<Answer>("/v1/rerank", body),
      server.answer<Answer>("/v1/rerank", { ...body, documents: documents.slice(0, 2), top_n: 1 }),
    ]);
    const expected = await model.rank("cafe", documents);
    expect(results).toEqual(expected.map(({ index, score }) => ({ index, relevance_score: score })));
    expect(usage.total_tokens).toBeGreaterThan(4 * 4);
    expect(others[0].results).toHaveLength(1);
    const long = await server.post("/v1/rerank", { ...body, query: "cafe ".repeat(20) });
    expect(long.status).toBe(400);
    expect(await long.json()).toMatchObject({ error: { code: "context_length_exceeded" } });
  });
});

describe("errors", () => {
  test("have the classes of the client", async () => {
    const { openai, server } = await client();
    const ask = (body: object) =>
      openai.chat.completions.create({ model: "tiny", messages, max_tokens: 1, ...body } as never) as Promise<unknown>;
    await expect(ask({ model: "other" })).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    await expect(ask({ model: "minilm" })).rejects.toMatchObject({ code: "unsupported_model" });
    await expect(ask({ temperature: 5 })).rejects.toBeInstanceOf(OpenAI.BadRequestError);
    await expect(ask({ functions: [{ name: "f" }] })).rejects.toMatchObject({
      ...{ status: 400, code: "unsupported_parameter", param: "functions", type: "invalid_request_error" },
    });
    await expect(ask({ messages: [{ role: "user", content: "x".repeat(500) }] })).rejects.toMatchObject({
      code: "context_length_exceeded",
    });
    const stranger = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "wrong", maxRetries: 0 });
    await expect(stranger.models.list()).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
  });

  test("the models", async () => {
    const { openai } = await client();
    expect((await openai.models.list()).data.map(({ id }) => id)).toEqual(["tiny", "minilm"]);
    expect((await openai.models.retrieve("tiny")).object).toBe("model");
  });
});
