/** Replicas of `heed serve` behind nginx, as examples/deploy/nginx.conf sets them up. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import OpenAI from "openai";
import { expect, onTestFinished } from "vitest";
import { LanguageModel } from "../../lib/load/language-model.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { smallGpt } from "../generate/models.js";
import { freePort, type Served, startServe } from "../server/process.js";
import { until } from "../server/support.js";
import { sharedFolder, temporaryFolder } from "../support/folder.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { testUnless } from "../support/skip.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";

const example = fileURLToPath(new URL("../../examples/deploy/nginx.conf", import.meta.url));
const noNginx = spawnSync("nginx", ["-v"]).status === 0 ? null : "need nginx (apt-get install nginx)";

const folder = sharedFolder();
const generated = 150;
const prompts = Array.from({ length: 12 }, (_, i) => `Call me ${i}`);

/** Saves a model, and resolves to its greedy answers to the prompts. */
async function answersOf(to: string): Promise<string[]> {
  const tokenizer = new HuggingFaceTokenizer(byteLevelJson());
  const size = { vocabularySize: 272, contextLength: 1024, layers: 2, heads: 2, width: 32 };
  using model = new LanguageModel({ model: smallGpt("cpu", size), tokenizer });
  await savePretrained(to, model.model, { tokenizer });
  const options = { temperature: 0, maxTokens: generated, minTokens: generated };
  return await Promise.all(prompts.map(async (prompt) => (await model.generate(prompt, options)).text));
}

/** Starts nginx with the example, in which only addresses and the place of the log differ. Resolves to its address. */
async function startNginx(ports: readonly number[], own: string): Promise<string> {
  const port = await freePort();
  const conf = readFileSync(example, "utf8")
    .replace("listen 8080", `listen 127.0.0.1:${port}`)
    .replace("127.0.0.1:8081", `127.0.0.1:${ports[0]}`)
    .replace("127.0.0.1:8082", `127.0.0.1:${ports[1]}`)
    .replace("/var/log/nginx/heed.log", "heed.log");
  writeFileSync(path.join(own, "heed.conf"), conf);
  const kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  const main = `
    ${process.getuid!() === 0 ? "user root;" : ""}
    daemon off;
    pid nginx.pid;
    events {}
    http {
      ${kinds.map((kind) => `${kind}_temp_path ${kind};`).join(" ")}
      include heed.conf;
    }`;
  writeFileSync(path.join(own, "nginx.conf"), main);
  const child = spawn("nginx", ["-p", own, "-c", "nginx.conf", "-e", "stderr"], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.on("data", (data: Buffer) => (said += data.toString()));
  onTestFinished(async () => {
    if (child.exitCode !== null) return;
    child.kill("SIGTERM");
    await once(child, "exit");
  });
  const url = `http://127.0.0.1:${port}`;
  await until(async () => {
    if (child.exitCode !== null) throw new Error(`nginx has ended: ${said}`);
    return (await fetch(url).catch(() => null)) !== null;
  });
  return url;
}

/** A client that never tries again, so that every failure shows. */
const clientOf = (url: string, apiKey: string): OpenAI => new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });

/** Clients, each with a key of its own, that ask one thing after the other until they are stopped. */
class Load {
  answers = 0;
  readonly #done: Promise<unknown>;
  #stopped = false;

  constructor(url: string, keys: readonly string[], expected: readonly string[], stream: boolean) {
    const ask = stream ? streamed : whole;
    this.#done = Promise.all(
      prompts.map(async (prompt, i) => {
        const client = clientOf(url, keys[i]!);
        while (!this.#stopped) {
          expect(await ask(client, prompt)).toBe(expected[i]);
          this.answers++;
        }
      }),
    );
    this.#done.catch(() => undefined);
  }

  /** Waits for as many further answers as there are clients, and then for what still runs. */
  async stop(): Promise<void> {
    const enough = this.answers + prompts.length;
    await Promise.race([until(() => this.answers >= enough, 30), this.#done]);
    this.#stopped = true;
    await this.#done;
  }
}

const bodyOf = (prompt: string) => ({
  ...{ model: "whale", prompt, temperature: 0, max_tokens: generated, min_tokens: generated },
});

async function whole(client: OpenAI, prompt: string): Promise<string> {
  return (await client.completions.create(bodyOf(prompt))).choices[0]!.text;
}

async function streamed(client: OpenAI, prompt: string): Promise<string> {
  const parts: string[] = [];
  const stream = await client.completions.create({ ...bodyOf(prompt), stream: true });
  for await (const { choices } of stream) parts.push(choices[0]!.text);
  return parts.join("");
}

const running = ({ metric }: Served): Promise<number> => metric("heed_engine_requests_running");
const received = ({ metric }: Served): Promise<number> =>
  metric('heed_http_requests_total{method="POST",route="/v1/completions"');

testUnless(noNginx)("replicas come and go without a failed request", async () => {
  const model = path.join(folder, "whale");
  const expected = await answersOf(model);
  const ports = [await freePort(), await freePort()];
  const start = (i: number): Promise<Served> => startServe(["--model", model], ports[i]);
  const [first, second] = await Promise.all([start(0), start(1)]);
  const own = temporaryFolder();
  const url = await startNginx(ports, own);

  const log = (): string[] => readFileSync(path.join(own, "heed.log"), "utf8").trim().split("\n");
  /** Resolves to the replica that answers a request with these headers. */
  const replicaOf = async (headers: Record<string, string>): Promise<string> => {
    const init = { method: "POST", headers: { "content-type": "application/json", ...headers } };
    const answer = await fetch(`${url}/v1/completions`, {
      ...init,
      body: JSON.stringify({ prompt: "a", max_tokens: 1 }),
    });
    expect(answer.status).toBe(200);
    await answer.text();
    const id = answer.headers.get("x-request-id")!;
    const line = (): string | undefined => log().find((one) => one.endsWith(id));
    await until(() => line() !== undefined);
    return /replicas (\S+): /.exec(line()!)![1]!;
  };

  // Each key has its replica, and so has each session, whatever its key. Half of the clients belong to each replica.
  const addresses = ports.map((port) => `127.0.0.1:${port}`);
  const keys = new Map(addresses.map((address) => [address, [] as string[]]));
  const share = prompts.length / 2;
  let asked = 0;
  while ([...keys.values()].some(({ length }) => length < share)) {
    const key = `key-${asked++}`;
    const place = await replicaOf({ authorization: `Bearer ${key}` });
    keys.get(place)!.push(key);
  }
  const clients = [...keys.values()].flatMap((some) => some.slice(0, share));
  for (const [address, [key]] of keys) {
    const ofKey = { authorization: `Bearer ${key}` };
    expect(await replicaOf(ofKey)).toBe(address);
    const ofSession = { ...ofKey, "x-session-id": "session" };
    const places = [await replicaOf(ofSession), await replicaOf({ "x-session-id": "session" })];
    expect(new Set(places).size).toBe(1);
  }
  expect((await received(first)) + (await received(second))).toBe(asked + 6);

  // The parts of a stream come before the answer is complete, and its replica notices if the client leaves.
  const endless = { ...bodyOf("a"), max_tokens: 1000, min_tokens: 1000 };
  const stream = await clientOf(url, "a").completions.create({ ...endless, stream: true });
  for await (const { choices } of stream) if (choices[0]!.text !== "") break;
  await until(async () => (await running(first)) + (await running(second)) === 0);
  expect((await first.metric("heed_failures_total")) + (await second.metric("heed_failures_total"))).toBe(1);

  // One is killed while it answers: nginx sends its requests to the other one.
  const plain = new Load(url, clients, expected, false);
  await until(async () => (await running(first)) > 1);
  await first.end("SIGKILL");
  await plain.stop();
  expect(log().some((line) => line.includes(`replicas ${addresses[0]}, ${addresses[1]}: 502, 200`))).toBe(true);

  // It comes back, and the other one is shut down: it finishes its streams, and new requests find the first.
  const again = await start(0);
  // nginx tries it again after fail_timeout, of which it counts whole seconds.
  await new Promise((resolve) => setTimeout(resolve, 3100));
  const streams = new Load(url, clients, expected, true);
  // nginx sends it a single request until that is answered. The other one may go as soon as this one takes several.
  await until(async () => (await running(again)) > 1 && (await running(second)) > 1);
  expect(await second.end("SIGTERM")).toBe(0);
  await streams.stop();
  expect(await received(again)).toBeGreaterThan(0);

  // Without a replica, clients are told to come again.
  await again.end("SIGKILL");
  const none = await fetch(`${url}/v1/models`);
  expect([none.status, none.headers.get("retry-after")]).toEqual([503, "2"]);
  expect(await none.json()).toMatchObject({ error: { code: "overloaded" } });
});
