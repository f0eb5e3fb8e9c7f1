import { describe, expect, test } from "vitest";
import {
  activeAdapter,
  adapterNames,
  addAdapter,
  mergeAdapter,
  removeAdapter,
  setAdapter,
  withAdapter,
} from "../../lib/adapters/adapters.js";
import { noGrad } from "../../lib/core/autograd.js";
import { randn, tensor } from "../../lib/core/creation.js";
import { Bert } from "../../lib/models/bert.js";
import { BertForSequenceClassification } from "../../lib/models/bert-heads.js";
import type { CausalDecoder } from "../../lib/models/causal-decoder.js";
import { EncoderDecoder } from "../../lib/models/encoder-decoder.js";
import { GPT } from "../../lib/models/gpt.js";
import { Llama } from "../../lib/models/llama.js";
import { T5 } from "../../lib/models/t5.js";
import { freeze, unfreeze } from "../../lib/nn/freeze.js";
import type { Module } from "../../lib/nn/module.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { saveAdapter } from "../../lib/pretrained/peft.js";
import { scope } from "../../lib/core/scope.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { expectNear } from "../support/close.js";
import { expectError, expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { onEachDevice } from "../support/targets.js";
import { shakeAdapter } from "./support.js";

const sizes = { vocabularySize: 19, contextLength: 8, layers: 2, heads: 2, width: 8 };
const pair = { ...sizes, sourceVocabularySize: 19, startToken: 0, endToken: 1 };
const bert = { ...sizes, tokenTypes: 2, feedForwardWidth: 16 };

onEachDevice((device) => {
  const ids = () => tensor(Int32Array.of(3, 1, 4, 1, 5, 9), [1, 6], { device });
  const gpt = (): GPT => new GPT(sizes, { device, seed: 1 });
  const read = async (forward: () => FloatTensor): Promise<Float32Array> => noGrad(forward).data();

  /** A small model of every architecture, with a forward pass. */
  const models: [string, () => { model: Module; forward: () => FloatTensor }][] = [
    ["GPT", () => withIds(gpt())],
    [
      "GPT without biases, with a head",
      () => withIds(new GPT({ ...sizes, bias: false, tied: false }, { device, seed: 1 })),
    ],
    [
      "Llama with a head",
      () => withIds(new Llama({ ...sizes, feedForwardWidth: 24, tied: false }, { device, seed: 1 })),
    ],
    ["BERT", () => withIds(new BertForSequenceClassification(new Bert(bert, { device, seed: 1 }), { labels: 3 }))],
    ["T5", () => withPair(new T5({ ...sizes, headSize: 4, feedForwardWidth: 16 }, { device, seed: 1 }))],
    ["encoder-decoder", () => withPair(new EncoderDecoder(pair, { device, seed: 1 }))],
  ];
  function withIds(model: CausalDecoder | BertForSequenceClassification) {
    model.eval();
    return { model, forward: () => model.forward(ids()) };
  }
  function withPair(model: T5 | EncoderDecoder) {
    model.eval();
    return { model, forward: () => model.forward(ids(), ids()) };
  }

  describe.each(models)("adapters of all linear layers of a %s", (_, make) => {
    test.each([false, true])("change nothing at first, and the same when merged (DoRA: %s)", async (dora) => {
      const { model, forward } = make();
      const before = await read(forward);
      const layers = addAdapter(model, { rank: 2, alpha: 4, dora, targets: /./ });
      expect(layers.length).toBeGreaterThan(7);
      expectNear("a new adapter", await read(forward), before, dora ? 1e-5 : 1e-7);
      shakeAdapter(model);
      const changed = await read(forward);
      expect(changed).not.toEqual(before);
      mergeAdapter(model);
      expect(adapterNames(model)).toEqual([]);
      expectNear("merged", await read(forward), changed, 1e-4);
      model.dispose();
    });
  });

  test("gradients and moments are the adapter's alone, and no inactive adapter is trained", () => {
    using model = gpt();
    addAdapter(model, { name: "other", rank: 2 });
    addAdapter(model, { rank: 2, dropout: 0.5, targets: ["attn.c_*", "h.1.mlp"] });
    const trained = [...model.namedParameters({ trainable: true })].map(([name]) => name);
    expect(trained).toContain("h.0.attn.c_attn.adapter.default.lora_A");
    expect(trained.every((name) => /^h\.(.\.attn|1\.mlp)\.c_\w+\.adapter\.default\.lora_[AB]$/.test(name))).toBe(true);
    expect(trained.length).toBe(2 * 6);
    scope(() => model.loss(ids(), ids()).backward());
    for (const [name, parameter] of model.namedParameters())
      expect(parameter.grad !== null, name).toBe(trained.includes(name));
    using optimizer = new AdamW(model.namedParameters());
    expect(Object.keys(optimizer.stateDict()).length).toBe(2 * trained.length);
    setAdapter(model, "other");
    expect([...model.namedParameters({ trainable: true })].every(([name]) => name.includes(".other."))).toBe(true);
  });

  test("dropout of an adapter: only in training, the same at a step", async () => {
    using model = gpt().eval();
    addAdapter(model, { dropout: 0.5 });
    shakeAdapter(model);
    const forward = () => model.forward(ids());
    const exact = await read(forward);
    expect(await read(forward)).toEqual(exact);
    model.train();
    const at = (step: number) => {
      model.dropoutSeeds.step = step;
      return read(forward);
    };
    const first = await at(1);
    expect(first).not.toEqual(exact);
    expect(await at(1)).toEqual(first);
    expect(await at(2)).not.toEqual(first);
  });

  test.each([8, 4] as const)(
    "on a model of %i bits: the change of the adapter is exact, merging is refused",
    async (bits) => {
      const config = { ...sizes, width: 32, layers: 1 };
      using model = new GPT(config, { device, seed: 1 }).quantize({ bits }).eval();
      const forward = () => model.forward(ids());
      const before = await read(forward);
      for (const dora of [false, true]) {
        addAdapter(model, { name: `dora-${dora}`, dora });
        expectNear("a new adapter", await read(forward), before, 1e-4);
        shakeAdapter(model, `dora-${dora}`);
        expect(await read(forward)).not.toEqual(before);
      }
      expectError(() => mergeAdapter(model), "ERR_ARGUMENT", /not quantised/);
      withAdapter(model, null, () => undefined);
      expect(activeAdapter(model)).toBe("dora-true");
    },
  );

  test("moving and rounding a model moves its adapters", async () => {
    using model = gpt();
    addAdapter(model, { dora: true });
    shakeAdapter(model);
    model.to("bf16");
    expect(model.parameters().every(({ dtype }) => dtype === "bf16")).toBe(true);
    expect((await read(() => model.forward(ids()))).every(Number.isFinite)).toBe(true);
    mergeAdapter(model);
  });
});

describe("freeze and unfreeze", () => {
  test("by name, layer, pattern and expression", () => {
    using model = new GPT({ ...sizes, layers: 11 }, { device: "cpu" });
    const frozen = () =>
      [...model.namedParameters()].flatMap(([name, { requiresGrad }]) => (requiresGrad ? [] : [name]));
    expect(freeze(model, "wte.weight")).toEqual(["wte.weight"]);
    expect(freeze(model, ["wte", "h.1"])).toHaveLength(12);
    expect(frozen().some((name) => name.startsWith("h.10."))).toBe(false);
    expect(unfreeze(model)).toHaveLength(13);
    expect(freeze(model, "ln_*")).toEqual(Object.keys(model.stateDict()).filter((name) => /(^|\.)ln_/.test(name)));
    expect(unfreeze(model, /^ln_f/)).toEqual(["ln_f.weight", "ln_f.bias"]);
    expect(freeze(model).length + 22 * 2).toBe(model.parameters().length);
    expectError(() => freeze(model, "q_proj"), "ERR_ARGUMENT", /to match names such as wte.weight.* got q_proj/);
    expectError(() => freeze(model, []), "ERR_ARGUMENT", /at least one/);
    expectError(() => freeze(model, 3 as never), "ERR_ARGUMENT");
    expectError(() => freeze({} as never), "ERR_ARGUMENT");
  });

  test("an optimiser takes frozen parameters of any dtype, but trains only f32", () => {
    using model = new GPT(sizes, { device: "cpu", dtype: "bf16" });
    expectError(() => new AdamW(model.namedParameters()), "ERR_DTYPE");
    addAdapter(model);
    using optimizer = new AdamW(model.namedParameters());
    unfreeze(model, "ln_f");
    const ids = tensor(Int32Array.of(1, 2), [1, 2], { device: "cpu" });
    scope(() => model.loss(ids, ids).backward());
    expectError(() => optimizer.step(), "ERR_DTYPE", /ln_f/);
  });
});

describe("bad calls", () => {
  test("are refused, and change nothing", async () => {
    using model = new GPT(sizes, { device: "cpu" });
    const before = Object.keys(model.stateDict());
    const refused = (options: object, pattern?: RegExp) => {
      expectError(() => addAdapter(model, options), "ERR_ARGUMENT", pattern);
      expect(Object.keys(model.stateDict())).toEqual(before);
      expect(model.parameters().every(({ requiresGrad }) => requiresGrad)).toBe(true);
    };
    refused({ targets: "q_proj" }, /match names such as h\.0\.attn\.c_attn.* got q_proj/);
    refused({ name: "a.b" }, /letters, digits/);
    refused({ dora: 1 });
    for (const options of [{ rank: 0 }, { rank: 1.5 }, { dropout: 2 }, { alpha: -1 }, { alpha: NaN }, { seed: -1 }])
      expectError(() => addAdapter(model, options), "ERR_RANGE");
    expectError(() => setAdapter(model, "default"), "ERR_ARGUMENT", /a model with an adapter, got one without/);
    expectError(() => mergeAdapter(model), "ERR_ARGUMENT", /active adapter/);
    await expectRejection(saveAdapter(temporaryFolder(), model), "ERR_ARGUMENT", /active adapter/);
    addAdapter(model);
    expectError(() => addAdapter(model), "ERR_ARGUMENT", /new name/);
    expectError(() => setAdapter(model, "other"), "ERR_ARGUMENT", /\(default\), got "other"/);
    expectError(() => withAdapter(model, "other", () => 0), "ERR_ARGUMENT");
    await expectRejection(savePretrained(temporaryFolder(), model), "ERR_ARGUMENT", /mergeAdapter/);
    removeAdapter(model, "default");
    expect(Object.keys(model.stateDict())).toEqual(before);
    using x = randn([1, 8], { seed: 1, device: "cpu" });
    expect(noGrad(() => model.h[0]!.mlp.forward(x)).shape).toEqual([1, 8]);
  });
});
