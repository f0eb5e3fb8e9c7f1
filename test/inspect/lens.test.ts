/** Compares the logits of a tuned lens with weights, and the gradient of its loss, with equations in f64. */
import { expect, test } from "vitest";
import { parameter } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import { runWithCache, TunedLens } from "../../lib/inspect/index.js";
import { klDivergence } from "../../lib/inspect/kl-divergence.js";
import { GPT } from "../../lib/models/gpt.js";
import { Llama } from "../../lib/models/llama.js";
import { scope } from "../../lib/core/scope.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { expectNear } from "../support/close.js";
import { Random } from "../support/random.js";
import { shaken } from "../support/shaken.js";
import { onEachDevice } from "../support/targets.js";

const [vocabulary, width, tokens] = [17, 8, 5];
const sizes = { vocabularySize: vocabulary, contextLength: 9, layers: 3, width, heads: 2 };

onEachDevice((device) => {
  test.each([
    ["a GPT", () => new GPT({ ...sizes, tied: false }, { device })],
    ["a Llama", () => new Llama({ ...sizes, feedForwardWidth: 8 }, { device })],
  ] as const)("%s: the logits of translated streams", async (_, make) => {
    using model = shaken<GPT | Llama>(make());
    using lens = shaken(new TunedLens(model.config, { device }), { seed: 5 });
    using ids = tensor(Int32Array.of(3, 1, 4, 1, 5), [1, tokens], { device });
    using cache = runWithCache(model, ids, { names: /hook_resid_pre$/ });
    const read = (x: FloatTensor): Promise<Float32Array> => x.data();
    const isGpt = model instanceof GPT;
    const norm = await read(isGpt ? model.ln_f.weight : model.model.norm.weight);
    const bias = isGpt && "bias" in model.ln_f && model.ln_f.bias ? await read(model.ln_f.bias) : null;
    const head = await read(model.lm_head!.weight); // [V, C]
    const { eps } = model.config;

    const found = lens.logits(model, ids);
    expect(found.length).toBe(4);
    for (const [layer, { weight, bias: shift }] of lens.translators.entries()) {
      const [stream, W, b] = await Promise.all([cache.get(`blocks.${layer}.hook_resid_pre`), weight, shift!].map(read));
      const expected: number[] = [];
      for (let t = 0; t < tokens; t++) {
        const x = Array.from(stream!.subarray(t * width, (t + 1) * width));
        // PyTorch's layout of a linear layer, [out, in]
        const y = x.map((value, o) => value + b![o]! + x.reduce((total, xi, i) => total + W![o * width + i]! * xi, 0));
        const middle = isGpt ? y.reduce((total, value) => total + value / width, 0) : 0;
        const scale = Math.sqrt(y.reduce((total, value) => total + (value - middle) ** 2 / width, 0) + eps);
        const normed = y.map((value, c) => ((value - middle) / scale) * norm[c]! + (bias?.[c] ?? 0));
        for (let v = 0; v < vocabulary; v++)
          expected.push(normed.reduce((total, value, c) => total + value * head[v * width + c]!, 0));
      }
      expectNear(`layer ${layer}`, await found[layer]!.data(), expected, 1e-5);
    }
    expect(await found[3]!.data()).toEqual(await cache.output.data());
    for (const logits of found) logits.dispose();
  });

  test("the Kullback–Leibler divergence and its gradient, also of large logits", async () => {
    const random = new Random(3);
    const rows = 4;
    const draw = (): Float32Array =>
      Float32Array.from({ length: rows * vocabulary }, (_, i) => 4 * random.normal() + (i < vocabulary ? 300 : 0));
    const [wanted, given] = [draw(), draw()];
    const logits = parameter(tensor(given, [rows, vocabulary], { device }));
    using target = tensor(wanted, [rows, vocabulary], { device });
    const { value } = scope(() => {
      const loss = klDivergence(target, logits);
      loss.backward();
      return { value: loss.item() };
    });
    /** Returns log-probabilities. */
    const logsOf = (all: Float32Array, row: number): number[] => {
      const z = Array.from(all.subarray(row * vocabulary, (row + 1) * vocabulary));
      const most = Math.max(...z);
      const size = most + Math.log(z.reduce((total, x) => total + Math.exp(x - most), 0));
      return z.map((x) => x - size);
    };
    let expected = 0;
    const gradient: number[] = [];
    for (let row = 0; row < rows; row++) {
      const [p, q] = [logsOf(wanted, row), logsOf(given, row)];
      expected += p.reduce((total, x, i) => total + Math.exp(x) * (x - q[i]!), 0) / rows;
      gradient.push(...p.map((x, i) => (Math.exp(q[i]!) - Math.exp(x)) / rows));
    }
    // Numbers around 300 have errors of 3e-5 in f32.
    expect(Math.abs((await value) - expected)).toBeLessThan(1e-4);
    expectNear("gradient", await logits.grad!.data(), gradient, 1e-4);
    logits.dispose();
  });
});
