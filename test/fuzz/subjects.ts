/** Small valid files of every format that heed reads, and what a program does with them. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { noGrad } from "../../lib/core/autograd.js";
import { embedTexts } from "../../lib/embed/embed-texts.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import { Bert } from "../../lib/models/bert.js";
import { BertForMaskedLM, BertForSequenceClassification } from "../../lib/models/bert-heads.js";
import { EncoderDecoder } from "../../lib/models/encoder-decoder.js";
import { GPT } from "../../lib/models/gpt.js";
import { Llama } from "../../lib/models/llama.js";
import type { LlamaConfig } from "../../lib/models/llama-config.js";
import { T5 } from "../../lib/models/t5.js";
import type { Module } from "../../lib/nn/module.js";
import type { PretrainedKinds } from "../../lib/pretrained/families/index.js";
import { saveGguf } from "../../lib/pretrained/gguf/save-gguf.js";
import { load } from "../../lib/load/load.js";
import { loadModel } from "../../lib/pretrained/load-model.js";
import { loadPretrained } from "../../lib/pretrained/load-pretrained.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { saveLlama2c } from "../../lib/pretrained/families/save-llama2c.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { CharTokenizer } from "../../lib/tokenizer/char-tokenizer.js";
import { tokenizerFromFile } from "../../lib/tokenizer/from-json.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { Llama2cTokenizer } from "../../lib/tokenizer/llama2c-tokenizer.js";
import type { Tokenizer } from "../../lib/tokenizer/tokenizer.js";
import { writeTinyTranslator } from "../support/tiny-translator.js";
import { byteLevelJson, unigramJson, wordPieceJson } from "../tokenizer/fixtures.js";

export interface Subject {
  readonly name: string;
  /** Writes the valid files into an empty folder. */
  make(folder: string): Promise<void> | void;
  /** Loads the files in the folder and works with them. */
  use(folder: string): Promise<void>;
}

const device = "cpu";
const write = (folder: string, name: string, value: unknown): void =>
  writeFileSync(path.join(folder, name), typeof value === "string" ? value : JSON.stringify(value));

const texts = [
  "Hello, wörld! 12 345\n\t<|begin|> unaffable ab abc",
  "",
  "\u2581 a".repeat(40),
  "日本\ud83d\ude00\ud800",
];

/** Encodes texts and decodes them, both as a whole and as streams. */
function useTokenizer(tokenizer: Tokenizer): void {
  for (const text of texts) {
    const ids = tokenizer.encode(text);
    tokenizer.decode(ids);
    const stream = tokenizer.stream();
    for (const id of ids) stream.push(id);
    stream.end();
  }
}

async function ran(body: () => FloatTensor): Promise<void> {
  using out = noGrad(() => scope(body));
  await out.data();
}
const ids = (): IntTensor => tensor(Int32Array.of(1, 2, 3), [1, 3], { device });

async function useModel(model: Module): Promise<void> {
  if (model instanceof EncoderDecoder || model instanceof T5) await ran(() => model.forward(ids(), ids()));
  else await ran(() => (model as unknown as { forward: (ids: IntTensor) => FloatTensor }).forward(ids()));
}

/**
 * Returns a folder with a model of a family; `more` are entries of its config.json that override those that heed
 * writes.
 */
function family(
  name: string,
  kind: keyof PretrainedKinds,
  model: () => Module,
  tokenizer: object,
  { shardBytes, more = {} }: { shardBytes?: number; more?: object } = {},
): Subject {
  return {
    name,
    async make(folder) {
      const made = model();
      const config = { bos_token: "<s>", eos_token: { content: "</s>" }, add_bos_token: true };
      const given = new HuggingFaceTokenizer(tokenizer, { config });
      const defaults = { temperature: 0.7, topK: 3, topP: 0.9, stopTokens: [1, 2] };
      await savePretrained(folder, made, { tokenizer: given, defaults, ...(shardBytes && { shardBytes }) });
      made.dispose();
      const file = path.join(folder, "config.json");
      write(folder, "config.json", { ...(JSON.parse(readFileSync(file, "utf8")) as object), ...more });
      if (kind !== "encoder") return;
      write(folder, "modules.json", [
        { type: "sentence_transformers.models.Transformer", path: "" },
        { type: "sentence_transformers.models.Pooling", path: "pooling" },
      ]);
      mkdirSync(path.join(folder, "pooling"));
      write(path.join(folder, "pooling"), "config.json", {
        pooling_mode_mean_tokens: true,
        word_embedding_dimension: 8,
      });
      write(folder, "sentence_bert_config.json", { max_seq_length: 6, do_lower_case: true });
    },
    async use(folder) {
      if (kind === "causal") {
        const { model, tokenizer, defaults } = await loadModel(folder, { device });
        using _ = model;
        await useModel(model);
        if (tokenizer) useTokenizer(tokenizer);
        await generateTokens(model, [[1, 2]], { ...defaults, maxTokens: 2 });
        return;
      }
      const { model, tokenizer, recipe } = await loadPretrained(folder, { kind, device });
      using _ = model;
      await useModel(model);
      if (tokenizer) useTokenizer(tokenizer);
      if (model instanceof Bert && tokenizer) await embedTexts(model, tokenizer, ["ab"], recipe ?? {});
    },
  };
}

const sizes = { vocabularySize: 300, contextLength: 48, layers: 2, heads: 2, width: 8 };
const options = { device, seed: 3 };
const llama = (config: Partial<LlamaConfig> = {}) =>
  new Llama({ ...sizes, feedForwardWidth: 6, kvHeads: 1, ...config }, options);
const bert = (config: object = {}) => new Bert({ ...sizes, feedForwardWidth: 6, ...config }, options);
const pair = { startToken: 0, endToken: 1, suppressedTokens: [0] };

/** Returns a GGUF or llama2.c file. */
function file(name: string, make: (folder: string) => Promise<void>): Subject {
  return {
    name,
    make,
    async use(folder) {
      const { model, tokenizer, defaults } = await loadModel(folder, { device });
      using _ = model;
      await useModel(model);
      if (tokenizer) useTokenizer(tokenizer);
      await generateTokens(model, [[1, 2]], { ...defaults, maxTokens: 2 });
    },
  };
}

/** Returns a tokenizer alone. */
const tokenizer = (name: string, json: object): Subject => ({
  name,
  make(folder) {
    write(folder, "tokenizer.json", json);
    write(folder, "tokenizer_config.json", { bos_token: "<s>", eos_token: { content: "</s>" }, add_eos_token: true });
  },
  async use(folder) {
    const loaded = await HuggingFaceTokenizer.fromFolder(folder);
    useTokenizer(loaded);
    loaded.encode(texts[0]!, { special: true });
    loaded.decode(loaded.encode(texts[0]!), { special: true });
    useTokenizer(new HuggingFaceTokenizer(loaded.toJSON().tokenizer, loaded.toJSON()));
  },
});

/** Returns bytes as pieces and a few merges: 3 + 256 + 8 tokens of llama2.c. */
function llama2cTokenizer(): Llama2cTokenizer {
  const bytes = Array.from({ length: 256 }, (_, byte): [string, number] => [
    `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
    0,
  ]);
  const words = [" ", "a", "b", "c", "ab", " a", "abc", " ab"].map((text, i): [string, number] => [text, -i]);
  return Llama2cTokenizer.fromTokens([["<unk>", 0], ["\n<s>\n", 0], ["\n</s>\n", 0], ...bytes, ...words]);
}

/** Returns heed's own file of a tokenizer. */
const own = (name: string, made: () => Tokenizer): Subject => ({
  name,
  make: (folder) => write(folder, "heed-tokenizer.json", made().toJSON()),
  use: async (folder) => {
    const loaded = await tokenizerFromFile(path.join(folder, "heed-tokenizer.json"));
    if (loaded) useTokenizer(loaded);
  },
});

const steps = (key: string, ...parts: object[]): object => ({ type: "Sequence", [key]: parts });
/** Every part that a tokenizer.json may have. */
const manyParts = {
  ...byteLevelJson(),
  normalizer: steps(
    "normalizers",
    { type: "NFC" },
    { type: "Replace", pattern: { String: "a" }, content: "b" },
    { type: "Replace", pattern: { Regex: "\\d+" }, content: "1" },
    { type: "Strip", strip_left: true, strip_right: true },
    { type: "Prepend", prepend: "x" },
    { type: "Lowercase" },
  ),
  pre_tokenizer: steps(
    "pretokenizers",
    { type: "Split", pattern: { Regex: "\\s+" }, behavior: "Isolated", invert: false },
    { type: "Digits", individual_digits: true },
    { type: "Punctuation", behavior: "Contiguous" },
    { type: "CharDelimiterSplit", delimiter: "-" },
    { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
  ),
  post_processor: steps(
    "processors",
    { type: "ByteLevel" },
    { type: "RobertaProcessing", sep: ["<|end|>", 266], cls: ["<|begin|>", 265] },
  ),
  decoder: steps("decoders", { type: "Replace", pattern: { Regex: "b" }, content: "a" }, { type: "ByteLevel" }),
};

const spaced = () => llama2cTokenizer().toHuggingFace().toJSON().tokenizer as object;

export const subjects: readonly Subject[] = [
  family("GPT-2", "causal", () => new GPT({ ...sizes, feedForwardWidth: 6 }, options), byteLevelJson()),
  family(
    "GPT of heed's own",
    "causal",
    () => new GPT({ ...sizes, positions: "rotary", kvHeads: 1, gated: true, normalization: "rms" }, options),
    byteLevelJson(),
  ),
  family("Llama in shards", "causal", () => llama(), spaced(), { shardBytes: 4000 }),
  family("Mistral", "causal", () => llama({ window: 4 }), unigramJson(true)),
  family(
    "Qwen 2",
    "causal",
    () => llama({ attentionBias: true, window: 4, layerTypes: ["full", "sliding"] }),
    byteLevelJson(),
  ),
  family("Qwen 3", "causal", () => llama({ qkNorm: true, tied: true }), manyParts, {
    more: { rope_scaling: { rope_type: "yarn", factor: 2, original_max_position_embeddings: 24, beta_fast: 16 } },
  }),
  family("BERT", "encoder", () => bert(), wordPieceJson()),
  family("RoBERTa for masks", "masked", () => new BertForMaskedLM(bert({ family: "roberta" })), byteLevelJson()),
  family(
    "BERT of classes",
    "classifier",
    () => new BertForSequenceClassification(bert(), { labels: ["a", "b"] }),
    wordPieceJson(),
  ),
  family("DistilBERT", "encoder", () => bert({ family: "distilbert" }), wordPieceJson()),
  family(
    "T5",
    "encoder-decoder",
    () => new T5({ ...sizes, feedForwardWidth: 6, buckets: 8, furthest: 16 }, options),
    unigramJson(),
  ),
  family(
    "Marian",
    "encoder-decoder",
    () =>
      new EncoderDecoder(
        { ...omit(sizes), ...pair, feedForwardWidth: 6, logitsBias: true, sinusoids: { layout: "halves" } },
        options,
      ),
    unigramJson(),
  ),
  file("GGUF of a Llama", (folder) =>
    saveGguf(path.join(folder, "model.gguf"), llama(), { tokenizer: llama2cTokenizer(), type: "F16" }),
  ),
  file("GGUF of a GPT", (folder) =>
    saveGguf(path.join(folder, "model.gguf"), new GPT({ ...sizes, width: 32 }, options), {
      tokenizer: new ByteTokenizer(),
      type: "Q4_0",
    }),
  ),
  file("llama2.c", (folder) => saveLlama2c(path.join(folder, "model.bin"), llama(), { tokenizer: llama2cTokenizer() })),
  {
    name: "CTranslate2",
    make: (folder) => writeTinyTranslator(folder),
    async use(folder) {
      using translator = await load(folder, { kind: "encoder-decoder", device });
      await useModel(translator.model);
      translator.decode(Array.from(await translator.encode("abc")));
    },
  },
  tokenizer("byte-level", byteLevelJson()),
  tokenizer("WordPiece", wordPieceJson()),
  tokenizer("Unigram", unigramJson()),
  tokenizer("Unigram with bytes", unigramJson(true)),
  tokenizer("SentencePiece's kind", spaced()),
  tokenizer("many parts", manyParts),
  own("characters", () => new CharTokenizer(texts.join(""))),
  own("llama2.c's tokens", llama2cTokenizer),
  own("tokenizer.json in heed's own", () => new HuggingFaceTokenizer(wordPieceJson())),
];

/** Returns the sizes with the vocabulary of one side only. */
function omit({ vocabularySize, ...rest }: typeof sizes) {
  return { ...rest, sourceVocabularySize: vocabularySize };
}

/** Returns the files of a folder by their names in it. */
export function filesOf(folder: string): Map<string, Buffer> {
  const names = readdirSync(folder, { recursive: true, withFileTypes: true });
  return new Map(
    names
      .filter((entry) => entry.isFile())
      .map((entry) => {
        const whole = path.join(entry.parentPath, entry.name);
        return [path.relative(folder, whole), readFileSync(whole)] as const;
      })
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}
