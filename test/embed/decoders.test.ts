/** Tests vectors that decoders make of texts: the state of the last token, as in Qwen3-Embedding. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import { readSafetensors, writeSafetensors } from "../../lib/formats/safetensors.js";
import { load } from "../../lib/load/load.js";
import type { CausalDecoder } from "../../lib/models/causal-decoder.js";
import { GPT } from "../../lib/models/gpt.js";
import { Llama } from "../../lib/models/llama.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { scope } from "../../lib/core/scope.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { expectClose } from "../support/close.js";
import { expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { Random } from "../support/random.js";
import { onEachDevice } from "../support/targets.js";
import { wordPieceJson, wordPieces } from "../tokenizer/fixtures.js";

const size = { vocabularySize: wordPieces.length, contextLength: 16, layers: 2, heads: 2, width: 16 };
const tokenizer = new HuggingFaceTokenizer(wordPieceJson());
const decoders = {
  llama: () => new Llama({ ...size, feedForwardWidth: 24, qkNorm: true, tied: true }, { device: "cpu" }),
  gpt: () => new GPT(size, { device: "cpu" }),
};
const texts = ["unaffable cafe.", "", "aff", "cafe. cafe. cafe. cafe. cafe. cafe. cafe. cafe.", "affs"];

/** Writes a folder of sentence-transformers with a decoder whose weights are random. */
async function folderOf(kind: keyof typeof decoders): Promise<string> {
  const folder = temporaryFolder();
  using model = decoders[kind]();
  const random = new Random(3);
  for (const weight of model.parameters())
    if (weight.shape.length === 2) weight.set(Array.from({ length: weight.size }, () => 0.4 * random.normal()));
  await savePretrained(folder, model, { tokenizer });
  const step = (type: string, folder: string) => ({ type: `sentence_transformers.models.${type}`, path: folder });
  const modules = [step("Transformer", ""), step("Pooling", "1_Pooling"), step("Normalize", "2_Normalize")];
  writeFileSync(path.join(folder, "modules.json"), JSON.stringify(modules));
  mkdirSync(path.join(folder, "1_Pooling"));
  const pooling = { pooling_mode_cls_token: false, pooling_mode_lasttoken: true, include_prompt: true };
  writeFileSync(path.join(folder, "1_Pooling", "config.json"), JSON.stringify(pooling));
  return folder;
}

/** Returns the state of a text's last token by definition, from the text alone, at length 1. */
async function vectorOf(model: CausalDecoder, ids: Int32Array): Promise<number[]> {
  const { device } = model;
  using states = noGrad(() => scope(() => model.states(tensor(ids, [1, ids.length], { device }))));
  const last = Array.from((await states.data()).slice(-size.width));
  const norm = Math.hypot(...last);
  return last.map((x) => x / norm);
}

onEachDevice((device) => {
  test.each(["llama", "gpt"] as const)(
    "%s: the last token's state, whatever the text is batched with",
    async (kind) => {
      using model = await load(await folderOf(kind), { device });
      expect(model.kind).toBe("encoder");
      if (model.kind !== "encoder") return;
      expect(model.recipe).toEqual({ pooling: "last", normalize: true, lowercase: false });
      const vectors = await model.embed(texts);
      for (const [i, text] of texts.entries()) {
        const ids = tokenizer.encode(text, { maxLength: size.contextLength });
        const expected = await vectorOf(model.model as CausalDecoder, ids);
        expectClose(`text ${i}`, vectors[i]!, expected, { relative: 64, absolute: 64 });
      }
      const mean = await model.embed(texts, { pooling: "mean" });
      expect(mean[0]).not.toEqual(vectors[0]);
    },
  );

  test("the logits are the product of the states and the embedding", async () => {
    using model = decoders.llama().to(device);
    const ids = tensor([3, 1, 4, 1, 5], [1, 5], { dtype: "i32", device });
    const [states, logits] = noGrad(() => [model.states(ids), model.forward(ids)] as const);
    const [rows, table] = await Promise.all([states.data(), model.model.embed_tokens.weight.data()]);
    const dot = (t: number, v: number): number =>
      Array.from({ length: size.width }, (_, c) => rows[t * size.width + c]! * table[v * size.width + c]!).reduce(
        (a, b) => a + b,
      );
    const expected = Array.from({ length: 5 * size.vocabularySize }, (_, i) =>
      dot(Math.floor(i / size.vocabularySize), i % size.vocabularySize),
    );
    expectClose("logits", await logits.data(), expected, { relative: 32, absolute: 32 });
    for (const made of [ids, states, logits]) made.dispose();
  });
});

test("files whose names lack the prefix, and the same model as a language model", async () => {
  const folder = await folderOf("llama");
  using before = await load(folder, { kind: "encoder", device: "cpu" });
  const file = path.join(folder, "model.safetensors");
  const entries: { name: string; dtype: "F32"; shape: readonly number[]; data: Float32Array }[] = [];
  for (const [name, weight] of before.model.namedParameters())
    entries.push({ name: name.replace(/^model\./, ""), dtype: "F32", shape: weight.shape, data: await weight.data() });
  await writeSafetensors(file, entries);
  await using written = await readSafetensors(file);
  expect([...written.tensors.keys()]).toContain("embed_tokens.weight");
  using after = await load(folder, { kind: "encoder", device: "cpu" });
  expect(await after.embed(texts)).toEqual(await before.embed(texts));
  using language = await load(folder, { kind: "causal", device: "cpu" });
  expect((await language.generate("aff", { maxTokens: 2, stopTokens: [] })).tokens).toHaveLength(2);
  const config = JSON.parse(readFileSync(path.join(folder, "config.json"), "utf8")) as { model_type: string };
  expect(config.model_type).toBe("qwen3");
  await expectRejection(
    load(folder, { kind: "classifier", device: "cpu" }),
    "ERR_ARGUMENT",
    /got one of kind "encoder"/,
  );
});
