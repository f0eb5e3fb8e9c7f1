/** Tests of a server's operation: keys, limits, clients that leave or do not read, shutting down, metrics and traces. */
import { trace } from "@opentelemetry/api";
import fastify from "fastify";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { request as httpsRequest } from "node:https";
import { connect, type Socket } from "node:net";
import path from "node:path";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { describe, expect, onTestFinished, test } from "vitest";
import { LanguageModel } from "../../lib/load/language-model.js";
import { createServer, heedServer, readApiKeys } from "../../lib/server/index.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { smallGpt } from "../generate/models.js";
import { temporaryFolder } from "../support/folder.js";
import { certificate } from "./certificate.js";
import { chatModel, type Client, type ErrorBody, start, until } from "./support.js";

const model = chatModel();
const path1 = "/v1/completions";
/** A model with room for long texts. */
const long = new LanguageModel({
  model: smallGpt("cpu", { vocabularySize: 256, contextLength: 1024, layers: 1, heads: 1, width: 8 }),
  tokenizer: new ByteTokenizer(),
});
/** A request that generates for a while. */
const endless = { prompt: "a", max_tokens: 1000, min_tokens: 1000 };

const idle = async ({ metric }: Client): Promise<boolean> =>
  (await metric("heed_engine_requests_running")) === 0 && (await metric("heed_engine_kv_pages_used")) === 0;
const errorOf = async (response: Response): Promise<ErrorBody["error"] & { status: number }> => ({
  ...((await response.json()) as ErrorBody).error,
  status: response.status,
});

/** Sends a request over a connection of its own, perhaps several times. The answers are not read yet. */
function rawPost(url: string, body: unknown, times = 1): Socket {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  onTestFinished(() => void socket.destroy());
  const json = JSON.stringify(body);
  const head = `POST ${path1} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${json.length}`;
  socket.write(`${head}\r\n\r\n${json}`.repeat(times));
  return socket;
}

describe("keys and limits", () => {
  test("one of several keys is needed, except by probes", async () => {
    const { post, url } = await start({ models: { tiny: model }, apiKeys: ["alpha", "beta"] });
    const ask = (headers: Record<string, string>) => post(path1, { prompt: "a", max_tokens: 1 }, { headers });
    for (const key of ["alpha", "beta"]) expect((await ask({ authorization: `Bearer ${key}` })).status).toBe(200);
    for (const authorization of ["Bearer alph", "Bearer alphabeta", "Bearer ", "alpha", "Basic alpha"]) {
      const found = await errorOf(await ask({ authorization }));
      expect(found).toMatchObject({ status: 401, type: "authentication_error", code: "invalid_api_key" });
    }
    expect(await errorOf(await ask({}))).toMatchObject({ status: 401, message: expect.stringContaining("got none") });
    const statusOf = async (path: string): Promise<number> => (await fetch(url + path)).status;
    expect(await Promise.all(["/health", "/ready", "/v1/models", "/metrics", "/openapi.json"].map(statusOf))).toEqual([
      ...[200, 200, 401, 401, 401],
    ]);
  });

  test("a key may be given as other servers' clients give it, and a refusal says how", async () => {
    const { post } = await start({ models: { tiny: model }, apiKeys: ["alpha", "beta"] });
    const ask = (headers: Record<string, string>) => post(path1, { prompt: "a", max_tokens: 1 }, { headers });
    const given = [
      { "x-api-key": "alpha" },
      { "api-key": "beta" },
      { authorization: "Bearer none", "x-api-key": "beta" },
      { authorization: "bearer alpha", "x-api-key": "none" },
    ];
    for (const headers of given) {
      const response = await ask(headers);
      expect([response.status, response.headers.get("www-authenticate")]).toEqual([200, null]);
    }
    for (const headers of [
      {},
      { "x-api-key": "" },
      { "x-api-key": "alph" },
      { authorization: "Bearer", "api-key": "a" },
    ]) {
      const response = await ask(headers);
      expect([response.status, response.headers.get("www-authenticate")]).toEqual([401, "Bearer"]);
    }
  });

  test("keys are read from a file", async () => {
    const file = path.join(temporaryFolder(), "keys.txt");
    writeFileSync(file, "# of the team\r\n\n alpha \nbeta\n");
    expect(await readApiKeys(file)).toEqual(["alpha", "beta"]);
    writeFileSync(file, "# none yet\n");
    await expect(readApiKeys(file)).rejects.toMatchObject({ code: "ERR_FORMAT" });
  });

  test("the log has neither keys nor texts", async () => {
    let lines = "";
    const stream = new PassThrough().on("data", (data: Buffer) => (lines += data.toString()));
    const { post } = await start({ models: { tiny: model }, apiKeys: ["alpha"], logger: { level: "trace", stream } });
    const body = { prompt: "whale", max_tokens: 1 };
    const { headers } = await post(path1, body, { headers: { authorization: "Bearer alpha", "x-request-id": "mine" } });
    expect(headers.get("x-request-id")).toBe("mine");
    await post(path1, body, { headers: { authorization: "Bearer wrong" } });
    await until(() => lines.split("request completed").length > 2);
    expect(lines).toContain('"reqId":"mine"');
    expect(lines).toContain('"promptTokens"');
    expect(lines).not.toMatch(/alpha|wrong|whale/);
  });

  test("each key has so many requests a minute", async () => {
    const { post, url } = await start({ models: { tiny: model }, apiKeys: ["alpha", "beta"], requestsPerMinute: 2 });
    const ask = (key: string) =>
      post(path1, { prompt: "a", max_tokens: 1 }, { headers: { authorization: `Bearer ${key}` } });
    expect([(await ask("alpha")).status, (await ask("alpha")).status]).toEqual([200, 200]);
    const third = await ask("alpha");
    expect(Number(third.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(await errorOf(third)).toMatchObject({ status: 429, type: "rate_limit_error", code: "rate_limit_exceeded" });
    expect((await ask("beta")).status).toBe(200);
    for (let i = 0; i < 4; i++) expect((await fetch(`${url}/health`)).status).toBe(200);
  });

  test("a body that is too large", async () => {
    const { post } = await start({ models: { tiny: model }, bodyLimit: 1000 });
    const found = await errorOf(await post(path1, { prompt: "x".repeat(1000) }));
    expect(found).toMatchObject({ status: 413, code: "body_too_large", type: "invalid_request_error" });
  });

  test("a body with too many values is refused before it is parsed, and one with a long text is not", async () => {
    const { post } = await start({ models: { tiny: model } });
    const many = Array.from({ length: 200_000 }, () => 0);
    const names = Object.fromEntries(Array.from({ length: 20_001 }, (_, i) => [`n${i}`, 0]));
    for (const body of [{ prompt: many }, { prompt: "a", logit_bias: names }, { prompt: many.map(() => []) }])
      expect(await errorOf(await post(path1, body))).toMatchObject({ status: 413, code: "body_too_large" });
    const long = `${"[{,:}]".repeat(50_000)}"\\\\"`;
    expect(await errorOf(await post(path1, { prompt: long }))).toMatchObject({ code: "context_length_exceeded" });
    const tokens = await post(path1, { prompt: many.slice(1000) });
    expect(await errorOf(tokens)).toMatchObject({ code: "context_length_exceeded" });
  });

  test("a request beyond the queue is told to come again", async () => {
    const client = await start({ models: { long }, engine: { maxSequences: 1, maxQueue: 1 } });
    const controller = new AbortController();
    const running = [1, 2].map(() => client.post(path1, endless, { signal: controller.signal }).catch(() => null));
    await until(async () => (await client.metric("heed_engine_requests_waiting")) === 1);
    for (const stream of [false, true]) {
      const refused = await client.post(path1, { ...endless, stream });
      expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
      expect(await errorOf(refused)).toMatchObject({ status: 503, type: "server_error", code: "overloaded" });
    }
    controller.abort();
    await Promise.all(running);
    await until(() => idle(client));
  });

  test("pages of other origins may ask only if their origin is allowed", async () => {
    const preflight = async (url: string) => {
      const headers = { origin: "https://a.example", "access-control-request-method": "POST" };
      return (await fetch(url + path1, { method: "OPTIONS", headers })).headers.get("access-control-allow-origin");
    };
    const closed = await start({ models: { tiny: model } });
    expect(await preflight(closed.url)).toBeNull();
    const options = { models: { tiny: model }, apiKeys: ["alpha"] };
    const open = await start({ ...options, corsOrigins: ["https://a.example", "https://b.example"] });
    expect(await preflight(open.url)).toBe("https://a.example");
    // Pages may read these headers of an answer, whatever its status is.
    for (const authorization of ["Bearer alpha", "Bearer wrong"]) {
      const { headers } = await fetch(`${open.url}/v1/models`, {
        headers: { origin: "https://a.example", authorization },
      });
      const exposed = headers.get("access-control-expose-headers")?.toLowerCase().split(", ");
      expect(exposed).toEqual(expect.arrayContaining(["x-request-id", "retry-after", "x-heed-ignored"]));
    }
    const other = await start({ ...options, corsOrigins: ["https://b.example"] });
    expect(await preflight(other.url)).not.toBe("https://a.example");
  });

  test.for([
    [{ models: {} }, "ERR_ARGUMENT"],
    [{ models: { a: 1 as never } }, "ERR_ARGUMENT"],
    [{ apiKeys: [] }, "ERR_ARGUMENT"],
    [{ apiKeys: [""] }, "ERR_ARGUMENT"],
    [{ requestsPerMinute: 0 }, "ERR_RANGE"],
    [{ bodyLimit: 0 }, "ERR_RANGE"],
    [{ maxTokens: 0 }, "ERR_RANGE"],
    [{ drainSeconds: -1 }, "ERR_RANGE"],
    [{ engine: { maxSequences: 0 } }, "ERR_RANGE"],
  ] as const)("wrong options: %j", async ([options, code]) => {
    await expect(createServer({ models: { tiny: model }, ...options })).rejects.toMatchObject({ code });
  });
});

test("TLS", async () => {
  const { url } = await start({ models: { tiny: model }, tls: certificate });
  const request = httpsRequest(`${url}/health`, { ca: certificate.cert }).end();
  const [response] = (await once(request, "response")) as [NodeJS.ReadableStream];
  expect(await text(response)).toBe('{"status":"ok"}');
});

describe("clients", () => {
  test.for([true, false])("one that leaves frees its pages; streaming: %s", async (stream) => {
    const client = await start({ models: { long } });
    const controller = new AbortController();
    const answer = client.post(path1, { ...endless, stream }, { signal: controller.signal });
    answer.catch(() => undefined);
    await until(async () => (await client.metric("heed_engine_generated_tokens_total")) > 3);
    expect(await client.metric("heed_engine_kv_pages_used")).toBeGreaterThan(0);
    controller.abort();
    await until(() => idle(client));
    expect(await client.metric("heed_engine_generated_tokens_total")).toBeLessThan(1000);
    await until(async () => (await client.metric("heed_failures_total")) === 1);
  });

  test("one that has left before its request is looked at costs no token", async () => {
    const app = fastify();
    onTestFinished(() => app.close());
    let came = false;
    app.addHook("preHandler", async ({ method, raw }) => {
      if (method !== "POST") return;
      came = true;
      await once(raw.socket, "close");
    });
    await app.register(heedServer, { models: { long } });
    const url = await app.listen({ host: "127.0.0.1", port: 0 });
    const controller = new AbortController();
    const [headers, body] = [{ "content-type": "application/json" }, JSON.stringify({ ...endless, stream: true })];
    const answer = fetch(url + path1, { method: "POST", headers, body, signal: controller.signal });
    answer.catch(() => undefined);
    await until(() => came);
    controller.abort();
    const metrics = async (): Promise<string> => (await fetch(`${url}/metrics`)).text();
    await until(async () => (await metrics()).includes("heed_failures_total{"));
    expect(await metrics()).toMatch(/^heed_engine_generated_tokens_total\{.*\} 0$/m);
  });

  test("one that leaves ends all of its requests, also those that wait for others on the connection", async () => {
    const client = await start({ models: { long } });
    const socket = rawPost(client.url, { ...endless, stream: true }, 3);
    await until(async () => (await client.metric("heed_engine_requests_running")) === 3);
    socket.destroy();
    await until(async () => (await client.metric("heed_failures_total")) === 3);
    expect(await idle(client)).toBe(true);
  });

  test("one that does not read holds no texts, and gets them all when it reads on", async () => {
    // The name is in every event, so that a few events fill the buffers of the connection.
    const name = "x".repeat(10_000);
    const client = await start({ models: { [name]: long } });
    const tokens = async () => {
      const text = await (await fetch(`${client.url}/metrics`)).text();
      return Number(/^heed_completion_tokens_total\{.*\} (\d+)$/m.exec(text)?.[1] ?? 0);
    };
    const socket = rawPost(client.url, { ...endless, seed: 1, stream: true });
    await once(socket, "readable");
    // The engine is done with the request, whether the client reads or not.
    await until(async () => (await tokens()) > 0 && (await idle(client)), 100);
    const before = await tokens();
    expect(before).toBeLessThan(800);
    const parts: Buffer[] = [];
    for await (const data of socket as AsyncIterable<Buffer>) {
      parts.push(data);
      if (data.subarray(-7).toString() === "\r\n0\r\n\r\n") break;
    }
    const received = Buffer.concat(parts).toString().replaceAll(name, "");
    const texts = [...received.matchAll(/"text":("(?:[^"\\]|\\.)*")/g)].map(([, text]) => JSON.parse(text!) as string);
    const whole = await long.generate("a", { maxTokens: 1000, minTokens: 1000, seed: 1 });
    expect(texts.join("")).toBe(whole.text);
  });
});

describe("shutting down", () => {
  test("what runs is finished, and what comes is refused", async () => {
    const client = await start({ models: { long } });
    // A connection without a request does not keep the server from closing.
    const unused = connect(Number(new URL(client.url).port), "127.0.0.1");
    onTestFinished(() => void unused.destroy());
    const answer = text(rawPost(client.url, endless));
    await until(async () => (await client.metric("heed_engine_requests_running")) === 1);
    await client.close();
    expect(await answer).toMatch(/^HTTP\/1.1 200 [\s\S]*"completion_tokens":1000/);
    await expect(fetch(`${client.url}/health`)).rejects.toThrow();
  });

  test("what takes too long is aborted", async () => {
    const client = await start({ models: { long }, drainSeconds: 0.05 });
    const streamed = client.post(path1, { ...endless, stream: true });
    const whole = client.post(path1, endless);
    await until(async () => (await client.metric("heed_engine_requests_running")) === 2);
    const begun = performance.now();
    await client.close();
    expect(performance.now() - begun).toBeLessThan(5000);
    expect(await errorOf(await whole)).toMatchObject({ status: 503, code: "shutting_down" });
    expect(await (await streamed).text()).toMatch(
      /data: \{"error":\{"message":"The server is shutting down[^\n]*\n\n$/,
    );
  });
});

test("metrics in Prometheus' format", async () => {
  const { answer, url } = await start({ models: { tiny: model } });
  await answer(path1, { prompt: "Call me", max_tokens: 5, min_tokens: 5 });
  const response = await fetch(`${url}/metrics`);
  expect(response.headers.get("content-type")).toContain("text/plain; version=0.0.4");
  const lines = (await response.text()).split("\n");
  const count = model.tokenizer.encode("Call me").length;
  for (const line of [
    `heed_http_requests_total{method="POST",route="/v1/completions",status="200"} 1`,
    `heed_prompt_tokens_total{model="tiny"} ${count}`,
    `heed_completion_tokens_total{model="tiny"} 5`,
    `heed_answers_total{model="tiny",finish_reason="length"} 1`,
    `heed_time_to_first_token_seconds_count{model="tiny"} 1`,
    `heed_engine_generated_tokens_total{model="tiny"} 5`,
    `heed_engine_requests_running{model="tiny"} 0`,
    `heed_engine_kv_pages_used{model="tiny"} 0`,
  ])
    expect(lines).toContain(line);
  // Of a label's value, Prometheus' conventions allow the name of a route and not what clients write.
  await fetch(`${url}/v1/models/anything`);
  const again = await (await fetch(`${url}/metrics`)).text();
  expect(again).toContain('route="/v1/models/*"');
  expect(again).toMatch(/^process_resident_memory_bytes \d+/m);
});

test("a span for each request to a model, if the app has OpenTelemetry", async () => {
  const spans: Record<string, unknown>[] = [];
  const startSpan = (name: string, { attributes }: { attributes: object }) => {
    const span: Record<string, unknown> = { name, ...attributes };
    return {
      setAttributes: (more: object) => void Object.assign(span, more),
      setAttribute: (key: string, value: unknown) => void (span[key] = value),
      setStatus: () => undefined,
      addEvent: (event: string) => void (span.event = event),
      end: () => void spans.push(span),
    };
  };
  trace.setGlobalTracerProvider({ getTracer: () => ({ startSpan }) as never });
  onTestFinished(() => trace.disable());
  const { answer } = await start({ models: { tiny: model } });
  await answer(path1, { prompt: "Call me", max_tokens: 5, min_tokens: 5 });
  expect(spans).toEqual([
    {
      name: "text_completion tiny",
      "gen_ai.operation.name": "text_completion",
      "gen_ai.request.model": "tiny",
      "gen_ai.usage.input_tokens": model.tokenizer.encode("Call me").length,
      "gen_ai.usage.output_tokens": 5,
      "gen_ai.response.finish_reasons": ["length"],
      event: "first token",
    },
  ]);
});

test("the plugin in an app with routes of its own", async () => {
  const app = fastify();
  onTestFinished(() => app.close());
  app.get("/own", () => "mine");
  app.post(
    "/own",
    { schema: { body: { type: "object", properties: { a: { type: "integer" } } } } },
    ({ body }) => body,
  );
  await app.register(heedServer, { models: { tiny: model }, prefix: "/llm", apiKeys: ["alpha"] });
  const url = await app.listen({ host: "127.0.0.1", port: 0 });
  expect(await (await fetch(`${url}/own`)).text()).toBe("mine");
  // Its own routes keep fastify's ways: they need no key, and numbers may be written as texts.
  const headers = { "content-type": "application/json" };
  const own = await fetch(`${url}/own`, { method: "POST", headers, body: '{"a":"1"}' });
  expect(await own.json()).toEqual({ a: 1 });
  const refused = await fetch(`${url}/llm/v1/models`);
  expect(await errorOf(refused)).toMatchObject({ status: 401, code: "invalid_api_key" });
  const allowed = await fetch(`${url}/llm/v1/models`, { headers: { authorization: "Bearer alpha" } });
  expect(await allowed.json()).toMatchObject({ data: [{ id: "tiny" }] });
});
