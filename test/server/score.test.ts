/** Vectors of tokens and their beginnings, scores of pairs, labels of texts, and what tells about a tokenizer. */
import { expect, test } from "vitest";
import { BertForSequenceClassification } from "../../lib/models/bert-heads.js";
import { Bert } from "../../lib/models/bert.js";
import { ClassifierModel } from "../../lib/load/classifier-model.js";
import { EmbeddingModel } from "../../lib/load/embedding-model.js";
import { chatModel, type Client, embeddingModel, type ErrorBody, rankingModel, start } from "./support.js";

const encoder = embeddingModel();
const ranker = rankingModel();
const labels = ["no", "yes", "perhaps"];
const bert = new Bert(ranker.model.encoder.config, { device: "cpu", seed: 3 });
const classifier = new ClassifierModel({
  ...{ model: new BertForSequenceClassification(bert, { labels, seed: 4 }), tokenizer: ranker.tokenizer },
});
const nested = new EmbeddingModel({
  ...{ model: encoder.model, tokenizer: encoder.tokenizer },
  recipe: { ...encoder.recipe, matryoshka: [2, 4] },
});
const tiny = chatModel();
const startAll = (): Promise<Client> =>
  start({ models: { tiny, minilm: encoder, nested, cross: ranker, labels: classifier } });

interface Embedded {
  data: { index: number; embedding: number[] }[];
  usage: { prompt_tokens: number };
}
interface Scored {
  data: { index: number; object: string; score: number }[];
  usage: { prompt_tokens: number; total_tokens: number };
}

test("tokens are embedded as the text that they stand for, alone, in a list, and beside texts", async () => {
  const { answer, post } = await startAll();
  const texts = ["cafe", "hello world"];
  const tokens = texts.map((text) => [...encoder.tokenizer.encode(text)]);
  const expected = await answer<Embedded>("/v1/embeddings", { input: texts });
  for (const input of [tokens, [texts[0], tokens[1]], [tokens[0], texts[1]]])
    expect(await answer<Embedded>("/v1/embeddings", { input })).toEqual(expected);
  const one = await answer<Embedded>("/v1/embeddings", { input: tokens[1] });
  expect(one.data[0]!.embedding).toEqual(expected.data[1]!.embedding);
  expect(one.usage.prompt_tokens).toBe(tokens[1]!.length);
  const long = Array<number>(13).fill(tokens[0]![1]!);
  const cut = await answer<Embedded>("/v1/embeddings", { input: [long], truncate: true });
  expect(cut.usage.prompt_tokens).toBe(12);
  for (const input of [long, [99_999], [[]], [1.5], [-1], [["a"]]]) {
    const response = await post("/v1/embeddings", { input });
    expect(response.status, JSON.stringify(input)).toBe(400);
  }
});

test("a text that is too long is cut if the server or the request says so", async () => {
  const text = "cafe ".repeat(20);
  const bodies = [["/v1/embeddings", { input: text }], ["/v1/rerank", { query: "cafe", documents: [text] }], ["/v1/classify", { input: text }]] as const; // prettier-ignore
  for (const truncate of [false, true]) {
    const { post } = await start({ models: { minilm: encoder, cross: ranker }, truncate });
    for (const [url, body] of bodies) {
      expect((await post(url, body)).status, url).toBe(truncate ? 200 : 400);
      expect((await post(url, { ...body, truncate: true })).status, url).toBe(200);
      expect((await post(url, { ...body, truncate: false })).status, url).toBe(400);
    }
  }
});

test("dimensions cut the vectors of models that were trained for it, and no others", async () => {
  const { answer, post } = await startAll();
  const whole = (await answer<Embedded>("/v1/embeddings", { input: "cafe", model: "nested" })).data[0]!.embedding;
  for (const dimensions of [2, 4, 8]) {
    const body = { input: "cafe", model: "nested", dimensions };
    const { embedding } = (await answer<Embedded>("/v1/embeddings", body)).data[0]!;
    const length = Math.hypot(...whole.slice(0, dimensions));
    expect(embedding).toHaveLength(dimensions);
    for (const [i, value] of embedding.entries()) expect(value).toBeCloseTo(whole[i]! / length, 5);
    const { data } = await answer<{ data: { embedding: string }[] }>("/v1/embeddings", {
      ...body,
      encoding_format: "base64",
    });
    const bytes = Buffer.from(data[0]!.embedding, "base64");
    expect(Array.from({ length: dimensions }, (_, i) => bytes.readFloatLE(4 * i))).toEqual(embedding.map(Math.fround));
  }
  for (const [model, dimensions] of [
    ["nested", 3],
    ["nested", 9],
    ["minilm", 4],
  ] as const) {
    const response = await post("/v1/embeddings", { input: "cafe", model, dimensions });
    const error = { param: "dimensions", code: "unsupported_parameter" };
    expect([response.status, (await response.json()) as ErrorBody]).toMatchObject([400, { error }]);
  }
});

test("pairs are scored as documents are ranked, one with many or each with its own", async () => {
  const { answer, post } = await startAll();
  const documents = ["cafe", "hello world", "cafe cafe"];
  for (const model of ["cross", "minilm"]) {
    const { results } = await answer<{ results: { index: number; relevance_score: number }[] }>("/v1/rerank", {
      ...{ model, query: "hello", documents },
    });
    const scores = results.sort((a, b) => a.index - b.index).map((one) => one.relevance_score);
    const one = await answer<Scored>("/v1/score", { model, text_1: "hello", text_2: documents });
    expect(one.data.map(({ index, object }) => [index, object])).toEqual([0, 1, 2].map((i) => [i, "score"]));
    for (const [i, { score }] of one.data.entries()) expect(score).toBeCloseTo(scores[i]!, 5);
    const each = await answer<Scored>("/score", { model, text_1: ["hello", "hello", "cafe"], text_2: documents });
    expect(each.data[1]!.score).toBeCloseTo(scores[1]!, 5);
    const single = await answer<Scored>("/v1/score", { model, text_1: ["cafe"], text_2: "cafe cafe" });
    expect(each.data[2]!.score).toBeCloseTo(single.data[0]!.score, 5);
    expect(single.usage.total_tokens).toBeGreaterThan(0);
  }
  const response = await post("/v1/score", { text_1: ["a", "b"], text_2: ["a", "b", "c"] });
  expect([response.status, await response.json()]).toMatchObject([400, { error: { param: "text_1" } }]);
});

test("labels of texts have the probabilities in the model's order", async () => {
  const { answer, post } = await startAll();
  const texts = ["cafe", "hello world"];
  const expected = await classifier.classify(texts);
  interface Classified {
    data: { index: number; label: string; probs: number[]; num_classes: number }[];
  }
  const { data } = await answer<Classified>("/v1/classify", { model: "labels", input: texts });
  expect(data.map(({ label }) => label)).toEqual(expected.map(([first]) => first!.label));
  for (const [i, { index, probs, num_classes }] of data.entries()) {
    expect([index, num_classes, probs.length]).toEqual([i, 3, 3]);
    for (const [j, label] of labels.entries())
      expect(probs[j]).toBeCloseTo(expected[i]!.find((one) => one.label === label)!.score, 5);
  }
  expect((await post("/v1/classify", { model: "tiny", input: "a" })).status).toBe(400);
});

test("a tokenizer is described, and its texts are encoded with and without special tokens", async () => {
  const { answer, url } = await startAll();
  const info = (await (await fetch(`${url}/tokenizer_info`)).json()) as Record<string, unknown>;
  expect(info).toMatchObject({ eos_token: "<|end|>", tokenizer_class: "PreTrainedTokenizerFast" });
  expect(info.chat_template).toContain("add_generation_prompt");
  expect((await fetch(`${url}/tokenizer_info?model=none`)).status).toBe(404);
  const bare = { add_special_tokens: false, return_token_strs: true };
  const plain = await answer<{ tokens: number[]; token_strs: string[] }>("/tokenize", { prompt: "Why?", ...bare });
  expect(plain.token_strs.join("")).toBe("Why?");
  // lm-evaluation-harness finds the id of the end so.
  const end = await answer<{ tokens: number[] }>("/tokenize", { prompt: "<|end|>", ...bare });
  expect(end.tokens).toEqual([tiny.tokenizer.endOfText]);
  expect(await answer("/tokenize", { prompt: "", ...bare })).toMatchObject({ tokens: [], count: 0 });
  expect(await answer("/detokenize", { tokens: plain.tokens })).toMatchObject({ prompt: "Why?" });
});
