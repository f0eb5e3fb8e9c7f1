/** Tools of heed/inspect on trained weights: stories260K, and texts that it writes. */
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { noGrad } from "../../lib/autograd.js";
import { tensor } from "../../lib/creation.js";
import { generate } from "../../lib/generate/generate-text.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import {
  addTo,
  compositionScores,
  copyingScores,
  decomposeResidual,
  evaluateSparseAutoencoder,
  featureDashboards,
  lensDivergence,
  steeringVector,
  topActivations,
  trainSparseAutoencoder,
  trainTunedLens,
  withHooks,
} from "../../lib/inspect/index.js";
import type { Llama } from "../../lib/models/llama.js";
import { mul } from "../../lib/ops/binary.js";
import { loadLlama2c } from "../../lib/pretrained/load-llama2c.js";
import { Llama2cTokenizer } from "../../lib/tokenizer/llama2c-tokenizer.js";
import { sharedModel } from "../support/shared.js";

const stories = sharedModel("stories260K");

describe.skipIf(!stories)("stories260K", () => {
  let model: Llama;
  let tokenizer: Llama2cTokenizer;
  let texts: number[][];
  beforeAll(async () => {
    model = await loadLlama2c(path.join(stories!, "stories260K.bin"), { device: "cpu" });
    tokenizer = await Llama2cTokenizer.fromFile(path.join(stories!, "tok512.bin"));
    const prompts = Array.from({ length: 32 }, () => [1]);
    const written = await generateTokens(model, prompts, { maxTokens: 60, temperature: 1, seed: 5 });
    texts = written.map(({ tokens }) => [1, ...tokens]);
  });
  afterAll(() => model.dispose());

  test("a tuned lens reads held-out texts better than the logit lens", async () => {
    const [train, heldOut] = [texts.slice(0, 24), texts.slice(24)];
    using lens = await trainTunedLens(model, train, { steps: 40, lr: 0.01 });
    const [tuned, logit] = [await lensDivergence(model, heldOut, lens), await lensDivergence(model, heldOut, null)];
    console.log({ tuned, logit });
    for (const [layer, divergence] of tuned.entries()) expect(divergence).toBeLessThan(0.8 * logit[layer]!);
  });

  test("a sparse autoencoder reconstructs most of the residual stream", async () => {
    const name = "blocks.2.hook_resid_post";
    const [train, heldOut] = [texts.slice(0, 24), texts.slice(24)];
    for (const [architecture, sparsity] of [["topk", 0], ["standard", 1], ["jumprelu", 0.1], ["standard", 5], ["jumprelu", 1]] as const) {
    const options = { name, features: 256, architecture, sparsity, k: 16, steps: 250, rows: 256, seed: 1 } as const;
    let resampled = 0;
    const start = process.cpuUsage().user;
    using sae = await trainSparseAutoencoder(model, train, { ...options, onStep: (x) => { resampled += x.resampled; } });
    const found = await evaluateSparseAutoencoder(sae, model, heldOut);
    console.log(architecture, sparsity, resampled, (process.cpuUsage().user - start) / 1e6, found);
    if (architecture !== "topk") continue;
    const boards = await featureDashboards(sae, model, heldOut, { k: 3, context: 4, tokens: 5 });
    const common = boards.sort((a, b) => b.meanActivation - a.meanActivation).slice(0, 4);
    for (const { feature, frequency, top, raised } of common)
      console.log(feature, frequency, top.map(({ context }) => tokenizer.decode(context)), raised.map(({ token }) => tokenizer.decode([token])));
    }
  }, 500_000);

  test("the rest", async () => {
    const name = "blocks.3.hook_resid_pre";
    const of = (list: string[]): Int32Array[] => list.map((text) => tokenizer.encode(text));
    using vector = await steeringVector(model, {
      name,
      positive: of(["Lily was very happy", "He was so happy", "They were happy"]),
      negative: of(["Lily was very sad", "He was so sad", "They were sad"]),
    });
    for (const strength of [-3, 0, 3]) {
      const hooks = { [name]: addTo(noGrad(() => mul(vector, strength))) };
      const { text } = await generate(withHooks(model, hooks), tokenizer, "Once upon a time, there was a little girl named Lily. She was very", { maxTokens: 30, temperature: 0 });
      console.log(strength, text);
    }
    using ids = tensor(tokenizer.encode("Once upon a time, there was a dog"), [1, -1 as never].length ? [1, tokenizer.encode("Once upon a time, there was a dog").length] : undefined);
    using parts = decomposeResidual(model, ids);
    console.log(await parts.verify());
    console.log((await copyingScores(model)).map((row) => row.map((x) => x.toFixed(2)).join(" ")));
    const scores = await compositionScores(model, { composition: "k" });
    console.log(scores[1]![0]);
    const top = await topActivations(model, texts, { name: "blocks.2.mlp.hook_post", units: [0, 1, 2], k: 3, context: 5 });
    console.log(top.map((unit) => unit.map(({ value, context }) => [value.toFixed(2), tokenizer.decode(context)])));
  });
});
