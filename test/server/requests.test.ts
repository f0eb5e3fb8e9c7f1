/**
 * Recorded requests to OpenAI-compatible servers, each with what must come back. Those that heed refuses on purpose are
 * named in refused-requests.ts; there are no others.
 */
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { EmbeddingModel } from "../../lib/load/embedding-model.js";
import { LanguageModel } from "../../lib/load/language-model.js";
import { Bert } from "../../lib/models/bert.js";
import { Llama } from "../../lib/models/llama.js";
import { loadLlama2c } from "../../lib/pretrained/families/load-llama2c.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { Llama2cTokenizer } from "../../lib/tokenizer/llama2c-tokenizer.js";
import { noReference, noShared, sharedModel, sharedReference } from "../support/shared.js";
import { describeUnless } from "../support/skip.js";
import { wordPieceJson } from "../tokenizer/fixtures.js";
import { refusedRequests } from "./refused-requests.js";
import { type Client, rankingModel, start } from "./support.js";

/** A recorded request. */
interface Recorded {
  name: string;
  method: string;
  path: string;
  headers?: Record<string, string>;
  body?: unknown;
  wire?: string;
  server?: "keyed";
  expect: Expected;
}

/** Answer that a request has to get. */
interface Expected {
  status: number | number[];
  fields?: string[];
  absent?: string[];
  equals?: Record<string, unknown>;
  error?: Record<string, unknown>;
  headers?: Record<string, string>;
  absent_headers?: string[];
  stream?: boolean;
}

/** Answer that a request has got. */
interface Answer {
  status: number;
  headers: Headers;
  text: string;
}

const stories = sharedModel("stories260K");
const recorded = sharedReference("requests.jsonl");
const described = sharedReference("requests.md");
const missing = !stories ? noShared : !recorded || !described ? noReference : false;
const key = "secret";
const origin = "https://web.mydomain.fr";

/** Names of the models, the longer ones first. */
const placeholders: readonly (readonly [string, string])[] = [
  ...([["$MODEL_PLAIN", "plain"], ["$MODEL_TOOLS", "tools"], ["$MODEL_SINGLE", "single"], ["$MODEL_WHOLE", "whole"]] as const), // prettier-ignore
  ...([
    ["$MODEL", "stories"],
    ["$EMBEDDER", "embedder"],
    ["$RERANKER", "reranker"],
    ["$KEY", key],
  ] as const),
];

/** Returns the template that the description of the requests has for a model. */
function templateOf(model: string): string {
  const blocks = readFileSync(described!, "utf8").matchAll(/^(\$MODEL\w*)[^\n]*:\n\n```jinja\n([\s\S]*?)\n```/gm);
  for (const [, name, template] of blocks) if (name === model) return template!;
  throw new Error(`no template for ${model}`);
}

async function servedModels(): Promise<
  Record<string, LanguageModel | EmbeddingModel | ReturnType<typeof rankingModel>>
> {
  const read = (): Promise<Llama> => loadLlama2c(path.join(stories!, "stories260K.bin"), { device: "cpu" });
  const json = (await Llama2cTokenizer.fromFile(path.join(stories!, "tok512.bin"))).toHuggingFace().toJSON();
  const make = async (name: string | null, contextLength = 512): Promise<LanguageModel> => {
    const small = await read();
    const model = contextLength === 512 ? small : new Llama({ ...small.config, contextLength }, { device: "cpu" });
    if (model !== small) {
      const saved = Object.entries(small.stateDict()).map(async ([name, weight]) => {
        return [name, { shape: weight.shape, values: await weight.data() }] as const;
      });
      model.loadStateDict(Object.fromEntries(await Promise.all(saved)));
    }
    const { tokenizer: definition, config } = json;
    const chatTemplate = name === null ? {} : { chatTemplate: templateOf(name) };
    const tokenizer = new HuggingFaceTokenizer(definition, { config: config ?? {}, ...chatTemplate });
    return new LanguageModel({ model, tokenizer, defaults: { stopTokens: [tokenizer.endOfText!] } });
  };
  const size = { vocabularySize: 100, contextLength: 128, layers: 1, heads: 2, width: 32, feedForwardWidth: 12 };
  const bert = new Bert(size, { device: "cpu", seed: 5 });
  const tokenizer = new HuggingFaceTokenizer(wordPieceJson());
  return {
    stories: await make("$MODEL"),
    plain: await make(null),
    tools: await make("$MODEL_TOOLS", 4096),
    single: await make("$MODEL_SINGLE", 4096),
    whole: await make("$MODEL_WHOLE", 4096),
    embedder: new EmbeddingModel({ model: bert, tokenizer, recipe: { normalize: true } }),
    reranker: rankingModel(128),
  };
}

async function answerTo(server: Client, { method, path, headers, body, wire }: Recorded): Promise<Answer> {
  if (wire !== undefined) return overSocket(server, wire);
  const given = body as { raw?: string; gzip?: string } | null | undefined;
  const sent =
    given === undefined
      ? undefined
      : typeof given?.raw === "string"
        ? given.raw
        : typeof given?.gzip === "string"
          ? gzipSync(given.gzip)
          : JSON.stringify(given);
  const response = await fetch(server.url + path, {
    ...{ method, headers: { ...(sent !== undefined && { "content-type": "application/json" }), ...headers } },
    ...(sent !== undefined && { body: sent }),
  });
  return { status: response.status, headers: response.headers, text: await response.text() };
}

/** Sends exactly these bytes, with the lengths of the body as they are after the placeholders were filled in. */
async function overSocket({ url }: Client, wire: string): Promise<Answer> {
  const [head, ...rest] = wire.split("\r\n\r\n");
  const chunk = /^[0-9a-f]+\r\n([\s\S]*?)\r\n0$/.exec(rest[0]!)?.[1];
  const length = (text: string): number => Buffer.byteLength(text);
  const body = chunk === undefined ? rest[0]! : `${length(chunk).toString(16)}\r\n${chunk}\r\n0\r\n\r\n`;
  const sent = `${head!.replace(/content-length: \d+/i, `Content-Length: ${length(body)}`)}\r\n\r\n${body}`;
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  socket.write(sent);
  let text = "";
  for await (const part of socket) text += (part as Buffer).toString();
  const [start, ...others] = text.split("\r\n\r\n");
  return { status: Number(start!.split(" ")[1]), headers: new Headers(), text: others.join("\r\n\r\n") };
}

function at(value: unknown, place: string): unknown {
  return place
    .split(".")
    .reduce<unknown>((one, name) => (one as Record<string, unknown> | null | undefined)?.[name], value);
}

/** Returns what is wrong with an answer, or null. */
function faultOf({ status, headers, text }: Answer, wanted: Expected, url: string): string | null {
  if (![wanted.status].flat().includes(status)) return `status ${status}: ${text.slice(0, 200)}`;
  for (const [name, value] of Object.entries(wanted.headers ?? {})) {
    const got = headers.get(name) ?? "";
    if (value.startsWith("~") ? !new RegExp(value.slice(1)).test(got) : got !== value) return `${name}: ${got}`;
  }
  for (const name of wanted.absent_headers ?? []) if (headers.has(name)) return `has ${name}`;
  if (wanted.stream) {
    if (!headers.get("content-type")?.startsWith("text/event-stream")) return "no stream";
    return url.includes("/completions") && !text.endsWith("data: [DONE]\n\n") ? "no [DONE]" : null;
  }
  if (!wanted.fields && !wanted.absent && !wanted.equals && !wanted.error) return null;
  const body = JSON.parse(text) as { error?: { message?: unknown } };
  for (const place of wanted.fields ?? []) if (at(body, place) === undefined) return `no ${place}`;
  for (const place of wanted.absent ?? []) if (at(body, place) !== undefined) return `has ${place}`;
  const equal = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);
  for (const [place, value] of Object.entries(wanted.equals ?? {}))
    if (!equal(at(body, place), value)) return `${place} is ${JSON.stringify(at(body, place))}`;
  if (wanted.error && typeof body.error?.message !== "string") return "no message";
  for (const [name, value] of Object.entries(wanted.error ?? {}))
    if (!equal(at(body.error, name), value)) return `error.${name} is ${JSON.stringify(at(body.error, name))}`;
  return null;
}

describeUnless(missing)("recorded requests", () => {
  test("each gets what must come back, but for those that are refused on purpose", { timeout: 120_000 }, async () => {
    const models = await servedModels();
    const open = await start({ models });
    const keyed = await start({ models, apiKeys: [key], corsOrigins: [origin] });
    const refused = new Map(refusedRequests.flatMap((row) => row.cases.map((name) => [name, row.answer] as const)));
    const unexpected: string[] = [];
    const lines = readFileSync(recorded!, "utf8").trim().split("\n");
    for (const line of lines) {
      const filled = placeholders.reduce((text, [from, to]) => text.replaceAll(from, to), line);
      const request = JSON.parse(filled) as Recorded;
      const answer = await answerTo(request.server === "keyed" ? keyed : open, request);
      const own = refused.get(request.name);
      refused.delete(request.name);
      const wanted = own ? { status: own[0], error: { code: own[1] } } : request.expect;
      const fault = faultOf(answer, wanted, request.path);
      if (fault) unexpected.push(`${request.name}: ${fault}`);
    }
    expect(unexpected).toEqual([]);
    expect([...refused.keys()], "refused requests that are not recorded").toEqual([]);
    expect(lines.length).toBeGreaterThan(400);
  });
});

describe("refused requests", () => {
  test("each has a request, an error and a reason in words", () => {
    for (const { cases, request, answer, reason } of refusedRequests) {
      expect(cases.length, request).toBeGreaterThan(0);
      expect(answer[0], request).toBeGreaterThanOrEqual(400);
      expect(reason, request).toMatch(/^[A-Z`h].{20,}\.$/);
    }
  });
});
