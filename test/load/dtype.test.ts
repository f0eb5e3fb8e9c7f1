/** Tests that a model that is loaded for inference has the dtype in which its file stores it. */
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { Engine } from "../../lib/engine/engine.js";
import { load } from "../../lib/load/load.js";
import { Bert } from "../../lib/models/bert.js";
import { Llama } from "../../lib/models/llama.js";
import { loadGguf } from "../../lib/pretrained/gguf/load-gguf.js";
import { saveGguf } from "../../lib/pretrained/gguf/save-gguf.js";
import { loadModel } from "../../lib/pretrained/load-model.js";
import { loadPretrained } from "../../lib/pretrained/load-pretrained.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { someTokens } from "../generate/models.js";
import { sharedFolder } from "../support/folder.js";

const folder = sharedFolder();
const at = (...names: string[]): string => path.join(folder, ...names);
const dtypes = ["f32", "bf16", "f16"] as const;
const kind = "causal";
const device = "cpu";

beforeAll(async () => {
  const sizes = { vocabularySize: 61, contextLength: 32, layers: 2, heads: 2, width: 32 };
  using llama = new Llama({ ...sizes, feedForwardWidth: 64 }, { device, seed: 4 });
  for (const dtype of dtypes) {
    await savePretrained(at(dtype), llama, { dtype });
    await saveGguf(at(`${dtype}.gguf`), llama, { type: dtype.toUpperCase() as "F32" | "BF16" | "F16" });
  }
  await saveGguf(at("q8.gguf"), llama, { type: "Q8_0" });
  using small = new Llama({ ...sizes, feedForwardWidth: 64 }, { device, seed: 4 });
  small.quantize({ bits: 8, groupSize: 32 });
  await savePretrained(at("codes"), small);
  using bert = new Bert({ ...sizes, contextLength: 16, feedForwardWidth: 64 }, { device, seed: 5 });
  await savePretrained(at("bert"), bert, { dtype: "bf16" });
});

describe.for(dtypes)("%s", (dtype) => {
  test.for([dtype, `${dtype}.gguf`])("a model in %s keeps its dtype, and so do its keys and values", async (name) => {
    using loaded = await load(at(name), { kind, device });
    expect(loaded.model.dtype).toBe(dtype);
    for (const parameter of loaded.model.parameters()) expect(parameter.dtype).toBe(dtype);
    await using engine = new Engine(loaded.model, { pageSize: 4, kvMemory: 2 ** 20 });
    const { kvBytes, pages } = engine.metrics;
    const { layers, kvHeads } = loaded.model.config;
    const bytes = dtype === "f32" ? 4 : 2;
    expect(kvBytes).toBe(2 * layers * kvHeads * 16 * bytes * 4 * (pages + 1));
    // The same as with the dtype given: nothing else depends on where it comes from.
    using given = await load(at(name), { kind, device, dtype });
    const ask = { maxTokens: 8, temperature: 0, stopTokens: [] };
    const prompt = Int32Array.from(someTokens(9, 1));
    expect((await loaded.generate(prompt, ask)).tokens).toEqual((await given.generate(prompt, ask)).tokens);
  });

  test("a dtype that is given wins, and what is loaded for training is f32", async () => {
    const other = dtype === "bf16" ? "f32" : "bf16";
    using wanted = await load(at(dtype), { kind, device, dtype: other });
    expect(wanted.model.dtype).toBe(other);
    using plain = await load(at(dtype), { kind, device, storedDtype: false });
    expect(plain.model.dtype).toBe("f32");
    const forTraining = [
      (await loadModel(at(dtype), { device })).model,
      (await loadPretrained(at(dtype), { device })).model,
      (await loadGguf(at(`${dtype}.gguf`), { device })).model,
    ];
    for (const model of forTraining) {
      expect(model.dtype).toBe("f32");
      model.dispose();
    }
    using asked = (await loadGguf(at(`${dtype}.gguf`), { device, storedDtype: true })).model;
    expect(asked.dtype).toBe(dtype);
  });
});

test("weights in blocks and codes do not count, and quantised ones have the activations of the file's dtype", async () => {
  for (const name of ["q8.gguf", "codes"]) {
    using loaded = await load(at(name), { kind, device });
    expect(loaded.model.dtype, name).toBe("f32");
  }
  using quantised = await load(at("bf16"), { kind, device, quantize: 8 });
  expect(quantised.model).toMatchObject({ dtype: "bf16", isQuantized: true });
});

test("most of the numbers decide, not what config.json says", async () => {
  const file = at("bf16", "config.json");
  const config = JSON.parse(readFileSync(file, "utf8")) as object;
  writeFileSync(file, JSON.stringify({ ...config, torch_dtype: "float32" }));
  using loaded = await load(at("bf16"), { kind, device });
  expect(loaded.model.dtype).toBe("bf16");
});

test("an encoder keeps it too", async () => {
  using loaded = await load(at("bert"), { kind: "encoder", device });
  expect(loaded.model.dtype).toBe("bf16");
});

test("a bad option is refused", async () => {
  await expect(load(at("f32"), { storedDtype: 1 as never })).rejects.toMatchObject({ code: "ERR_ARGUMENT" });
});
