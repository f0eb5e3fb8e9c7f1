/** Tests the training of a Llama: packed documents, prefixes, dropout, and activations in bf16. */
import { describe, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { Llama } from "../../lib/models/llama.js";
import type { LlamaConfig } from "../../lib/models/llama-config.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import type { IntTensor } from "../../lib/core/tensor.js";
import { expectNear } from "../support/close.js";
import { expectError } from "../support/errors.js";
import { Random } from "../support/random.js";
import { shaken } from "../support/shaken.js";
import { devicesTested } from "../support/targets.js";
import { expectPackedIsAlone, logitsOf } from "./packed-documents.js";

const V = 19;
const base: LlamaConfig = {
  vocabularySize: V,
  contextLength: 24,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  width: 16,
  feedForwardWidth: 24,
};
const variants: [string, Partial<LlamaConfig>][] = [
  ["Llama", {}],
  ["Mistral's window", { window: 3 }],
  ["Qwen 3's norms", { qkNorm: true, tied: true }],
  ["Qwen 2's biases, neighbours turned", { attentionBias: true, interleaved: true, kvHeads: 1 }],
];

const modelOf = (options: Partial<LlamaConfig>, device: string): Llama =>
  shaken(new Llama({ ...base, ...options }, { device, seed: 3 }));

const random = new Random(12);
const tokens = (count: number) => Int32Array.from({ length: count }, () => random.integer(V));

describe.each(devicesTested)("on $name", ({ device }) => {
  const int = (values: Int32Array, batch = 1): IntTensor => tensor(values, [batch, values.length / batch], { device });
  test.each(variants)("%s: packed documents equal the documents alone, gradients too", async (_, options) => {
    using model = modelOf(options, device);
    await expectPackedIsAlone(model, tokens, {
      logits: { relative: 0, absolute: 160 },
      gradient: { relative: 0, absolute: 330 },
    });
  });

  test.each(variants)("%s: a prefix sees itself, in a cache too", async (_, options) => {
    using model = modelOf(options, device);
    const values = tokens(24);
    const prefixLengths = [6, 0];
    const logits = await logitsOf(model, values, 2, { prefixLengths });
    const causal = await logitsOf(model, values, 2);
    const row = (x: Float32Array, b: number, t: number) => x.slice((12 * b + t) * V, (12 * b + t + 1) * V);
    for (let t = 0; t < 12; t++) expectNear(`token ${t}`, row(logits, 1, t), row(causal, 1, t), 1e-5);
    const changed = async (at: number): Promise<Float32Array> => {
      const other = values.slice();
      other[at] = (other[at]! + 1) % V;
      return logitsOf(model, other, 2, { prefixLengths });
    };
    const near = (options.window ?? 0) > 0 ? 3 : 0;
    expect(row(await changed(5), 0, near)).not.toEqual(row(logits, 0, near));
    expect(row(await changed(6), 0, near)).toEqual(row(logits, 0, near));
    using cache = model.createCache(2);
    const first = Int32Array.from([...values.slice(0, 6), ...values.slice(12, 18)]);
    const head = await logitsOf(model, first, 2, { cache, prefixLengths });
    expectNear("prompts", head.slice(0, 6 * V), logits.slice(0, 6 * V), 1e-5);
    for (let t = 6; t < 12; t++) {
      const step = await logitsOf(model, Int32Array.of(values[t]!, values[12 + t]!), 2, { cache });
      for (const b of [0, 1])
        expectNear(`sequence ${b}, token ${t}`, step.slice(b * V, (b + 1) * V), row(logits, b, t), 1e-5);
    }
  });

  test("dropout: on embeddings, attention and each part of a block, only in training, the same at a step", async () => {
    using model = modelOf({ dropout: 0.2 }, device);
    using plain = modelOf({}, device);
    const values = tokens(12);
    const expected = await logitsOf(plain, values, 1);
    model.eval();
    expect(await logitsOf(model, values, 1)).toEqual(expected);
    model.train();
    const at = async (step: number): Promise<Float32Array> => {
      model.dropoutSeeds.step = step;
      return logitsOf(model, values, 1);
    };
    const first = await at(1);
    expect(first).not.toEqual(expected);
    expect(await at(1)).toEqual(first);
    expect(await at(2)).not.toEqual(first);
    const drawing = [...model.modules()].filter(([, { constructor }]) => constructor.name === "Dropout");
    expect(drawing.map(([name]) => name)).toEqual([
      "model.layers.0.self_attn.dropout",
      "model.layers.0.residualDropout",
      "model.layers.1.self_attn.dropout",
      "model.layers.1.residualDropout",
      "drop",
    ]);
  });

  test.each(["bf16", "f16"] as const)("activations in %s beside parameters of f32", async (dtype) => {
    using model = modelOf({ qkNorm: true, attentionBias: true }, device);
    const values = tokens(24);
    const exact = await logitsOf(model, values, 2);
    using ids = int(values, 2);
    model.dtype = dtype;
    using logits = noGrad(() => model.forward(ids));
    expect(logits.dtype).toBe(dtype);
    expectNear("logits", await logits.data(), exact, dtype === "bf16" ? 0.05 : 0.01);
    using loss = scope(() => model.loss(ids, ids));
    expect(loss.dtype).toBe("f32");
    loss.backward();
    for (const [name, parameter] of model.namedParameters()) {
      expect(parameter.dtype, name).toBe("f32");
      expect(parameter.grad?.dtype, `gradient of ${name}`).toBe("f32");
    }
    using cache = model.createCache(2);
    expect(cache.dtype).toBe(dtype);
    const rounded = new Llama(base, { device, dtype: "bf16" });
    expectError(() => (rounded.dtype = "f32"), "ERR_DTYPE");
    rounded.dispose();
  });

  test("refuses masks that do not fit", () => {
    using model = modelOf({}, device);
    using cache = model.createCache(2);
    using ids = int(tokens(8), 2);
    const forward = (options: object) => () => model.forward(ids, options);
    expectError(forward({ documents: [[4]] }), "ERR_SHAPE");
    expectError(forward({ documents: [[4], [2, 3]] }), "ERR_SHAPE");
    expectError(forward({ documents: [[4], [-1]] }), "ERR_RANGE");
    expectError(forward({ documents: 3 }), "ERR_ARGUMENT");
    expectError(forward({ documents: [[4], [4]], cache }), "ERR_ARGUMENT", /Llama: expected documents without a cache/);
    expectError(forward({ documents: [[4], [4]], prefixLengths: [1, 1] }), "ERR_ARGUMENT");
    expectError(forward({ prefixLengths: [1] }), "ERR_SHAPE", /Llama: expected prefixLengths for 2 sequences, got 1/);
    expectError(forward({ prefixLengths: [1, 5] }), "ERR_RANGE");
    expectError(() => new Llama({ ...base, dropout: 2 }, { device }), "ERR_RANGE");
  });
});
