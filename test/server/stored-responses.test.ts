/** Responses that are kept: conversations that go on from them, their routes, their bounds, and whose they are. */
import OpenAI from "openai";
import { describe, expect, test } from "vitest";
import { LanguageModel } from "../../lib/load/language-model.js";
import type { InputItem } from "../../lib/server/response-input.js";
import { ResponseStore } from "../../lib/server/response-store.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { smallGpt } from "../generate/models.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";
import { type Client, eventsOf, start } from "./support.js";

const chatTemplate =
  "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% for c in m.tool_calls or [] %}[{{ c.function.name }}{{ c.function.arguments | tojson }}]{% endfor %}{% endfor %}" +
  "{{ tools | tojson if tools }}<assistant>{#- <tool_call> -#}";
const tokenizer = new HuggingFaceTokenizer(byteLevelJson(), { config: { eos_token: "<|end|>" }, chatTemplate });
const model = new LanguageModel({
  ...{ model: smallGpt("cpu", { vocabularySize: 272, contextLength: 600 }), tokenizer },
  defaults: { stopTokens: [tokenizer.endOfText!] },
});
const models = { tiny: model };
const asked = { model: "tiny", max_output_tokens: 6, seed: 1, temperature: 0 };

interface Body {
  id: string;
  output: {
    id: string;
    type: string;
    content?: { text: string; logprobs: { logprob: number; top_logprobs: unknown[] }[] }[];
  }[];
  usage: { input_tokens: number };
  [name: string]: unknown;
}

const textOf = ({ output }: Body): string => output.at(-1)!.content![0]!.text;
/** Returns the number of tokens of a conversation as the template writes it. */
const lengthOf = (text: string): number => tokenizer.encode(`${text}<assistant>`).length - 1;
const get = async (server: Client, path: string, init?: RequestInit): Promise<[number, Record<string, unknown>]> => {
  const response = await fetch(server.url + path, init);
  return [response.status, (await response.json()) as Record<string, unknown>];
};

test("a conversation goes on from the last response", async () => {
  const server = await start({ models });
  const first = await server.answer<Body>("/v1/responses", { ...asked, input: "One?", instructions: "Be brief." });
  expect(first).toMatchObject({ store: true, previous_response_id: null, instructions: "Be brief." });
  const second = await server.answer<Body>("/v1/responses", {
    ...asked,
    input: "Two?",
    previous_response_id: first.id,
  });
  expect(second.previous_response_id).toBe(first.id);
  // Instructions are those of each request.
  expect(second.usage.input_tokens).toBe(lengthOf(`<user>One?<assistant>${textOf(first)}<user>Two?`));
  // A streamed response is kept as well.
  const events = await eventsOf<{ type: string; response: Body }>(
    await server.post("/v1/responses", { ...asked, input: "Three?", previous_response_id: second.id, stream: true }),
  );
  const third = (events.at(-1) as { response: Body }).response;
  const whole = `<user>One?<assistant>${textOf(first)}<user>Two?<assistant>${textOf(second)}<user>Three?`;
  expect(third.usage.input_tokens).toBe(lengthOf(whole));
  expect(await get(server, `/v1/responses/${third.id}`)).toEqual([200, third]);
  const list = await get(server, `/v1/responses/${third.id}/input_items?order=asc`);
  expect(list).toMatchObject([200, { object: "list", has_more: false }]);
  const texts = (list[1].data as { role: string; content: { text: string }[] }[]).map((item) => [item.role, item.content[0]!.text]); // prettier-ignore
  expect(texts).toEqual([
    ...[
      ["user", "One?"],
      ["assistant", textOf(first)],
      ["user", "Two?"],
    ],
    ...[
      ["assistant", textOf(second)],
      ["user", "Three?"],
    ],
  ]);
  // An item can be named instead of sent.
  const reference = { type: "item_reference", id: first.output[0]!.id };
  const referring = await server.answer<Body>("/v1/responses", { ...asked, input: [{ role: "user", content: "One?" }, reference] }); // prettier-ignore
  expect(referring.usage.input_tokens).toBe(lengthOf(`<user>One?<assistant>${textOf(first)}`));
});

test("by OpenAI's client: retrieve, list in pages, delete", async () => {
  const server = await start({ models });
  const openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "none", maxRetries: 0 });
  const input = ["a", "b", "c", "d", "e"].map((content) => ({ role: "user" as const, content }));
  const made = await openai.responses.create({ model: "tiny", input, max_output_tokens: 2, metadata: { a: "b" } });
  expect(made.metadata).toEqual({ a: "b" });
  expect((await openai.responses.retrieve(made.id)).output_text).toBe(made.output_text);
  const found: string[] = [];
  for await (const item of openai.responses.inputItems.list(made.id, { limit: 2 }))
    found.push((item as { content: { text: string }[] }).content[0]!.text);
  expect(found).toEqual(["e", "d", "c", "b", "a"]);
  await openai.responses.delete(made.id);
  await expect(openai.responses.retrieve(made.id)).rejects.toMatchObject({ status: 404 });
  await expect(openai.responses.delete(made.id)).rejects.toMatchObject({ status: 404 });
  const counted = await openai.responses.inputTokens.count({ model: "tiny", input: "Hi" });
  expect(counted.input_tokens).toBe(lengthOf("<user>Hi"));
});

test("what is not stored, and what is not there", async () => {
  const server = await start({ models });
  const none = await server.answer<Body>("/v1/responses", { ...asked, input: "x", store: false });
  expect(none.store).toBe(false);
  expect((await get(server, `/v1/responses/${none.id}`))[0]).toBe(404);
  for (const [body, status, param] of [
    [{ input: "x", previous_response_id: none.id }, 400, "previous_response_id"],
    [{}, 400, "input"],
    [{ input: "x", background: true }, 400, "background"],
    [{ input: "x", conversation: "c" }, 400, "conversation"],
    [{ input: "x", tools: [{ type: "web_search" }] }, 400, "tools.0.type"],
    [{ input: "x", tools: [{ type: "file_search", vector_store_ids: ["v"] }] }, 400, "tools.0.type"],
    [{ input: [{ type: "item_reference", id: "msg_none" }] }, 404, "input.0.id"],
  ] as const) {
    const response = await server.post("/v1/responses", { ...asked, ...body });
    const { error } = (await response.json()) as { error: { param: string; message: string } };
    expect([response.status, error.param], JSON.stringify(body)).toEqual([status, param]);
    if ("tools" in body) expect(error.message).toContain(body.tools[0].type);
  }
  const off = await start({ models, storedResponses: 0 });
  const first = await off.answer<Body>("/v1/responses", { ...asked, input: "x" });
  expect(first.store).toBe(false);
  expect((await get(off, `/v1/responses/${first.id}`))[0]).toBe(404);
});

test("nobody reads another's response, with a shared prefix cache or without", async () => {
  for (const sharePrefixCache of [false, true]) {
    const server = await start({ models, apiKeys: ["one", "two"], sharePrefixCache });
    const as = (key: string) => ({ headers: { authorization: `Bearer ${key}` } });
    const made = (await (await server.post("/v1/responses", { ...asked, input: "secret" }, as("one"))).json()) as Body;
    expect((await get(server, `/v1/responses/${made.id}`, as("one")))[0]).toBe(200);
    expect((await get(server, `/v1/responses/${made.id}`))[0]).toBe(401);
    for (const [path, init] of [
      [`/v1/responses/${made.id}`, as("two")],
      [`/v1/responses/${made.id}/input_items`, as("two")],
      [`/v1/responses/${made.id}`, { method: "DELETE", ...as("two") }],
    ] as const)
      expect((await get(server, path, init))[0], path).toBe(404);
    for (const body of [
      { input: "x", previous_response_id: made.id },
      { input: [{ type: "item_reference", id: made.output[0]!.id }] },
    ])
      expect((await server.post("/v1/responses", { ...asked, ...body }, as("two"))).status).toBeGreaterThanOrEqual(400);
    expect((await get(server, `/v1/responses/${made.id}`, as("one")))[0]).toBe(200);
  }
});

describe("the store", () => {
  const stored = (id: string, length = 1) => {
    const item = { type: "message", role: "user", content: "x".repeat(length) } as InputItem;
    return { id, response: { id }, input: [item], output: [] };
  };

  test("drops the oldest when there are too many, or too large ones", () => {
    const few = new ResponseStore(2);
    for (const id of ["a", "b", "c"]) few.add(null, stored(id));
    expect(["a", "b", "c"].map((id) => few.get(null, id)?.id)).toEqual([undefined, "b", "c"]);
    const small = new ResponseStore(100, 10_000);
    for (const id of ["a", "b", "c"]) small.add(null, stored(id, 2000));
    expect(["a", "b", "c"].map((id) => small.get(null, id)?.id)).toEqual([undefined, "b", "c"]);
    small.add(null, stored("huge", 20_000));
    expect([small.get(null, "huge"), small.size]).toEqual([null, 2]);
    expect([small.delete(null, "b"), small.delete(null, "b"), small.size]).toEqual([true, false, 1]);
    for (const id of ["d", "e", "f"]) small.add(null, stored(id, 1500));
    expect(small.size).toBe(3);
  });
});

test("truncation: auto leaves out the oldest items that do not fit, and nothing of the system's", async () => {
  const server = await start({ models });
  const turn = (i: number) => [
    { role: "user", content: `Question ${i}: ${"word ".repeat(8)}` },
    { role: "assistant", content: `Answer ${i}.` },
  ];
  const input = [...Array.from({ length: 20 }, (_, i) => turn(i)).flat(), { role: "user", content: "Last?" }];
  const body = { ...asked, input, instructions: "Be brief." };
  expect((await server.post("/v1/responses", body)).status).toBe(400);
  const { usage, truncation } = await server.answer<Body>("/v1/responses", { ...body, truncation: "auto" });
  expect(truncation).toBe("auto");
  const written = (from: number) =>
    lengthOf(`<system>Be brief.${input.slice(from).map(({ role, content }) => `<${role}>${content}`).join("")}`); // prettier-ignore
  const room = 600 - 6;
  let from = 0;
  while (written(from) > room) from += 2;
  expect(from).toBeGreaterThan(2);
  expect(usage.input_tokens).toBe(written(from));
});

test("log-probabilities of the text, whole and streamed", async () => {
  const server = await start({ models });
  const body = { ...asked, input: "x", top_logprobs: 2 };
  const whole = await server.answer<Body>("/v1/responses", body);
  const rows = whole.output[0]!.content![0]!.logprobs;
  expect(rows.length).toBeGreaterThan(0);
  expect(rows.every(({ logprob, top_logprobs: top }) => logprob <= 0 && top.length === 2)).toBe(true);
  const events = await eventsOf<{ type: string; logprobs?: unknown[] }>(
    await server.post("/v1/responses", { ...body, stream: true }),
  );
  const deltas = events.filter((one) => one !== "[DONE]" && one.type === "response.output_text.delta");
  expect(deltas.flatMap((one) => (one as { logprobs: unknown[] }).logprobs)).toEqual(rows);
  const { top_logprobs: _, ...without } = body;
  const included = await server.answer<Body>("/v1/responses", {
    ...without,
    include: ["message.output_text.logprobs"],
  });
  expect(included.output[0]!.content![0]!.logprobs.map(({ logprob }) => logprob)).toEqual(rows.map(({ logprob }) => logprob)); // prettier-ignore
  expect((await server.answer<Body>("/v1/responses", without)).output[0]!.content![0]!.logprobs).toEqual([]);
});

test("reasoning and verbosity are told again", async () => {
  const server = await start({ models });
  const given = { reasoning: { effort: "low", summary: "auto" }, text: { verbosity: "low" } };
  const body = await server.answer<Body>("/v1/responses", { ...asked, input: "x", ...given });
  expect(body).toMatchObject({ reasoning: given.reasoning, text: { format: { type: "text" }, verbosity: "low" } });
});
