/** Values of clients that are very long, very deep or not finite: they are refused by name, and neither echoed nor logged. */
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { Writable } from "node:stream";
import { describe, expect, test } from "vitest";
import { Engine } from "../../lib/engine/engine.js";
import { HeedError } from "../../lib/util/errors.js";
import type { JsonSchema } from "../../lib/util/json-schema.js";
import type { OutputFormat } from "../../lib/structured/output-format.js";
import { runBatch } from "../../lib/server/index.js";
import { temporaryFolder } from "../support/folder.js";
import { chatModel, type Client, embeddingModel, type ErrorBody, rankingModel, start } from "./support.js";

const long = "x".repeat(3_900_000);
const messages = [{ role: "user", content: "Why?" }];
/** Most characters of an answer or of a line of the log. */
const most = 2000;

/** Starts a server whose log goes to a list. If it is strict, it refuses fields that it does not know. */
async function logged(strict = false): Promise<{ client: Client; log: string[] }> {
  const log: string[] = [];
  const stream = new Writable({
    write(part: Buffer, _encoding, done) {
      log.push(...part.toString().split("\n"));
      done();
    },
  });
  const models = { tiny: chatModel(), minilm: embeddingModel() };
  return { client: await start({ models, strict, logger: { level: "trace", stream } }), log };
}

function deep(depth: number): JsonSchema {
  let schema: JsonSchema = { type: "string" };
  for (let i = 0; i < depth; i++) schema = { type: "object", properties: { a: schema } };
  return schema;
}

const format = (schema: object): object => ({
  messages,
  response_format: { type: "json_schema", json_schema: { name: "a", schema } },
});

describe("a long value", () => {
  test.for<[string, string, object, number]>([
    ["a model's name", "/v1/completions", { model: long, prompt: "a" }, 400],
    ["a model's name in a conversation", "/v1/chat/completions", { model: long, messages }, 400],
    ["a model's name for a response", "/v1/responses", { model: long, input: "a" }, 400],
    ["a model's name for vectors", "/v1/embeddings", { model: long, input: "a" }, 400],
    ["a model's name for documents", "/v1/rerank", { model: long, query: "a", documents: ["a"] }, 400],
    ["a model's name for tokens", "/tokenize", { model: long, prompt: "a" }, 400],
    ["the name of a parameter", "/v1/completions", { prompt: "a", [long]: 1 }, 400],
    ["the name of a nested parameter", "/v1/chat/completions", { messages: [{ ...messages[0], [long]: 1 }] }, 400],
    ["the key of a bias", "/v1/completions", { prompt: "a", logit_bias: { [long]: 1 } }, 400],
    ["a numeric key of a bias", "/v1/completions", { prompt: "a", logit_bias: { ["1".repeat(1e6)]: 1 } }, 400],
    ["a role", "/v1/chat/completions", { messages: [{ role: long, content: "a" }] }, 400],
    ["a stop text", "/v1/completions", { prompt: "a", stop: long }, 400],
    ["a stop text among others", "/v1/completions", { prompt: "a", stop: ["b", long] }, 400],
    ["the name of a tool", "/v1/chat/completions", { messages, tool_choice: { function: { name: long } } }, 400],
    ["a reference in a schema", "/v1/chat/completions", format({ $ref: `#/$defs/${long}` }), 400],
    ["a pattern in a schema", "/v1/chat/completions", format({ type: "string", pattern: `(${long}` }), 400],
    ["a keyword in a schema", "/v1/chat/completions", format({ type: long }), 400],
    ["a property in a schema", "/v1/chat/completions", format({ type: "object", properties: { [long]: 7 } }), 400],
  ])("is neither echoed nor logged: %s", async ([, url, body, status]) => {
    const { client, log } = await logged(true);
    const response = await client.post(url, body);
    const text = await response.text();
    expect(response.status).toBe(status);
    expect((JSON.parse(text) as ErrorBody).error.message.length).toBeGreaterThan(10);
    expect(text.length).toBeLessThan(most);
    expect(log.length).toBeGreaterThan(1);
    for (const line of log) expect(line.length).toBeLessThan(most);
  });

  test("is neither echoed nor logged: the name of a field that is ignored", async () => {
    const { client, log } = await logged();
    const response = await client.post("/v1/completions", { prompt: "a", max_tokens: 1, [long]: 1 });
    expect(response.status).toBe(200);
    expect(response.headers.get("x-heed-ignored")).toMatch(/^x+/);
    expect(response.headers.get("x-heed-ignored")!.length).toBeLessThan(most);
    for (const line of log) expect(line.length).toBeLessThan(most);
  });

  test("in the address or a header is not echoed either", async () => {
    const { client, log } = await logged();
    const text = long.slice(0, 12_000);
    for (const url of [`/v1/models/${text}`, `/${text}`, `/v1/models?${text}`]) {
      const response = await fetch(client.url + url, { headers: { "x-request-id": text.slice(0, 200) } });
      expect((await response.text()).length).toBeLessThan(most);
      expect(response.headers.get("x-request-id")).toMatch(/^req_/);
    }
    const lines = log.filter((line) => !line.includes('"msg":"incoming request"'));
    for (const line of lines) expect(line.length).toBeLessThan(most);
  });

  test("is cut in each error of heed, and its end stays", () => {
    const { message } = new HeedError("ERR_ARGUMENT", `generate: expected less, got ${long}; give less`);
    expect(message.length).toBe(4000);
    expect(message).toMatch(/^generate: expected less, got xxx/);
    expect(message).toMatch(/x; give less$/);
  });
});

/** Bodies in JSON with a schema of 9,500 levels, which `JSON.stringify` cannot write. */
function deepBodies(): string[] {
  const schema = `${'{"type":"object","properties":{"a":'.repeat(9500)}{"type":"string"}${"}}".repeat(9500)}`;
  const tool = { type: "function", function: { name: "f", parameters: "SCHEMA" } };
  return [format("SCHEMA" as never), { messages, tools: [tool] }].map((body) =>
    JSON.stringify(body).replace('"SCHEMA"', schema),
  );
}

describe("a schema of 9,500 levels", () => {
  test("is refused by the server", async () => {
    const { client } = await logged();
    for (const body of deepBodies()) {
      const headers = { "content-type": "application/json" };
      const response = await fetch(`${client.url}/v1/chat/completions`, { method: "POST", headers, body });
      expect(response.status).toBe(400);
      expect(await response.json()).toMatchObject({ error: { code: "body_too_deep" } });
    }
  });

  test("fails alone in a batch", async () => {
    const folder = temporaryFolder();
    const [input, output] = [path.join(folder, "in.jsonl"), path.join(folder, "out.jsonl")];
    const lines = [...deepBodies(), JSON.stringify({ messages, max_tokens: 2 })].map(
      (body, i) => `{"custom_id":"${i}","method":"POST","url":"/v1/chat/completions","body":${body}}`,
    );
    writeFileSync(input, lines.join("\n"));
    expect(await runBatch(input, output, { models: { tiny: chatModel() } })).toMatchObject({ total: 3, failed: 2 });
    const answers = readFileSync(output, "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { custom_id: string; response: { status_code: number } });
    for (const { custom_id: id, response } of answers) expect(response.status_code).toBe(id === "2" ? 200 : 400);
  });

  test("is refused by an engine, and so are texts that mean as many levels", async () => {
    const { model, tokenizer } = chatModel();
    await using engine = new Engine(model, { tokenizer });
    const refused = { code: expect.stringMatching(/^ERR_(ARGUMENT|RANGE)$/) as string };
    const formats: OutputFormat[] = [
      { type: "json-schema", schema: deep(9500) },
      { type: "json-schema", schema: { type: "string", pattern: `${"(".repeat(9500)}a${")".repeat(9500)}` } },
    ];
    for (const one of formats)
      await expect((async () => engine.generate({ prompt: "a", format: one }))()).rejects.toMatchObject(refused);
    const call = { id: "1", name: "f", arguments: `${"[".repeat(9500)}${"]".repeat(9500)}` };
    const asked = [...messages, { role: "assistant", content: null, toolCalls: [call] }];
    await expect((async () => engine.generate({ messages: asked, maxTokens: 1 }))()).rejects.toMatchObject(refused);
  });
});

describe("a vector that is not finite", () => {
  /** Returns a client, and a word that makes the model diverge. */
  async function spoiled(): Promise<{ client: Client; embedding: ReturnType<typeof embeddingModel> }> {
    const [embedding, ranking] = [embeddingModel(), rankingModel()];
    for (const { model } of [embedding, { model: ranking.model.encoder }]) {
      const [, table] = [...model.namedParameters()].find(([name]) => name.includes("word_embeddings"))!;
      const values = await table.data();
      const id = embedding.tokenizer.encode("cafe").at(1)!;
      values.fill(NaN, id * model.config.width, (id + 1) * model.config.width);
      table.set(values);
    }
    return { client: await start({ models: { minilm: embedding, ranker: ranking } }), embedding };
  }

  test("is an error, of its own text alone", async () => {
    const { client, embedding } = await spoiled();
    const diverged = { status: 500, code: "diverged" };
    const refusalOf = async (url: string, body: object): Promise<object> => {
      const response = await client.post(url, body);
      return { status: response.status, ...((await response.json()) as ErrorBody).error };
    };
    for (const encoding_format of ["float", "base64"])
      expect(await refusalOf("/v1/embeddings", { input: ["un", "un cafe"], encoding_format })).toMatchObject({
        ...{ ...diverged, message: expect.stringContaining("texts[1]") as string },
      });
    for (const model of ["minilm", "ranker"])
      expect(await refusalOf("/v1/rerank", { model, query: "un", documents: ["un", "cafe"] })).toMatchObject(diverged);
    const results = await Promise.allSettled(["un", "cafe", "un aff"].map((text) => embedding.embed([text])));
    expect(results.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(results[1]).toMatchObject({ reason: { code: "ERR_DIVERGED" } });
  });
});
