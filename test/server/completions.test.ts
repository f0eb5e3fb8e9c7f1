/** Chat and text completions over HTTP: the texts must be those of the model's own methods. */
import { describe, expect, test } from "vitest";
import type { TextOptions } from "../../lib/generate/options.js";
import { chatModel, contextLength, type ErrorBody, eventsOf, start } from "./support.js";

interface Completion {
  choices: { index: number; text: string; finish_reason: string | null }[];
  usage?: { prompt_tokens: number; completion_tokens: number; total_tokens: number } | null;
}

interface ChatCompletion {
  object: string;
  model: string;
  choices: {
    index: number;
    message: { role: string; content: string };
    delta: { role?: string; content?: string };
    finish_reason: string | null;
  }[];
  usage: Completion["usage"];
}

const model = chatModel();

describe("/v1/completions", () => {
  test.for<[string, object, TextOptions]>([
    ["sampling", { temperature: 0.7, top_p: 0.9, seed: 3 }, { temperature: 0.7, topP: 0.9, seed: 3 }],
    ["the likeliest tokens", { temperature: 0 }, { temperature: 0 }],
    ["filters", { top_k: 5, min_p: 0.02, seed: 4 }, { topK: 5, minP: 0.02, seed: 4 }],
    ["typical tokens", { typical_p: 0.5, seed: 5 }, { typicalP: 0.5, seed: 5 }],
    [
      "penalties",
      { presence_penalty: 1.5, frequency_penalty: 1, repetition_penalty: 1.2, temperature: 0 },
      { presencePenalty: 1.5, frequencyPenalty: 1, repetitionPenalty: 1.2, temperature: 0 },
    ],
    ["a bias", { logit_bias: { "97": 100 }, temperature: 0 }, { logitBias: { 97: 100 }, temperature: 0 }],
    ["null for no value", { temperature: null, seed: 6, stop: null, user: null }, { seed: 6 }],
    ["the least number of tokens", { min_tokens: 16, seed: 7 }, { minTokens: 16, seed: 7 }],
    ["a negative seed", { seed: -1 }, { seed: 2 ** 53 - 1 }],
  ])("%s", async ([, parameters, options]) => {
    const { answer } = await start({ models: { tiny: model } });
    const expected = await model.generate("Call me", { maxTokens: 16, ...options });
    const { choices, usage } = await answer<Completion>("/v1/completions", { prompt: "Call me", ...parameters });
    expect(choices).toEqual([{ index: 0, text: expected.text, logprobs: null, finish_reason: expected.finishReason }]);
    const { promptTokens, completionTokens } = expected.usage;
    expect(usage).toEqual({
      prompt_tokens: promptTokens,
      completion_tokens: completionTokens,
      total_tokens: promptTokens + completionTokens,
      prompt_tokens_details: { cached_tokens: 0 },
    });
  });

  test("a stop string", async () => {
    const { answer } = await start({ models: { tiny: model } });
    const whole = await model.generate("Call me", { maxTokens: 40, seed: 3 });
    const stop = whole.text.slice(5, 7);
    const { choices } = await answer<Completion>("/v1/completions", {
      ...{ prompt: "Call me", max_tokens: 40, seed: 3, stop: ["never", stop] },
    });
    expect(choices[0]).toMatchObject({ text: whole.text.slice(0, whole.text.indexOf(stop)), finish_reason: "stop" });
  });

  test("several prompts, as texts and as tokens", async () => {
    const { answer } = await start({ models: { tiny: model } });
    const texts = ["Call me", "The whale", "Call me"];
    const tokens = texts.map((text) => [...model.tokenizer.encode(text)]);
    const expected = await Promise.all(texts.map((text) => model.generate(text, { maxTokens: 8, temperature: 0 })));
    for (const prompt of [texts, tokens]) {
      const { choices, usage } = await answer<Completion>("/v1/completions", { prompt, max_tokens: 8, temperature: 0 });
      expect(choices.map(({ index, text }) => [index, text])).toEqual(expected.map(({ text }, i) => [i, text]));
      expect(usage!.prompt_tokens).toBe(expected.reduce((sum, { usage }) => sum + usage.promptTokens, 0));
    }
    const { choices } = await answer<Completion>("/v1/completions", {
      ...{ prompt: tokens[1], max_tokens: 8, temperature: 0 },
    });
    expect(choices[0]!.text).toBe(expected[1]!.text);
  });

  test("a stream has the same texts", async () => {
    const { post, answer } = await start({ models: { tiny: model } });
    const body = { prompt: ["Call me", "The whale"], max_tokens: 12, seed: 1 };
    const whole = await answer<Completion>("/v1/completions", body);
    const response = await post("/v1/completions", { ...body, stream: true, stream_options: { include_usage: true } });
    expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
    const events = await eventsOf<Completion>(response);
    expect(events.pop()).toBe("[DONE]");
    const last = events.pop() as Completion;
    expect(last).toMatchObject({ choices: [], usage: whole.usage });
    const texts = ["", ""];
    const reasons: (string | null)[] = [];
    for (const { choices, usage } of events as Completion[]) {
      expect(usage).toBeNull();
      for (const { index, text, finish_reason: reason } of choices) {
        texts[index]! += text;
        reasons[index] = reason;
      }
    }
    expect(texts).toEqual(whole.choices.map(({ text }) => text));
    expect(reasons).toEqual(whole.choices.map(({ finish_reason: reason }) => reason));
  });
});

test("each of several answers says that it has ended when it ends", async () => {
  const { post } = await start({ models: { tiny: model } });
  const { choices } = await model.generate("Call me", { n: 3, maxTokens: 60, seed: 3 });
  const [long, short] = choices.map(({ text }) => text) as [string, string, string];
  const stop = Array.from(short.slice(0, 20)).find((character) => !long.includes(character))!;
  const body = { prompt: "Call me", max_tokens: 60, seed: 3, n: 3, stop: [stop], stream: true };
  const events = (await eventsOf<Completion>(await post("/v1/completions", body))).slice(0, -1) as Completion[];
  const at = events.map(({ choices }) => choices[0]!);
  const ends = at.flatMap(({ finish_reason: reason }, i) => (reason === null ? [] : [i]));
  expect(ends.map((i) => at[i]!.index).toSorted()).toEqual([0, 1, 2]);
  const endOf = (answer: number) => ends.find((i) => at[i]!.index === answer)!;
  // The long answer goes on after the end of the short one, and none after its own.
  const later = at.slice(endOf(1) + 1).filter(({ index, text }) => index === 0 && text !== "");
  expect(later.length).toBeGreaterThan(10);
  for (const end of ends) expect(at.slice(end + 1).every(({ index }) => index !== at[end]!.index)).toBe(true);
});

describe("/v1/chat/completions", () => {
  const messages = [
    { role: "developer", content: "Be brief." },
    {
      role: "user",
      content: [
        { type: "text", text: "Who are" },
        { type: "text", text: "you?" },
      ],
    },
    { role: "assistant", content: "Ishmael", refusal: null, tool_calls: [] },
    { role: "user", content: "Why?" },
  ];

  test("answers a conversation as the model does", async () => {
    const { answer } = await start({ models: { tiny: model } });
    const expected = await model.chat(
      [
        { role: "system", content: "Be brief." },
        { role: "user", content: "Who are\nyou?" },
        { role: "assistant", content: "Ishmael" },
        { role: "user", content: "Why?" },
      ],
      { maxTokens: 9, seed: 2 },
    );
    const limits = [{ max_tokens: 9 }, { max_completion_tokens: 9 }, { max_tokens: 99, max_completion_tokens: 9 }];
    for (const limit of limits) {
      const found = await answer<ChatCompletion>("/v1/chat/completions", {
        model: "tiny",
        messages,
        seed: 2,
        ...limit,
      });
      expect(found).toMatchObject({ object: "chat.completion", model: "tiny" });
      expect(found.choices).toEqual([
        {
          ...{ index: 0, logprobs: null, finish_reason: expected.finishReason },
          message: { role: "assistant", content: expected.text, refusal: null },
        },
      ]);
      expect(found.usage).toMatchObject({ prompt_tokens: expected.usage.promptTokens });
    }
  });

  test("a stream begins with the role and has the same text", async () => {
    const { post, answer } = await start({ models: { tiny: model } });
    const body = { messages, seed: 2, max_tokens: 12 };
    const whole = await answer<ChatCompletion>("/v1/chat/completions", body);
    const events = await eventsOf<ChatCompletion>(await post("/v1/chat/completions", { ...body, stream: true }));
    expect(events.pop()).toBe("[DONE]");
    const choices = (events as ChatCompletion[]).map(({ choices }) => choices[0]!);
    expect(choices[0]!.delta).toEqual({ role: "assistant", content: "" });
    expect(choices.map(({ delta }) => delta.content ?? "").join("")).toBe(whole.choices[0]!.message.content);
    expect(choices.at(-1)).toMatchObject({ delta: {}, finish_reason: whole.choices[0]!.finish_reason });
  });

  test("without a limit, the answer ends with the context", async () => {
    const { answer } = await start({ models: { tiny: model } });
    const { usage, choices } = await answer<ChatCompletion>("/v1/chat/completions", {
      ...{ messages: [{ role: "user", content: "Why?" }], logit_bias: { "266": -100 }, seed: 1 },
    });
    expect(usage!.total_tokens).toBe(contextLength + 1);
    expect(choices[0]!.finish_reason).toBe("length");
  });
});

describe("refusals", () => {
  const text = "/v1/completions";
  const chat = "/v1/chat/completions";
  const hello = [{ role: "user", content: "Hello" }];
  test.for<[number, string, unknown, string | null, string, string]>([
    [400, text, {}, "prompt", "missing_required_parameter", "Missing parameter"],
    [400, text, { prompt: 3 }, "prompt", "invalid_value", "expected a text"],
    [400, text, { prompt: [] }, "prompt", "invalid_value", "expected a text"],
    [400, text, { prompt: "a", temperature: "0.7" }, "temperature", "invalid_value", 'must be number, got "0.7"'],
    [400, text, { prompt: "a", temperature: 3 }, "temperature", "invalid_value", "must be <= 2, got 3"],
    [400, text, { prompt: "a", top_p: 0 }, "top_p", "invalid_value", "must be > 0"],
    [400, text, { prompt: "a", max_tokens: 0 }, "max_tokens", "invalid_value", "expected at least 1, or echo"],
    [400, text, { prompt: "a", max_tokens: 41 }, "max_tokens", "invalid_value", "the server's limit"],
    [400, text, { prompt: "a", max_tokens: 4, min_tokens: 5 }, "min_tokens", "invalid_value", "expected at most 4"],
    [400, text, { prompt: "a", logit_bias: { a: 1 } }, "logit_bias", "invalid_value", "property name"],
    [400, text, { prompt: "a", logit_bias: { "999": 1 } }, null, "invalid_value", "token ids below 272"],
    [400, text, { prompt: [1, 2, 999] }, "prompt", "invalid_value", "from 0 to 271"],
    [400, text, { prompt: [4294967296] }, "prompt.0", "invalid_value", "must be"],
    [400, text, { prompt: "a", echo: 1 }, "echo", "invalid_value", "must be boolean"],
    [400, text, { prompt: "a", best_of: 2 }, "best_of", "unsupported_parameter", "expected at most n, which is 1"],
    [400, text, { prompt: "a", stream_options: {} }, "stream_options", "invalid_value", "stream to be true"],
    [
      400,
      text,
      { prompt: "x".repeat(200) },
      "prompt",
      "context_length_exceeded",
      "maximum context length is 96 tokens",
    ],
    [400, text, { prompt: Array(97).fill(1) }, "prompt", "context_length_exceeded", "the prompt has 97"],
    [404, text, { prompt: "a", model: "gpt-9" }, "model", "model_not_found", "does not exist"],
    [400, chat, { messages: [] }, "messages", "invalid_value", "must NOT have fewer than 1 items"],
    [400, chat, { messages: hello, functions: [{}] }, "functions", "unsupported_parameter", "does not support"],
    [400, chat, { messages: [{ role: "critic", content: "" }] }, "messages.0.role", "invalid_value", "allowed values"],
    [
      400,
      chat,
      { messages: [{ role: "user", content: [{ type: "image_url", image_url: {} }] }] },
      "messages.0.content.0.type",
      "invalid_value",
      "allowed values: text",
    ],
    [
      400,
      chat,
      { messages: hello, response_format: { type: "xml" } },
      "response_format.type",
      "invalid_value",
      "allowed values: text, json_object, json_schema",
    ],
    [
      400,
      chat,
      { messages: [{ role: "user", content: "x".repeat(200) }] },
      "messages",
      "context_length_exceeded",
      "96",
    ],
    [400, "/tokenize", { prompt: "a", messages: hello }, "prompt", "invalid_value", "one of prompt and messages"],
    [404, "/v1/nothing", {}, null, "unknown_url", "There is no POST /v1/nothing"],
  ])("%d %s %j", async ([status, path, body, param, code, message]) => {
    const { post } = await start({ models: { tiny: model }, maxTokens: 40 });
    const response = await post(path, body);
    const { error } = (await response.json()) as ErrorBody;
    expect({ status: response.status, ...error }).toMatchObject({ status, param, code, type: "invalid_request_error" });
    expect(error.message).toContain(message);
  });

  test("values that ask for nothing are allowed", async () => {
    const { answer } = await start({ models: { tiny: model } });
    const neutral = { tools: [], tool_choice: "auto", response_format: { type: "text" }, n: 1, logprobs: false };
    await answer(chat, { messages: hello, max_tokens: 1, ...neutral, store: false, metadata: {}, top_logprobs: null });
  });

  test("a body that is not JSON", async () => {
    const { post } = await start({ models: { tiny: model } });
    const broken = await post(text, null, { body: "{" });
    expect(broken.status).toBe(400);
    expect(((await broken.json()) as ErrorBody).error.code).toBe("invalid_json_body");
    const other = await post(text, null, {
      body: "prompt=a",
      headers: { "content-type": "application/x-www-form-urlencoded" },
    });
    expect(other.status).toBe(415);
  });
});

test("a prompt that fills the context gets one token", async () => {
  const { answer } = await start({ models: { tiny: model } });
  const { usage } = await answer<Completion>("/v1/completions", {
    prompt: Array(contextLength).fill(1),
    min_tokens: 1,
  });
  expect(usage).toMatchObject({ prompt_tokens: contextLength, completion_tokens: 1 });
});

test("models, tokens and health", async () => {
  const { url, answer } = await start({ models: { "owner/tiny": model } });
  const get = async (path: string): Promise<unknown> => (await fetch(url + path)).json();
  const described = { id: "owner/tiny", object: "model", max_model_len: contextLength };
  expect(await get("/v1/models")).toMatchObject({ object: "list", data: [described] });
  expect(await get("/v1/models/owner/tiny")).toMatchObject(described);
  expect(await get("/v1/models/other")).toMatchObject({ error: { code: "model_not_found" } });
  expect(await get("/health")).toEqual({ status: "ok" });
  expect(await get("/ready")).toEqual({ status: "ready" });
  const tokens = [...model.tokenizer.encode("Call me")];
  expect(await answer("/tokenize", { prompt: "Call me" })).toEqual({
    ...{ tokens, count: tokens.length, max_model_len: contextLength },
  });
  const { count } = await answer<{ count: number }>("/tokenize", { messages: [{ role: "user", content: "Call me" }] });
  expect(count).toBeGreaterThan(tokens.length);
});
