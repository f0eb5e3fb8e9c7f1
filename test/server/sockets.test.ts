/** Bodies that are not sent as they should be, over raw sockets: every client gets an answer, and no connection stays. */
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { chatModel, start, until } from "./support.js";

const model = chatModel();
const question = '{"prompt":"a","max_tokens":2}';

interface Raw {
  socket: Socket;
  received: () => string;
  /** True if the server has ended its half of the connection, or closed it. */
  ended: () => boolean;
}

function open(url: string): Raw {
  const socket = connect({ host: "127.0.0.1", port: Number(new URL(url).port), allowHalfOpen: true });
  onTestFinished(() => void socket.destroy());
  let [received, ended] = ["", false];
  socket.on("data", (data) => (received += data.toString()));
  for (const event of ["end", "close", "error"]) socket.on(event, () => (ended = true));
  return { socket, received: () => received, ended: () => ended };
}

const head = (length: string, key = "alpha"): string =>
  `POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key}\r\nContent-Type: application/json\r\n${length}\r\n\r\n`;
const bodyLimit = 2 ** 18;
const options = { models: { tiny: model }, apiKeys: ["alpha"], bodyLimit };

test("an answer that comes before the body leaves the connection in order", async () => {
  const { url } = await start(options);
  const { socket, received } = open(url);
  socket.write(head(`Content-Length: ${bodyLimit}`, "wrong"));
  socket.write("x".repeat(1000));
  await until(() => received().includes("401 Unauthorized"));
  socket.write("x".repeat(bodyLimit - 1000));
  socket.write(head(`Content-Length: ${question.length}`) + question);
  await until(() => received().includes("200 OK"));
});

test.each([
  ["by its length, and the client waits", `Content-Length: ${bodyLimit + 1}`, "x"],
  ["by its length, and the client goes on", `Content-Length: ${8 * bodyLimit}`, "x".repeat(8 * bodyLimit)],
  ["by what has come of it", "Transfer-Encoding: chunked", `80000\r\n${"x".repeat(0x80000)}\r\n`],
])("a body that is too large %s", async (_, length, body) => {
  const { url } = await start(options);
  const { socket, received, ended } = open(url);
  socket.write(head(length));
  socket.write(body);
  await until(() => received().includes("413 Payload Too Large") || ended());
  await until(ended);
});

test("a body that does not come is waited for as long as the server says", async () => {
  const { url } = await start({ ...options, receiveSeconds: 0.3 });
  const waiting = [open(url), open(url)];
  waiting[0]!.socket.write(head("Content-Length: 100") + "{");
  waiting[1]!.socket.write(head("Transfer-Encoding: chunked") + "1\r\n{\r\n");
  await until(() => waiting.every(({ ended }) => ended()));
  for (const { received } of waiting) expect(received()).toContain("408 Request Timeout");
});

test("a long prompt is refused at once, whatever its length, and others are answered meanwhile", async () => {
  const { url, post } = await start({ ...options, bodyLimit: 2 ** 22 });
  const body = JSON.stringify({ prompt: "Call me ".repeat(2 ** 18) });
  const began = process.cpuUsage();
  const clients = [1, 2, 3].map(() => open(url));
  for (const { socket } of clients) socket.write(head(`Content-Length: ${body.length}`) + body);
  const headers = { authorization: "Bearer alpha" };
  const other = await post("/v1/completions", { prompt: "a", max_tokens: 2 }, { headers });
  expect(other.status).toBe(200);
  await until(() => clients.every(({ received }) => received().includes("context_length_exceeded")));
  // To encode 2 MiB takes longer than this, and here are three of them.
  expect(process.cpuUsage(began).user / 1e6).toBeLessThan(1.5);
});

test("a server ends though clients leave their halves of connections open, or send what nobody reads", async () => {
  const { url, close } = await start({ ...options, drainSeconds: 5 });
  const [asking, sending] = [open(url), open(url)];
  const long = '{"prompt":"a","max_tokens":80,"min_tokens":80,"stream":true}';
  asking.socket.write(head(`Content-Length: ${long.length}`) + long);
  await until(() => asking.received().includes("data: "));
  const closing = close();
  sending.socket.write(head(`Content-Length: ${bodyLimit}`));
  sending.socket.write("x".repeat(1000));
  const limit = sleep(20_000, "the server does not end", { ref: false });
  expect(await Promise.race([closing, limit])).toBeUndefined();
  expect(asking.received()).toContain("[DONE]");
});
