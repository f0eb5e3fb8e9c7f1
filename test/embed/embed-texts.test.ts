import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { device as deviceOf } from "../../lib/core/device.js";
import { embedTexts } from "../../lib/embed/embed-texts.js";
import { writeSafetensors } from "../../lib/formats/safetensors.js";
import { Bert } from "../../lib/models/bert.js";
import type { Encoder } from "../../lib/models/encoder.js";
import { toHuggingFaceBertConfig } from "../../lib/pretrained/families/bert-config.js";
import { loadPretrained } from "../../lib/pretrained/load-pretrained.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { expectClose } from "../support/close.js";
import { expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { Random } from "../support/random.js";
import { onEachDevice } from "../support/targets.js";
import { wordPieceJson, wordPieces } from "../tokenizer/fixtures.js";

const size = {
  vocabularySize: wordPieces.length,
  contextLength: 12,
  layers: 1,
  heads: 2,
  width: 8,
  feedForwardWidth: 12,
};
const tokenizer = new HuggingFaceTokenizer(wordPieceJson());
const texts = ["unaffable cafe.", "", "aff", "Cafes unaffable.", "cafe. cafe. cafe. cafe. cafe. cafe.", "affs"];

function bertOf(device: string): Bert {
  const model = new Bert({ ...size, dropout: 0.5 }, { device });
  const random = new Random(7);
  for (const weight of model.parameters())
    if (weight.shape.length === 2) weight.set(Array.from({ length: weight.size }, () => 0.5 * random.normal()));
  return model;
}

/** Computes one vector by definition: from the text alone, without padding. */
async function vectorOf(model: Encoder, ids: Int32Array, pooling: "cls" | "mean" | "max", normalize: boolean) {
  model.eval();
  const { device } = model;
  using states = noGrad(() => scope(() => model.forward(tensor(ids, [1, ids.length], { device }))));
  const data = await states.data();
  const vector = Array.from({ length: size.width }, (_, c) => {
    const values = Array.from(ids, (_, t) => data[t * size.width + c]!);
    if (pooling === "cls") return values[0]!;
    return pooling === "max" ? Math.max(...values) : values.reduce((a, b) => a + b) / values.length;
  });
  const norm = normalize ? Math.hypot(...vector) : 1;
  return vector.map((x) => x / norm);
}

onEachDevice((device) => {
  test.each([
    ["mean", false, 2],
    ["mean", true, 32],
    ["cls", true, 3],
    ["max", false, 4],
  ] as const)("pooling %s, normed %s, in batches of %d: each text's vector is its own", async (...recipe) => {
    const [pooling, normalize, batchSize] = recipe;
    using model = bertOf(device);
    model.train();
    const before = deviceOf(device).memory();
    const vectors = await embedTexts(model, tokenizer, texts, { pooling, normalize, batchSize });
    expect(deviceOf(device).memory()).toMatchObject({ live: before.live, tensors: before.tensors });
    expect(model.training).toBe(true);
    expect(vectors).toHaveLength(texts.length);
    for (const [i, text] of texts.entries()) {
      // "[CLS] … [SEP]", cut to the context length.
      const whole = tokenizer.encode(text);
      const ids = whole.length > 12 ? Int32Array.of(...whole.slice(0, 11), whole.at(-1)!) : whole;
      const expected = await vectorOf(model, ids, pooling, normalize);
      expectClose(text, vectors[i]!, expected, { relative: 32, absolute: 32 });
    }
  });

  test("no texts give no vectors, and no text has more tokens than allowed", async () => {
    using model = bertOf(device);
    expect(await embedTexts(model, tokenizer, [])).toEqual([]);
    const [short] = await embedTexts(model, tokenizer, [texts[4]!], { maxLength: 4 });
    expect(short).toEqual((await embedTexts(model, tokenizer, ["cafe. "], { maxLength: 4 }))[0]);
    const plain = { encode: (text: string) => Int32Array.from(text, (sign) => sign.charCodeAt(0) % 12) };
    const [lower] = await embedTexts(model, plain, ["ABCDEF"], { lowercase: true, maxLength: 3 });
    expect(lower).toEqual((await embedTexts(model, plain, ["abc"]))[0]);
  });

  test("calls at the same time share batches, and each gets its own vectors", async () => {
    using model = bertOf(device);
    const options = { pooling: "mean", batchSize: 4 } as const;
    const alone: Float32Array[] = [];
    for (const text of texts) alone.push(...(await embedTexts(model, tokenizer, [text], options)));
    const passes: (readonly number[])[] = [];
    const forward = model.forward.bind(model);
    model.forward = (ids, ...rest) => {
      passes.push(ids.shape);
      return forward(ids, ...rest);
    };
    // The clock stands still, so that no turn of the event loop is long: a slow machine would read the texts in several.
    vi.spyOn(performance, "now").mockReturnValue(performance.now());
    onTestFinished(() => void vi.restoreAllMocks());
    const stopping = new AbortController();
    const aborted = embedTexts(model, tokenizer, texts, { ...options, signal: stopping.signal });
    const both = await Promise.allSettled([
      aborted,
      ...texts.map((text) => embedTexts(model, tokenizer, [text], options)),
      embedTexts(model, tokenizer, texts, { ...options, pooling: "max" }),
      Promise.resolve().then(() => stopping.abort(new Error("enough"))),
    ]);
    expect(both[0]).toMatchObject({ status: "rejected", reason: { message: "enough" } });
    for (const [i] of texts.entries()) {
      const [vector] = (both[i + 1] as PromiseFulfilledResult<Float32Array[]>).value;
      expectClose(`text ${i}`, vector!, alone[i]!, { absolute: 16, relative: 0 });
    }
    // Six texts of their own, and six of another pooling, in batches of up to four.
    expect(passes.length).toBeLessThanOrEqual(2 + 2 + 1);
    expect(Math.max(...passes.map(([rows]) => rows!))).toBe(4);
  });

  test("refuses invalid input, and stops when aborted", async () => {
    using model = bertOf(device);
    const of = (...[own, tokens, list, options]: Parameters<typeof embedTexts>) =>
      embedTexts(own, tokens, list, options);
    await expectRejection(of({} as never, tokenizer, []), "ERR_ARGUMENT", /model/);
    await expectRejection(of(model, {} as never, []), "ERR_ARGUMENT", /tokenizer/);
    await expectRejection(of(model, tokenizer, "text" as never), "ERR_ARGUMENT", /texts/);
    await expectRejection(of(model, tokenizer, [1 as never]), "ERR_ARGUMENT", /texts\[0\]/);
    await expectRejection(of(model, tokenizer, [], { pooling: "sum" as never }), "ERR_ARGUMENT", /pooling/);
    await expectRejection(of(model, tokenizer, [], { batchSize: 0 }), "ERR_RANGE", /batchSize/);
    await expectRejection(of(model, tokenizer, [], { maxLength: 13 }), "ERR_RANGE", /maxLength/);
    await expectRejection(of(model, tokenizer, ["cafe"], { maxLength: 1 }), "ERR_RANGE", /maxLength/);
    await expectRejection(of(model, { encode: () => new Int32Array() }, [""]), "ERR_ARGUMENT", /at least one token/);
    const strange = { encode: () => Int32Array.of(2, 12) };
    await expectRejection(of(model, strange, [""]), "ERR_RANGE", /tokens of texts\[0\] to be from 0 to 11, got 12/);
    const reason = new Error("enough");
    const stopping = new AbortController();
    const running = of(model, tokenizer, texts, { batchSize: 1, signal: stopping.signal });
    stopping.abort(reason);
    await expect(running).rejects.toBe(reason);
    await expect(of(model, tokenizer, [], { signal: stopping.signal })).rejects.toBe(reason);
  });
});

describe("folders of sentence-transformers", () => {
  const transformer = { idx: 0, name: "0", path: "", type: "sentence_transformers.models.Transformer" };
  const pooling = { idx: 1, name: "1", path: "1_Pooling", type: "sentence_transformers.models.Pooling" };
  const normalize = { idx: 2, name: "2", path: "2_Normalize", type: "sentence_transformers.models.Normalize" };
  const modes = { word_embedding_dimension: 8, pooling_mode_cls_token: false, pooling_mode_mean_tokens: true };

  async function folderOf(files: Record<string, unknown>): Promise<string> {
    const folder = temporaryFolder();
    mkdirSync(path.join(folder, "1_Pooling"));
    using model = bertOf("cpu");
    const own = { "config.json": toHuggingFaceBertConfig(model.config), "tokenizer.json": wordPieceJson() };
    for (const [name, json] of Object.entries({ ...own, ...files }))
      writeFileSync(path.join(folder, name), JSON.stringify(json));
    const tensors = [...model.namedParameters()].map(([name, { shape }]) => [name, shape] as const);
    const data = await Promise.all(model.parameters().map((p) => p.data()));
    await writeSafetensors(
      path.join(folder, "model.safetensors"),
      tensors.map(([name, shape], i) => ({ name, dtype: "F32", shape, data: data[i]! })),
    );
    return folder;
  }
  const load = async (files: Record<string, unknown>) =>
    loadPretrained(await folderOf(files), { kind: "encoder", device: "cpu" });

  test("say how a text becomes a vector", async () => {
    const { model, tokenizer, recipe } = await load({
      "modules.json": [transformer, pooling, normalize],
      "1_Pooling/config.json": modes,
      "sentence_bert_config.json": { max_seq_length: 5, do_lower_case: false },
    });
    expect(recipe).toEqual({ pooling: "mean", normalize: true, maxLength: 5, lowercase: false });
    const [vector] = await embedTexts(model, tokenizer!, ["unaffable cafe."], recipe!);
    const ids = tokenizer!.encode("unaffable cafe.", { maxLength: 5 });
    expect(ids).toHaveLength(5);
    expectClose("vector", vector!, await vectorOf(model, ids, "mean", true), { relative: 32, absolute: 32 });
    model.dispose();
  });

  test("with fewer entries", async () => {
    const first = {
      "1_Pooling/config.json": { ...modes, pooling_mode_cls_token: true, pooling_mode_mean_tokens: false },
    };
    const { model, recipe } = await load({ "modules.json": [transformer, pooling], ...first });
    expect(recipe).toEqual({ pooling: "cls", normalize: false, lowercase: false });
    model.dispose();
    const plain = await load({});
    expect(plain.recipe).toBeNull();
    plain.model.dispose();
  });

  test("that require unknown features", async () => {
    const dense = { idx: 2, path: "2_Dense", type: "sentence_transformers.models.Dense" };
    const modules = { "modules.json": [transformer, pooling] };
    for (const [files, message] of [
      [{ "modules.json": [transformer, pooling, dense] }, /modules\.json: .*Transformer, Pooling, Dense/],
      [{ "modules.json": {} }, /modules\.json/],
      [{ "modules.json": [{ ...transformer, path: "0_Transformer" }, pooling] }, /"0_Transformer"/],
      [{ "modules.json": [transformer, { ...pooling, path: "../1_Pooling" }] }, /name of a folder/],
      [{ ...modules, "1_Pooling/config.json": { ...modes, pooling_mode_cls_token: true } }, /1_Pooling.*cls.*mean/],
      [{ ...modules, "1_Pooling/config.json": { pooling_mode_weightedmean_tokens: true } }, /weightedmean/],
    ] as const)
      await expectRejection(load(files), "ERR_FORMAT", message);
    await expectRejection(load(modules), "ERR_IO", /1_Pooling/);
  });
});
