/** Clients of a server: some ask and read, and others leave, read slowly, or send what they should not. */
import { deepStrictEqual, ok, strictEqual } from "node:assert/strict";
import { once } from "node:events";
import { type IncomingMessage, request as httpRequest } from "node:http";
import { connect } from "node:net";
import { text as textOf } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { apiKeys, bodyLimit, type Question } from "./http-settings.js";
import { attack } from "./hostile.js";
import type { Client, Lane } from "./http-lane.js";
import { pick } from "./world.js";

interface ErrorBody {
  error: { message: string; type: string; code: string | null };
}

/** Codes of errors that a broken device causes. */
const deviceErrors = ["internal_error", "diverged", "out_of_memory"];

const headersOf = ({ random }: Lane): Record<string, string> => ({
  "content-type": "application/json",
  authorization: `Bearer ${pick(random, apiKeys)}`,
});

function post(lane: Lane, path: string, body: unknown, init: RequestInit = {}): Promise<Response> {
  return fetch(lane.url + path, { method: "POST", headers: headersOf(lane), body: JSON.stringify(body), ...init });
}

/** A random question, as a body for one of the routes. */
function questionOf({ random, questions }: Lane): { question: Question; path: string; chat: boolean; body: object } {
  const question = pick(random, questions);
  const chat = random.integer(2) === 1;
  const { model, prompt, options } = question;
  if (!chat) return { question, chat, path: "/v1/completions", body: { model, prompt, ...options } };
  const messages = [{ role: "user", content: prompt }];
  return { question, chat, path: "/v1/chat/completions", body: { model, messages, ...options } };
}

/** Checks an error: the server may be busy, or the device broken. */
function refusal(lane: Lane, status: number, { error }: ErrorBody, broken: boolean): void {
  const code = String(error.code);
  const allowed = code === "overloaded" || (broken && deviceErrors.includes(code));
  ok(allowed, `expected an answer, got ${status} ${code}: ${error.message}`);
  const expected = code === "internal_error" || code === "diverged" ? 500 : 503;
  if (status !== 200) strictEqual(status, expected);
  lane.refused(code);
}

interface Choice {
  text?: string;
  message?: { content: string };
  delta?: { content?: string };
  finish_reason: string | null;
}

/** Checks the events of a stream, as far as they came. Returns true if they are complete. */
function checkEvents(lane: Lane, received: string, expected: string, broken: boolean): boolean {
  const events = received.split("\n\n").slice(0, -1);
  let text = "";
  let ended = false;
  for (const event of events) {
    ok(event.startsWith("data: "), `expected an event, got ${event}`);
    const data = event.slice("data: ".length);
    if (data === "[DONE]") ended = true;
    else {
      const { choices, error } = JSON.parse(data) as { choices?: Choice[] } & Partial<ErrorBody>;
      if (error) {
        refusal(lane, 200, { error }, broken);
        ok(expected.startsWith(text), "a text is another's");
        return true;
      }
      text += choices![0]!.text ?? choices![0]!.delta?.content ?? "";
    }
  }
  if (ended) strictEqual(text, expected, "a text has changed");
  else ok(expected.startsWith(text), `a text is another's: expected ${expected}, got ${text}`);
  return ended;
}

/** Asks for a whole answer, or a stream, and reads it to its end. */
export const ask: Client = async (lane) => {
  const { question, path, chat, body } = questionOf(lane);
  const stream = lane.random.integer(2) === 1;
  const was = lane.broken();
  const response = await post(lane, path, { ...body, stream });
  const expected = chat ? question.chat : question.text;
  const received = await response.text();
  const broken = was || lane.broken();
  if (response.status === 503) ok(Number(response.headers.get("retry-after")) > 0, "no Retry-After");
  if (response.status !== 200) refusal(lane, response.status, JSON.parse(received) as ErrorBody, broken);
  else if (stream) ok(checkEvents(lane, received, expected, broken), "a stream has no end");
  else {
    const { choices } = JSON.parse(received) as { choices: Choice[] };
    strictEqual(choices[0]!.text ?? choices[0]!.message!.content, expected, "a text has changed");
  }
};

/** Asks for more answers at the same time than the queue has room for. */
const crowd: Client = async (lane) => {
  await Promise.all(Array.from({ length: 20 + lane.random.integer(30) }, () => ask(lane)));
};

/** Leaves before the answer, within a stream, or when its patience ends. */
const leave: Client = async (lane) => {
  const { question, path, chat, body } = questionOf(lane);
  const stream = lane.random.integer(2) === 1;
  const was = lane.broken();
  const patience = AbortSignal.timeout(1 + lane.random.integer(60));
  try {
    const response = await post(lane, path, { ...body, stream }, { signal: patience });
    if (response.status !== 200) {
      await response.text();
      return;
    }
    let received = "";
    const parts = 1 + lane.random.integer(10);
    const decoder = new TextDecoder();
    let count = 0;
    for await (const part of response.body as unknown as AsyncIterable<Uint8Array>) {
      received += decoder.decode(part, { stream: true });
      if (++count === parts) break;
    }
    if (stream) checkEvents(lane, received, chat ? question.chat : question.text, was || lane.broken());
  } catch (error) {
    if (!patience.aborted) throw error;
  }
};

/** Sends a request over a connection of its own, and resolves to the answer, of which nothing is read yet. */
async function open(lane: Lane, path: string, body: Buffer | string): Promise<IncomingMessage> {
  const request = httpRequest(lane.url + path, { method: "POST", agent: false, headers: headersOf(lane) });
  const response = once(request, "response") as Promise<[IncomingMessage]>;
  // Further errors, after the answer or the first error, say nothing new.
  request.on("error", () => undefined).end(body);
  return (await response)[0];
}

/** Reads a stream now and then. */
const readSlowly: Client = async (lane) => {
  const { question, path, chat, body } = questionOf(lane);
  const was = lane.broken();
  const response = await open(lane, path, JSON.stringify({ ...body, stream: true }));
  let received = "";
  let pauses = 1 + lane.random.integer(8);
  for await (const part of response as AsyncIterable<Buffer>) {
    received += part.toString("latin1");
    if (pauses-- > 0) await sleep(lane.random.integer(200));
  }
  const text = Buffer.from(received, "latin1").toString();
  const broken = was || lane.broken();
  if (response.statusCode !== 200) refusal(lane, response.statusCode!, JSON.parse(text) as ErrorBody, broken);
  else ok(checkEvents(lane, text, chat ? question.chat : question.text, broken), "a stream has no end");
};

const nested = (depth: number): string => "[".repeat(depth) + "]".repeat(depth);

/** Requests that are refused: the path, the body, the status, and headers that differ. */
const wrong: readonly [path: string, body: string, status: number, headers?: Record<string, string>][] = [
  ["/v1/completions", "{", 400],
  ["/v1/completions", "", 400],
  ["/v1/completions", "null", 400],
  ["/v1/completions", '{"prompt":"a","__proto__":{"x":1}}', 400],
  ["/v1/completions", '{"prompt":"a","temperature":9}', 400],
  ["/v1/completions", '{"prompt":"a","max_tokens":1e99}', 400],
  ["/v1/completions", '{"prompt":"a","top_p":2}', 400],
  ["/v1/completions", '{"prompt":[]}', 400],
  ["/v1/completions", '{"prompt":[100000]}', 400],
  ["/v1/completions", `{"prompt":${nested(10_000)}}`, 400],
  ["/v1/completions", '{"prompt":"a","model":"gpt-4o"}', 404],
  ["/v1/completions", '{"prompt":"a","model":"embedder"}', 400],
  ["/v1/completions", '{"prompt":"a"}', 415, { "content-type": "text/html" }],
  ["/v1/completions", `{"prompt":"a","stop":"${"\\ud800".repeat(10)}"}`, 400],
  ["/v1/chat/completions", '{"messages":[]}', 400],
  ["/v1/chat/completions", '{"messages":[{"role":"wizard","content":"a"}]}', 400],
  ["/v1/embeddings", '{"input":"a","model":"cpu"}', 400],
  ["/v1/responses", '{"input":"a","previous_response_id":"b"}', 400],
  ["/v1/nothing", "{}", 404],
];

/** Checks that a request was refused with `status`, or with 503: a full queue refuses it before its prompt is read. */
function refusedWith(lane: Lane, status: number, body: string, given: number, received: string): void {
  if (given === 503) refusal(lane, given, JSON.parse(received) as ErrorBody, false);
  else strictEqual(given, status, `${body.slice(0, 80)}: ${received.slice(0, 200)}`);
}

const mistake: Client = async (lane) => {
  const [path, body, status, headers] = pick(lane.random, wrong);
  const response = await fetch(lane.url + path, { method: "POST", body, headers: { ...headersOf(lane), ...headers } });
  refusedWith(lane, status, body, response.status, await response.text());
};

const namesOf = (count: number): string => Array.from({ length: count }, (_, i) => `"name${i}":1`).join();

/** Sends bodies that are too large, or as large as they may be and of no use. */
const overflow: Client = async (lane) => {
  const size = bodyLimit - 100;
  const [body, status] = pick<() => [string, number]>(lane.random, [
    () => [`{"prompt":"${"x".repeat(bodyLimit)}"}`, 413],
    () => [`{"prompt":"${"Call me ".repeat(size / 8)}"}`, 400],
    () => [`{"prompt":[${"7,".repeat(size / 2)}7]}`, 413],
    () => [`{"prompt":[${"7,".repeat(150_000)}7]}`, 400],
    () => [`{"prompt":[${'"Call",'.repeat(150_000)}"me"]}`, 400],
    () => [`{"prompt":"a","stop":[${'"a",'.repeat(size / 4)}"a"]}`, 413],
    () => [`{"prompt":"a",${namesOf(size / 16)}}`, 413],
    () => [`{"prompt":"a",${namesOf(25_000)}}`, 413],
  ])();
  const response = await open(lane, "/v1/completions", body).catch((error: unknown) => {
    // The server answers and closes the connection before it has read everything.
    const { code = "" } = error as NodeJS.ErrnoException;
    ok(["ECONNRESET", "EPIPE"].includes(code), `an unexpected error: ${String(error)}`);
    return null;
  });
  if (response === null) return;
  const received = await textOf(response).catch(() => "");
  // So it does with a refusal that was not read in time.
  if (received === "") return;
  refusedWith(lane, status, body, response.statusCode!, received);
};

const useWrongKey: Client = async (lane) => {
  const key = pick(lane.random, ["", "alph", "alphabeta", "x".repeat(5000), "ä"]);
  const headers = { ...headersOf(lane), authorization: Buffer.from(`Bearer ${key}`).toString("latin1") };
  const response = await post(lane, "/v1/completions", { prompt: "a" }, { headers });
  await response.text();
  strictEqual(response.status, 401);
};

/** Sends bytes that are no request, or a part of one, and goes. */
const stammer: Client = async ({ url, random }) => {
  const port = Number(new URL(url).port);
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => undefined);
  const head =
    "POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alpha\r\nContent-Type: application/json\r\n";
  const body = '{"prompt":"a","max_tokens":100,"stream":true}';
  const whole = `${head}Content-Length: ${body.length}\r\n\r\n${body}`;
  socket.write(
    pick(random, [
      "\0\xff\n\n",
      "GET / HTTP/9\r\n\r\n",
      `GET / HTTP/1.1\r\nHost: x\r\nX: ${"x".repeat(20_000)}\r\n\r\n`,
      `${head}Transfer-Encoding: chunked\r\n\r\nzz\r\n`,
      `${head}Content-Length: 100\r\n\r\n{"prompt":`,
      whole.slice(0, random.integer(whole.length)),
      whole.repeat(3),
    ]),
  );
  await sleep(random.integer(100));
  if (random.integer(2)) socket.destroy();
  else socket.resetAndDestroy();
};

/** Resolves to the JSON of an answer, which must be no refusal. */
async function answerOf(response: Response): Promise<unknown> {
  const text = await response.text();
  strictEqual(response.status, 200, text);
  return JSON.parse(text);
}

/** Reads everything else that there is. */
const look: Client = async (lane) => {
  const headers = headersOf(lane);
  const was = lane.broken();
  for (const path of ["/health", "/ready", "/metrics", "/openapi.json", "/v1/models"]) {
    const response = await fetch(lane.url + path, { headers });
    const text = await response.text();
    // A server whose steps fail is not ready.
    if (path === "/ready" && response.status === 503) ok(was || lane.broken(), "the server is not ready");
    else strictEqual(response.status, 200, `${path}: ${text}`);
  }
  const embedded = await post(lane, "/v1/embeddings", { model: "embedder", input: "the whale" });
  const { data } = (await answerOf(embedded)) as { data: { embedding: number[] }[] };
  deepStrictEqual(data[0]!.embedding, lane.vector, "a vector has changed");
  const tokenized = await post(lane, "/tokenize", { prompt: "hello world" });
  const { count } = (await answerOf(tokenized)) as { count: number };
  strictEqual(count, lane.count);
};

export const clients: readonly Client[] = [
  ...[ask, ask, ask, ask, ask, ask, leave, leave, leave, readSlowly, readSlowly],
  ...[crowd, mistake, mistake, overflow, useWrongKey, stammer, stammer, look, attack, attack, attack],
];
