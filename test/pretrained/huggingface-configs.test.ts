/**
 * Tests how transformers interprets entries of config.json that files omit, spell in two ways, or that contradict each
 * other.
 */
import { describe, expect, test } from "vitest";
import type { BertConfig } from "../../lib/models/bert-config.js";
import { fromHuggingFaceBertConfig, toHuggingFaceBertConfig } from "../../lib/pretrained/families/bert-config.js";
import { Bert } from "../../lib/models/bert.js";
import { BertForMaskedLM, BertForSequenceClassification } from "../../lib/models/bert-heads.js";
import { EncoderDecoder } from "../../lib/models/encoder-decoder.js";
import { checkGptConfig } from "../../lib/models/gpt-config.js";
import { fromHuggingFaceGptConfig, toHuggingFaceGptConfig } from "../../lib/pretrained/families/gpt-config.js";
import { fromHuggingFaceLlamaConfig } from "../../lib/pretrained/families/llama-config.js";
import { checkLlamaConfig, windowsOf } from "../../lib/models/llama-config.js";
import { fromHuggingFaceMarianConfig, toHuggingFaceMarianConfig } from "../../lib/pretrained/families/marian-config.js";
import { checkT5Config } from "../../lib/models/t5-config.js";
import { fromHuggingFaceT5Config, toHuggingFaceT5Config } from "../../lib/pretrained/families/t5-config.js";
import { rotaryFrequencies } from "../../lib/ops/rotary-table.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { expectError, expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";

type Json = Record<string, unknown>;

const llama: Json = {
  vocab_size: 13,
  max_position_embeddings: 64,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  hidden_size: 32,
  head_dim: 8,
  intermediate_size: 24,
};
const read = (model_type: string, more: Json, { without = [] }: { without?: string[] } = {}) =>
  checkLlamaConfig(
    fromHuggingFaceLlamaConfig(
      Object.fromEntries(Object.entries({ ...llama, model_type, ...more }).filter(([name]) => !without.includes(name))),
    ),
  );
const refused = (model_type: string, more: Json, message: RegExp) =>
  expectError(() => fromHuggingFaceLlamaConfig({ ...llama, model_type, ...more }), "ERR_FORMAT", message);

describe("windows", () => {
  const sliding = "sliding_attention";
  const full = "full_attention";
  test.each<[string, Json, number[]]>([
    ["llama", { sliding_window: 3 }, [0, 0, 0, 0]],
    ["mistral", { sliding_window: 3 }, [3, 3, 3, 3]],
    ["mistral", { sliding_window: null }, [0, 0, 0, 0]],
    ["mistral", {}, [4096, 4096, 4096, 4096]],
    ["mistral", { sliding_window: 3, layer_types: [full, full, full, full] }, [3, 3, 3, 3]],
    ["qwen2", { sliding_window: 3 }, [0, 0, 0, 0]],
    ["qwen2", { sliding_window: 3, use_sliding_window: false, max_window_layers: 0 }, [0, 0, 0, 0]],
    ["qwen2", { sliding_window: 3, use_sliding_window: true }, [0, 0, 0, 0]],
    ["qwen2", { sliding_window: 3, use_sliding_window: true, max_window_layers: 0 }, [3, 3, 3, 3]],
    ["qwen2", { sliding_window: 3, use_sliding_window: true, max_window_layers: 3 }, [0, 0, 0, 3]],
    ["qwen3", { use_sliding_window: true, max_window_layers: 1 }, [0, 4096, 4096, 4096]],
    ["qwen3", { sliding_window: null, use_sliding_window: true, max_window_layers: 1 }, [0, 0, 0, 0]],
    [
      "qwen3",
      {
        sliding_window: 3,
        use_sliding_window: true,
        max_window_layers: 0,
        layer_types: [full, sliding, full, sliding],
      },
      [0, 3, 0, 3],
    ],
    ["qwen2", { sliding_window: 3, layer_types: [full, full, full, full] }, [0, 0, 0, 0]],
  ])("%s: %j", (type, json, windows) => {
    expect(windowsOf(read(type, json))).toEqual(windows);
  });

  test("entries that contradict each other", () => {
    const types = [sliding, full, full, full];
    refused(
      "qwen2",
      { sliding_window: 3, layer_types: types },
      /use_sliding_window and a sliding_window for layer_types .* got none/,
    );
    refused(
      "qwen3",
      { sliding_window: 3, use_sliding_window: true, layer_types: types.slice(1) },
      /layer_types to be 4 times/,
    );
    refused(
      "qwen3",
      { use_sliding_window: true, layer_types: [...types.slice(1), "chunked_attention"] },
      /layer_types to be 4 times/,
    );
    refused("qwen3", { use_sliding_window: true, layer_types: sliding }, /layer_types to be 4 times/);
    refused("mistral", { sliding_window: 0 }, /sliding_window to be a positive integer, got 0/);
    refused("qwen2", { use_sliding_window: 1 }, /use_sliding_window to be true or false, got 1/);
  });
});

describe("a family's defaults for missing entries", () => {
  test("heads and biases", () => {
    const bare = { without: ["num_key_value_heads", "head_dim"] };
    const many = { num_attention_heads: 64, hidden_size: 128 };
    expect(read("llama", many, bare)).toMatchObject({ kvHeads: 64, headSize: 2 });
    expect(read("mistral", many, bare)).toMatchObject({ kvHeads: 8, headSize: 2 });
    expect(read("qwen2", many, bare)).toMatchObject({ kvHeads: 32, headSize: 2 });
    expect(read("qwen3", many, bare)).toMatchObject({ kvHeads: 32, headSize: 128 });
    expect(read("qwen3", { ...many, num_key_value_heads: null, head_dim: null })).toMatchObject({
      kvHeads: 64,
      headSize: 2,
    });
    const biased = { attention_bias: true, mlp_bias: true };
    const biases = (type: string, json: Json = biased) => {
      const { attentionBias, outputBias, feedForwardBias } = read(type, json);
      return [attentionBias, outputBias, feedForwardBias];
    };
    expect(biases("llama")).toEqual([true, true, true]);
    expect(biases("mistral")).toEqual([false, false, false]);
    expect(biases("qwen2", { attention_bias: false })).toEqual([true, false, false]);
    expect(biases("qwen3")).toEqual([true, true, false]);
  });

  test("numbers and words of the wrong kind are refused", () => {
    refused("llama", { rms_norm_eps: "1e-5" }, /rms_norm_eps to be a number, got "1e-5"/);
    refused("llama", { tie_word_embeddings: "yes" }, /tie_word_embeddings to be true or false, got "yes"/);
    refused("llama", { hidden_act: "relu2" }, /known hidden_act, got "relu2"/);
    refused("llama", { rope_theta: "1e4" }, /rope_theta to be a number/);
  });

  test("mT5 has a separate head and T5 uses the embedding, unless a file says otherwise", () => {
    const json = toHuggingFaceT5Config(checkT5Config({ vocabularySize: 5, layers: 1, heads: 1, width: 4 }));
    const { tie_word_embeddings: _, feed_forward_proj: __, ...bare } = json;
    expect(fromHuggingFaceT5Config(bare)).toMatchObject({ tied: true, gated: false, activation: "relu" });
    const multilingual = { ...bare, model_type: "mt5" };
    expect(fromHuggingFaceT5Config(multilingual)).toMatchObject({ tied: false, gated: true, activation: "gelu" });
    expect(fromHuggingFaceT5Config({ ...multilingual, tie_word_embeddings: true }).tied).toBe(true);
  });

  test("an old T5 scales its output exactly if it ties its embeddings, and a new one says it", () => {
    const json = toHuggingFaceT5Config(checkT5Config({ vocabularySize: 5, layers: 1, heads: 1, width: 4 }));
    const { scale_decoder_outputs: _, tie_word_embeddings: __, ...bare } = json;
    const scaled = (more: Json) => fromHuggingFaceT5Config({ ...bare, ...more }).scaleOutput;
    expect(scaled({})).toBe(true);
    expect(scaled({ tie_word_embeddings: false })).toBe(false);
    expect(scaled({ tie_word_embeddings: true, scale_decoder_outputs: false })).toBe(false);
    expect(scaled({ tie_word_embeddings: false, scale_decoder_outputs: true })).toBe(true);
    const mt5 = { model_type: "mt5", tie_word_embeddings: true };
    expect(scaled({ ...mt5, transformers_version: "4.51.3" })).toBe(true);
    expect(scaled({ ...mt5, transformers_version: "5.24.0" })).toBe(false);
    expectError(() => scaled({ scale_decoder_outputs: 1 }), "ERR_FORMAT", /scale_decoder_outputs to be true or false/);
  });
});

describe("rotary positions", () => {
  const scaled = (json: Json, more: Json = {}) => read("llama", { ...more, rope_scaling: json }).rotaryScaling;

  test("dynamic scaling depends on max_position_embeddings, within which it changes nothing", () => {
    const json = { rope_type: "dynamic", factor: 4, original_max_position_embeddings: 16 };
    const scaling = scaled(json);
    expect(scaling).toEqual({ type: "dynamic", factor: 4, originalLength: 64 });
    expect(rotaryFrequencies({ size: 8, length: 64, scaling })).toEqual(rotaryFrequencies({ size: 8, length: 64 }));
  });

  test("YaRN: factors of the scores, a ramp that is not truncated, usual values", () => {
    const yarn = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 16 };
    expect(scaled(yarn)).toEqual({ type: "yarn", factor: 4, originalLength: 16 });
    expect(scaled({ ...yarn, factor: null })).toEqual({ type: "yarn", factor: 4, originalLength: 16 });
    expect(scaled({ type: "yarn", factor: 4 })).toMatchObject({ originalLength: 64 });
    expect(scaled({ ...yarn, beta_fast: 0, beta_slow: null })).toEqual(scaled(yarn));
    expect(scaled({ ...yarn, beta_fast: 8, truncate: false })).toMatchObject({ betaFast: 8, truncate: false });
    const both = scaled({ ...yarn, mscale: 0.7, mscale_all_dim: 1.2 }) as { attentionFactor: number };
    expect(both.attentionFactor).toBeCloseTo((0.07 * Math.log(4) + 1) / (0.12 * Math.log(4) + 1), 15);
    // One of them alone has no effect.
    expect(scaled({ ...yarn, mscale: 0.7 })).toEqual(scaled(yarn));
    expect(scaled({ ...yarn, mscale: 0.7, mscale_all_dim: 1.2, attention_factor: 3 })).toMatchObject({
      attentionFactor: 3,
    });
    // Entries beside rope_scaling take precedence.
    expect(scaled(yarn, { original_max_position_embeddings: 32 })).toMatchObject({ originalLength: 32 });
    expectError(() => scaled({ ...yarn, beta_fast: "32" }), "ERR_FORMAT", /beta_fast to be a number/);
  });

  test("YaRN's angles by its equations, the ramp's ends truncated and not", () => {
    const [size, base, factor, originalLength] = [16, 10_000, 4, 100];
    for (const truncate of [true, false]) {
      const scaling = { type: "yarn", factor, originalLength, truncate } as const;
      const { frequencies } = rotaryFrequencies({ size, length: 400, base, scaling });
      const end = (turns: number) => (size * Math.log(originalLength / (turns * 2 * Math.PI))) / (2 * Math.log(base));
      const low = Math.max(truncate ? Math.floor(end(32)) : end(32), 0);
      const high = Math.min(truncate ? Math.ceil(end(1)) : end(1), size - 1);
      for (const [i, frequency] of frequencies.entries()) {
        const share = Math.min(Math.max((i - low) / (high - low), 0), 1);
        const angle = base ** ((-2 * i) / size);
        expect(frequency).toBeCloseTo(angle * (1 - share) + (angle / factor) * share, 14);
      }
    }
  });

  test("the newer names, and both", () => {
    const parameters = { rope_type: "linear", factor: 2, rope_theta: 500, partial_rotary_factor: 0.5 };
    const expected = { rotaryBase: 500, rotarySize: 4, rotaryScaling: { type: "linear", factor: 2 } };
    expect(read("llama", { rope_parameters: parameters })).toMatchObject(expected);
    expect(read("llama", { rope_parameters: parameters, rope_theta: 7 })).toMatchObject(expected);
    expect(read("llama", { rope_parameters: parameters, rope_scaling: {} })).toMatchObject(expected);
    expect(read("llama", { rope_parameters: parameters, partial_rotary_factor: 0.25 }).rotarySize).toBe(2);
    const older = { rope_type: "linear", factor: 3 };
    expect(read("llama", { rope_parameters: parameters, rope_scaling: older })).toMatchObject({
      rotaryBase: 10_000,
      rotaryScaling: older.rope_type === "linear" && { type: "linear", factor: 3 },
    });
    const bare = { ...parameters, factor: undefined };
    refused("llama", { rope_parameters: bare }, /factor to be a number, got undefined/);
    const apart = { full_attention: parameters, sliding_attention: parameters };
    refused(
      "qwen3",
      { rope_parameters: apart },
      /expected the same rope_parameters for all layers, got one for full_attention only/,
    );
    refused("llama", { rope_scaling: 2 }, /rope_scaling to be an object, got 2/);
    refused("llama", { rope_scaling: { type: "su" } }, /of type default, .* got "su"/);
  });

  test("the rotated size is truncated to an integer", () => {
    const turned = (partial_rotary_factor: number, head_dim: number) =>
      read("llama", { head_dim, partial_rotary_factor }).rotarySize;
    expect(turned(0.3, 20)).toBe(6);
    expect(turned(0.35, 18)).toBe(6);
    expectError(() => turned(2 / 98, 98), "ERR_RANGE", /rotarySize/);
  });
});

describe("GPT-2, BERT, T5 and Marian", () => {
  const gpt = toHuggingFaceGptConfig(
    checkGptConfig({ vocabularySize: 5, contextLength: 4, layers: 2, heads: 2, width: 4, activation: "none" }),
  );
  test('no activation stands for "linear"', () => {
    expect(gpt.activation_function).toBe("linear");
    expect(fromHuggingFaceGptConfig(gpt).activation).toBe("none");
  });

  test("scales, other names, and contradictions", () => {
    const { n_head: _, n_layer: __, ...bare } = gpt;
    const named = { ...bare, num_attention_heads: 2, num_hidden_layers: 2 };
    expect(fromHuggingFaceGptConfig(named)).toEqual(fromHuggingFaceGptConfig(gpt));
    const refusedGpt = (json: Json, message: RegExp) =>
      expectError(() => fromHuggingFaceGptConfig({ ...gpt, ...json }), "ERR_FORMAT", message);
    refusedGpt({ num_attention_heads: 4 }, /num_attention_heads to equal n_head \(2\), got 4/);
    refusedGpt({ add_cross_attention: true }, /add_cross_attention to be false, got true/);
    refusedGpt({ scale_attn_weights: 0 }, /scale_attn_weights to be true or false/);
    refusedGpt({ layer_norm_epsilon: "1e-5" }, /layer_norm_epsilon to be a number/);
  });

  const t5 = (options: object) =>
    toHuggingFaceT5Config(checkT5Config({ vocabularySize: 5, layers: 1, heads: 1, width: 4, ...options }));
  test.each([
    [{ gated: true, activation: "gelu" }, "gated-gelu"],
    [{ gated: true, activation: "geluErf" }, "gated-gelu_python"],
    [{ gated: true, activation: "none" }, "gated-linear"],
    [{ gated: false, activation: "gelu" }, "gelu_new"],
    [{ gated: false, activation: "geluErf" }, "gelu"],
    [{ gated: true, activation: "silu" }, "gated-silu"],
  ])("T5 with %j", (options, name) => {
    const json = t5(options);
    expect(json.feed_forward_proj).toBe(name);
    expect(fromHuggingFaceT5Config(json)).toMatchObject(options);
  });

  test("T5's derived entries agree", () => {
    const json = t5({ gated: true, activation: "gelu" });
    const derived = { dense_act_fn: "gelu_new", is_gated_act: true };
    expect(fromHuggingFaceT5Config({ ...json, ...derived })).toEqual(fromHuggingFaceT5Config(json));
    const refusedT5 = (more: Json, message: RegExp) =>
      expectError(() => fromHuggingFaceT5Config({ ...json, ...more }), "ERR_FORMAT", message);
    refusedT5({ dense_act_fn: "gelu" }, /dense_act_fn to match feed_forward_proj \("gated-gelu"\), got "gelu"/);
    refusedT5({ is_gated_act: false }, /is_gated_act to be true, got false/);
    refusedT5({ num_attention_heads: 2 }, /num_attention_heads to equal num_heads/);
  });

  const size = { vocabularySize: 5, contextLength: 4, layers: 1, heads: 1, width: 4 };
  const bert = (options: Partial<BertConfig>) => new Bert({ ...size, ...options }, { device: "cpu" });
  test.each<[Partial<BertConfig>, RegExp]>([
    [{ family: "distilbert", tokenTypes: 2 }, /a distilbert with tokenTypes 0, got 2/],
    [{ family: "distilbert", eps: 1e-5 }, /a distilbert with eps 1e-12, got 0.00001/],
    [{ family: "distilbert", pooler: true }, /a distilbert with pooler false, got true/],
    [{ family: "distilbert", firstPosition: 1 }, /a distilbert with firstPosition 0, got 1/],
    [{ firstPosition: 2 }, /a bert with firstPosition 0, got 2/],
    [{ tokenTypes: 0 }, /a bert with tokenTypes of at least 1, got 0/],
    [{ family: "roberta", firstPosition: 0 }, /a roberta with firstPosition from 1 to 5, got 0/],
    [{ family: "xlm-roberta", firstPosition: 6 }, /a xlm-roberta with firstPosition from 1 to 5, got 6/],
  ])("BERT with %j is not saved", async (options, message) => {
    using model = bert(options);
    await expectRejection(savePretrained(temporaryFolder(), model), "ERR_ARGUMENT", message);
  });

  test("each family of BERTs is saved in its own form", () => {
    for (const family of ["bert", "roberta", "xlm-roberta", "distilbert"] as const) {
      using model = bert({ family, activation: "none" });
      const again = fromHuggingFaceBertConfig(toHuggingFaceBertConfig(model.config));
      const { pooler: _, ...config } = model.config;
      expect(again).toMatchObject(config);
    }
  });

  test("a classifier of BERT's family has a pooler", async () => {
    using model = new BertForSequenceClassification(bert({ pooler: false }), { labels: 2 });
    await expectRejection(savePretrained(temporaryFolder(), model), "ERR_ARGUMENT", /a pooler, which a classifier/);
  });

  test("Marian: other names, and contradictions", () => {
    using model = new EncoderDecoder(
      {
        sourceVocabularySize: 5,
        contextLength: 4,
        layers: 1,
        heads: 1,
        width: 4,
        startToken: 0,
        endToken: 1,
        suppressedTokens: [0],
        sinusoids: { layout: "halves" },
        logitsBias: true,
        activation: "none",
      },
      { device: "cpu" },
    );
    const json = toHuggingFaceMarianConfig(model.config);
    expect(json.activation_function).toBe("linear");
    expect(fromHuggingFaceMarianConfig({ ...json, num_hidden_layers: 1 })).toEqual(fromHuggingFaceMarianConfig(json));
    for (const [more, message] of [
      [{ num_hidden_layers: 2 }, /num_hidden_layers to equal encoder_layers/],
      [{ normalize_before: true }, /normalize_before to be false, got true/],
      [{ scale_embedding: 1 }, /scale_embedding to be true or false/],
    ] as [Json, RegExp][])
      expectError(() => fromHuggingFaceMarianConfig({ ...json, ...more }), "ERR_FORMAT", message);
  });
});

test("RoBERTa's head for masked tokens has the exact GELU, whatever its encoder uses", () => {
  const activations = (family: BertConfig["family"]) => {
    const config = { family: family!, vocabularySize: 5, contextLength: 4, layers: 1, heads: 1, width: 4 };
    using model = new BertForMaskedLM(new Bert({ ...config, activation: "relu" }, { device: "cpu" }));
    return model.activation;
  };
  expect(activations("roberta")).toBe("geluErf");
  expect(activations("xlm-roberta")).toBe("geluErf");
  expect(activations("bert")).toBe("relu");
  expect(activations("distilbert")).toBe("relu");
});
