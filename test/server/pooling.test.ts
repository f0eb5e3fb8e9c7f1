/** The route /pooling in vLLM's form, the model that ranks by default, and tokens that a model does not know. */
import { expect, test } from "vitest";
import { ClassifierModel } from "../../lib/load/classifier-model.js";
import { EmbeddingModel } from "../../lib/load/embedding-model.js";
import { Bert } from "../../lib/models/bert.js";
import { BertForSequenceClassification } from "../../lib/models/bert-heads.js";
import { chatModel, embeddingModel, type ErrorBody, rankingModel, start } from "./support.js";

const encoder = embeddingModel();
const ranker = rankingModel();
const labels = ["no", "yes", "perhaps"];
const classifier = new ClassifierModel({
  model: new BertForSequenceClassification(new Bert(ranker.model.encoder.config, { device: "cpu", seed: 3 }), {
    ...{ labels, seed: 4 },
  }),
  tokenizer: ranker.tokenizer,
});
const texts = ["cafe .", "unaffable"];
const tokens = texts.map((text) => [...encoder.tokenizer.encode(text)]);

interface Pooled<T> {
  id: string;
  object: string;
  model: string;
  data: { index: number; object: string; data: T }[];
  usage: object;
}

test("a vector of each text, given as text or tokens, as numbers or bytes", async () => {
  const { answer } = await start({ models: { tiny: chatModel(), labels: classifier, minilm: encoder } });
  const expected = (await encoder.embed(texts)).map((vector) => Array.from(vector));
  const count = tokens.flat().length;
  for (const input of [texts, tokens]) {
    const whole = await answer<Pooled<number[]>>("/pooling", { input });
    expect(whole).toMatchObject({ object: "list", model: "minilm", id: expect.stringMatching(/^pool-/) as string });
    expect(whole.data).toEqual(expected.map((data, index) => ({ index, object: "pooling", data })));
    expect(whole.usage).toEqual({ prompt_tokens: count, completion_tokens: 0, total_tokens: count });
  }
  const one = await answer<Pooled<number[]>>("/pooling", { input: tokens[1], task: "embed" });
  expect(one.data.map(({ data }) => data)).toEqual([expected[1]]);
  const coded = await answer<Pooled<string>>("/pooling", { input: texts, encoding_format: "base64" });
  expect(coded.data.map(({ data }) => floatsIn(data))).toEqual(expected);
});

test("a vector of each token, of the model's width, whatever shares the batch", async () => {
  const { answer } = await start({ models: { minilm: encoder } });
  const body = { input: texts, task: "token_embed" };
  const { data } = await answer<Pooled<number[][]>>("/pooling", body);
  expect(data.map(({ data }) => data.map(({ length }) => length))).toEqual(tokens.map((ids) => ids.map(() => 8)));
  // Their mean has the direction of the text's vector where they are not scaled.
  const raw = new EmbeddingModel({ model: encoder.model, tokenizer: encoder.tokenizer });
  const states = await raw.embedTokens(texts);
  const means = await raw.embed(texts, { pooling: "mean" });
  for (const [i, rows] of states.entries())
    for (const [j, value] of means[i]!.entries())
      expect(rows.reduce((sum, row) => sum + row[j]!, 0) / rows.length).toBeCloseTo(value, 5);
  for (const [i, { data: rows }] of data.entries())
    for (const [t, row] of rows.entries()) {
      const length = Math.hypot(...states[i]![t]!);
      for (const [j, value] of row.entries()) expect(value).toBeCloseTo(states[i]![t]![j]! / length, 5);
    }
  const alone = await answer<Pooled<number[][]>>("/pooling", { ...body, input: texts[1] });
  for (const [t, row] of alone.data[0]!.data.entries())
    for (const [j, value] of row.entries()) expect(value).toBeCloseTo(data[1]!.data[t]![j]!, 5);
  const coded = await answer<Pooled<string>>("/pooling", { ...body, encoding_format: "base64" });
  expect(coded.data.map(({ data }) => floatsIn(data))).toEqual(data.map(({ data }) => data.flat()));
});

test("probabilities of labels in the model's order; other tasks of a model are refused", async () => {
  const { answer, post } = await start({ models: { labels: classifier, minilm: encoder } });
  const expected = await classifier.classify(texts);
  for (const input of [texts, tokens]) {
    const { data } = await answer<Pooled<number[]>>("/pooling", { model: "labels", input });
    for (const [i, { data: row }] of data.entries())
      for (const [j, label] of labels.entries())
        expect(row[j]).toBeCloseTo(expected[i]!.find((one) => one.label === label)!.score, 5);
  }
  for (const [model, task] of [
    ["labels", "embed"],
    ["minilm", "classify"],
  ]) {
    const response = await post("/pooling", { model, task, input: "cafe" });
    expect([response.status, (await response.json()) as ErrorBody]).toMatchObject([400, { error: { param: "task" } }]);
  }
});

test("a classifier with several labels does not rank, and another model does", async () => {
  const { answer, post } = await start({ models: { labels: classifier, cross: ranker, minilm: encoder } });
  const asked = { query: "cafe", documents: ["cafe", "aff"] };
  expect(await answer("/v1/rerank", asked)).toMatchObject({ model: "cross" });
  expect(await answer("/v1/score", { text_1: "cafe", text_2: "aff" })).toMatchObject({ model: "cross" });
  const response = await post("/v1/rerank", { ...asked, model: "labels" });
  const error = { param: "model", code: "unsupported_model" };
  expect([response.status, (await response.json()) as ErrorBody]).toMatchObject([400, { error }]);
  const other = await start({ models: { labels: classifier, minilm: encoder } });
  expect(await other.answer("/v1/rerank", asked)).toMatchObject({ model: "minilm" });
});

test("an error names the field with a token that the model does not know", async () => {
  const { post } = await start({ models: { tiny: chatModel(), minilm: encoder } });
  for (const [url, field, value, place] of [
    ["/v1/completions", "prompt", [1, 272], /^prompt\.1: expected a token from 0 to 271, got 272/],
    ["/v1/completions", "prompt", [[1], [2, 9999]], /^prompt\.1\.1: expected/],
    ["/v1/embeddings", "input", [4, 12], /^input\.1: expected a token from 0 to 11, got 12/],
    ["/pooling", "input", [[4], [12]], /^input\.1\.0: expected/],
  ] as const) {
    const response = await post(url, { [field]: value });
    const { error } = (await response.json()) as ErrorBody;
    expect([response.status, error.param, error.code]).toEqual([400, field, "invalid_value"]);
    expect(error.message).toMatch(place);
  }
});

function floatsIn(base64: string): number[] {
  const bytes = Buffer.from(base64, "base64");
  return Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));
}
