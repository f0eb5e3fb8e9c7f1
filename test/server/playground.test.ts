/** The playground: how the server serves it, and how the page reads answers. */
import { beforeAll, describe, expect, test } from "vitest";
import { eventData } from "../../lib/server/web/events.js";
import { piecesOf, tokensOf } from "../../lib/server/web/tokens.js";
import { dist } from "../support/dist.js";
import { smallGpt } from "../generate/models.js";
import { LanguageModel } from "../../lib/load/language-model.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { chatModel, embeddingModel, start } from "./support.js";

const plain = new LanguageModel({ model: smallGpt("cpu", { vocabularySize: 256 }), tokenizer: new ByteTokenizer() });
const models = { vectors: embeddingModel(), chatting: chatModel(), plain };

beforeAll(() => void dist("server/web/index.html"));

describe("serving", () => {
  test("the page allows its own script and style alone, and is sent once", async () => {
    const { url } = await start({ models, apiKeys: ["secret"] });
    const response = await fetch(url);
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("text/html; charset=utf-8");
    const policy = response.headers.get("content-security-policy")!;
    expect(policy).toMatch(/^default-src 'none'; script-src 'sha256-[^']+'; style-src 'sha256-[^']+';/);
    expect(policy).toContain("connect-src 'self'");
    expect(policy).not.toMatch(/unsafe|https?:|\*/);
    const page = await response.text();
    expect(page.length).toBeLessThan(60_000);
    expect(page.replace("http://www.w3.org/2000/svg", "")).not.toMatch(/https?:\/\//);
    const again = await fetch(url, { headers: { "if-none-match": response.headers.get("etag")! } });
    expect([again.status, await again.text()]).toEqual([304, ""]);
  });

  test("not if the option says so", async () => {
    const { url } = await start({ models, playground: false });
    expect((await fetch(url)).status).toBe(404);
    await expect(start({ models, playground: "no" as never })).rejects.toMatchObject({ code: "ERR_ARGUMENT" });
  });

  test("the models say which routes they answer", async () => {
    const { url } = await start({ models });
    const { data } = (await (await fetch(`${url}/v1/models`)).json()) as { data: { id: string; routes: string[] }[] };
    const routes = Object.fromEntries(data.map(({ id, routes }) => [id, routes]));
    expect(routes.chatting).toContain("/v1/chat/completions");
    expect(routes.plain).toEqual(["/v1/completions", "/tokenize", "/detokenize"]);
    expect(routes.vectors).toEqual(["/v1/embeddings", "/pooling", "/v1/rerank", "/v1/score"]);
  });
});

describe("reading of answers", () => {
  const token = (text: string) => ({ text, logprob: -1, top: [] });
  const texts = (text: string, ...tokens: string[]) =>
    piecesOf(text, tokens.map(token)).map(({ text, tokens }) => [text, tokens.length]);

  test("a piece for each token, or one for tokens that do not make up the text", () => {
    expect(texts(" the whale", " the", " whale")).toEqual([
      [" the", 1],
      [" whale", 1],
    ]);
    expect(texts("Call me", " Call", " me")).toEqual([
      ["Call", 1],
      [" me", 1],
    ]);
    expect(texts("é", "\ufffd", "\ufffd")).toEqual([["é", 2]]);
    expect(texts("cut", "cut", " off")).toEqual([["cut", 2]]);
    expect(texts("", "")).toEqual([["", 1]]);
    expect(texts("no tokens")).toEqual([["no tokens", 0]]);
  });

  test("the alternatives of both forms, the likeliest first", () => {
    const top = [
      { text: "b", logprob: -0.5 },
      { text: "1", logprob: -2 },
    ];
    const expected = [{ text: "1", logprob: -2, top }];
    expect(tokensOf({ tokens: ["1"], token_logprobs: [-2], top_logprobs: [{ "1": -2, b: -0.5 }] })).toEqual(expected);
    const content = {
      token: "1",
      logprob: -2,
      top_logprobs: top.map(({ text: token, logprob }) => ({ token, logprob })),
    };
    expect(tokensOf({ content: [content] })).toEqual(expected);
    expect(tokensOf(null)).toEqual([]);
  });

  test("events that come in pieces", async () => {
    const bytes = new TextEncoder().encode('event: x\ndata: {"a":"é"}\n\ndata: [DONE]\n\ndata: lost');
    const stream = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const byte of bytes) controller.enqueue(Uint8Array.of(byte));
        controller.error(new Error("broken"));
      },
    });
    const found: string[] = [];
    // The error discards what has not been read, so the data is read by a second stream.
    const whole = new Response(bytes).body!;
    for await (const data of eventData(whole)) found.push(data);
    expect(found).toEqual(['{"a":"é"}', "[DONE]"]);
    for await (const data of eventData(stream)) found.push(data);
    expect(found).toHaveLength(2);
  });
});
