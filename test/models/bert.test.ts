import { describe, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { device as deviceOf } from "../../lib/core/device.js";
import { Bert } from "../../lib/models/bert.js";
import { type BertConfig, checkBertConfig } from "../../lib/models/bert-config.js";
import { fromHuggingFaceBertConfig, toHuggingFaceBertConfig } from "../../lib/pretrained/families/bert-config.js";
import { BertForMaskedLM, BertForSequenceClassification } from "../../lib/models/bert-heads.js";
import { mul } from "../../lib/ops/binary.js";
import { sum } from "../../lib/ops/reduce.js";
import { narrow } from "../../lib/ops/views.js";
import { scope } from "../../lib/core/scope.js";
import { randn, tensor } from "../../lib/core/creation.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { expectClose } from "../support/close.js";
import { expectError } from "../support/errors.js";
import { shaken } from "../support/shaken.js";
import { onEachDevice } from "../support/targets.js";

const [V, C, T] = [23, 12, 9];
const base: BertConfig = { vocabularySize: V, contextLength: 11, layers: 2, heads: 2, width: C, feedForwardWidth: 17 };
const roberta: Partial<BertConfig> = { family: "roberta", firstPosition: 2, tokenTypes: 1, eps: 1e-5 };
const lengths = [T, 1, 4];
const ids = Array.from({ length: lengths.length * T }, (_, i) => (i * 7 + (i >> 2)) % V);

const run = (body: () => FloatTensor) => noGrad(() => scope(body));

onEachDevice((device) => {
  const ints = (values: readonly number[], shape: number[]): IntTensor =>
    tensor(Int32Array.from(values), shape, { device });
  const batch = () => ints(ids, [lengths.length, T]);
  const keyLengths = () => ints(lengths, [lengths.length]);

  const bertOf = (config: Partial<BertConfig> = {}, seed = 0): Bert =>
    shaken(new Bert({ ...base, ...config }, { device, seed }));

  test.each<[string, Partial<BertConfig>]>([
    ["BERT", {}],
    ["RoBERTa", roberta],
    ["DistilBERT", { family: "distilbert", tokenTypes: 0, pooler: false }],
  ])("%s: a padded batch equals the sequences alone, forward and backward", async (_, config) => {
    using model = bertOf(config);
    const upstream = () => randn([lengths.length, T, C], { seed: 5, device });
    /** Returns the states of the real tokens of sequence b, multiplied by the upstream gradient. */
    const losses = (states: FloatTensor, b: number, row: number): FloatTensor => {
      const real = (x: FloatTensor, at: number): FloatTensor => narrow(narrow(x, 0, at, 1), 1, 0, lengths[b]!);
      return sum(mul(real(states, row), real(upstream(), b)));
    };
    const gradients = async (): Promise<Float32Array[]> => {
      const out = await Promise.all(model.parameters().map(async (p) => (p.grad ? p.grad.data() : new Float32Array())));
      model.zeroGrad();
      return out;
    };
    using together = run(() => model.forward(batch(), { keyLengths: keyLengths() }));
    const data = await together.data();
    for (const b of lengths.keys())
      scope(() => losses(model.forward(batch(), { keyLengths: keyLengths() }), b, b).backward());
    const whole = await gradients();
    for (const [b, length] of lengths.entries()) {
      const own = ids.slice(b * T, b * T + length);
      using alone = run(() => model.forward(ints(own, [1, length])));
      expectClose(`sequence ${b}`, data.subarray(b * T * C, (b * T + length) * C), await alone.data(), {
        relative: 32,
        absolute: 32,
      });
      scope(() => losses(model.forward(ints(own, [1, length])), b, 0).backward());
    }
    const names = Object.keys(model.stateDict());
    const parts = await gradients();
    const largest = Math.max(...parts.flatMap((part) => [...part].map(Math.abs)));
    for (const [i, name] of names.entries())
      expectClose(`gradient of ${name}`, whole[i]!, parts[i]!, { relative: 32, absolute: 32, scale: largest });
  });

  test("every token sees every other, and its token type", async () => {
    using model = bertOf();
    const states = async (changed: number, kind: number): Promise<Float32Array> => {
      const own = ids.slice(0, T).with(changed, 20);
      const kinds = Array.from({ length: T }, (_, t) => (t === kind ? 1 : 0));
      using out = run(() => model.forward(ints(own, [1, T]), { tokenTypes: ints(kinds, [1, T]) }));
      return await out.data();
    };
    const [plain, last, kind] = await Promise.all([states(0, -1), states(T - 1, -1), states(0, T - 1)]);
    // The first token's state depends on the last token and on its token type.
    for (const other of [last, kind])
      expect(Math.abs(plain.slice(1, 2)[0]! - other.slice(1, 2)[0]!)).toBeGreaterThan(1e-4);
    using zero = run(() => model.forward(ints(ids.slice(0, T).with(0, 20), [1, T])));
    expect(await zero.data()).toEqual(plain);
  });

  test("logits of some positions equal those of all positions, and so does their loss", async () => {
    using model = new BertForMaskedLM(bertOf({ pooler: false }), { seed: 2 });
    const positions = [2, T + 0, 2 * T + 3];
    const targets = [5, 6, 7];
    const options = () => ({ keyLengths: keyLengths() });
    using all = run(() => model.forward(batch(), options()));
    using some = run(() => model.forward(batch(), { ...options(), positions: ints(positions, [3]) }));
    expect(some.shape).toEqual([3, V]);
    const [every, few] = [await all.data(), await some.data()];
    for (const [i, at] of positions.entries())
      expectClose("logits", few.subarray(i * V, (i + 1) * V), every.subarray(at * V, (at + 1) * V), {
        relative: 16,
        absolute: 16,
      });
    const sparse = Array.from({ length: 3 * T }, (_, at) => targets[positions.indexOf(at)] ?? -100);
    using dense = run(() => model.loss(batch(), ints(sparse, [3, T]), options()));
    using short = run(() => model.loss(batch(), ints(targets, [3]), { ...options(), positions: ints(positions, [3]) }));
    expectClose("loss", [await short.item()], [await dense.item()], { relative: 8, absolute: 0 });
  });

  test("dropout follows from the seed and the step, and is off in evaluation", async () => {
    using model = new BertForSequenceClassification(bertOf({ dropout: 0.3 }, 7), { labels: 3, seed: 1 });
    const logits = async (step: number): Promise<Float32Array> => {
      model.dropoutSeeds.step = step;
      using out = run(() => model.forward(batch(), { keyLengths: keyLengths() }));
      return await out.data();
    };
    const first = await logits(1);
    expect(await logits(1)).toEqual(first);
    expect(await logits(2)).not.toEqual(first);
    model.eval();
    expect(await logits(1)).toEqual(await logits(2));
  });

  test("with dropout, a layer is the norm of the residual and the remaining values", async () => {
    // Everything is dropped: only the residual stream is left, which each half of each layer normalises.
    using model = bertOf({ layers: 1, dropout: 1, attentionDropout: 0 });
    model.embeddings.dropout.training = false;
    using out = run(() => model.forward(batch()));
    model.eval();
    using embedded = run(() => model.embeddings.forward(batch(), null, "f32"));
    const [layer] = model.encoder.layer;
    using expected = run(() => layer!.output.LayerNorm.forward(layer!.attention.output.LayerNorm.forward(embedded)));
    expectClose("states", await out.data(), await expected.data(), { relative: 8, absolute: 8 });
  });

  test.each(["bf16", "f16"] as const)(
    "in %s it gives about the same results, and trains with parameters of f32",
    async (dtype) => {
      using model = new BertForMaskedLM(bertOf({ pooler: false }));
      using exact = run(() => model.forward(batch(), { keyLengths: keyLengths() }));
      model.dtype = dtype;
      using mixed = run(() => model.forward(batch(), { keyLengths: keyLengths() }));
      expect(mixed.dtype).toBe(dtype);
      scope(() => model.loss(batch(), batch()).backward());
      for (const parameter of model.parameters()) expect(parameter.grad!.dtype).toBe("f32");
      using short = new Bert(base, { device, dtype });
      expect(short.dtype).toBe(dtype);
      const [a, b] = [await exact.data(), await mixed.data()];
      const off = Math.max(...a.map((x, i) => Math.abs(x - b[i]!)));
      // Some ten roundings of 2⁻⁸ or 2⁻¹¹ each.
      expect(off).toBeLessThan((dtype === "bf16" ? 10 * 2 ** -8 : 10 * 2 ** -11) * Math.max(...a.map(Math.abs)));
      expect(off).toBeGreaterThan(0);
    },
  );

  test("nothing stays in memory", async () => {
    const { live, tensors } = deviceOf(device).memory();
    {
      using model = new BertForSequenceClassification(bertOf(roberta), { labels: 2 });
      scope(() => model.loss(batch(), ints([0, 1, 1], [3]), { keyLengths: keyLengths() }).backward());
      await model.device.synchronize();
    }
    expect(deviceOf(device).memory()).toMatchObject({ live, tensors });
  });

  test("refuses invalid input", () => {
    using model = bertOf();
    using plain = bertOf({ pooler: false, tokenTypes: 0 });
    scope(() => {
      const states = randn([1, 2, C], { seed: 1, device });
      expectError(() => model.forward(ints(ids.slice(0, 12), [1, 12])), "ERR_SHAPE", /1 to 11 tokens, got 12/);
      expectError(() => model.forward(ints([1], [1])), "ERR_SHAPE");
      expectError(() => model.forward(states as never), "ERR_DTYPE");
      expectError(() => model.forward(batch(), null!), "ERR_ARGUMENT");
      expectError(() => model.forward(batch(), { tokenTypes: ints([0], [1, 1]) }), "ERR_SHAPE", /tokenTypes/);
      expectError(() => model.forward(batch(), { keyLengths: ints([1], [1]) }), "ERR_SHAPE", /keyLengths/);
      expectError(() => plain.forward(batch(), { tokenTypes: batch() }), "ERR_ARGUMENT", /tokenTypes/);
      expectError(() => plain.pooled(states), "ERR_ARGUMENT", /pooler/);
      expectError(() => model.pooled(randn([1, 2, C + 1], { seed: 1, device })), "ERR_SHAPE");
      expectError(() => new BertForMaskedLM({} as never), "ERR_ARGUMENT", /a Bert/);
      expectError(() => new BertForMaskedLM(model, null!), "ERR_ARGUMENT");
      expectError(() => new BertForSequenceClassification(model, { labels: 0 }), "ERR_RANGE", /labels/);
      for (const labels of [[], ["a", 1 as never]])
        expectError(() => new BertForSequenceClassification(model, { labels }), "ERR_ARGUMENT", /labels/);
      expectError(() => new BertForSequenceClassification(model, { labels: 2, dropout: 2 }), "ERR_RANGE", /dropout/);
      const score = new BertForSequenceClassification(model, { labels: 1 });
      expectError(() => score.loss(batch(), ints([0, 0, 0], [3])), "ERR_ARGUMENT", /at least 2 labels/);
      const classes = new BertForSequenceClassification(model, { labels: 2 });
      expectError(() => classes.loss(batch(), ints([0], [1])), "ERR_SHAPE", /labels of shape \[3\]/);
      for (const head of [score, classes]) head.classifier.dispose();
    });
    expectError(() => (model.dtype = "i32" as "f32"), "ERR_DTYPE");
  });
});

describe("configurations", () => {
  const bert = {
    model_type: "bert",
    vocab_size: 30522,
    max_position_embeddings: 512,
    num_hidden_layers: 6,
    num_attention_heads: 12,
    hidden_size: 384,
    intermediate_size: 1536,
    hidden_act: "gelu",
    hidden_dropout_prob: 0.1,
    attention_probs_dropout_prob: 0.2,
    type_vocab_size: 2,
    layer_norm_eps: 1e-12,
    pad_token_id: 0,
    position_embedding_type: "absolute",
  };
  const distilbert = {
    model_type: "distilbert",
    vocab_size: 30522,
    max_position_embeddings: 512,
    n_layers: 6,
    n_heads: 12,
    dim: 768,
    hidden_dim: 3072,
    activation: "gelu",
    dropout: 0.1,
    attention_dropout: 0.2,
  };

  test("of MiniLM", () => {
    expect(fromHuggingFaceBertConfig(bert)).toEqual({
      family: "bert",
      vocabularySize: 30522,
      contextLength: 512,
      layers: 6,
      heads: 12,
      width: 384,
      feedForwardWidth: 1536,
      tokenTypes: 2,
      firstPosition: 0,
      pooler: true,
      dropout: 0.1,
      attentionDropout: 0.2,
      activation: "geluErf",
      eps: 1e-12,
    });
  });

  test("of its relatives", () => {
    const roberta = {
      ...bert,
      model_type: "roberta",
      max_position_embeddings: 514,
      pad_token_id: 1,
      type_vocab_size: 1,
    };
    const expected = { contextLength: 512, firstPosition: 2, tokenTypes: 1 };
    expect(fromHuggingFaceBertConfig(roberta)).toMatchObject({ family: "roberta", ...expected });
    const xlm = { ...roberta, model_type: "xlm-roberta" };
    expect(fromHuggingFaceBertConfig(xlm)).toMatchObject({ family: "xlm-roberta", ...expected });
    expect(fromHuggingFaceBertConfig(distilbert)).toMatchObject({
      layers: 6,
      heads: 12,
      width: 768,
      feedForwardWidth: 3072,
      tokenTypes: 0,
      attentionDropout: 0.2,
    });
  });

  test.each([bert, { ...bert, model_type: "roberta", pad_token_id: 1 }, distilbert])(
    "are written as they were read: %j",
    (json) => {
      const written = toHuggingFaceBertConfig(checkBertConfig(fromHuggingFaceBertConfig(json)));
      const { position_embedding_type: _, ...rest } = json as Record<string, unknown>;
      expect({ ...rest, ...written }).toEqual(rest);
    },
  );

  test.each<[string, unknown]>([
    ["nothing", null],
    ["another model", { ...bert, model_type: "llama" }],
    ["no width", { ...bert, hidden_size: 0 }],
    ["an unknown activation", { ...bert, hidden_act: "relu6" }],
    ["relative positions", { ...bert, position_embedding_type: "relative_key" }],
    ["a decoder", { ...bert, is_decoder: true }],
  ])("refuses %s", (_, json) => expectError(() => fromHuggingFaceBertConfig(json), "ERR_FORMAT"));

  test.each<[Partial<BertConfig>, "ERR_SHAPE" | "ERR_RANGE" | "ERR_ARGUMENT"]>([
    [{ heads: 5 }, "ERR_SHAPE"],
    [{ layers: 0 }, "ERR_RANGE"],
    [{ tokenTypes: -1 }, "ERR_RANGE"],
    [{ firstPosition: 0.5 }, "ERR_RANGE"],
    [{ dropout: 1.5 }, "ERR_RANGE"],
    [{ eps: -1 }, "ERR_RANGE"],
    [{ family: "gpt" as "bert" }, "ERR_ARGUMENT"],
    [{ pooler: 1 as never }, "ERR_ARGUMENT"],
    [{ activation: "other" as "relu" }, "ERR_ARGUMENT"],
  ])("refuses %j", (change, code) => {
    expectError(() => new Bert({ ...base, ...change }, { device: "cpu" }), code);
  });
});
