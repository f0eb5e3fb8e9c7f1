/** Tools of heed/inspect on trained weights: stories260K, and texts that it writes. */
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import { score } from "../../lib/generate/score.js";
import {
  addTo,
  decomposeResidual,
  evaluateSparseAutoencoder,
  lensDivergence,
  steeringVector,
  trainSparseAutoencoder,
  trainTunedLens,
  withHooks,
} from "../../lib/inspect/index.js";
import type { Llama } from "../../lib/models/llama.js";
import { mul } from "../../lib/ops/binary.js";
import { loadLlama2c } from "../../lib/pretrained/families/load-llama2c.js";
import { Llama2cTokenizer } from "../../lib/tokenizer/llama2c-tokenizer.js";
import { nightly } from "../support/nightly.js";
import { noShared, sharedModel } from "../support/shared.js";
import { describeUnless, nightlyOnly, testUnless } from "../support/skip.js";

const stories = sharedModel("stories260K");

describeUnless(!stories && noShared)("stories260K", () => {
  let model: Llama;
  let tokenizer: Llama2cTokenizer;
  let train: number[][];
  let heldOut: number[][];
  beforeAll(async () => {
    model = await loadLlama2c(path.join(stories!, "stories260K.bin"), { device: "cpu" });
    tokenizer = await Llama2cTokenizer.fromFile(path.join(stories!, "tok512.bin"));
    const prompts = Array.from({ length: nightly ? 128 : 12 }, () => [1]);
    const written = await generateTokens(model, prompts, { maxTokens: nightly ? 120 : 30, temperature: 1, seed: 5 });
    const texts = written.map(({ tokens }) => [1, ...tokens]);
    [train, heldOut] = [texts.slice(0, -4), texts.slice(-4)];
  });
  afterAll(() => model.dispose());

  test("a tuned lens reads held-out texts better than the logit lens", { timeout: 120_000 }, async () => {
    using lens = await trainTunedLens(model, train, { steps: nightly ? 40 : 10, lr: 0.01 });
    const [tuned, logit] = [await lensDivergence(model, heldOut, lens), await lensDivergence(model, heldOut, null)];
    for (const [layer, divergence] of tuned.entries()) expect(divergence).toBeLessThan(0.9 * logit[layer]!);
  });

  test("the residual stream adds up to the logits", async () => {
    using ids = tensor(Int32Array.from(heldOut[0]!), [1, heldOut[0]!.length], { device: "cpu" });
    using parts = decomposeResidual(model, ids);
    const { stream, logits } = await parts.verify();
    expect(Math.max(stream, logits)).toBeLessThan(1e-5);
  });

  test("a steering vector makes its word likelier", async () => {
    const name = "blocks.3.hook_resid_pre";
    const of = (...texts: string[]): Int32Array[] => texts.map((text) => tokenizer.encode(text));
    using vector = await steeringVector(model, {
      name,
      positive: of("Lily was very happy", "He was so happy", "They were happy"),
      negative: of("Lily was very sad", "He was so sad", "They were sad"),
    });
    /** Resolves to how much likelier one ending is than the other, in nats. */
    const preference = async (strength: number): Promise<number> => {
      using added = noGrad(() => mul(vector, strength));
      const steered = withHooks(model, { [name]: addTo(added) });
      const [happy, sad] = of("She was happy", "She was sad");
      return (await score(steered, happy!)).total - (await score(steered, sad!)).total;
    };
    const [against, usual, towards] = [await preference(-1), await preference(0), await preference(1)];
    expect(towards).toBeGreaterThan(usual);
    expect(against).toBeLessThan(usual);
  });

  testUnless(!nightly && nightlyOnly).each([
    ["topk", 0],
    ["standard", 1],
    ["jumprelu", 1],
  ] as const)(
    "a sparse autoencoder, %s, keeps most of what the model needs",
    { timeout: 300_000 },
    async (architecture, sparsity) => {
      const name = "blocks.2.hook_resid_post";
      const options = { name, features: 256, architecture, k: 16, steps: 500, rows: 256, seed: 1 } as const;
      using sae = await trainSparseAutoencoder(model, train, { ...options, sparsity });
      const found = await evaluateSparseAutoencoder(sae, model, heldOut);
      expect(found.explainedVariance).toBeGreaterThan(0.7);
      expect(found.lossRecovered).toBeGreaterThan(0.8);
      expect(found.l0).toBeLessThan(80);
    },
  );
});
