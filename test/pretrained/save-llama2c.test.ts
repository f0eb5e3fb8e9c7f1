import path from "node:path";
import { beforeEach, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { GPT } from "../../lib/models/gpt.js";
import { Llama } from "../../lib/models/llama.js";
import type { LlamaConfig } from "../../lib/models/llama-config.js";
import { loadLlama2c } from "../../lib/pretrained/families/load-llama2c.js";
import { saveLlama2c } from "../../lib/pretrained/families/save-llama2c.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { expectNear } from "../support/close.js";
import { expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";

let file = "";
beforeEach(() => {
  file = path.join(temporaryFolder(), "model.bin");
});

const base: LlamaConfig = {
  vocabularySize: 13,
  contextLength: 9,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  width: 16,
  feedForwardWidth: 11,
};
const llama = (options: Partial<LlamaConfig> = {}) => new Llama({ ...base, ...options }, { device: "cpu", seed: 2 });

async function logits(model: Llama): Promise<Float32Array> {
  const ids = Int32Array.of(3, 1, 4, 1, 5, 9);
  using out = noGrad(() => scope(() => model.forward(tensor(ids, [1, 6], { device: "cpu" }))));
  return await out.data();
}

test.each([{}, { tied: true }, { interleaved: true }])("a Llama %j is loaded again", async (options) => {
  using model = llama(options);
  for (const [, weight] of model.namedParameters())
    weight.set(Float32Array.from({ length: weight.size }, (_, i) => Math.sin(i * i)));
  await saveLlama2c(file, model);
  using loaded = await loadLlama2c(file, { device: "cpu" });
  expect(loaded.config).toEqual({ ...model.config, interleaved: true });
  expectNear("logits", await logits(loaded), await logits(model), 1e-5);
});

test("features that llama2.c's program lacks are refused", async () => {
  for (const [options, message] of [
    [{ activation: "gelu" }, /activation silu, got "gelu"/],
    [{ window: 3 }, /window 0, got 3/],
    [{ qkNorm: true }, /qkNorm false, got true/],
    [{ attentionBias: true }, /attentionBias/],
    [{ outputBias: true }, /outputBias/],
    [{ feedForwardBias: true }, /feedForwardBias/],
    [{ rotaryBase: 500 }, /rotaryBase 10000, got 500/],
    [{ rotaryScaling: { type: "linear", factor: 2 } }, /rotaryScaling null, got an object/],
    [{ rotarySize: 2 }, /rotarySize 4, got 2/],
    [{ headSize: 6 }, /headSize 4, got 6/],
    [{ eps: 1e-6 }, /eps 0\.00001, got 0\.000001/],
  ] as [Partial<LlamaConfig>, RegExp][]) {
    using model = llama(options);
    await expectRejection(saveLlama2c(file, model), "ERR_ARGUMENT", message);
  }
  using model = llama();
  await expectRejection(saveLlama2c(file, model, { tokenizer: new ByteTokenizer() }), "ERR_ARGUMENT", /byte-level/);
  using gpt = new GPT({ vocabularySize: 3, contextLength: 4, layers: 1, heads: 1, width: 4 }, { device: "cpu" });
  await expectRejection(saveLlama2c(file, gpt), "ERR_ARGUMENT", /a Llama/);
  await expectRejection(saveLlama2c(path.join(file, "none"), model), "ERR_IO", /none/);
});
