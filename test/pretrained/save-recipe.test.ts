/** Recipes of embedding models in the files of sentence-transformers: they are saved, replaced and read again. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { load } from "../../lib/load/load.js";
import type { EmbeddingRecipe } from "../../lib/embed/embed-texts.js";
import { GPT } from "../../lib/models/gpt.js";
import { T5 } from "../../lib/models/t5.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { embeddingModel } from "../server/support.js";
import { start } from "../server/support.js";
import { expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";

const encoder = embeddingModel();
const { model, tokenizer } = encoder;
const texts = ["cafe .", "unaffable"];
const read = async (folder: string) => load(folder, { kind: "encoder", device: "cpu" });

const recipes: EmbeddingRecipe[] = [
  { pooling: "cls", normalize: true, lowercase: true, maxLength: 6, matryoshka: [2, 4], dimensions: 4 },
  { pooling: "max", normalize: false, lowercase: false, matryoshka: true },
  { pooling: "last", normalize: true, lowercase: false },
];

test.each(recipes)("%j", async (recipe) => {
  const folder = path.join(temporaryFolder(), "saved");
  await savePretrained(folder, model, { tokenizer, recipe });
  using again = await read(folder);
  expect(again.recipe).toEqual(recipe);
  expect(await again.embed(texts)).toEqual(await encoder.embed(texts, recipe));
});

test("the numbers that a recipe keeps are the first ones, and have the length 1 if it normalises", async () => {
  const whole = await encoder.embed(texts, { normalize: false });
  const [kept, scaled] = await Promise.all(
    [false, true].map((normalize) => encoder.embed(texts, { normalize, dimensions: 3 })),
  );
  for (const [i, vector] of whole.entries()) {
    const first = vector.slice(0, 3);
    expect(kept![i]).toEqual(first);
    const length = Math.hypot(...first);
    for (const [j, value] of scaled![i]!.entries()) expect(value).toBeCloseTo(first[j]! / length, 5);
  }
  for (const dimensions of [0, 9, 1.5])
    await expectRejection(encoder.embed(texts, { dimensions }), "ERR_RANGE", /dimensions to be an integer from 1 to 8/);
});

test("truncate_dim of sentence-transformers is respected, also by the server", async () => {
  const folder = path.join(temporaryFolder(), "saved");
  await savePretrained(folder, model, { tokenizer, recipe: { normalize: true, matryoshka: [2, 4] } });
  const put = (name: string, more: object): void => {
    const file = path.join(folder, name);
    const own = existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as object) : {};
    writeFileSync(file, JSON.stringify({ ...own, ...more }));
  };
  put("config.json", { truncate_dim: 2 });
  expect((await read(folder)).recipe.dimensions).toBe(2);
  put("config_sentence_transformers.json", { prompts: {}, truncate_dim: 4 });
  using short = await read(folder);
  expect(short.recipe.dimensions).toBe(4);
  expect((await short.embed(texts)).map(({ length }) => length)).toEqual([4, 4]);
  const { answer } = await start({ models: { short } });
  const lengthOf = async (body: object): Promise<number> => {
    const { data } = await answer<{ data: { embedding: number[] }[] }>("/v1/embeddings", { input: "cafe", ...body });
    expect(Math.hypot(...data[0]!.embedding)).toBeCloseTo(1, 5);
    return data[0]!.embedding.length;
  };
  expect(await Promise.all([{}, { dimensions: 2 }, { dimensions: 4 }, { dimensions: 8 }].map(lengthOf))).toEqual([
    ...[4, 2, 4, 8],
  ]);
  put("config_sentence_transformers.json", { truncate_dim: "4" });
  await expectRejection(read(folder), "ERR_FORMAT", /config_sentence_transformers\.json.*truncate_dim/);
});

test("a recipe replaces another, and a model without one has none of its files", async () => {
  const folder = path.join(temporaryFolder(), "saved");
  for (const recipe of [recipes[0]!, recipes[1]!, recipes[2]!]) {
    await savePretrained(folder, model, { tokenizer, recipe, overwrite: true });
    expect((await read(folder)).recipe).toEqual(recipe);
    expect(readdirSync(folder).filter((name) => name.endsWith("_Pooling"))).toHaveLength(1);
  }
  await savePretrained(folder, model, { tokenizer, overwrite: true });
  expect((await read(folder)).recipe).toEqual({});
  expect(readdirSync(folder).filter((name) => /Pooling|modules|sentence/.test(name))).toEqual([]);
});

test("decoders keep their recipes; other models and wrong recipes are refused", async () => {
  const folder = path.join(temporaryFolder(), "saved");
  const size = { contextLength: 16, layers: 1, heads: 2, width: 8, vocabularySize: 12 };
  using gpt = new GPT(size, { device: "cpu", seed: 1 });
  await savePretrained(folder, gpt, { tokenizer, recipe: recipes[2]! });
  using decoder = await read(folder);
  expect(decoder.recipe).toEqual(recipes[2]);
  const other = path.join(temporaryFolder(), "other");
  for (const [recipe, message] of [
    [{ pooling: "sum" }, /pooling/],
    [{ dimensions: 9 }, /recipe\.dimensions to be an integer from 1 to 8/],
    [{ matryoshka: [0] }, /recipe\.matryoshka\[0\]/],
    [{ maxLength: 17 }, /recipe\.maxLength to be an integer from 1 to 16/],
  ] as const) {
    const saved = savePretrained(other, gpt, { recipe: recipe as EmbeddingRecipe });
    await expect(saved, JSON.stringify(recipe)).rejects.toThrow(message);
  }
  const t5 = { vocabularySize: 12, layers: 1, heads: 1, width: 8, feedForwardWidth: 8, headSize: 8 };
  using translator = new T5(t5, { device: "cpu", seed: 1 });
  await expectRejection(
    savePretrained(other, translator, { recipe: {} }),
    "ERR_ARGUMENT",
    /a model that makes vectors/,
  );
  expect(existsSync(other)).toBe(false);
});
