import { writeFileSync } from "node:fs";
import path from "node:path";
import { beforeEach, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { type SafetensorsInput, writeSafetensors } from "../../lib/formats/safetensors.js";
import { GPT } from "../../lib/models/gpt.js";
import { toHuggingFaceGptConfig } from "../../lib/pretrained/families/gpt-config.js";
import { Llama } from "../../lib/models/llama.js";
import type { Module } from "../../lib/nn/module.js";
import { loadPretrained } from "../../lib/pretrained/load-pretrained.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";
import { expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";

let folder = "";
beforeEach(() => {
  folder = temporaryFolder();
});
const write = (name: string, value: unknown) => writeFileSync(path.join(folder, name), JSON.stringify(value));

const llamaConfig = {
  model_type: "llama",
  vocab_size: 300,
  max_position_embeddings: 16,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  hidden_size: 16,
  intermediate_size: 24,
  rms_norm_eps: 1e-5,
};
const size = { vocabularySize: 300, contextLength: 16, layers: 2, heads: 4, width: 16 };
const llama = new Llama({ ...size, kvHeads: 2, feedForwardWidth: 24 }, { device: "cpu", seed: 1 });
const gpt = new GPT(size, { device: "cpu", seed: 2 });

const tensorsOf = (model: Module, prefix = "") =>
  Object.entries(model.stateDict()).map(([name, parameter]): SafetensorsInput => {
    return { name: prefix + name, dtype: "F32", shape: parameter.shape, data: () => parameter.data() };
  });
const save = (name: string, tensors: SafetensorsInput[]) => writeSafetensors(path.join(folder, name), tensors);

interface Forward {
  forward: (ids: IntTensor) => FloatTensor;
}
async function logits(model: Forward): Promise<Float32Array> {
  using out = noGrad(() => scope(() => model.forward(tensor(Int32Array.of(1, 2, 3), [1, 3], { device: "cpu" }))));
  return await out.data();
}

test("a Llama, with its tokenizer", async () => {
  write("config.json", llamaConfig);
  write("tokenizer.json", byteLevelJson());
  await save("model.safetensors", tensorsOf(llama));
  const loaded = await loadPretrained(folder, { device: "cpu" });
  expect(loaded.folder).toBe(folder);
  expect(loaded.model.training).toBe(false);
  expect(loaded.tokenizer!.encode("hello")).toHaveLength(2);
  expect(await logits(loaded.model)).toEqual(await logits(llama));
  loaded.model.dispose();
});

test("a Llama in shards, without a tokenizer", async () => {
  write("config.json", llamaConfig);
  const tensors = tensorsOf(llama);
  const parts = [tensors.slice(0, 5), tensors.slice(5)];
  const names = ["model-1.safetensors", "model-2.safetensors"];
  for (const [i, part] of parts.entries()) await save(names[i]!, part);
  const map = parts.flatMap((part, i) => part.map(({ name }) => [name, names[i]!]));
  write("model.safetensors.index.json", { weight_map: Object.fromEntries(map) });
  const loaded = await loadPretrained(folder, { device: "cpu" });
  expect(loaded.tokenizer).toBeNull();
  expect(await logits(loaded.model)).toEqual(await logits(llama));
  loaded.model.dispose();
});

test("a GPT-2, with the prefix and the masks that its files have", async () => {
  write("config.json", toHuggingFaceGptConfig(gpt.config));
  const mask: SafetensorsInput = {
    name: "transformer.h.0.attn.bias",
    dtype: "F32",
    shape: [1],
    data: Float32Array.of(0),
  };
  for (const prefix of ["", "transformer."]) {
    const head: SafetensorsInput = { ...tensorsOf(gpt)[0]!, name: "lm_head.weight" };
    await save("model.safetensors", [...tensorsOf(gpt, prefix), mask, head]);
    const loaded = await loadPretrained(folder, { device: "cpu" });
    expect(loaded.ignored).toEqual(["lm_head.weight"]);
    expect(await logits(loaded.model)).toEqual(await logits(gpt));
    loaded.model.dispose();
  }
});

test("a GPT-2 with a separate head, which never has a prefix in files", async () => {
  using untied = new GPT({ ...size, tied: false, feedForwardWidth: 40 }, { device: "cpu", seed: 3 });
  write("config.json", toHuggingFaceGptConfig(untied.config));
  const tensors = tensorsOf(untied, "transformer.").map((one) =>
    one.name === "transformer.lm_head.weight" ? { ...one, name: "lm_head.weight" } : one,
  );
  await save("model.safetensors", tensors);
  const loaded = await loadPretrained(folder, { device: "cpu" });
  expect(loaded.ignored).toEqual([]);
  expect(await logits(loaded.model)).toEqual(await logits(untied));
  loaded.model.dispose();
});

test("a Llama whose weights are quantised", async () => {
  write("config.json", llamaConfig);
  await save("model.safetensors", tensorsOf(llama));
  for (const quantize of [8, { bits: 4, groupSize: 64 }] as const) {
    const { model } = await loadPretrained(folder, { device: "cpu", quantize });
    using own = new Llama({ ...size, kvHeads: 2, feedForwardWidth: 24 }, { device: "cpu", seed: 1 });
    own.quantize(typeof quantize === "number" ? { bits: quantize } : quantize);
    expect(model.isQuantized).toBe(true);
    expect(await logits(model)).toEqual(await logits(own));
    model.dispose();
  }
});

test("refuses incomplete folders", async () => {
  await expectRejection(loadPretrained(folder), "ERR_IO", /config\.json/);
  write("config.json", llamaConfig);
  await expectRejection(loadPretrained(folder), "ERR_IO", /expected model\.safetensors or its index, got neither/);
  await save("model.safetensors", tensorsOf(llama).slice(0, -1));
  await expectRejection(
    loadPretrained(folder),
    "ERR_FORMAT",
    /expected a tensor for every parameter of the model, got none for lm_head\.weight/,
  );
  const extra: SafetensorsInput = { name: "more", dtype: "F32", shape: [1], data: Float32Array.of(0) };
  await save("model.safetensors", [...tensorsOf(llama), extra]);
  await expectRejection(loadPretrained(folder), "ERR_FORMAT", /only the model's parameters, got more/);
  write("config.json", { ...llamaConfig, vocab_size: 299 });
  await save("model.safetensors", tensorsOf(llama));
  await expectRejection(loadPretrained(folder), "ERR_FORMAT", /of shape \[299, 16\], got \[300, 16\]/);
  write("config.json", { ...llamaConfig, model_type: "other" });
  await expectRejection(loadPretrained(folder), "ERR_FORMAT", /config\.json: .*model_type/);
  write("config.json", { ...llamaConfig, rope_scaling: { rope_type: "linear", factor: 0 } });
  await expectRejection(loadPretrained(folder), "ERR_FORMAT", /config\.json: .*factor/);
  write("config.json", { ...llamaConfig, num_key_value_heads: 3 });
  await expectRejection(loadPretrained(folder), "ERR_FORMAT", /config\.json: .*kvHeads/);
});

test("the error names the missing shard", async () => {
  write("config.json", llamaConfig);
  write("model.safetensors.index.json", { weight_map: { "model.norm.weight": "model-1.safetensors" } });
  await expectRejection(loadPretrained(folder), "ERR_IO", /model-1\.safetensors: ENOENT/);
});

test("blames no file for wrong options", async () => {
  write("config.json", llamaConfig);
  await save("model.safetensors", tensorsOf(llama));
  await expectRejection(loadPretrained(folder, { device: "cpu:7" }), "ERR_DEVICE");
  await expectRejection(loadPretrained(folder, { dtype: "i32" as "f32" }), "ERR_DTYPE");
  await expectRejection(
    loadPretrained(folder, { kind: "none" as "causal" }),
    "ERR_ARGUMENT",
    /kind to be causal.*"none"/,
  );
  await expectRejection(loadPretrained(folder, null!), "ERR_ARGUMENT", /options/);
});

test("refuses wrong bits before it looks for files", async () => {
  for (const [quantize, message] of [
    [5, /expected bits to be 8 or 4, got 5/],
    [{ groupSize: 48 }, /groupSize to be 32, 64, 128 or 256, got 48/],
    ["int8", /loadPretrained: expected quantize to be 8, 4, false or an object of options, got "int8"/],
    [null, /expected options to be an object, got null/],
  ] as const)
    await expectRejection(loadPretrained(folder, { quantize: quantize as 8 }), "ERR_ARGUMENT", message);
});
