/** Adapters in PEFT's layout: other programs read them, and bad files are refused. */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { adapterNames, addAdapter } from "../../lib/adapters/adapters.js";
import { noGrad } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import type { CausalDecoder } from "../../lib/models/causal-decoder.js";
import { GPT } from "../../lib/models/gpt.js";
import { Llama } from "../../lib/models/llama.js";
import { T5 } from "../../lib/models/t5.js";
import { loadPretrained } from "../../lib/pretrained/load-pretrained.js";
import { loadAdapter, saveAdapter } from "../../lib/pretrained/peft.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { expectNear } from "../support/close.js";
import { expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { numpy } from "../support/python.js";
import { shaken } from "../support/shaken.js";
import { testUnless } from "../support/skip.js";
import { shakeAdapter } from "./support.js";

const base = {
  vocabularySize: 13,
  contextLength: 16,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  width: 16,
  feedForwardWidth: 24,
};
const ids = [3, 1, 4, 1, 5, 9, 2, 6];
const llama = (options: object) => () => shaken(new Llama({ ...base, ...options }, { device: "cpu" }));
const models: [string, () => CausalDecoder][] = [
  ["Llama with a head", llama({ tied: false })],
  ["Qwen 3, neighbours turned", llama({ qkNorm: true, headSize: 6, interleaved: true })],
  [
    "GPT-2",
    () => shaken(new GPT({ vocabularySize: 13, contextLength: 16, layers: 2, heads: 2, width: 16 }, { device: "cpu" })),
  ],
];

async function logitsOf(model: CausalDecoder): Promise<Float32Array> {
  using input = tensor(Int32Array.from(ids), [1, ids.length], { device: "cpu" });
  return await noGrad(() => model.forward(input)).data();
}

const program = fileURLToPath(new URL("../pretrained/reference.py", import.meta.url));

describe.each(models)("an adapter of a %s", (_, make) => {
  testUnless(numpy.missing).each([
    { rank: 2, alpha: 3, targets: /./ },
    { rank: 3, alpha: 3, rsLora: true, targets: /c_attn|h.0.mlp|[qv]_proj|layers.1.mlp/ },
    { rank: 2, alpha: 3, dora: true },
  ])("is read by Python's safetensors, and its formula gives the same logits: %o", async (options) => {
    const folder = temporaryFolder();
    using model = make();
    await savePretrained(folder, model);
    addAdapter(model, options);
    shakeAdapter(model);
    await saveAdapter(folder, model);
    const json = execFileSync(numpy.command, [program, folder, JSON.stringify(ids)], { encoding: "utf8" });
    const expected = JSON.parse(json) as number[];
    const own = await logitsOf(model);
    expectNear("logits", own, expected, 1e-5);
    const { model: saved } = await loadPretrained(folder, { device: "cpu" });
    await loadAdapter(folder, saved);
    expectNear("the saved model's logits", await logitsOf(saved), expected, 1e-5);
    saved.dispose();
    using again = make();
    await loadAdapter(folder, again);
    expect(await logitsOf(again)).toEqual(own);
  });
});

test("target_modules are short if all layers of the name are adapted, and whole names otherwise", async () => {
  const folder = temporaryFolder();
  const targets = () =>
    (JSON.parse(readFileSync(path.join(folder, "adapter_config.json"), "utf8")) as { target_modules: string[] })
      .target_modules;
  using model = models[2]![1]();
  addAdapter(model, { name: "short", targets: "c_attn" });
  await saveAdapter(folder, model, { name: "short" });
  expect(targets()).toEqual(["c_attn"]);
  addAdapter(model, { name: "whole", targets: "attn.c_proj" });
  await saveAdapter(folder, model, { name: "whole" });
  expect(targets()).toEqual(["transformer.h.0.attn.c_proj", "transformer.h.1.attn.c_proj"]);
});

test("files that do not fit are refused, and leave the model as it was", async () => {
  const folder = temporaryFolder();
  using model = models[0]![1]();
  addAdapter(model, { rank: 2, targets: "q_proj" });
  await saveAdapter(folder, model);
  const file = path.join(folder, "adapter_config.json");
  const good = JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;
  const refused = async (changes: object, pattern: RegExp): Promise<void> => {
    writeFileSync(file, JSON.stringify({ ...good, ...changes }));
    await expectRejection(loadAdapter(folder, model, { name: "other" }), "ERR_FORMAT", pattern);
    expect(adapterNames(model)).toEqual(["default"]);
  };
  await refused({ peft_type: "PREFIX_TUNING" }, /adapter_config.json: config: expected peft_type to be "LORA"/);
  await refused({ bias: "all" }, /expected bias to be "none"/);
  await refused({ rank_pattern: { q_proj: 3 } }, /expected rank_pattern to be empty, got {"q_proj":3}/);
  await refused({ modules_to_save: ["lm_head"] }, /modules_to_save/);
  await refused({ r: 3 }, /lora_A.weight of shape \[3, 16\], got \[2, 16\]/);
  await refused({ use_dora: true }, /lora_magnitude_vector.* got none/);
  await refused({ lora_alpha: "8" }, /lora_alpha to be a number/);
  writeFileSync(file, "[]");
  await expectRejection(loadAdapter(folder, model, { name: "other" }), "ERR_FORMAT", /an object/);
  writeFileSync(file, JSON.stringify(good));
  using gpt = models[2]![1]();
  await expectRejection(loadAdapter(folder, gpt), "ERR_FORMAT", /linear layers only, got base_model/);
  await expectRejection(loadAdapter(folder, model), "ERR_ARGUMENT", /new name/);
  await expectRejection(loadAdapter(temporaryFolder(), model, { name: "none" }), "ERR_IO", /adapter_config.json/);
  using t5 = new T5(
    { vocabularySize: 9, layers: 1, heads: 1, headSize: 4, width: 4, feedForwardWidth: 4 },
    { device: "cpu" },
  );
  addAdapter(t5);
  await expectRejection(
    saveAdapter(temporaryFolder(), t5),
    "ERR_ARGUMENT",
    /a model whose layers PEFT's files can name/,
  );
});
