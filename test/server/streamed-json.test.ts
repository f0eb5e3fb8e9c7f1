/** Large answers, written in parts: their text is that of JSON, and the event loop runs between the parts. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { streamedJson, MappedArray } from "../../lib/server/streamed-json.js";
import { expectNoPause } from "../support/pauses.js";
import { chatModel, embeddingModel, start } from "./support.js";

async function partsOf(value: unknown): Promise<string[]> {
  const parts: string[] = [];
  for await (const part of streamedJson(value)) parts.push(part);
  return parts;
}

test("any value is written as JSON.stringify does", async () => {
  await fc.assert(
    fc.asyncProperty(fc.jsonValue({ maxDepth: 9 }), async (value) => {
      expect((await partsOf(value)).join("")).toBe(JSON.stringify(value));
    }),
  );
  const mapped = new MappedArray([1, 2], (one) => ({ one: -one, none: undefined }));
  const value = { a: mapped, b: undefined, c: [], d: {}, e: [NaN, -0, 1e300, null], f: new MappedArray([{}], () => 3) };
  expect((await partsOf(value)).join("")).toBe(JSON.stringify(value));
  expect(JSON.stringify(value)).toBe('{"a":[{"one":-1},{"one":-2}],"c":[],"d":{},"e":[null,0,1e+300,null],"f":[3]}');
});

test("long arrays are written in short parts, without a pause", async () => {
  const vectors = Array.from({ length: 2000 }, () => Float32Array.from({ length: 384 }, Math.random));
  const entry = { token: " whale", logprob: -1.2345, bytes: [...Buffer.from(" whale")] };
  const logprobs = Array.from({ length: 4000 }, () => ({ ...entry, top_logprobs: Array(20).fill(entry) }));
  const value = {
    data: new MappedArray([...vectors.entries()], ([index, vector]) => ({ index, embedding: Array.from(vector) })),
    choices: [{ logprobs: { content: new MappedArray(logprobs, (one) => one) } }],
    tokens: Array.from({ length: 200_000 }, (_, i) => i),
  };
  let text = "";
  await expectNoPause(async () => {
    const parts = await partsOf(value);
    expect(Math.max(...parts.map(({ length }) => length))).toBeLessThan(2 ** 18);
    text = parts.join("");
  });
  expect(text === JSON.stringify(value)).toBe(true);
});

test("long answers arrive whole, and slow readers get them too", async () => {
  const { post, answer } = await start({ models: { tiny: chatModel(), minilm: embeddingModel() } });
  interface Embeddings {
    data: { index: number; embedding: number[] }[];
  }
  const input = Array.from({ length: 2048 }, (_, i) => (i % 2 === 0 ? "unaffable" : "cafe"));
  const { data } = await answer<Embeddings>("/v1/embeddings", { model: "minilm", input, encoding_format: "float" });
  const [first, second] = data;
  expect(data.map(({ index }) => index)).toEqual([...input.keys()]);
  for (const [i, { embedding }] of data.entries()) expect(embedding).toEqual((i % 2 === 0 ? first : second)!.embedding);
  const long = { model: "tiny", prompt: "a", n: 64, max_tokens: 60, min_tokens: 60, logprobs: 20, seed: 1 };
  const response = await post("/v1/completions", long);
  expect(response.headers.get("content-type")).toBe("application/json; charset=utf-8");
  let text = "";
  const decoder = new TextDecoder();
  for await (const part of response.body as unknown as AsyncIterable<Uint8Array>) {
    text += decoder.decode(part, { stream: true });
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  const { choices } = JSON.parse(text) as { choices: { logprobs: { top_logprobs: object[] } }[] };
  expect(choices).toHaveLength(64);
  for (const { logprobs } of choices) expect(logprobs.top_logprobs).toHaveLength(60);
});
