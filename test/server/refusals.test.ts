/** Requests that reach no route, over raw sockets: each gets one answer, in OpenAI's form. */
import fastify from "fastify";
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { describe, expect, onTestFinished, test } from "vitest";
import { heedServer } from "../../lib/server/index.js";
import { certificate } from "./certificate.js";
import { chatModel, type ErrorBody, start, until } from "./support.js";

const model = chatModel();
const models = { tiny: model };

interface Answer {
  status: number;
  headers: Record<string, string>;
  error: ErrorBody["error"];
  /** Text that follows the answer. */
  rest: string;
}

/** Reads an answer by the letters of RFC 9112. */
function answerOf(received: string): Answer | null {
  const end = received.indexOf("\r\n\r\n");
  if (end === -1) return null;
  const [line, ...fields] = received.slice(0, end).split("\r\n");
  const headers = Object.fromEntries(
    fields.map((field) => [field.split(":")[0]!.toLowerCase(), field.slice(field.indexOf(":") + 1).trim()]),
  );
  const length = Number(headers["content-length"]);
  const body = received.slice(end + 4, end + 4 + length);
  if (body.length < length) return null;
  const rest = received.slice(end + 4 + length);
  const { error } = JSON.parse(body) as ErrorBody;
  return { status: Number(/^HTTP\/1\.1 (\d{3}) \w/.exec(line!)![1]), headers, error, rest };
}

interface Raw {
  socket: Socket;
  received: () => string;
  ended: () => boolean;
}

function raw(socket: Socket): Raw {
  onTestFinished(() => void socket.destroy());
  let [received, ended] = ["", false];
  socket.on("data", (data: Buffer) => (received += data.toString("latin1")));
  for (const event of ["end", "close", "error"]) socket.on(event, () => (ended = true));
  return { socket, received: () => received, ended: () => ended };
}

const open = (url: string): Raw => raw(connect(Number(new URL(url).port), "127.0.0.1"));

/** Sends bytes and resolves to the answer. */
async function send({ socket, received }: Raw, bytes: string): Promise<Answer> {
  socket.write(bytes, "latin1");
  await until(() => answerOf(received()) !== null);
  return answerOf(received())!;
}

const post = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
const long = "x".repeat(20_000);
const bodyLimit = 1000;

/** Bytes that are sent, the status and the code of the answer, and whether the connection is closed afterwards. */
const cases: Record<string, [bytes: string, status: number, code: string, closes: boolean]> = {
  "bytes that are no request": ["\0\xff\n\n", 400, "malformed_request", true],
  "an unknown method": ["WHALE / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "malformed_request", true],
  "an unknown version": ["GET / HTTP/9.1\r\nHost: x\r\n\r\n", 400, "malformed_request", true],
  "a header without a name": ["GET / HTTP/1.1\r\n: x\r\n\r\n", 400, "malformed_request", true],
  "two lengths": [`${post}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}`, 400, "malformed_request", true],
  "a length that is no number": [`${post}Content-Length: 2x\r\n\r\n{}`, 400, "malformed_request", true],
  "a length beside chunks": [
    `${post}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n`,
    ...([400, "malformed_request", true] as const),
  ],
  "a chunk without a length": [`${post}Transfer-Encoding: chunked\r\n\r\nzz\r\n`, 400, "malformed_request", true],
  "chunk extensions that are too long": [
    `${post}Transfer-Encoding: chunked\r\n\r\n2;${long}\r\n{}\r\n`,
    ...([413, "body_too_large", true] as const),
  ],
  "headers that are too long": [`GET / HTTP/1.1\r\nHost: x\r\nX: ${long}\r\n\r\n`, 431, "headers_too_large", true],
  "an address that is too long": [`GET /${long} HTTP/1.1\r\nHost: x\r\n\r\n`, 431, "headers_too_large", true],
  "no host": ["GET /health HTTP/1.1\r\n\r\n", 400, "missing_host", false],
  "an expectation": [`${post}Expect: whales\r\nContent-Length: 2\r\n\r\n{}`, 417, "expectation_failed", true],
  "a request to a proxy": ["CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method_not_allowed", true],
  "a malformed address": ["GET /v1/models/%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_url", false],
  "an address without a route": ["GET /v2/models HTTP/1.1\r\nHost: x\r\n\r\n", 404, "unknown_url", false],
  "a method that fastify does not know": ["PROPFIND /v2 HTTP/1.1\r\nHost: x\r\n\r\n", 404, "unknown_url", false],
  "a method that the route does not have": [
    "DELETE /v1/completions?a=b HTTP/1.1\r\nHost: x\r\n\r\n",
    ...([405, "method_not_allowed", false] as const),
  ],
  "a method that a route with a name does not have": [
    `${post.replace("completions", "models/tiny")}Content-Length: 2\r\n\r\n{}`,
    ...([405, "method_not_allowed", false] as const),
  ],
  "another type of body": [
    `${post.replace("application/json", "text/html")}Content-Length: 2\r\n\r\n{}`,
    ...([415, "invalid_media_type", false] as const),
  ],
  "a compressed body": [
    `${post}Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}`,
    ...([415, "unsupported_content_encoding", false] as const),
  ],
  "no body": [`${post}Content-Length: 0\r\n\r\n`, 400, "empty_json_body", true],
  "a body that is no JSON": [`${post}Content-Length: 1\r\n\r\n{`, 400, "invalid_json_body", true],
  "a body that is too large": [`${post}Content-Length: ${bodyLimit + 1}\r\n\r\n`, 413, "body_too_large", true],
};

test.each(Object.entries(cases))("%s", async (_, [bytes, status, code, closes]) => {
  const { url } = await start({ models, bodyLimit });
  const client = open(url);
  const answer = await send(client, bytes);
  expect({ status: answer.status, ...answer.error }).toMatchObject({ status, code, type: "invalid_request_error" });
  expect(answer.error.message).not.toBe("");
  expect(answer.error.param).toBeNull();
  expect(answer.headers["content-type"]).toMatch(/^application\/json/);
  expect(answer.headers["x-request-id"]).toMatch(/^req_/);
  if (status === 405 && !bytes.startsWith("CONNECT"))
    expect(answer.headers.allow).toMatch(/^(POST|GET, HEAD|HEAD, GET)$/);
  if (closes) {
    await until(client.ended);
    expect(answerOf(client.received())!.rest).toBe("");
  } else {
    const health = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    client.socket.write(health);
    await until(() => client.received().includes('{"status":"ok"}'));
  }
});

test("requests that do not arrive", async () => {
  const { url } = await start({ models, receiveSeconds: 0.3 });
  const beginnings = ["POST /v1/completions HT", post, `${post}Content-Length: 100\r\n\r\n{`];
  const answers = beginnings.map(async (bytes) => {
    const client = open(url);
    const answer = await send(client, bytes);
    await until(client.ended);
    return answer;
  });
  for (const { status, error, rest } of await Promise.all(answers)) {
    expect({ status, ...error }).toMatchObject({ status: 408, code: "request_timeout", type: "invalid_request_error" });
    expect(rest).toBe("");
  }
});

describe("there is one answer to a request", () => {
  test("though its body does not come after the answer", async () => {
    const { url } = await start({ models, apiKeys: ["alpha"], receiveSeconds: 0.3 });
    const client = open(url);
    const answer = await send(client, `${post}Content-Length: 100\r\n\r\n{`);
    expect(answer).toMatchObject({ status: 401, error: { code: "invalid_api_key" } });
    await until(client.ended);
    expect(answerOf(client.received())!.rest).toBe("");
  });

  test("though something else follows while it is answered", async () => {
    const client = await start({ models });
    const body = '{"prompt":"a","max_tokens":90,"min_tokens":90,"stream":true}';
    const { socket, received, ended } = open(client.url);
    socket.write(`${post}Content-Length: ${body.length}\r\n\r\n${body}`);
    await until(() => received().includes("data: "));
    socket.write("\0\xff\n\n", "latin1");
    await until(ended);
    expect(received()).not.toContain("malformed_request");
    await until(async () => (await client.metric("heed_engine_kv_pages_used")) === 0);
  });
});

test("over TLS", async () => {
  const { url } = await start({ models, tls: certificate });
  const client = raw(connectTls({ host: "127.0.0.1", port: Number(new URL(url).port), ca: certificate.cert }));
  const answer = await send(client, "\0\xff\n\n");
  expect({ status: answer.status, ...answer.error }).toMatchObject({ status: 400, code: "malformed_request" });
});

test("a plugin with a prefix answers for its addresses only", async () => {
  const app = fastify();
  onTestFinished(() => app.close());
  await app.register(heedServer, { models, prefix: "/llm", playground: false });
  const url = await app.listen({ host: "127.0.0.1", port: 0 });
  const own = await fetch(`${url}/llm/v1/nothing`);
  expect({ status: own.status, body: await own.json() }).toMatchObject({
    ...{ status: 404, body: { error: { code: "unknown_url" } } },
  });
  const wrong = await fetch(`${url}/llm/v1/completions`);
  expect([wrong.status, wrong.headers.get("allow")]).toEqual([405, "POST"]);
  expect(await (await fetch(`${url}/other`)).json()).toMatchObject({ error: "Not Found" });
});
