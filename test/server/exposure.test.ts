/** To whom a server is open, and for how long it waits for a client. */
import { once } from "node:events";
import { request } from "node:http";
import fastify from "fastify";
import { type AddressInfo, connect } from "node:net";
import { Readable, Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { createServer } from "../../lib/server/index.js";
import { isLoopback } from "../../lib/server/exposure.js";
import { closeStalled } from "../../lib/server/stalls.js";
import { expectRejection } from "../support/errors.js";
import { chatModel, start, until } from "./support.js";

const model = chatModel();
const models = { tiny: model };

/** Resolves to the status of a request with this header "Host". */
async function statusFor(url: string, host: string, headers: Record<string, string> = {}): Promise<number> {
  const asked = request(`${url}/v1/models`, { headers: { host, ...headers } });
  asked.end();
  const [response] = (await once(asked, "response")) as [{ statusCode: number; resume: () => void }];
  response.resume();
  return response.statusCode;
}

test("a keyless server at a loopback address is not asked by other names", async () => {
  const { url } = await start({ models });
  for (const host of ["localhost", "LOCALHOST:1", "localhost.", "a.localhost", "127.0.0.1:80", "[::1]:80", "[::1]", "10.1.2.3", "box"])
    expect([host, await statusFor(url, host)]).toEqual([host, 200]);
  for (const host of ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "1.2.3.4.5", "[evil.example]"])
    expect([host, await statusFor(url, host)]).toEqual([host, 403]);
  const response = await fetch(`${url}/health`);
  expect(response.status).toBe(200);
}); // prettier-ignore

test("names can be allowed, and a list allows no others", async () => {
  const some = await start({ models, allowedHosts: ["Models.Example.org", "::2"] });
  for (const host of ["models.example.org", "models.example.org:443", "localhost", "127.0.0.1", "[::1]"])
    expect(await statusFor(some.url, host)).toBe(200);
  for (const host of ["example.org", "box"]) expect(await statusFor(some.url, host)).toBe(403);
  const all = await start({ models, allowedHosts: ["*"] });
  expect(await statusFor(all.url, "evil.example")).toBe(200);
  // Who has a key is known, by whatever name the server is asked.
  const keyed = await start({ models, apiKeys: ["alpha"] });
  expect(await statusFor(keyed.url, "evil.example", { authorization: "Bearer alpha" })).toBe(200);
  for (const wrong of ["a:80", "https://a", "", "a b", 3])
    await expectRejection(createServer({ models, allowedHosts: [wrong as string] }), "ERR_ARGUMENT", /allowedHosts/);
});

test("addresses of this machine are told from others", () => {
  for (const one of ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"]) expect(isLoopback(one)).toBe(true);
  for (const one of ["0.0.0.0", "::", "10.0.0.1", "128.0.0.1", "::2", "fe80::1", "::ffff:10.0.0.1", "x", ""])
    expect(isLoopback(one)).toBe(false);
});

test.each([
  ["0.0.0.0", null, 1],
  ["::", null, 1],
  ["127.0.0.1", null, 0],
  ["::1", null, 0],
  ["0.0.0.0", ["alpha"], 0],
])("listening at %s with the keys %j gives %d warnings", async (host, apiKeys, warnings) => {
  let lines = "";
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines += chunk.toString();
      done();
    },
  });
  const app = await createServer({ models, apiKeys, logger: { level: "warn", stream } });
  onTestFinished(async () => app.close());
  try {
    await app.listen({ host, port: 0 });
    // Who opens a server to others may have a proxy ask under its own name.
    const { port } = app.server.address() as AddressInfo;
    const status = host.includes(":") || apiKeys ? null : await statusFor(`http://127.0.0.1:${port}`, "box.example");
    expect(status).toBe(status === null ? null : warnings === 1 ? 200 : 403);
  } catch (error) {
    // A machine may have no IPv6.
    expect((error as NodeJS.ErrnoException).code).toMatch(/EAFNOSUPPORT|EADDRNOTAVAIL/);
    return;
  }
  expect(lines.match(/has no API keys/g) ?? []).toHaveLength(warnings);
});

test("a proxy's header says who asks, if the server trusts it", async () => {
  const asked = async (options: object, forwarded: readonly string[]): Promise<number[]> => {
    const { url } = await start({ models, requestsPerMinute: 1, ...options });
    const statuses = [];
    for (const one of forwarded) statuses.push(await statusFor(url, "localhost", { "x-forwarded-for": one }));
    return statuses;
  };
  const two = ["1.1.1.1", "2.2.2.2"];
  expect(await asked({}, two)).toEqual([200, 429]);
  for (const trustProxy of [true, 1, "127.0.0.0/8, ::1", ["127.0.0.1"], "loopback"])
    expect(await asked({ trustProxy }, two)).toEqual([200, 200]);
  expect(await asked({ trustProxy: "10.0.0.0/8" }, two)).toEqual([200, 429]);
  // A client writes what it likes before the address that the proxy adds.
  expect(await asked({ trustProxy: true }, ["9.9.9.9, 1.1.1.1", "8.8.8.8, 1.1.1.1"])).toEqual([200, 429]);
  for (const wrong of [0, -1, 1.5, "", "proxy", "10.0.0.0/33", [], ["10.0.0.0/8", 3], {}])
    await expectRejection(createServer({ models, trustProxy: wrong as never }), "ERR_ARGUMENT", /trustProxy/);
});

test("there is a largest number of connections", async () => {
  const { url } = await start({ models, maxConnections: 3 });
  const port = Number(new URL(url).port);
  const sockets = Array.from({ length: 5 }, () => connect({ host: "127.0.0.1", port }));
  onTestFinished(() => sockets.forEach((socket) => void socket.destroy()));
  let closed = 0;
  for (const socket of sockets) socket.on("error", () => undefined).on("close", () => closed++);
  await until(() => closed === 2);
  await sleep(50);
  expect(closed).toBe(2);
  for (const socket of sockets) socket.destroy();
  await until(() => closed === 5);
  expect((await fetch(`${url}/health`)).status).toBe(200);
  for (const wrong of [0, -1, 1.5, "3"])
    await expectRejection(createServer({ models, maxConnections: wrong as number }), "ERR_RANGE", /maxConnections/);
});

test("an answer that nobody reads ends, and one that is read slowly does not", async () => {
  const app = await createServer({ models, sendSeconds: 0.5 });
  onTestFinished(async () => app.close());
  const piece = "x".repeat(16_384);
  const left: string[] = [];
  const stream = fastify();
  closeStalled(stream, { sendSeconds: 0.5 });
  // More than the buffers of both sides hold.
  stream.get("/:name", (asked, reply) => {
    const { name } = asked.params as { name: string };
    reply.raw.on("close", () => reply.raw.writableFinished || left.push(name));
    return reply.send(Readable.from(Array.from({ length: 2000 }, () => piece)));
  });
  stream.get("/quiet", (_asked, reply) => {
    // What comes late is not the client's fault.
    setTimeout(() => void reply.send("done"), 1200);
    return reply;
  });
  await stream.listen({ port: 0 });
  onTestFinished(async () => stream.close());
  const open = (port: number, text: string) => {
    const socket = connect({ host: "127.0.0.1", port });
    onTestFinished(() => void socket.destroy());
    socket.on("error", () => undefined);
    socket.write(text);
    return socket.pause();
  };
  const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`;
  const { port } = stream.server.address() as AddressInfo;
  const start = performance.now();
  open(port, get("/silent"));
  const slow = open(port, get("/slow"));
  let taken = 0;
  slow.on("data", (data: Buffer) => {
    taken += data.length;
    slow.pause();
  });
  const reading = setInterval(() => slow.resume(), 4);
  onTestFinished(() => clearInterval(reading));
  const quiet = fetch(`http://127.0.0.1:${port}/quiet`);
  await until(() => left.length > 0);
  expect(left).toEqual(["silent"]);
  expect(performance.now() - start).toBeGreaterThan(450);
  expect(await (await quiet).text()).toBe("done");
  expect(left).toEqual(["silent"]);
  expect(taken).toBeGreaterThan(65_536);
  slow.destroy();
  // The server itself: its largest answer, many times on one connection.
  await app.listen({ port: 0 });
  const connections = async () =>
    new Promise((resolve) => app.server.getConnections((_error, count) => resolve(count)));
  const client = open((app.server.address() as AddressInfo).port, get("/openapi.json").repeat(400));
  await until(async () => (await connections()) === 1);
  await until(async () => (await connections()) === 0);
  client.destroy();
  for (const wrong of [-1, NaN, "60"])
    await expectRejection(createServer({ models, sendSeconds: wrong as number }), "ERR_RANGE", /sendSeconds/);
});
