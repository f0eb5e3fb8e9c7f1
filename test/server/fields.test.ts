/**
 * Every field of every body: it changes the answer, or it is refused by its name, or the schema says that it changes
 * nothing. The fields are those of the OpenAPI document, so that a new one has to be added here.
 */
import OpenAI from "openai";
import { describe, expect, test } from "vitest";
import { LanguageModel } from "../../lib/load/language-model.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { smallGpt } from "../generate/models.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";
import { chatModel, embeddingModel, type ErrorBody, rankingModel, start } from "./support.js";

const chatTemplate =
  "{#- <tool_call> -#}{% for m in messages %}{{ m.role }}{{ m.name }}: {{ m.content }}{{ m.reasoning_content }}" +
  "{{ m.tool_calls | tojson if m.tool_calls else '' }}{{ m.tool_call_id }}<|end|>{% endfor %}" +
  "{{ tools | tojson if tools else '' }}{{ 'Think.' if enable_thinking else '' }}assistant: ";
const tokenizer = new HuggingFaceTokenizer(byteLevelJson(), { config: { eos_token: "<|end|>" }, chatTemplate });
const chatting = new LanguageModel({
  ...{ model: smallGpt("cpu", { vocabularySize: 272, contextLength: 700 }), tokenizer },
  defaults: { stopTokens: [tokenizer.endOfText!] },
});
const models = { tiny: chatting, plain: chatModel(), minilm: embeddingModel(), cross: rankingModel() };

const tool = {
  name: "weather",
  description: "Tells it.",
  parameters: { type: "object", properties: { a: { enum: [1] } } },
};
const answer = { type: "object", properties: { a: { enum: [1, 2] } }, required: ["a"], additionalProperties: false };
const user = { role: "user", content: "Why?" };

/** Effect of a value of a field, beside these further fields: it changes the answer, it is refused, or it changes nothing. */
type Effect = ({ changes: unknown } | { refused: unknown } | { nothing: unknown }) & { beside?: object };

const sampling: Record<string, Effect> = {
  temperature: { changes: 0 },
  top_p: { changes: 0.01 },
  presence_penalty: { changes: 2, beside: { temperature: 0 } },
  frequency_penalty: { changes: 2, beside: { temperature: 0 } },
  logit_bias: { changes: { "97": 100 } },
  seed: { changes: 2 },
  stop: { changes: Array.from("abcdefghijklmnop") },
  top_k: { changes: 1 },
  min_p: { changes: 1 },
  typical_p: { changes: 0.01 },
  repetition_penalty: { changes: 10 },
  min_tokens: { changes: 24, beside: { logit_bias: { "266": 50 } } },
  n: { changes: 2 },
  ignore_eos: { changes: true, beside: { logit_bias: { "266": 50 } } },
  stop_token_ids: { changes: Array.from({ length: 200 }, (_, i) => i) },
  // It changes what is computed again, and not the answer: tenants.test.ts.
  cache_salt: { nothing: "me" },
};
const idle: Record<string, Effect> = {
  user: { nothing: "me" },
  safety_identifier: { nothing: "me" },
  prompt_cache_key: { nothing: "me" },
  prompt_cache_retention: { nothing: "in_memory" },
  prompt_cache_options: { nothing: { mode: "explicit" } },
  service_tier: { nothing: "flex" },
  metadata: { nothing: { a: "b" } },
};
const streams: Record<string, Effect> = {
  stream: { changes: true },
  stream_options: { changes: { include_usage: true }, beside: { stream: true } },
  "stream_options.continuous_usage_stats": {
    changes: true,
    beside: { stream: true, stream_options: { include_usage: true } },
  },
  "stream_options.include_obfuscation": { nothing: true, beside: { stream: true } },
};
const called = {
  role: "assistant",
  content: "",
  tool_calls: [{ id: "a", function: { name: "weather", arguments: "{}" } }],
};

/** The body of each route, and the effects of its fields; those within others have paths. */
const routes: Record<string, { body: Record<string, unknown>; fields: Record<string, Effect> }> = {
  "/v1/completions": {
    body: { prompt: "Call me", max_tokens: 24, seed: 1 },
    fields: {
      ...{ ...sampling, ...idle, ...streams },
      model: { changes: "plain" },
      prompt: { changes: "The whale" },
      max_tokens: { changes: 3 },
      logprobs: { changes: 2 },
      best_of: { refused: 2 },
      echo: { changes: true },
      return_token_ids: { changes: true },
      prompt_logprobs: { changes: 1 },
      response_format: { changes: { type: "json_object" } },
      suffix: { refused: "x" },
    },
  },
  "/v1/chat/completions": {
    body: { messages: [user], max_completion_tokens: 24, seed: 1 },
    fields: {
      ...{ ...sampling, ...idle, ...streams },
      model: { changes: "plain" },
      messages: { changes: [{ role: "user", content: "What?" }] },
      "messages.0.role": { changes: "system" },
      "messages.0.content": { changes: [{ type: "text", text: "What?" }] },
      "messages.0.name": { changes: "Ishmael" },
      "messages.0.reasoning_content": { changes: "It may be." },
      "messages.0.reasoning": { changes: "It may be." },
      "messages.0.tool_calls": { changes: called.tool_calls },
      "messages.0.tool_call_id": { changes: "a" },
      "messages.0.refusal": { refused: "No." },
      "messages.0.annotations": { refused: [{}] },
      "messages.0.audio": { refused: { id: "a" } },
      "messages.0.function_call": { refused: { name: "a", arguments: "" } },
      // OpenAI's client adds it to an answer, and it says again what the content says.
      "messages.0.parsed": { nothing: { a: 1 } },
      max_completion_tokens: { changes: 3 },
      max_tokens: { changes: 3, beside: { max_completion_tokens: null } },
      logprobs: { changes: true },
      top_logprobs: { changes: 2, beside: { logprobs: true } },
      tools: { changes: [{ type: "function", function: tool }] },
      tool_choice: {
        changes: "required",
        beside: { tools: [{ type: "function", function: tool }], max_completion_tokens: 200 },
      },
      parallel_tool_calls: {
        changes: false,
        // With the tokens of the marker as likely as can be, one call follows another.
        beside: {
          ...{ tools: [{ type: "function", function: tool }], tool_choice: "required", max_completion_tokens: 300 },
          logit_bias: { "10": 100 },
        },
      },
      response_format: { changes: { type: "json_object" } },
      "response_format.json_schema.schema": {
        changes: { type: "integer", minimum: 3, maximum: 4 },
        beside: { response_format: { type: "json_schema", json_schema: { name: "a", schema: answer } } },
      },
      "response_format.json_schema.name": {
        nothing: "b",
        beside: { response_format: { type: "json_schema", json_schema: { name: "a", schema: answer } } },
      },
      "response_format.json_schema.strict": {
        nothing: true,
        beside: { response_format: { type: "json_schema", json_schema: { name: "a", schema: answer } } },
      },
      "response_format.json_schema.description": {
        nothing: "What it is for.",
        beside: { response_format: { type: "json_schema", json_schema: { name: "a", schema: answer } } },
      },
      "response_format.json_schema": {
        refused: { schema: answer },
        beside: { response_format: { type: "text" } },
      },
      functions: { refused: [tool] },
      function_call: { refused: { name: "weather" } },
      modalities: { refused: ["text", "audio"] },
      audio: { refused: { voice: "alloy", format: "wav" } },
      prediction: { refused: { type: "content", content: "a" } },
      reasoning_effort: { changes: "low" },
      thinking: { changes: { type: "enabled" } },
      // 0 turns the template's switch off. What other numbers do is in thinking-budget.test.ts.
      "thinking.budget_tokens": { changes: 0, beside: { thinking: { type: "enabled" } } },
      thinking_budget: { changes: 9 },
      thinking_token_budget: { changes: 9 },
      chat_template_kwargs: { changes: { enable_thinking: true } },
      add_generation_prompt: { changes: false, beside: { model: "plain", max_completion_tokens: 9 } },
      continue_final_message: { changes: true },
      return_token_ids: { changes: true },
      prompt_logprobs: { changes: 1 },
      verbosity: { nothing: "low" },
      web_search_options: { refused: {} },
      moderation: { refused: { model: "a" } },
      store: { nothing: true },
    },
  },
  "/v1/responses": {
    body: { input: "Why?", max_output_tokens: 24, seed: 1 },
    fields: {
      ...{ ...sampling, ...idle },
      n: { refused: 2 },
      // The response repeats it.
      metadata: { changes: { a: "b" } },
      model: { changes: "plain" },
      input: { changes: "What?" },
      instructions: { changes: "Be brief." },
      max_output_tokens: { changes: 3 },
      stream: { changes: true },
      store: { nothing: true },
      // There is no such response: stored-responses.test.ts has others.
      previous_response_id: { changes: "resp_1" },
      conversation: { refused: "conv_1" },
      prompt: { refused: { id: "a" } },
      background: { refused: true },
      include: { changes: ["message.output_text.logprobs"] },
      tools: { changes: [{ type: "function", ...tool }] },
      tool_choice: { changes: "required", beside: { tools: [{ type: "function", ...tool }], max_output_tokens: 200 } },
      parallel_tool_calls: {
        changes: false,
        beside: {
          ...{ tools: [{ type: "function", ...tool }], tool_choice: "required", max_output_tokens: 300 },
          logit_bias: { "10": 100 },
        },
      },
      max_tool_calls: { refused: 1 },
      moderation: { refused: { model: "a" } },
      context_management: { refused: [{ type: "compaction" }] },
      text: { changes: { format: { type: "json_object" } } },
      "text.verbosity": { changes: "low" },
      // It is in the format that the response repeats.
      "text.format.description": {
        changes: "What it is for.",
        beside: { text: { format: { type: "json_schema", name: "a", schema: answer } } },
      },
      "text.format.schema": { refused: answer, beside: { text: { format: { type: "text" } } } },
      "input.0.summary": {
        refused: [{ type: "summary_text", text: "a" }],
        beside: { input: [{ type: "reasoning" }, user] },
      },
      "input.0.encrypted_content": { refused: "a", beside: { input: [{ type: "reasoning" }, user] } },
      reasoning: { changes: { effort: "high" } },
      "reasoning.summary": { changes: "auto", beside: { reasoning: {} } },
      thinking_budget: { changes: 9 },
      thinking_token_budget: { changes: 9 },
      truncation: { changes: "auto" },
      stream_options: { nothing: { include_obfuscation: true } },
      top_logprobs: { changes: 2 },
    },
  },
  "/v1/embeddings": {
    body: { model: "minilm", input: "unaffable" },
    fields: {
      model: { changes: "cross" },
      input: { changes: "cafe" },
      encoding_format: { changes: "base64" },
      truncate: { changes: true, beside: { input: "cafe ".repeat(20) } },
      dimensions: { refused: 4 },
      ...idle,
    },
  },
  "/pooling": {
    body: { model: "minilm", input: "unaffable" },
    fields: {
      model: { changes: "cross" },
      input: { changes: "cafe" },
      task: { changes: "token_embed" },
      encoding_format: { changes: "base64" },
      truncate: { changes: true, beside: { input: "cafe ".repeat(20) } },
      dimensions: { refused: 4 },
      user: { nothing: "me" },
    },
  },
  "/v1/rerank": {
    body: { model: "cross", query: "cafe", documents: ["affa", "unaffable"] },
    fields: {
      model: { changes: "minilm" },
      query: { changes: "affa" },
      documents: { changes: ["cafe", "unaffable"] },
      top_n: { changes: 1 },
      return_documents: { changes: true },
      truncate: { changes: true, beside: { query: "cafe ".repeat(20) } },
    },
  },
  "/tokenize": {
    body: { prompt: "Why?" },
    fields: {
      model: { changes: "plain", beside: { prompt: undefined, messages: [user] } },
      prompt: { changes: "What?" },
      messages: { changes: [user], beside: { prompt: undefined } },
      content: { changes: "What?", beside: { prompt: undefined, messages: undefined } },
      add_special_tokens: { changes: false },
      add_generation_prompt: { changes: false, beside: { model: "plain", prompt: undefined, messages: [user] } },
      continue_final_message: { changes: true, beside: { model: "plain", prompt: undefined, messages: [user] } },
      return_token_strs: { changes: true },
    },
  },
  "/v1/score": {
    body: { text_1: "hello", text_2: "cafe" },
    fields: {
      model: { changes: "minilm" },
      text_1: { changes: "cafe" },
      text_2: { changes: "hello" },
      truncate: { changes: true, beside: { text_2: "cafe ".repeat(20) } },
      user: { nothing: "me" },
    },
  },
  "/v1/classify": {
    body: { input: "hello" },
    fields: {
      model: { nothing: "cross" },
      input: { changes: "cafe" },
      truncate: { changes: true, beside: { input: "cafe ".repeat(20) } },
      user: { nothing: "me" },
    },
  },
  "/detokenize": {
    body: { tokens: [87, 104, 121, 63] },
    fields: { model: { nothing: "plain" }, tokens: { changes: [87] } },
  },
};

/** Returns a copy of a body in which the field at a path has another value. */
function withField(body: Record<string, unknown>, path: string, value: unknown): Record<string, unknown> {
  const copy = structuredClone(body);
  const names = path.split(".");
  let at: Record<string, unknown> = copy;
  for (const name of names.slice(0, -1)) at = (at[name] ??= {}) as Record<string, unknown>;
  at[names.at(-1)!] = value;
  return copy;
}

/** Removes what differs between answers to the same request. */
function stable(text: string): string {
  return text
    .replaceAll(/"(id|item_id|call_id)":"[^"]*"/g, "")
    .replaceAll(/"created(_at)?":\d+/g, "")
    .replaceAll(
      /"(model|tools|text|instructions|max_output_tokens|temperature|top_p|tool_choice|parallel_tool_calls)":(null|true|false|"(auto|none|required|tiny|plain)")/g,
      "",
    );
}

describe.each(Object.entries(routes))("%s", (path, { body, fields }) => {
  test.each(Object.entries(fields))("%s", async (field, effect) => {
    const { post } = await start({ models });
    const base = { ...body, ...effect.beside };
    const ask = async (asked: object): Promise<[number, string]> => {
      const response = await post(path, asked);
      return [response.status, await response.text()];
    };
    const [, without] = await ask(base);
    const [value] = Object.values(effect) as [unknown];
    const [status, text] = await ask(withField(base, field, value));
    if ("refused" in effect) {
      expect(status, text).toBe(400);
      const { error } = JSON.parse(text) as ErrorBody;
      expect(error).toMatchObject({ code: "unsupported_parameter" });
      expect(error.param).toContain(field);
    } else if ("changes" in effect) expect(stable(text)).not.toBe(stable(without));
    else expect([status, stable(text)]).toEqual([200, stable(without)]);
  });

  test("there are no others", async () => {
    const { url } = await start({ models });
    interface Document {
      paths: Record<string, { post: { requestBody: { content: Record<string, { schema: { properties: object } }> } } }>;
    }
    const { paths } = (await (await fetch(`${url}/openapi.json`)).json()) as Document;
    const { properties } = paths[path]!.post.requestBody.content["application/json"]!.schema;
    const named = Object.keys(fields).filter((name) => !name.includes("."));
    expect(Object.keys(properties).sort()).toEqual(named.sort());
  });
});

test("tools that a chat template does not show are refused by name if the context has no room to describe them", async () => {
  const { post } = await start({ models });
  const response = await post("/v1/chat/completions", {
    ...{ model: "plain", messages: [user], max_tokens: 2, tools: [{ type: "function", function: tool }] },
  });
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({ error: { param: "tools", code: "context_length_exceeded" } });
});

test("answers that OpenAI's client has parsed can be sent back", async () => {
  const { url } = await start({ models });
  const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
  const messages = [user as { role: "user"; content: string }];
  const json_schema = { name: "answer", schema: answer, strict: true };
  const parsed = await openai.chat.completions.parse({
    ...{ model: "tiny", messages, seed: 1, max_completion_tokens: 200 },
    response_format: { type: "json_schema", json_schema },
  });
  const calls = await openai.chat.completions.parse({
    ...{ model: "tiny", messages, seed: 1, max_completion_tokens: 200, tool_choice: "required" },
    tools: [{ type: "function", function: { ...tool, strict: true } }],
  });
  const [first, second] = [parsed.choices[0]!.message, calls.choices[0]!.message];
  expect(second.tool_calls?.[0]?.function.parsed_arguments).toBeDefined();
  const result = { role: "tool" as const, tool_call_id: second.tool_calls![0]!.id, content: "sunny" };
  await openai.chat.completions.create({
    ...{ model: "tiny", max_completion_tokens: 2, messages: [...messages, first, second, result, ...messages] },
  });
  const response = await openai.responses.parse({
    ...{ model: "tiny", input: "Why?", seed: 1, max_output_tokens: 200 },
    text: { format: { type: "json_schema", name: "answer", schema: answer } },
  });
  await openai.responses.create({
    ...{ model: "tiny", max_output_tokens: 2 },
    input: [user, ...response.output, user] as never,
  });
});
