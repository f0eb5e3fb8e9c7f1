/**
 * Tests published forms of files of the BERT family: with and without prefixes, old names, and heads of other tasks.
 */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { type SafetensorsInput, writeSafetensors } from "../../lib/formats/safetensors.js";
import { Bert } from "../../lib/models/bert.js";
import type { BertConfig } from "../../lib/models/bert-config.js";
import { toHuggingFaceBertConfig } from "../../lib/pretrained/families/bert-config.js";
import { BertForMaskedLM, BertForSequenceClassification } from "../../lib/models/bert-heads.js";
import { bertFileName } from "../../lib/models/bert-names.js";
import type { Module } from "../../lib/nn/module.js";
import { T5 } from "../../lib/models/t5.js";
import { toHuggingFaceT5Config } from "../../lib/pretrained/families/t5-config.js";
import { loadPretrained } from "../../lib/pretrained/load-pretrained.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { instanceOf } from "../support/instance.js";

const size: BertConfig = { vocabularySize: 17, contextLength: 8, layers: 2, heads: 2, width: 8, feedForwardWidth: 12 };
const relatives: Partial<BertConfig>[] = [
  {},
  { family: "roberta", firstPosition: 2, tokenTypes: 1 },
  { family: "distilbert", tokenTypes: 0 },
];

interface Forward {
  forward: (ids: IntTensor) => FloatTensor;
}
async function outputOf(model: Forward): Promise<Float32Array> {
  using out = noGrad(() => scope(() => model.forward(tensor(Int32Array.of(1, 2, 3), [1, 3], { device: "cpu" }))));
  return await out.data();
}

type Tensors = SafetensorsInput[];

/** Returns the model's parameters under the names that `name` makes of their own names. */
const tensorsOf = (model: Module, name: (own: string) => string): Tensors =>
  Object.entries(model.stateDict()).map(([own, { shape }]): SafetensorsInput => {
    return { name: name(own), dtype: "F32", shape, data: () => model.stateDict()[own]!.data() };
  });

const extra = (name: string): SafetensorsInput => ({ name, dtype: "F32", shape: [1], data: Float32Array.of(0) });

async function folderOf(config: Record<string, unknown>, tensors: Tensors): Promise<string> {
  const folder = temporaryFolder();
  writeFileSync(path.join(folder, "config.json"), JSON.stringify(config));
  await writeSafetensors(path.join(folder, "model.safetensors"), tensors);
  return folder;
}

test.each(relatives)("an encoder, from files with its prefix and without: %j", async (relative) => {
  using model = new Bert({ ...size, ...relative, pooler: false }, { device: "cpu", seed: 1 }).eval();
  const { family } = model.config;
  const config = toHuggingFaceBertConfig(model.config);
  const named = (prefix: string) => (own: string) => bertFileName(family, prefix + own);
  const prefix = bertFileName(family, "bert.");
  for (const [tensors, ignored] of [
    [[...tensorsOf(model, named("")), extra("embeddings.position_ids")], []],
    [[...tensorsOf(model, named("")), extra("cls.seq_relationship.weight")], ["cls.seq_relationship.weight"]],
    [tensorsOf(model, named("bert.")), []],
    [
      [...tensorsOf(model, named("bert.")), extra("classifier.weight"), extra("qa_outputs.bias")],
      ["classifier.weight", "qa_outputs.bias"],
    ],
    [[...tensorsOf(model, named("bert.")), extra(`${prefix}embeddings.position_ids`)], []],
  ] as [Tensors, string[]][]) {
    const loaded = await loadPretrained(await folderOf(config, tensors), { kind: "encoder", device: "cpu" });
    expect(loaded.ignored).toEqual(ignored);
    expect(instanceOf(Bert, loaded.model).pooler).toBeNull();
    expect(await outputOf(loaded.model)).toEqual(await outputOf(model));
    loaded.model.dispose();
  }
  const unknown = [...tensorsOf(model, named("bert.")), extra(`${prefix}encoder.more.weight`)];
  await expectRejection(
    loadPretrained(await folderOf(config, unknown), { kind: "encoder", device: "cpu" }),
    "ERR_FORMAT",
    /only the model's parameters, got .*encoder\.more\.weight/,
  );
});

test("an encoder keeps the pooler of its file, and reads the names of the first BERTs' norms", async () => {
  using model = new Bert(size, { device: "cpu", seed: 1 }).eval();
  const old = (own: string) =>
    own.replace(/LayerNorm\.weight$/, "LayerNorm.gamma").replace(/LayerNorm\.bias$/, "LayerNorm.beta");
  const tensors = tensorsOf(model, (own) => `bert.${old(own)}`);
  const folder = await folderOf(toHuggingFaceBertConfig(model.config), tensors);
  const loaded = await loadPretrained(folder, { kind: "encoder", device: "cpu" });
  expect(instanceOf(Bert, loaded.model).pooler).not.toBeNull();
  expect(loaded.ignored).toEqual([]);
  expect(await outputOf(loaded.model)).toEqual(await outputOf(model));
  loaded.model.dispose();
});

test.each(relatives)("heads, which ignore the tensors of others: %j", async (relative) => {
  const bert = () =>
    new Bert({ ...size, ...relative, pooler: relative.family === undefined }, { device: "cpu", seed: 1 });
  using masked = new BertForMaskedLM(bert(), { seed: 2 }).eval();
  using classifier = new BertForSequenceClassification(bert(), { labels: 3, seed: 3 }).eval();
  const { family, pooler } = masked.bert.config;
  const config = { ...toHuggingFaceBertConfig(masked.bert.config), id2label: { 0: "a", 1: "b", 2: "c" } };
  const named = (own: string) => bertFileName(family, own);
  const whole = tensorsOf(masked, named);
  const poolers = whole.map(({ name }) => name).filter((name) => name.includes("pooler"));
  expect(poolers).toHaveLength(pooler ? 2 : 0);
  const decoder = extra(family === "roberta" ? "lm_head.decoder.weight" : "cls.predictions.decoder.weight");
  const first = await loadPretrained(await folderOf(config, [...whole, decoder]), { kind: "masked", device: "cpu" });
  expect([...first.ignored].sort()).toEqual([...poolers, decoder.name].sort());
  expect(await outputOf(first.model)).toEqual(await outputOf(masked));
  first.model.dispose();

  const second = await loadPretrained(await folderOf(config, [...tensorsOf(classifier, named), decoder]), {
    kind: "classifier",
    device: "cpu",
  });
  expect(second.ignored).toEqual([decoder.name]);
  expect(second.model.labels).toEqual(["a", "b", "c"]);
  expect(await outputOf(second.model)).toEqual(await outputOf(classifier));
  second.model.dispose();
});

test("refuses files that lack something", async () => {
  using model = new Bert(size, { device: "cpu", seed: 1 });
  const config = toHuggingFaceBertConfig(model.config);
  const tensors = tensorsOf(model, (own) => own);
  const load = async (json: object, kind: "causal" | "encoder" | "masked" | "classifier") =>
    loadPretrained(await folderOf({ ...config, ...json }, tensors), { kind, device: "cpu" });
  await expectRejection(load({}, "causal"), "ERR_FORMAT", /a model of kind "encoder"/);
  await expectRejection(load({}, "masked"), "ERR_FORMAT", /got none for .*cls\.predictions/);
  await expectRejection(load({}, "classifier"), "ERR_FORMAT", /got none for .*classifier/);
  await expectRejection(load({ vocab_size: 16 }, "encoder"), "ERR_FORMAT", /\[16, 8\], got \[17, 8\]/);
  await expectRejection(load({ tie_word_embeddings: false }, "masked"), "ERR_FORMAT", /tie_word_embeddings/);
  await expectRejection(load({ id2label: {} }, "classifier"), "ERR_FORMAT", /id2label/);
  await expectRejection(load({ id2label: { 1: "a", 2: "b" } }, "classifier"), "ERR_FORMAT", /classes 0, 1/);
  await expectRejection(
    load({ num_labels: 0 }, "classifier"),
    "ERR_FORMAT",
    /num_labels to be a positive integer, got 0/,
  );
});

test("a T5, with the copies of its embedding that files have", async () => {
  const small = { vocabularySize: 17, layers: 1, heads: 2, width: 8, buckets: 4, furthest: 4 };
  using model = new T5(small, { device: "cpu", seed: 1 }).eval();
  const own = tensorsOf(model, (name) => name);
  const copies = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"];
  const tensors = [...own, ...copies.map((name) => ({ ...own[0]!, name }))];
  // Files with copies are older than the entry for the scale.
  const { scale_decoder_outputs: _, ...old } = toHuggingFaceT5Config(model.config);
  const folder = await folderOf(old, tensors);
  const loaded = await loadPretrained(folder, { kind: "encoder-decoder", device: "cpu" });
  expect(loaded.ignored).toEqual(copies);
  const logits = async (of: T5): Promise<Float32Array> => {
    const ids = () => tensor(Int32Array.of(1, 2, 3), [1, 3], { device: "cpu" });
    using out = noGrad(() => scope(() => of.forward(ids(), ids())));
    return await out.data();
  };
  expect(await logits(instanceOf(T5, loaded.model))).toEqual(await logits(model));
  loaded.model.dispose();
  const wrong = await folderOf({ ...toHuggingFaceT5Config(model.config), d_kv: 5 }, tensors);
  await expectRejection(
    loadPretrained(wrong, { kind: "encoder-decoder", device: "cpu" }),
    "ERR_FORMAT",
    /SelfAttention\.q\.weight of shape \[10, 8\]/,
  );
});
