/** Bodies that are refused while they are still being sent: every client reads the answer, and no connection stays. */
import { once } from "node:events";
import { type Agent, createServer, Agent as HttpAgent, request } from "node:http";
import { type AddressInfo, connect } from "node:net";
import OpenAI from "openai";
import { expect, onTestFinished, test } from "vitest";
import { lingerAfterAnswer } from "../../lib/server/connections.js";
import { chatModel, start, until } from "./support.js";

const model = chatModel();
const bodyLimit = 2 ** 16;
const content = "x".repeat(2 ** 23);
const body = JSON.stringify({ prompt: content });
const refusal = [413, { error: { type: "invalid_request_error", code: expect.any(String) as string } }];

/** Posts with node:http, which writes the whole body at once. Rejects if the body is not taken as well. */
async function post(url: string, headers: Record<string, string>, agent?: Agent): Promise<[number, unknown]> {
  const sent = request(url, {
    ...{ method: "POST", agent, headers: { "content-type": "application/json", ...headers } },
  });
  sent.end(body);
  const closed = once(sent, "close");
  const [response] = (await once(sent, "response")) as [AsyncIterable<Buffer> & { statusCode: number }];
  let text = "";
  for await (const part of response) text += part.toString();
  await closed;
  return [response.statusCode, JSON.parse(text)];
}

const lengthOf = { "content-length": String(body.length) };
const chunked = { "transfer-encoding": "chunked" };

test.each<[string, (url: string) => Promise<[number, unknown]>]>([
  [
    "fetch",
    async (url) => {
      const response = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body });
      return [response.status, await response.json()];
    },
  ],
  [
    "fetch with a stream",
    async (url) => {
      const parts = new ReadableStream<Uint8Array>({
        start: (stream) => {
          for (let at = 0; at < body.length; at += 2 ** 20) stream.enqueue(Buffer.from(body.slice(at, at + 2 ** 20)));
          stream.close();
        },
      });
      const init = { method: "POST", headers: { "content-type": "application/json" }, body: parts, duplex: "half" };
      const response = await fetch(url, init as RequestInit);
      return [response.status, await response.json()];
    },
  ],
  ["node:http with the length", (url) => post(url, lengthOf)],
  ["node:http in chunks", (url) => post(url, chunked)],
  [
    "node:http with connections that stay",
    async (url) => {
      const agent = new HttpAgent({ keepAlive: true });
      try {
        return await post(url, lengthOf, agent);
      } finally {
        agent.destroy();
      }
    },
  ],
  [
    "OpenAI's client",
    async (url) => {
      const client = new OpenAI({ baseURL: url.replace("/completions", ""), apiKey: "none", maxRetries: 0 });
      const asked = client.completions.create({ model: "tiny", prompt: content });
      const { status, error } = (await asked.catch((cause: unknown) => cause)) as { status: number; error: unknown };
      return [status, { error }];
    },
  ],
])("20 of 20 requests read that their body is too large: %s", async (_, ask) => {
  const { url } = await start({ models: { tiny: model }, bodyLimit });
  for (let i = 0; i < 20; i++) expect(await ask(`${url}/v1/completions`)).toMatchObject(refusal);
});

/** Sends the head of a request, and then parts of its body, without an end. */
function sendWithoutEnd(url: string): { sent: () => number; received: () => string; closed: () => boolean } {
  const socket = connect({ host: "127.0.0.1", port: Number(new URL(url).port), allowHalfOpen: true });
  onTestFinished(() => void socket.destroy());
  const head = `POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${2 ** 40}\r\n\r\n`;
  const part = Buffer.alloc(2 ** 20, "x");
  const send = (): void => {
    while (!socket.destroyed && socket.write(part));
  };
  let [received, closed] = ["", false];
  socket.on("data", (data) => (received += data.toString())).on("drain", send);
  socket.on("error", () => (closed = true)).on("close", () => (closed = true));
  socket.write(head, send);
  return { sent: () => socket.bytesWritten, received: () => received, closed: () => closed };
}

test("a client that never stops sending is answered, and cut", async () => {
  const { url } = await start({ models: { tiny: model }, bodyLimit });
  const { sent, received, closed } = sendWithoutEnd(url);
  await until(closed);
  expect(received()).toMatch(/^HTTP\/1.1 413 [^]*\r\nconnection: close\r\n[^]*"error"/i);
  // What the system and the client hold back counts too.
  expect(sent()).toBeGreaterThan(2 ** 26);
  expect(sent()).toBeLessThan(2 ** 27);
});

test("a connection that an answer leaves open is cut as well", async () => {
  const { url } = await start({ models: { tiny: model }, apiKeys: ["alpha"], bodyLimit });
  const { sent, received, closed } = sendWithoutEnd(url);
  await until(closed);
  expect(received()).toMatch(/^HTTP\/1.1 401 /);
  expect(sent()).toBeLessThan(2 ** 27);
});

test("a server ends while clients are still sending what it has refused", async () => {
  const { url, close } = await start({ models: { tiny: model }, bodyLimit, drainSeconds: 20 });
  const socket = connect({ host: "127.0.0.1", port: Number(new URL(url).port), allowHalfOpen: true });
  onTestFinished(() => void socket.destroy());
  let answered = false;
  socket.on("data", () => (answered = true)).on("error", () => undefined);
  socket.write(
    `POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9999999\r\n\r\n`,
  );
  const sending = setInterval(() => socket.write("x"), 20);
  onTestFinished(() => clearInterval(sending));
  await until(() => answered);
  const began = performance.now();
  await close();
  expect(performance.now() - began).toBeLessThan(4000);
});

test.each([
  ["stops", { bytes: 2 ** 20, idle: 100, whole: 60_000 }, 0],
  ["goes on for too long", { bytes: 2 ** 20, idle: 60_000, whole: 200 }, 10],
])("a connection is closed if the client %s", async (_, bounds, interval) => {
  const server = createServer((request, response) => {
    lingerAfterAnswer(request, bounds);
    request.resume();
    response.writeHead(413, { connection: "close" }).end("too large");
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const socket = connect({ port: (server.address() as AddressInfo).port, host: "127.0.0.1", allowHalfOpen: true });
  onTestFinished(() => void socket.destroy());
  const [serverSide] = (await once(server, "connection")) as [NodeJS.EventEmitter];
  let closed = false;
  serverSide.once("close", () => (closed = true));
  let received = "";
  socket.on("data", (data) => (received += data.toString())).on("error", () => undefined);
  socket.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx");
  const sending = interval > 0 ? setInterval(() => socket.write("x"), interval) : undefined;
  onTestFinished(() => clearInterval(sending));
  await until(() => closed);
  expect(received).toContain("too large");
  server.close();
  await once(server, "close");
});
