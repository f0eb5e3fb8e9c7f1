/** Files from strangers: what a small file asks for is refused by name before memory is taken for it. */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { device } from "../../lib/device.js";
import { writeSafetensors } from "../../lib/formats/safetensors.js";
import { loadLlama2c } from "../../lib/pretrained/load-llama2c.js";
import { loadGguf } from "../../lib/pretrained/gguf/load-gguf.js";
import type { PretrainedKinds } from "../../lib/pretrained/families/index.js";
import { loadPretrained } from "../../lib/pretrained/load-pretrained.js";
import { type GgufInput, ggufFile, text, typed } from "../formats/gguf-writer.js";
import { expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";

let folder = "";
beforeEach(() => {
  folder = temporaryFolder();
});

const mebi = 2 ** 20;

/** Expects a file to be refused, for less than this memory. */
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

/** A folder with these tensors of zeros. */
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

/** The last layer and the largest tensors, by which sizes are found that are wrong by mistake. */
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

describe("a config.json whose sizes the tensors do not have", () => {
  test.each(cases)("%s", async (_, kind, config, tensors, message) => {
    await folderOf(config, tensors);
    await expectCheap(() => load(kind), message);
  });
});

test("memory that was taken before the room was found out is given back", async () => {
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

  test("a table of rotary positions that the file does hold", async () => {
    // A whole file of 2 layers, of which positions are nearly all.
    const positions = 3 * mebi;
    const perLayer = 2 + 2 + 4 * 4 + 3 * 2;
    fileOf([2, 1, 2, 1, 1, 4, positions], 4 * (8 + 2 * perLayer + 2 + 2 * positions));
    const model = await loadLlama2c(file(), { device: "cpu" });
    expect(model.config.contextLength).toBe(positions);
    model.dispose();
  });
});
