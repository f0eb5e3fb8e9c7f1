/** Bits to which products with quantised weights round activations: what is set, when it holds, and what it costs. */
import { readFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { noGrad, parameter } from "../../lib/core/autograd.js";
import { randn, tensor, zeros } from "../../lib/core/creation.js";
import { perplexity } from "../../lib/evaluation/perplexity.js";
import { load } from "../../lib/load/load.js";
import { GPT } from "../../lib/models/gpt.js";
import { native } from "../../lib/core/native.js";
import { type ActivationBits, quantize, quantizedLinear } from "../../lib/ops/quantize.js";
import { quantizedLinearCrossEntropy } from "../../lib/ops/quantized-cross-entropy.js";
import { loadPretrained } from "../../lib/pretrained/load-pretrained.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { expectNear } from "../support/close.js";
import { expectError, expectRejection } from "../support/errors.js";
import { noShared, sharedModel } from "../support/shared.js";
import { testUnless } from "../support/skip.js";
import { temporaryFolder } from "../support/folder.js";

const size = { vocabularySize: 61, contextLength: 24, layers: 2, heads: 4, width: 64 };
const ids = tensor(
  Int32Array.from({ length: 20 }, (_, i) => (i * 7) % 61),
  [1, 20],
  { device: "cpu" },
);
/** True if this machine's kernels multiply bytes; other ones do not round. */
const rounds = native.supportsIsa("avx512vnni");

test("16 bits are the default of inference, and a recorded pass does not round", async () => {
  using plain = new GPT(size, { device: "cpu", seed: 3 }).eval();
  expect(plain.activations).toBeNull();
  const model = plain.quantize();
  expect(model.activations).toBe(16);
  const logits = async (bits: ActivationBits) => {
    using out = noGrad(() => model.roundActivations(bits).forward(ids));
    expect(model.activations).toBe(bits);
    return await out.data();
  };
  const [eight, sixteen, exact] = [await logits(8), await logits(16), await logits(24)];
  expectNear("16 bits", sixteen, exact, 2e-4);
  expectNear("8 bits", eight, exact, 4e-2);
  expect(sixteen.some((x, i) => x !== exact[i])).toBe(rounds);
  expect(eight.some((x, i) => x !== sixteen[i])).toBe(rounds);

  using recorded = model.roundActivations(8).forward(ids);
  expect(await recorded.data()).toEqual(exact);
});

test("a loss rounds as the logits of its time do, in the backward pass too", async () => {
  const weight = quantize(randn([40, 64], { device: "cpu", seed: 1 }));
  const targets = zeros([300], { device: "cpu", dtype: "i32" });
  const x = parameter(randn([300, 64], { device: "cpu", seed: 2 }));
  using loss = quantizedLinearCrossEntropy(x, { ...weight, activations: 8 }, targets);
  using exact = noGrad(() => quantizedLinearCrossEntropy(x, { ...weight, activations: 24 }, targets));
  expect(await loss.item()).toBe(await exact.item());
  using rounded = noGrad(() => quantizedLinearCrossEntropy(x, { ...weight, activations: 8 }, targets));
  expect((await rounded.item()) !== (await exact.item())).toBe(rounds);
  expect(Math.abs((await rounded.item()) - (await exact.item()))).toBeLessThan(2e-2);
});

test("an option of loading sets it; other numbers are refused", async () => {
  using made = new GPT(size, { device: "cpu", seed: 3 });
  const folder = temporaryFolder();
  await savePretrained(folder, made);
  const { model } = await loadPretrained(folder, { device: "cpu", quantize: 8, activations: 8 });
  using _ = model;
  expect(model.activations).toBe(8);
  const message = /expected activations to be 8, 16 or 24, got 12/;
  expectError(() => made.roundActivations(12 as never), "ERR_ARGUMENT", message);
  await expectRejection(loadPretrained(folder, { activations: 12 as never }), "ERR_ARGUMENT", message);
  await expectRejection(load(folder, { activations: 12 as never }), "ERR_ARGUMENT", message);
  const weight = quantize(randn([4, 32], { device: "cpu", seed: 1 }));
  const x = randn([2, 32], { device: "cpu", seed: 1 });
  expectError(() => quantizedLinear(x, weight, { activations: 12 as never }), "ERR_ARGUMENT", message);
});

const published = sharedModel("SmolLM2-135M-Instruct-GGUF");

testUnless(!published && noShared)(
  "16 bits change SmolLM2's perplexity by less than a ten-thousandth, 8 bits by less than a hundredth",
  { timeout: 60_000 },
  async () => {
    const { text } = (
      JSON.parse(readFileSync(path.join(published!, "expected.json"), "utf8")) as { perplexity: { text: string } }
    ).perplexity;
    using model = await load(path.join(published!, "SmolLM2-135M-Instruct.Q4_1.gguf"), {
      ...{ kind: "causal", device: "cpu", dtype: "f32" },
    });
    const of = async (bits: ActivationBits) => {
      model.model.roundActivations(bits);
      return (await perplexity(model, text)).perplexity;
    };
    const exact = await of(24);
    expect(Math.abs((await of(16)) / exact - 1)).toBeLessThan(1e-4);
    expect(Math.abs((await of(8)) / exact - 1)).toBeLessThan(1e-2);
  },
);
