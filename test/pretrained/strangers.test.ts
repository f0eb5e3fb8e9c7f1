/**
 * Files from strangers: if a small file asks for too much memory, it must be refused with a reason before memory is
 * allocated.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { device } from "../../lib/core/device.js";
import { writeSafetensors } from "../../lib/formats/safetensors.js";
import { Bert } from "../../lib/models/bert.js";
import { toHuggingFaceBertConfig } from "../../lib/pretrained/families/bert-config.js";
import { BertForMaskedLM } from "../../lib/models/bert-heads.js";
import { fromHuggingFaceLlamaConfig } from "../../lib/pretrained/families/llama-config.js";
import { Llama } from "../../lib/models/llama.js";
import { T5 } from "../../lib/models/t5.js";
import type { Module } from "../../lib/nn/module.js";
import { fromGenerationConfig } from "../../lib/pretrained/generation-config.js";
import { loadModel } from "../../lib/pretrained/load-model.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { readRecipe } from "../../lib/pretrained/sentence-transformers.js";
import { loadLlama2c } from "../../lib/pretrained/families/load-llama2c.js";
import { loadGguf } from "../../lib/pretrained/gguf/load-gguf.js";
import type { PretrainedKinds } from "../../lib/pretrained/families/index.js";
import { loadPretrained } from "../../lib/pretrained/load-pretrained.js";
import { type GgufInput, ggufFile, text, typed } from "../formats/gguf-writer.js";
import { expectError, expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";

let folder = "";
beforeEach(() => {
  folder = temporaryFolder();
});

const mebi = 2 ** 20;

/** Expects that a file is refused and that this takes less than this much memory. */
async function expectCheap(loading: () => Promise<unknown>, message: RegExp, most = 64 * mebi): Promise<void> {
  const cpu = device("cpu");
  await cpu.synchronize();
  cpu.resetPeak();
  const before = { device: cpu.memory().peak, ...process.memoryUsage() };
  await expectRejection(loading(), "ERR_FORMAT", message);
  const after = { device: cpu.memory().peak, ...process.memoryUsage() };
  expect(after.device - before.device).toBeLessThan(most);
  expect(after.heapUsed - before.heapUsed).toBeLessThan(most);
  expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(most);
}

/** Writes a folder with these tensors of zeros. */
async function folderOf(config: unknown, tensors: Readonly<Record<string, readonly number[]>>): Promise<void> {
  writeFileSync(path.join(folder, "config.json"), JSON.stringify(config));
  const inputs = Object.entries(tensors).map(([name, shape]) => {
    const size = shape.reduce((product, n) => product * n, 1);
    return { name, dtype: "F32" as const, shape, data: () => new Float32Array(size) };
  });
  await writeSafetensors(path.join(folder, "model.safetensors"), inputs);
}
const load = (kind: keyof PretrainedKinds) => loadPretrained(folder, { kind, device: "cpu" });

const gpt = { model_type: "gpt2", vocab_size: 4, n_positions: 4, n_embd: 2, n_head: 1, n_layer: 1, n_inner: 2 };
const llama = {
  model_type: "llama",
  vocab_size: 4,
  max_position_embeddings: 8,
  num_hidden_layers: 1,
  num_attention_heads: 1,
  hidden_size: 2,
  intermediate_size: 2,
};
const bert = {
  model_type: "bert",
  vocab_size: 4,
  max_position_embeddings: 4,
  num_hidden_layers: 1,
  num_attention_heads: 1,
  hidden_size: 2,
  intermediate_size: 2,
};
const t5 = { model_type: "t5", vocab_size: 4, num_layers: 1, num_heads: 1, d_kv: 2, d_model: 2, d_ff: 2 };
const marian = {
  ...{ model_type: "marian", vocab_size: 4, max_position_embeddings: 4, encoder_layers: 1, decoder_layers: 1 },
  ...{ encoder_attention_heads: 1, decoder_attention_heads: 1, encoder_ffn_dim: 2, decoder_ffn_dim: 2, d_model: 2 },
  ...{ decoder_start_token_id: 0, eos_token_id: 1, pad_token_id: 0 },
};
const million = 1_000_000;
const deepest = 4096;

/** The last layer and the largest tensors, which reveal sizes that are wrong by mistake. */
const cases: [string, keyof PretrainedKinds, object, Record<string, number[]>, RegExp][] = [
  ["GPT: a million layers", "causal", { ...gpt, n_layer: million }, {}, /layers to be an integer from 1 to 4096/],
  [
    "GPT: more layers than the file has",
    "causal",
    { ...gpt, n_layer: deepest },
    { "wte.weight": [4, 2], "wpe.weight": [4, 2], "h.4095.mlp.c_fc.weight": [2, 2] },
    /far fewer/,
  ],
  [
    "GPT: a table of sinusoids",
    "causal",
    { ...gpt, model_type: "heed_gpt", heed_positions: "sinusoidal", n_positions: 2 ** 27 - 1 },
    { "wte.weight": [4, 2], "h.0.mlp.c_fc.weight": [2, 2] },
    /a table of positions has at most/,
  ],
  [
    "GPT: a table of rotary positions",
    "causal",
    { ...gpt, model_type: "heed_gpt", heed_positions: "rotary", n_positions: 2 ** 27 - 1 },
    { "wte.weight": [4, 2], "h.0.mlp.c_fc.weight": [2, 2] },
    /a table of positions has at most/,
  ],
  [
    "Llama: a million layers",
    "causal",
    { ...llama, num_hidden_layers: million },
    {},
    /num_hidden_layers to be a positive integer of at most 4096/,
  ],
  [
    "Qwen: a list of a million windows",
    "causal",
    { ...llama, model_type: "qwen2", num_hidden_layers: 2 ** 31, use_sliding_window: true, max_window_layers: 1 },
    {},
    /num_hidden_layers to be a positive integer of at most 4096/,
  ],
  [
    "Llama: more layers than the file has",
    "causal",
    { ...llama, num_hidden_layers: deepest },
    {
      "model.embed_tokens.weight": [4, 2],
      "model.layers.4095.self_attn.q_proj.weight": [2, 2],
      "model.layers.4095.mlp.gate_proj.weight": [2, 2],
    },
    /far fewer/,
  ],
  [
    "Llama: a table of rotary positions",
    "causal",
    { ...llama, max_position_embeddings: 2 ** 27 },
    {
      "model.embed_tokens.weight": [4, 2],
      "model.layers.0.self_attn.q_proj.weight": [2, 2],
      "model.layers.0.mlp.gate_proj.weight": [2, 2],
    },
    /a table of positions has at most/,
  ],
  [
    "BERT: kinds of tokens",
    "encoder",
    { ...bert, type_vocab_size: 2 ** 28 },
    { "embeddings.word_embeddings.weight": [4, 2], "encoder.layer.0.intermediate.dense.weight": [2, 2] },
    /far fewer/,
  ],
  [
    "BERT: positions",
    "encoder",
    { ...bert, max_position_embeddings: 2 ** 28 },
    { "embeddings.word_embeddings.weight": [4, 2], "encoder.layer.0.intermediate.dense.weight": [2, 2] },
    /far fewer/,
  ],
  [
    "BERT: classes",
    "classifier",
    { ...bert, num_labels: 2 ** 28 },
    { "bert.embeddings.word_embeddings.weight": [4, 2], "bert.encoder.layer.0.intermediate.dense.weight": [2, 2] },
    /far fewer/,
  ],
  [
    "T5: kinds of distance",
    "encoder-decoder",
    { ...t5, relative_attention_num_buckets: 2 ** 28, relative_attention_max_distance: 2 ** 29 },
    { "shared.weight": [4, 2], "encoder.block.0.layer.0.SelfAttention.q.weight": [2, 2] },
    /far fewer/,
  ],
  [
    "T5: layers of the decoder",
    "encoder-decoder",
    { ...t5, num_decoder_layers: deepest },
    { "shared.weight": [4, 2], "encoder.block.0.layer.0.SelfAttention.q.weight": [2, 2] },
    /far fewer/,
  ],
  [
    "Marian: a table of sinusoids",
    "encoder-decoder",
    { ...marian, max_position_embeddings: 2 ** 27 },
    { "model.shared.weight": [4, 2], "model.encoder.layers.0.fc1.weight": [2, 2] },
    /a table of positions has at most/,
  ],
  [
    "Marian: layers of the decoder",
    "encoder-decoder",
    { ...marian, decoder_layers: million },
    { "model.shared.weight": [4, 2], "model.encoder.layers.0.fc1.weight": [2, 2] },
    /decoderLayers to be an integer from 1 to 4096/,
  ],
];

describe("a config.json whose sizes contradict the tensors", () => {
  test.each(cases)("%s", async (_, kind, config, tensors, message) => {
    await folderOf(config, tensors);
    await expectCheap(() => load(kind), message);
  });
});

test("memory that was allocated before the lack of room was noticed is given back", async () => {
  await folderOf({ ...bert, type_vocab_size: 2 ** 28 }, cases.find(([name]) => name === "BERT: kinds of tokens")![3]);
  const live = device("cpu").memory().tensors;
  await expectRejection(load("encoder"), "ERR_FORMAT");
  await device("cpu").synchronize();
  expect(device("cpu").memory().tensors).toBe(live);
});

describe("GGUF", () => {
  const file = () => path.join(folder, "model.gguf");
  const zeros = (name: string, ...sizes: number[]): NonNullable<GgufInput["tensors"]>[number] => ({
    name,
    type: 0,
    sizes,
    bytes: Buffer.alloc(4 * sizes.reduce((product, n) => product * n, 1)),
  });
  const sizes = (more: Record<string, number>): GgufInput["metadata"] => [
    ["general.architecture", text("llama")],
    ...Object.entries({
      context_length: 8,
      embedding_length: 2,
      block_count: 1,
      feed_forward_length: 2,
      "attention.head_count": 1,
      ...more,
    }).map(([key, value]) => [`llama.${key}`, typed(4, value)] as [string, ReturnType<typeof typed>]),
    ["llama.attention.layer_norm_rms_epsilon", typed(6, 1e-5)],
  ];
  const layer = (n: number) => [zeros(`blk.${n}.attn_norm.weight`, 2), zeros(`blk.${n}.ffn_up.weight`, 2, 2)];

  test.each<[string, Record<string, number>, number, RegExp]>([
    ["a million layers", { block_count: million }, 0, /layers to be an integer from 1 to 4096/],
    ["more layers than the file has", { block_count: deepest }, deepest - 1, /far fewer/],
    ["a table of rotary positions", { context_length: 2 ** 27 }, 0, /a table of positions has at most/],
    ["heads of keys", { "attention.head_count": 2 ** 30, "attention.key_length": 2 }, 0, /far fewer/],
  ])("%s", async (_, more, last, message) => {
    writeFileSync(
      file(),
      ggufFile({ metadata: sizes(more) ?? [], tensors: [zeros("token_embd.weight", 2, 4), ...layer(last)] }),
    );
    await expectCheap(() => loadGguf(file(), { device: "cpu" }), message);
  });
});

describe("llama2.c", () => {
  const file = () => path.join(folder, "model.bin");
  const fileOf = (header: number[], bytes: number) =>
    writeFileSync(file(), Buffer.concat([Buffer.from(Int32Array.from(header).buffer), Buffer.alloc(bytes)]));

  test.each([
    [[2, 1, 500_000, 1, 1, 4, 8], /at most 4096 layers, got 500000/],
    [[2, 1, 4096, 1, 1, 4, 2 ** 31 - 1], /for the sizes of the header/],
    [[2 ** 31 - 2, 2 ** 31 - 1, 4096, 1, 1, 2 ** 31 - 1, 2 ** 31 - 1], /for the sizes of the header/],
  ])("a header of %j in 2 MB", async (header, message) => {
    fileOf(header, 2_000_000);
    await expectCheap(() => loadLlama2c(file(), { device: "cpu" }), message);
  });
});

describe("numbers of the wrong type", () => {
  test.each<[keyof PretrainedKinds, object, string, string]>([
    ["causal", llama, "rope_theta", '"1e6"'],
    ["causal", llama, "rope_theta", "1e999"],
    ["causal", llama, "rms_norm_eps", '"1e-5"'],
    ["causal", llama, "attention_dropout", "[0]"],
    ["causal", llama, "num_hidden_layers", "1.5"],
    ["causal", llama, "tie_word_embeddings", '"false"'],
    ["causal", llama, "head_dim", '"2"'],
    ["causal", gpt, "layer_norm_epsilon", "1e999"],
    ["causal", gpt, "resid_pdrop", '"0.1"'],
    ["encoder", bert, "type_vocab_size", '"2"'],
    ["encoder", bert, "layer_norm_eps", "true"],
    ["masked", bert, "tie_word_embeddings", "0"],
    ["classifier", bert, "classifier_dropout", '"0.1"'],
    ["classifier", bert, "num_labels", '"3"'],
    ["classifier", bert, "id2label", '"ab"'],
    ["encoder-decoder", t5, "dropout_rate", '"0"'],
    ["encoder-decoder", marian, "attention_dropout", "1e999"],
  ])("%s: %j with %s of %s", async (kind, config, name, value) => {
    await folderOf(config, {
      "bert.embeddings.word_embeddings.weight": [4, 2],
      "bert.encoder.layer.0.intermediate.dense.weight": [2, 2],
    });
    const text = JSON.stringify({ ...config, [name]: "?" }).replace('"?"', value);
    writeFileSync(path.join(folder, "config.json"), text);
    await expectRejection(load(kind), "ERR_FORMAT", name === "id2label" ? /id2label/ : new RegExp(name));
  });

  test("a rope_theta that rope_scaling lacks comes from the configuration", () => {
    const rope_scaling = { type: "linear", factor: 2, rope_theta: null };
    expect(fromHuggingFaceLlamaConfig({ ...llama, rope_theta: 1e6, rope_scaling }).rotaryBase).toBe(1e6);
  });

  test("generation_config.json", () => {
    for (const [name, value] of Object.entries({ temperature: "1", top_k: Infinity, do_sample: "false" }))
      expectError(() => fromGenerationConfig({ [name]: value }), "ERR_FORMAT", new RegExp(name));
  });
});

describe("entries that are null", () => {
  test("a configuration", async () => {
    for (const text of ["null", "1", '"a"', "[]"]) {
      writeFileSync(path.join(folder, "config.json"), text);
      await expectRejection(load("causal"), "ERR_FORMAT", /config.json: expected "model_type"/);
      await expectRejection(loadModel(folder, { device: "cpu" }), "ERR_FORMAT", /model_type/);
    }
  });

  test("options of sentence-transformers", async () => {
    const write = (name: string, value: unknown) => writeFileSync(path.join(folder, name), JSON.stringify(value));
    mkdirSync(path.join(folder, "pooling"));
    write("modules.json", [
      { type: "a.Transformer", path: "" },
      { type: "a.Pooling", path: "pooling" },
    ]);
    write("pooling/config.json", { pooling_mode_mean_tokens: true });
    write("sentence_bert_config.json", null);
    expect(await readRecipe(folder)).toEqual({ pooling: "mean", normalize: false, lowercase: false });
    write("sentence_bert_config.json", { max_seq_length: "128" });
    await expectRejection(readRecipe(folder), "ERR_FORMAT", /max_seq_length to be a positive integer, got "128"/);
    write("pooling/config.json", null);
    await expectRejection(readRecipe(folder), "ERR_FORMAT", /pooling_mode/);
  });
});

describe("a tokenizer larger than its model", () => {
  const tokens = Object.fromEntries(["[UNK]", "a", "b", "c", "d"].map((token, id) => [token, id]));
  const wordPiece = { model: { type: "WordPiece", unk_token: "[UNK]", vocab: tokens } };
  const small = { device: "cpu", seed: 1 };
  const sizes = { vocabularySize: 4, contextLength: 8, layers: 1, heads: 1, width: 8, feedForwardWidth: 4 };

  test.each<[keyof PretrainedKinds, () => Module]>([
    ["causal", () => new Llama(sizes, small)],
    ["encoder", () => new Bert(sizes, small)],
    ["masked", () => new BertForMaskedLM(new Bert(sizes, small))],
    ["encoder-decoder", () => new T5(sizes, small)],
  ])("%s", async (kind, make) => {
    using model = make();
    await savePretrained(folder, model);
    writeFileSync(path.join(folder, "tokenizer.json"), JSON.stringify(wordPiece));
    const message = /a tokenizer with at most 4 tokens, as many as the model has, got 5/;
    await expectRejection(load(kind), "ERR_FORMAT", message);
    if (kind === "causal") await expectRejection(loadModel(folder, { device: "cpu" }), "ERR_FORMAT", message);
  });
});

test("too many tensors that a model does not need are refused in time", async () => {
  const names = Array.from({ length: 20_000 }, (_, i) => `cls.${i}`);
  using model = new Bert({ vocabularySize: 4, contextLength: 8, layers: 1, heads: 1, width: 8 }, { device: "cpu" });
  const given = Object.entries(model.stateDict()).map(
    ([name, parameter]) => [`bert.${name}`, [...parameter.shape]] as const,
  );
  const config = toHuggingFaceBertConfig(model.config);
  await folderOf(config, Object.fromEntries([...given, ...names.map((name) => [name, []] as const)]));
  const started = performance.now();
  const loaded = await load("encoder");
  expect(loaded.ignored).toHaveLength(names.length);
  loaded.model.dispose();
  expect(performance.now() - started).toBeLessThan(10_000);
});
