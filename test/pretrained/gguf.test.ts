import { writeFileSync } from "node:fs";
import path from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { readGguf } from "../../lib/formats/gguf.js";
import { generate } from "../../lib/generate/generate-text.js";
import { GPT } from "../../lib/models/gpt.js";
import { checkLlamaConfig, type LlamaConfig } from "../../lib/models/llama-config.js";
import { Llama } from "../../lib/models/llama.js";
import { loadGguf } from "../../lib/pretrained/gguf/load-gguf.js";
import { saveGguf } from "../../lib/pretrained/gguf/save-gguf.js";
import { loadModel } from "../../lib/pretrained/load-model.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { CharTokenizer } from "../../lib/tokenizer/char-tokenizer.js";
import { blocks } from "../formats/gguf-blocks.js";
import { array, type GgufInput, ggufFile, text, typed } from "../formats/gguf-writer.js";
import { llamaReference } from "../models/llama-reference.js";
import { expectNear } from "../support/close.js";
import { expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { llamaLogProbabilities, noLlamaCpp } from "../support/llama-cpp.js";
import { Random } from "../support/random.js";
import { shaken } from "../support/shaken.js";
import { noShared, sharedModel } from "../support/shared.js";
import { describeUnless } from "../support/skip.js";
import { onEachDevice } from "../support/targets.js";

let file = "";
beforeEach(() => {
  file = path.join(temporaryFolder(), "model.gguf");
});

type Weights = Record<string, { shape: number[]; values: Float32Array }>;
type Metadata = Required<GgufInput>["metadata"];

const random = new Random(8);
const ids = Array.from({ length: 9 }, (_, i) => (i * 5 + 2) % 17);
const u32 = (value: number) => typed(4, value);
const f32 = (value: number) => typed(6, value);
const floats = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

async function logits(model: { forward: (ids: IntTensor) => FloatTensor }, device: string): Promise<Float32Array> {
  using out = noGrad(() => scope(() => model.forward(tensor(Int32Array.from(ids), [1, ids.length], { device }))));
  return await out.data();
}

const base: LlamaConfig = {
  vocabularySize: 17,
  contextLength: 16,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  width: 32,
  feedForwardWidth: 64,
};

/** Returns the weights of a Llama under Hugging Face's names, large enough for every part of it to matter. */
function llamaWeights(config: Required<LlamaConfig>): Weights {
  const {
    vocabularySize,
    layers,
    heads,
    kvHeads,
    headSize,
    width,
    feedForwardWidth: hidden,
    tied,
    attentionBias,
    qkNorm,
  } = config;
  const weights: Weights = {};
  const put = (name: string, ...shape: number[]) => {
    const middle = name.includes("norm") ? 1 : 0;
    const values = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => middle + 0.3 * random.normal());
    weights[name] = { shape, values };
  };
  put("model.embed_tokens.weight", vocabularySize, width);
  for (let n = 0; n < layers; n++) {
    const at = `model.layers.${n}`;
    put(`${at}.input_layernorm.weight`, width);
    for (const [name, count] of [["q", heads] as const, ["k", kvHeads] as const, ["v", kvHeads] as const]) {
      put(`${at}.self_attn.${name}_proj.weight`, count * headSize, width);
      if (attentionBias) put(`${at}.self_attn.${name}_proj.bias`, count * headSize);
      if (qkNorm && name !== "v") put(`${at}.self_attn.${name}_norm.weight`, headSize);
    }
    put(`${at}.self_attn.o_proj.weight`, width, heads * headSize);
    put(`${at}.post_attention_layernorm.weight`, width);
    put(`${at}.mlp.gate_proj.weight`, hidden, width);
    put(`${at}.mlp.up_proj.weight`, hidden, width);
    put(`${at}.mlp.down_proj.weight`, width, hidden);
  }
  put("model.norm.weight", width);
  if (!tied) put("lm_head.weight", vocabularySize, width);
  return weights;
}

/** Returns the name that llama.cpp's converter gives. */
function ggufName(name: string): string {
  return name
    .replace("model.embed_tokens", "token_embd")
    .replace("model.norm", "output_norm")
    .replace("lm_head", "output")
    .replace("model.layers.", "blk.")
    .replace("input_layernorm", "attn_norm")
    .replace("post_attention_layernorm", "ffn_norm")
    .replace("self_attn.o_proj", "attn_output")
    .replace(/self_attn\.([qkv])_(proj|norm)/, (_, part, kind) => `attn_${part}${kind === "norm" ? "_norm" : ""}`)
    .replace(/mlp\.(\w+)_proj/, "ffn_$1");
}

/**
 * Puts rows into the order that its converter gives queries and keys of architecture llama: a head's halves
 * interleaved.
 */
function interleaved({ shape, values }: Weights[string], heads: number): Float32Array {
  const size = shape[0]! / heads;
  const row = values.length / shape[0]!;
  const out = new Float32Array(values.length);
  for (let h = 0; h < heads; h++)
    for (let i = 0; i < size / 2; i++)
      for (const half of [0, 1]) {
        const from = (h * size + half * (size / 2) + i) * row;
        out.set(values.subarray(from, from + row), (h * size + 2 * i + half) * row);
      }
  return out;
}

function llamaMetadata(architecture: string, config: Required<LlamaConfig>, more: Metadata = []): Metadata {
  const of = (key: string) => `${architecture}.${key}`;
  return [
    ["general.architecture", text(architecture)],
    [of("context_length"), u32(config.contextLength)],
    [of("embedding_length"), u32(config.width)],
    [of("block_count"), u32(config.layers)],
    [of("feed_forward_length"), u32(config.feedForwardWidth)],
    [of("attention.head_count"), u32(config.heads)],
    [of("attention.head_count_kv"), u32(config.kvHeads)],
    [of("attention.layer_norm_rms_epsilon"), f32(config.eps)],
    [of("attention.key_length"), u32(config.headSize)],
    [of("attention.value_length"), u32(config.headSize)],
    [of("rope.freq_base"), f32(config.rotaryBase)],
    ...more,
  ];
}

function llamaTensors(architecture: string, config: Required<LlamaConfig>, weights: Weights) {
  return Object.entries(weights).map(([name, weight]) => {
    const heads = name.includes("q_proj") ? config.heads : name.includes("k_proj") ? config.kvHeads : 0;
    const values = architecture === "llama" && heads > 0 ? interleaved(weight, heads) : weight.values;
    return { name: ggufName(name), type: 0, sizes: [...weight.shape].reverse(), bytes: floats(values) };
  });
}

const variants: [string, string, Partial<LlamaConfig>][] = [
  ["llama", "llama", {}],
  ["llama, tied, with a base of its own", "llama", { tied: true, rotaryBase: 500, eps: 1e-3 }],
  ["Mistral, which is a llama, with a window as long as its texts", "llama", { window: 16, kvHeads: 1 }],
  ["qwen2", "qwen2", { attentionBias: true, tied: true }],
  ["qwen3", "qwen3", { qkNorm: true, headSize: 6 }],
];

onEachDevice((device) => {
  test.each(variants)("%s: logits follow the equations", async (_, architecture, options) => {
    const config = checkLlamaConfig({ ...base, ...options });
    const weights = llamaWeights(config);
    const window: Metadata = config.window > 0 ? [["llama.attention.sliding_window", u32(config.window)]] : [];
    const metadata = llamaMetadata(architecture, config, window);
    writeFileSync(file, ggufFile({ metadata, tensors: llamaTensors(architecture, config, weights) }));
    const { model, tokenizer, defaults } = await loadGguf(file, { device });
    expect({ tokenizer, defaults, training: model.training }).toEqual({
      tokenizer: null,
      defaults: {},
      training: false,
    });
    const values = Object.fromEntries(Object.entries(weights).map(([name, { values }]) => [name, values]));
    expectNear("logits", await logits(model, device), llamaReference(config, values, ids), 2e-5);
    model.dispose();
  });

  test("quantised weights equal the values of the blocks", async () => {
    const config = checkLlamaConfig({ ...base, width: 256, feedForwardWidth: 256, heads: 4, layers: 1 });
    const weights = llamaWeights(config);
    const metadata = llamaMetadata("qwen2", config);
    const tensors = llamaTensors("qwen2", config, weights).map((input, i) => {
      if (input.sizes.length < 2) return input;
      const { type, numbers, bytes, random: block } = blocks[i % blocks.length]!;
      const made = Array.from({ length: (input.sizes[0]! * input.sizes[1]!) / numbers }, () => block(random));
      // Random scales are too large for a model.
      const name = Object.keys(weights).find((name) => ggufName(name) === input.name)!;
      const scaled = made.map((block) => block.values);
      weights[name]!.values = Float32Array.from(scaled.flat());
      expect(made[0]!.bytes).toHaveLength(bytes);
      return { ...input, type, bytes: Buffer.concat(made.map((block) => block.bytes)) };
    });
    writeFileSync(file, ggufFile({ metadata, tensors }));
    for (const options of [{ quantize: false }, {}] as const) {
      const { model } = await loadGguf(file, { device, ...options });
      expect(model.isQuantized).toBe(!("quantize" in options));
      const parameters = new Map(model.dequantize().namedParameters());
      for (const [name, { values }] of Object.entries(weights))
        expect(await parameters.get(name)!.data()).toEqual(values);
      model.dispose();
    }
  });

  test("a saved model is loaded, with other names and another order of rows", async () => {
    for (const [name, , options] of variants)
      for (const interleaved of [false, true]) {
        using model = new Llama({ ...base, ...options, interleaved }, { device, seed: 4 });
        for (const [, parameter] of model.namedParameters())
          parameter.set(Float32Array.from({ length: parameter.size }, () => 0.3 * random.normal()));
        await saveGguf(file, model);
        const { model: loaded } = await loadGguf(file, { device });
        expectNear("logits", await logits(loaded, device), await logits(model, device), 1e-5);
        expect(loaded.parameterCount(), name).toBe(model.parameterCount());
        loaded.dispose();
      }
  });

  test("GPT-2, whose matrices are transposed", async () => {
    using model = new GPT(
      { vocabularySize: 17, contextLength: 16, layers: 2, heads: 2, width: 12 },
      { device, seed: 4 },
    );
    for (const [, parameter] of model.namedParameters())
      parameter.set(Float32Array.from({ length: parameter.size }, () => 0.3 * random.normal()));
    await saveGguf(file, model);
    const { model: loaded } = await loadGguf(file, { device });
    expect(loaded.config).toEqual({ ...model.config, eps: Math.fround(1e-5) });
    expect(await logits(loaded, device)).toEqual(await logits(model, device));
    loaded.dispose();
    await using gguf = await readGguf(file);
    expect(gguf.tensors.get("blk.1.ffn_up.weight")!.shape).toEqual([48, 12]);
    const up = await model.h[1]!.mlp.c_fc.weight.data();
    expect((await gguf.readFloats("blk.1.ffn_up.weight"))[12 * 5 + 3]).toBe(up[48 * 3 + 5]);
  });
});

describe("scaled positions", () => {
  test.each<[string, LlamaConfig["rotaryScaling"]]>([
    ["linear", { type: "linear", factor: 2 }],
    ["YaRN", { type: "yarn", factor: 4, originalLength: 8 }],
    ["Llama 3's, as factors", { type: "llama3", factor: 8, originalLength: 8 }],
    ["NTK-aware, as another base", { type: "ntk", factor: 3 }],
  ])("%s", async (_, rotaryScaling) => {
    using model = new Llama({ ...base, rotaryScaling: rotaryScaling! }, { device: "cpu", seed: 4 });
    using plain = new Llama(base, { device: "cpu", seed: 4 });
    await saveGguf(file, model);
    const { model: loaded } = await loadGguf(file, { device: "cpu" });
    const expected = await logits(model, "cpu");
    expectNear("logits", await logits(loaded, "cpu"), expected, 1e-5);
    const unscaled = await logits(plain, "cpu");
    expect(Math.max(...expected.map((x, i) => Math.abs(x - unscaled[i]!)))).toBeGreaterThan(1e-5);
    loaded.dispose();
  });
});

/** Returns a file's logits minus each row's logarithm of the sum of exponentials. */
function logProbabilities(values: Float32Array): number[] {
  return ids.flatMap((_, t) => {
    const row = Array.from(values.subarray(17 * t, 17 * (t + 1)));
    const sum = Math.log(row.reduce((sum, x) => sum + Math.exp(x), 0));
    return row.map((x) => x - sum);
  });
}

/** Error of two layers in f32 whose sums are computed in another order. */
const rounding = 1e-5;

describeUnless(noLlamaCpp)("llama.cpp computes the same from heed's files", () => {
  const biases = { attentionBias: true, outputBias: true, feedForwardBias: true };
  const llama3 = { type: "llama3", factor: 8, originalLength: 8 } as const;
  const yarn = { type: "yarn", factor: 4, originalLength: 8 } as const;
  test.each<[string, Partial<LlamaConfig>]>([
    ["llama", { tied: true, headSize: 10 }],
    ["llama", { ...biases, interleaved: true, eps: 1e-3, rotaryBase: 500 }],
    ["llama", { outputBias: true, window: 16, layerTypes: ["sliding", "full"] }],
    ["llama", { rotaryScaling: llama3 }],
    ["llama", { rotaryScaling: { type: "ntk", factor: 3 } }],
    ["llama", { rotaryScaling: { type: "dynamic", factor: 3, originalLength: 4 } }],
    ["llama", { rotaryScaling: { ...yarn, betaFast: 32, truncate: true } }],
    ["llama", { rotaryScaling: { type: "linear", factor: 4 } }],
    ["qwen2", { attentionBias: true }],
    ["qwen2", { attentionBias: true, rotaryScaling: yarn, tied: true }],
    ["llama", { attentionBias: true, headSize: 10 }],
    ["llama", { attentionBias: true, rotaryScaling: llama3 }],
    ["qwen3", { qkNorm: true, headSize: 10, kvHeads: 1, rotaryScaling: { type: "linear", factor: 4 } }],
    ["qwen3", { qkNorm: true, interleaved: true }],
  ])("as %s: %j", async (architecture, options) => {
    using model = shaken(new Llama({ ...base, ...options }, { device: "cpu" }));
    await saveGguf(file, model);
    await using gguf = await readGguf(file);
    expect(gguf.metadata.get("general.architecture")).toBe(architecture);
    const expected = logProbabilities(await logits(model, "cpu"));
    expectNear("logarithms", (await llamaLogProbabilities(file, ids)).flat(), expected, rounding);
  });

  test("GPT-2, except for the error of its 16-bit table of GELUs", async () => {
    const size = { vocabularySize: 17, contextLength: 16, layers: 2, heads: 2, width: 12, feedForwardWidth: 20 };
    using model = shaken(new GPT(size, { device: "cpu" }));
    await saveGguf(file, model);
    const expected = logProbabilities(await logits(model, "cpu"));
    expectNear("logarithms", (await llamaLogProbabilities(file, ids)).flat(), expected, 1e-3);
  });
});

describeUnless(noLlamaCpp)("heed reads a file as llama.cpp does", () => {
  const scaling = (key: string) => `llama.rope.${key}`;
  test.each<[string, Metadata]>([
    ["a factor without a type is linear", [[scaling("scaling.factor"), f32(4)]]],
    ["by its older name too", [[scaling("scale_linear"), f32(4)]]],
    [
      "the newer name comes first",
      [
        [scaling("scaling.factor"), f32(2)],
        [scaling("scale_linear"), f32(4)],
      ],
    ],
    [
      "of none there is no scaling, whatever the factor",
      [
        [scaling("scaling.type"), text("none")],
        [scaling("scaling.factor"), f32(4)],
      ],
    ],
    ["a factor of 0 is none", [[scaling("scaling.factor"), f32(0)]]],
    ["a window is not one", [["llama.attention.sliding_window", u32(3)]]],
  ])("%s", async (_, more) => {
    const config = checkLlamaConfig(base);
    const vocabulary: Metadata = [
      ["tokenizer.ggml.model", text("no_vocab")],
      ["llama.vocab_size", u32(config.vocabularySize)],
    ];
    const metadata = llamaMetadata("llama", config, [...vocabulary, ...more]);
    const tensors = llamaTensors("llama", config, llamaWeights(config));
    writeFileSync(file, ggufFile({ metadata, tensors }));
    const { model } = await loadGguf(file, { device: "cpu" });
    using _model = model;
    const own = logProbabilities(await logits(model, "cpu"));
    expectNear("logarithms", own, (await llamaLogProbabilities(file, ids)).flat(), rounding);
  });
});

const stories = sharedModel("stories260K");
describeUnless(!stories && noShared)("stories260K through a GGUF file", () => {
  onEachDevice((device) => {
    test("generates the same story", { timeout: 300_000 }, async () => {
      const source = await loadModel(stories!, { device });
      const said = async ({ model, tokenizer }: typeof source) =>
        (await generate(model, tokenizer, "Once upon", { maxTokens: 16, temperature: 0 })).text;
      const expected = await said(source);
      for (const type of ["F32", "Q8_0"] as const) {
        await saveGguf(file, source.model, { tokenizer: source.tokenizer, type, name: "stories" });
        const loaded = await loadModel(path.dirname(file), { device });
        expect(loaded.defaults).toEqual({ stopTokens: [2] });
        expect(await said(loaded), type).toBe(expected);
        loaded.model.dispose();
      }
      source.model.dispose();
    });
  });
});

describe("refusals", () => {
  const config = checkLlamaConfig(base);
  const weights = llamaWeights(config);
  const tensors = llamaTensors("llama", config, weights);
  const put = (metadata: Metadata, list = tensors) => writeFileSync(file, ggufFile({ metadata, tensors: list }));
  const without = (key: string) => llamaMetadata("llama", config).filter(([name]) => name !== key);

  test("metadata", async () => {
    for (const [metadata, message] of [
      [[], /general\.architecture to be a name, got undefined/],
      [[["general.architecture", text("mamba")]], /architecture to be llama, qwen2, qwen3, gpt2, got "mamba"/],
      [[...without(""), ["split.count", typed(2, 3)]], /expected a whole model, got one of 3 parts/],
      [without("llama.block_count"), /llama\.block_count to be a number, got undefined/],
      [[...without("llama.block_count"), ["llama.block_count", u32(0)]], /block_count to be a positive integer, got 0/],
      [[...without("llama.block_count"), ["llama.block_count", text("2")]], /block_count to be a number, got "2"/],
      [
        [...without("llama.block_count"), ["llama.block_count", u32(2 ** 30)]],
        /layers to be an integer from 1 to 4096, got 1073741824/,
      ],
      [[...without("llama.attention.value_length"), ["llama.attention.value_length", u32(4)]], /the key_length, 8/],
      [[...without(""), ["llama.rope.scaling.type", text("longrope")]], /none, linear or yarn, got "longrope"/],
      [[...without(""), ["llama.rope.scaling.attn_factor", f32(2)]], /scaling\.attn_factor to be 1, got 2/],
      [
        [...without(""), ["llama.rope.scaling.type", text("yarn")], ["llama.rope.scaling.yarn_beta_fast", f32(8)]],
        /yarn_beta_fast to be 32, got 8/,
      ],
      [[...without("llama.attention.head_count_kv"), ["llama.attention.head_count_kv", u32(3)]], /3 kvHeads, got 4/],
    ] as [Metadata, RegExp][]) {
      put(metadata);
      await expectRejection(loadGguf(file), "ERR_FORMAT", message);
      await expectRejection(loadGguf(file), "ERR_FORMAT", /model\.gguf: (Llama: )?expected .*got /);
    }
  });

  test("tensors", async () => {
    put(llamaMetadata("llama", config), tensors.slice(0, -2));
    await expectRejection(loadGguf(file), "ERR_FORMAT", /got none for output_norm\.weight/);
    put(llamaMetadata("llama", config), [...tensors, { ...tensors[0]!, name: "more" }]);
    await expectRejection(loadGguf(file), "ERR_FORMAT", /only the model's parameters, got more/);
    put(llamaMetadata("llama", { ...config, feedForwardWidth: 63 }));
    await expectRejection(loadGguf(file), "ERR_FORMAT", /of shape \[63, 32\], got \[64, 32\]/);
  });

  test("tokenizers", async () => {
    const ofModel = (name: string, ...more: Metadata): Metadata => [
      ...llamaMetadata("llama", config),
      ["tokenizer.ggml.model", text(name)],
      ...more,
    ];
    const tokens: Metadata[number] = ["tokenizer.ggml.tokens", array(8, [text("<unk>"), text("a")])];
    for (const [metadata, message] of [
      [ofModel("bert"), /tokenizer\.ggml\.model to be llama or gpt2, got "bert"/],
      [ofModel("llama"), /tokens to be an array of strings, got undefined/],
      [ofModel("llama", tokens), /scores to be an array of numbers/],
      [ofModel("llama", tokens, ["tokenizer.ggml.scores", array(6, [f32(0)])]), /scores to be 2 numbers/],
      [ofModel("gpt2", tokens), /merges to be an array of strings/],
      [
        ofModel("gpt2", tokens, ["tokenizer.ggml.merges", array(8, [])], ["tokenizer.ggml.pre", text("other")]),
        /pre-tokenizer to be gpt-2, .*llama-bpe, .*smollm.*, got "other"/,
      ],
      [ofModel("gpt2", tokens, ["tokenizer.ggml.bos_token_id", u32(2)]), /bos_token_id to be an id below 2, got 2/],
    ] as [Metadata, RegExp][]) {
      put(metadata);
      await expectRejection(loadGguf(file), "ERR_FORMAT", message);
    }
  });

  test("models and tokenizers that files cannot express", async () => {
    using gelu = new Llama({ ...base, activation: "gelu" }, { device: "cpu" });
    await expectRejection(saveGguf(file, gelu), "ERR_ARGUMENT", /activation silu, got gelu/);
    for (const [options, message] of [
      [{ window: 15 }, /window 0, got 15/],
      [{ attentionBias: true, window: 3 }, /window 0, got 3/],
      [{ qkNorm: true, window: 3, layerTypes: ["full", "sliding"] }, /window 0, got 3/],
      [{ rotarySize: 4 }, /rotarySize equal to the size of its heads \(8\), got 4/],
      [{ qkNorm: true, attentionBias: true }, /no biases if it has qkNorm, got some/],
      [
        { qkNorm: true, rotaryScaling: { type: "llama3", factor: 8, originalLength: 8 } },
        /linear or yarn .*got llama3/,
      ],
      [
        { rotaryScaling: { type: "yarn", factor: 4, originalLength: 8, betaFast: 16 } },
        /YaRN's default .*got other values/,
      ],
      [{ rotaryScaling: { type: "yarn", factor: 4, originalLength: 8, truncate: false } }, /YaRN's default/],
      [{ rotaryScaling: { type: "yarn", factor: 4, originalLength: 6 } }, /originalLength of at least 7, got 6/],
    ] as [Partial<LlamaConfig>, RegExp][]) {
      using model = new Llama({ ...base, ...options }, { device: "cpu" });
      await expectRejection(saveGguf(file, model), "ERR_ARGUMENT", message);
    }
    using alibi = new GPT(
      { vocabularySize: 5, contextLength: 4, layers: 1, heads: 1, width: 4, positions: "alibi" },
      { device: "cpu" },
    );
    await expectRejection(saveGguf(file, alibi), "ERR_ARGUMENT", /the options of GPT-2/);
    using model = new Llama(base, { device: "cpu" });
    await expectRejection(saveGguf(file, model.model), "ERR_ARGUMENT", /a GPT or a Llama/);
    await expectRejection(saveGguf(file, model, { type: "Q4_1" as "F32" }), "ERR_ARGUMENT", /type to be F32, F16/);
    await expectRejection(saveGguf(file, model, { tokenizer: new CharTokenizer("ab") }), "ERR_ARGUMENT", /another way/);
  });
});
