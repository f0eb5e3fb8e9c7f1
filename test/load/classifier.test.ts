/** Tests classifiers and cross-encoders: `load` with kind "classifier", `classify` and `rank`. */
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import { device as deviceOf } from "../../lib/core/device.js";
import { ClassifierModel } from "../../lib/load/classifier-model.js";
import { load } from "../../lib/load/load.js";
import { Bert } from "../../lib/models/bert.js";
import type { BertFamily } from "../../lib/models/bert-config.js";
import { BertForSequenceClassification } from "../../lib/models/bert-heads.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { scope } from "../../lib/core/scope.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import type { Tokenizer } from "../../lib/tokenizer/tokenizer.js";
import { expectClose } from "../support/close.js";
import { expectError, expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { Random } from "../support/random.js";
import { onEachDevice } from "../support/targets.js";
import { wordPieceJson, wordPieces } from "../tokenizer/fixtures.js";

const token = (id: string, type_id: number) => ({ SpecialToken: { id, type_id } });
const text = (id: string, type_id: number) => ({ Sequence: { id, type_id } });
const single = [token("[CLS]", 0), text("A", 0), token("[SEP]", 0)];
const pair = [...single, text("B", 1), token("[SEP]", 1)];
const json = wordPieceJson();
const tokenizer = new HuggingFaceTokenizer({ ...json, post_processor: { ...json.post_processor, single, pair } });
const texts = ["unaffable cafe.", "", "aff", "cafe. cafe. cafe. cafe. cafe. cafe. cafe.", "affs"];
const pairs = texts.map((text, i) => [text, texts[(i * 2 + 1) % texts.length]!] as const);
const close = { relative: 64, absolute: 64 };

/** Writes a model with random weights into a folder, with further entries in its config.json. */
async function folderOf(
  labels: number | string[],
  entries: object = {},
  { family = "bert", tokenTypes }: { family?: BertFamily; tokenTypes?: number } = {},
): Promise<string> {
  const folder = temporaryFolder();
  const size = {
    vocabularySize: wordPieces.length,
    contextLength: 16,
    layers: 1,
    heads: 2,
    width: 8,
    feedForwardWidth: 12,
  };
  const bert = new Bert({ ...size, family, ...(tokenTypes !== undefined && { tokenTypes }) }, { device: "cpu" });
  using model = new BertForSequenceClassification(bert, { labels });
  const random = new Random(11);
  for (const weight of model.parameters())
    if (weight.shape.length === 2) weight.set(Array.from({ length: weight.size }, () => random.normal()));
  await savePretrained(folder, model, { tokenizer });
  const file = path.join(folder, "config.json");
  const config = JSON.parse(readFileSync(file, "utf8")) as object;
  writeFileSync(file, JSON.stringify({ ...config, ...entries }));
  return folder;
}

/** Computes the logits of a text or a pair by definition: alone, without padding. */
async function logitsOf({ model }: ClassifierModel, given: string | readonly [string, string]): Promise<number[]> {
  const { ids, tokenTypes } =
    typeof given === "string"
      ? { ids: tokenizer.encode(given, { maxLength: 16 }), tokenTypes: null }
      : tokenizer.encodePair(...given, { maxLength: 16 });
  const typed = tokenTypes && model.encoder.config.tokenTypes > 1;
  const { device } = model;
  const onDevice = (values: Int32Array) => tensor(values, [1, values.length], { device });
  using logits = noGrad(() =>
    scope(() => model.forward(onDevice(ids), { tokenTypes: typed ? onDevice(tokenTypes) : null })),
  );
  return Array.from(await logits.data());
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
const softmax = (list: number[]): number[] =>
  list.map((x) => 1 / list.reduce((sum, other) => sum + Math.exp(other - x), 0));

onEachDevice((device) => {
  test.each([
    ["of which one applies", ["bad", "fair", "good"], {}, softmax],
    [
      "each of which may apply",
      ["a", "b"],
      { problem_type: "multi_label_classification" },
      (x: number[]) => x.map(sigmoid),
    ],
    ["one", ["good"], { problem_type: "single_label_classification" }, (x: number[]) => x.map(sigmoid)],
    ["whose value was learned", ["stars"], { problem_type: "regression" }, (x: number[]) => x],
  ])("labels, %s: each text has all of them, the likeliest first", async (_, labels, entries, scores) => {
    const folder = await folderOf(labels, entries);
    const { live, tensors } = deviceOf(device).memory();
    {
      using model = await load(folder, { kind: "classifier", device });
      const given = [...texts, ...pairs];
      const found = await model.classify(given, { batchSize: 3 });
      expect(found).toHaveLength(given.length);
      for (const [i, one] of given.entries()) {
        const expected = scores(await logitsOf(model, one)).map((score, k) => ({ label: labels[k]!, score }));
        expected.sort((a, b) => b.score - a.score);
        const got = found[i]!;
        expect(got.map(({ label }) => label)).toEqual(expected.map(({ label }) => label));
        const values = (list: { score: number }[]) => list.map(({ score }) => score);
        expectClose(`text ${i}`, values(got), values(expected), close);
      }
      expect(await model.classify([])).toEqual([]);
    }
    expect(deviceOf(device).memory()).toMatchObject({ live, tensors });
  });

  test.each([
    ["Sigmoid", {}, sigmoid],
    ["none", { sbert_ce_default_activation_function: "torch.nn.modules.linear.Identity" }, (x: number) => x],
    [
      "none, in newer files",
      { sentence_transformers: { activation_fn: "torch.nn.modules.linear.Identity" } },
      (x: number) => x,
    ],
  ])("ranks documents with activation %s", async (_, entries, activation) => {
    using model = await load(await folderOf(1, entries), { kind: "classifier", device });
    const ranked = await model.rank("unaffable", texts);
    const expected: { index: number; score: number }[] = [];
    for (const [index, document] of texts.entries()) {
      const [logit] = await logitsOf(model, ["unaffable", document]);
      expected.push({ index, score: activation(logit!) });
    }
    expected.sort((a, b) => b.score - a.score);
    expect(ranked.map(({ index }) => index)).toEqual(expected.map(({ index }) => index));
    for (const [i, { score }] of ranked.entries()) expectClose(`rank ${i}`, [score], [expected[i]!.score], close);
    const two = await model.rank("unaffable", texts, { top: 2 });
    expect(two.map(({ index }) => index)).toEqual(ranked.slice(0, 2).map(({ index }) => index));
    expect(await model.rank("unaffable", [])).toEqual([]);
    expect(await model.rank("unaffable", texts, { top: 9 })).toHaveLength(texts.length);
  });

  test.each([
    ["distilbert", 0],
    ["xlm-roberta", 1],
  ] as const)("a %s reads pairs without token types", async (family, tokenTypes) => {
    using model = await load(await folderOf(2, {}, { family, tokenTypes }), { kind: "classifier", device });
    const found = await model.classify(pairs);
    for (const [i, one] of pairs.entries()) {
      const expected = softmax(await logitsOf(model, one)).sort((a, b) => b - a);
      expectClose(
        `pair ${i}`,
        found[i]!.map(({ score }) => score),
        expected,
        close,
      );
    }
  });

  test("calls at the same time share batches", async () => {
    using model = await load(await folderOf(1), { kind: "classifier", device });
    const alone = [await model.rank("aff", texts), await model.rank("cafe.", texts)];
    const passes: number[] = [];
    const forward = model.model.forward.bind(model.model);
    model.model.forward = (ids, ...rest) => {
      passes.push(ids.shape[0]!);
      return forward(ids, ...rest);
    };
    // The clock stands still, so that no turn of the event loop is long: a slow machine would read the texts in several.
    vi.spyOn(performance, "now").mockReturnValue(performance.now());
    onTestFinished(() => void vi.restoreAllMocks());
    const stopping = new AbortController();
    const [first, second, classes, aborted] = await Promise.allSettled([
      model.rank("aff", texts),
      model.rank("cafe.", texts),
      model.classify(texts),
      model.classify(texts, { signal: stopping.signal }),
      Promise.resolve().then(() => stopping.abort(new Error("enough"))),
    ]);
    const indices = (list: { index: number }[]) => list.map(({ index }) => index);
    for (const [i, result] of [first, second].entries()) {
      expect(result.status).toBe("fulfilled");
      if (result.status === "fulfilled") expect(indices(result.value)).toEqual(indices(alone[i]!));
    }
    expect(classes.status).toBe("fulfilled");
    expect(aborted).toMatchObject({ status: "rejected", reason: { message: "enough" } });
    // 15 texts in batches of up to 32: the first call may have begun before the others came.
    expect(passes.length).toBeLessThanOrEqual(3);
  });
});

describe("kinds of a folder", () => {
  test("a classifier is the default where the files say so, and its encoder can be loaded alone", async () => {
    const folder = await folderOf(["no", "yes"]);
    using model = await load(folder, { device: "cpu" });
    expect(model).toBeInstanceOf(ClassifierModel);
    expect(model.kind).toBe("classifier");
    for (const use of [() => model.generate("a"), () => model.embed(["a"]), () => model.chat([])])
      expectError(use, "ERR_ARGUMENT", /got one of kind "classifier"/);
    using encoder = await load(folder, { kind: "encoder", device: "cpu" });
    expect(await encoder.embed(["aff"])).toHaveLength(1);
    const other: unknown = encoder;
    expectError(
      () => (other as ClassifierModel).classify(["a"]),
      "ERR_ARGUMENT",
      /classify: expected a model of kind "classifier"/,
    );
    expectError(
      () => (other as ClassifierModel).rank("a", ["a"]),
      "ERR_ARGUMENT",
      /rank: expected a model of kind "classifier"/,
    );
    const plain = await folderOf(2, { architectures: ["BertModel"] });
    await expectRejection(
      load(plain, { kind: "classifier", device: "cpu" }),
      "ERR_ARGUMENT",
      /expected .+ to be a model of kind "classifier", got one of kind "encoder"/,
    );
    const unnamed = await folderOf(2, { architectures: undefined });
    using asked = await load(unnamed, { kind: "classifier", device: "cpu" });
    expect(await asked.classify(["aff"])).toHaveLength(1);
    using guessed = await load(unnamed, { device: "cpu" });
    expect(guessed.kind).toBe("encoder");
  });

  test.each([
    [{ problem_type: "guess" }, /config\.json: expected problem_type to be regression, .+, got "guess"/],
    [
      { sbert_ce_default_activation_function: "torch.tanh" },
      /config\.json: expected the cross-encoder's act.+"torch\.tanh"/,
    ],
    [{ sentence_transformers: { activation_fn: 7 } }, /Sigmoid or Identity, got 7/],
  ])("unknown entries %j", async (entries, message) => {
    const folder = await folderOf(1, entries);
    await expectRejection(load(folder, { kind: "classifier", device: "cpu" }), "ERR_FORMAT", message);
  });
});

test("refuses invalid input, and stops when aborted", async () => {
  using one = await load(await folderOf(1), { kind: "classifier", device: "cpu" });
  const refused = (promise: Promise<unknown>, message: RegExp, code: "ERR_ARGUMENT" | "ERR_RANGE" = "ERR_ARGUMENT") =>
    expectRejection(promise, code, message);
  await refused(one.classify("aff" as never), /classify: expected texts/);
  await refused(one.classify([7 as never]), /classify: expected texts\[0\] to be a string or two of them, got 7/);
  await refused(one.classify([["a"] as never]), /texts\[0\]/);
  await refused(one.classify(["aff"], 7 as never), /options/);
  await refused(one.classify(["aff"], { batchSize: 0 }), /batchSize/, "ERR_RANGE");
  await refused(one.classify(["aff"], { maxLength: 17 }), /maxLength/, "ERR_RANGE");
  await refused(one.classify([["aff", "aff"]], { maxLength: 2 }), /maxLength/, "ERR_RANGE");
  await refused(one.rank(7 as never, []), /rank: expected query to be a string, got 7/);
  await refused(one.rank("a", "b" as never), /documents/);
  await refused(one.rank("a", [7 as never]), /documents\[0\] to be a string, got 7/);
  await refused(one.rank("a", ["b"], { top: 0 }), /top/, "ERR_RANGE");
  using two = await load(await folderOf(2), { kind: "classifier", device: "cpu" });
  await refused(two.rank("a", ["b"]), /rank: expected a model with a single label, got one with 2/);
  const { model } = two;
  await refused(new ClassifierModel({ model, tokenizer: null }).classify(["a"]), /a model with a tokenizer/);
  const plain = { encode: () => Int32Array.of(1), vocabularySize: 2 } as unknown as Tokenizer;
  await refused(new ClassifierModel({ model, tokenizer: plain }).classify([["a", "b"]]), /encodes pairs of texts/);
  const unpaired = new ClassifierModel({ model, tokenizer: new HuggingFaceTokenizer(wordPieceJson()) });
  await refused(unpaired.classify([["a", "b"]]), /post_processor\.pair/);
  const typed = {
    ...plain,
    encodePairAsync: () => Promise.resolve({ ids: Int32Array.of(1), tokenTypes: Int32Array.of(2) }),
  };
  const strange = new ClassifierModel({ model, tokenizer: typed });
  await refused(strange.classify([["a", "b"]]), /token types of texts\[0\] to be from 0 to 1, got 2/, "ERR_RANGE");
  const reason = new Error("enough");
  await expect(one.classify(["aff"], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
});
