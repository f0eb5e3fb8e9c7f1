/** Tests Marian's folders: the possible content of their config.json and the possible names of their tensors. */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { writeSafetensors } from "../../lib/formats/safetensors.js";
import { translate } from "../../lib/generate/translate.js";
import { readShardedSafetensors } from "../../lib/formats/sharded-safetensors.js";
import { EncoderDecoder } from "../../lib/models/encoder-decoder.js";
import type { EncoderDecoderConfig } from "../../lib/models/encoder-decoder-config.js";
import { fromHuggingFaceMarianConfig } from "../../lib/pretrained/families/marian-config.js";
import { loadPretrained } from "../../lib/pretrained/load-pretrained.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { expectError, expectRejection } from "../support/errors.js";
import { decode, type FixtureArray, readFixture } from "../support/fixtures.js";
import { temporaryFolder } from "../support/folder.js";
import { instanceOf } from "../support/instance.js";

const fixture = readFixture("models/marian") as {
  config: Record<string, unknown>;
  weights: Record<string, FixtureArray>;
};
type Tensors = Record<string, FixtureArray>;

async function folderOf(tensors: Tensors, config: Record<string, unknown> = {}): Promise<string> {
  const folder = temporaryFolder();
  writeFileSync(path.join(folder, "config.json"), JSON.stringify({ ...fixture.config, ...config }));
  await writeSafetensors(
    path.join(folder, "model.safetensors"),
    Object.entries(tensors).map(([name, array]) => {
      return { name, dtype: "F32" as const, shape: array.shape, data: decode(array) as Float32Array };
    }),
  );
  return folder;
}

const shared = "model.shared.weight";
const sides = ["encoder", "decoder"].map((side) => `model.${side}.embed_tokens.weight`);
const embedding = fixture.weights[shared]!;
const { [shared]: _, ...rest } = fixture.weights;
const options = { kind: "encoder-decoder", device: "cpu" } as const;

async function translations(folder: string): Promise<number[][]> {
  const { model } = await loadPretrained(folder, options);
  using _ = model;
  const found = await translate(
    model,
    [
      [4, 9, 0],
      [12, 3, 3, 8, 0],
    ],
    { beams: 2, maxTokens: 8 },
  );
  return found.map(([best]) => best!.tokens);
}

test("one embedding may have any of its names, or several, and two vocabularies have separate ones", async () => {
  const plain = await translations(await folderOf(fixture.weights));
  expect(plain.flat().length).toBeGreaterThan(0);
  // Padding is never generated.
  expect(plain.flat()).not.toContain(1);
  const table = { shape: [12, 12], dtype: "f32" as const, data: Buffer.alloc(4 * 144).toString("base64") };
  const copies = { ...fixture.weights, [sides[0]!]: embedding, "lm_head.weight": embedding };
  const tables = { "model.encoder.embed_positions.weight": table, "model.decoder.embed_positions.weight": table };
  for (const tensors of [
    { ...copies, ...tables },
    { ...rest, "lm_head.weight": embedding },
  ])
    expect(await translations(await folderOf(tensors))).toEqual(plain);
  const two = { ...rest, [sides[0]!]: embedding, [sides[1]!]: embedding };
  expect(await translations(await folderOf(two, { share_encoder_decoder_embeddings: false }))).toEqual(plain);
});

describe("files that do not fit", () => {
  const without = (name: string): Tensors =>
    Object.fromEntries(Object.entries(fixture.weights).filter(([n]) => n !== name));
  const wide = { shape: [12, 13], dtype: "f32" as const, data: Buffer.alloc(4 * 156).toString("base64") };
  const query = "model.encoder.layers.1.self_attn.q_proj.weight";
  const keys = "model.encoder.layers.1.self_attn.k_proj.weight";
  test.each<[string, Tensors, Record<string, unknown>, RegExp]>([
    ["a part that is missing", without(keys), {}, /got none for model\.encoder\.layers\.1\.self_attn\.k_proj\.weight/],
    [
      "a part of another width",
      { ...fixture.weights, [keys]: wide },
      {},
      /of shape \[36, 12\], got \[12, 12\], \[12, 13\]/,
    ],
    [
      "all parts of another width",
      { ...fixture.weights, [query]: wide, [keys]: wide },
      {},
      /got \[12, 13\], \[12, 13\]/,
    ],
    ["a tensor too many", { ...fixture.weights, more: wide }, {}, /only the model's parameters, got more/],
    [
      "another vocabulary",
      fixture.weights,
      { vocab_size: 18 },
      /model\.shared\.weight of shape \[18, 12\], got \[19, 12\]/,
    ],
    [
      "fewer layers",
      fixture.weights,
      { encoder_layers: 1 },
      /only the model's parameters, got model\.encoder\.layers\.1\./,
    ],
    ["more layers", fixture.weights, { encoder_layers: 30 }, /layers\.29\.fc1\.weight of shape \[17, 12\], got none/],
    [
      "another model",
      fixture.weights,
      { model_type: "bart" },
      /expected "model_type" to be marian(,| or) .+got "bart"/,
    ],
  ])("%s", async (_, tensors, config, message) => {
    await expectRejection(loadPretrained(await folderOf(tensors, config), options), "ERR_FORMAT", message);
  });
});

test("a config.json is interpreted correctly, or refused if it is not understood", () => {
  const config = { ...fixture.config, dropout: 0.1, attention_dropout: 0.2, decoder_vocab_size: 19 };
  expect(fromHuggingFaceMarianConfig(config)).toEqual({
    ...{
      sourceVocabularySize: 19,
      targetVocabularySize: 19,
      shared: true,
      contextLength: 12,
      layers: 2,
      decoderLayers: 1,
    },
    ...{ heads: 2, width: 12, feedForwardWidth: 17, startToken: 1, endToken: 0, suppressedTokens: [1], dropout: 0.1 },
    ...{ attentionDropout: 0.2, activation: "silu", sinusoids: { layout: "halves" }, scaleEmbeddings: true },
    ...{ tied: true, logitsBias: true },
  });
  const refused: Record<string, unknown>[] = [
    { model_type: "t5" },
    { d_model: 0 },
    { encoder_layers: "6" },
    { decoder_attention_heads: 4 },
    { decoder_ffn_dim: 18 },
    { activation_function: "step" },
    { static_position_embeddings: false },
    { normalize_before: true },
    { eos_token_id: null },
    { decoder_start_token_id: -1 },
    { pad_token_id: 0.5 },
  ];
  for (const wrong of refused)
    expectError(() => fromHuggingFaceMarianConfig({ ...fixture.config, ...wrong }), "ERR_FORMAT");
  expectError(() => fromHuggingFaceMarianConfig(null), "ERR_FORMAT");
});

test("is saved with the shapes that Hugging Face's tools expect; other encoder–decoders are refused", async () => {
  const { model } = await loadPretrained(await folderOf(fixture.weights), options);
  using marian = instanceOf(EncoderDecoder, model);
  const folder = path.join(temporaryFolder(), "saved");
  await savePretrained(folder, marian, { shardBytes: 2000 });
  await using weights = await readShardedSafetensors(path.join(folder, "model.safetensors.index.json"));
  for (const [name, { shape }] of Object.entries(fixture.weights))
    expect(weights.tensors.get(name)?.shape).toEqual(shape);
  const refused: [Partial<EncoderDecoderConfig>, RegExp][] = [
    [{ norm: "pre" }, /expected norm to be "post", as in Marian, got "pre"/],
    [{ sinusoids: {} }, /expected sinusoids\.layout to be "halves", as in Marian, got "interleaved"/],
    [{ logitsBias: false }, /logitsBias/],
    [{ suppressedTokens: [] }, /suppressedTokens/],
  ];
  for (const [change, message] of refused) {
    using other = new EncoderDecoder({ ...marian.config, ...change }, { device: "cpu" });
    await expectRejection(savePretrained(path.join(folder, "other"), other), "ERR_ARGUMENT", message);
  }
});
