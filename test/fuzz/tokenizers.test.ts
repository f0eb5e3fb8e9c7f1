/** Compares tokenizers with Hugging Face's own, in Rust (@anush008/tokenizers): the ids and texts must be the same. */
import path from "node:path";
import { Tokenizer as Rust } from "@anush008/tokenizers";
import fc from "fast-check";
import { expect } from "vitest";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { CharTokenizer } from "../../lib/tokenizer/char-tokenizer.js";
import { Gpt2Tokenizer } from "../../lib/tokenizer/gpt2-tokenizer.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import {
  anyText,
  byteLevelJson,
  byteLevelTokenizer,
  type Json,
  spacedJson,
  spacedTokenizer,
  wordPieceJson,
  wordPieceTokenizer,
} from "../support/random-tokenizers.js";
import { HeedError } from "../../lib/util/errors.js";
import { type GgufInputValue, writeGguf } from "../../lib/formats/write-gguf.js";
import type { GgufValue } from "../../lib/formats/gguf-values.js";
import { GgufMetadata } from "../../lib/pretrained/gguf/metadata.js";
import { tokenizerOfGguf } from "../../lib/pretrained/gguf/tokenizer.js";
import { tokenizerToGguf } from "../../lib/pretrained/gguf/write-tokenizer.js";
import { sharedFolder } from "../support/folder.js";
import { llamaVocabulary, noLlamaCpp } from "../support/llama-cpp.js";
import { ggufByteLevel, ggufSpaced } from "../support/random-tokenizers.js";
import { fuzz } from "./fuzz.js";

/**
 * If several ways to split a text have the same score, rounding decides; with `ties` the order of the ids is not
 * compared.
 */
async function expectSame(json: object, text: string, { ties = false } = {}): Promise<void> {
  const own = new HuggingFaceTokenizer(json);
  const rust = Rust.fromString(JSON.stringify(json));
  const ids = (await rust.encode(text)).getIds();
  const ordered = (list: readonly number[]) => (ties ? [...list].sort((a, b) => a - b) : list);
  const encoded = own.encode(text, { special: true });
  expect(ordered([...encoded])).toEqual(ordered(ids));
  expect(await own.encodeAsync(text, { special: true })).toEqual(encoded);
  expect(own.decode(ids)).toBe(await rust.decode(ids, true));
  expect(own.decode(ids, { special: true })).toBe(await rust.decode(ids, false));
}

fuzz(
  "byte-level tokenizers",
  fc.tuple(byteLevelTokenizer(), anyText),
  { ci: 250, nightly: 50_000 },
  ([choices, text]) => expectSame(byteLevelJson(choices), text),
);

fuzz("SentencePiece's kind", fc.tuple(spacedTokenizer(), anyText), { ci: 250, nightly: 50_000 }, ([choices, text]) =>
  expectSame(spacedJson(choices), text, { ties: choices.unigram }),
);

fuzz("WordPiece", fc.tuple(wordPieceTokenizer, anyText), { ci: 250, nightly: 50_000 }, ([choices, text]) =>
  expectSame(wordPieceJson(choices), text),
);

fuzz(
  "long texts, which are encoded in parts",
  fc.tuple(
    fc.oneof(
      byteLevelTokenizer().map(byteLevelJson),
      spacedTokenizer().map(spacedJson),
      wordPieceTokenizer.map(wordPieceJson),
    ),
    fc.array(anyText, { minLength: 1, maxLength: 4 }),
    fc.integer({ min: 100, max: 500 }),
  ),
  { ci: 30, nightly: 5000 },
  ([json, texts, times]) =>
    expectSame(json, Array.from({ length: times }, (_, i) => texts[(i * i) % texts.length]).join(""), {
      ties: json.model.type === "Unigram",
    }),
);

/** Post-processors for pairs, with the number of tokens that they add; `x` and `y` are the tokens. */
const pairProcessors: Record<string, (x: Json["added_tokens"][0], y: Json["added_tokens"][0]) => [unknown, number]> = {
  none: () => [null, 0],
  bert: (x, y) => [{ type: "BertProcessing", cls: [x.content, x.id], sep: [y.content, y.id] }, 3],
  roberta: (x, y) => [
    {
      type: "RobertaProcessing",
      cls: [x.content, x.id],
      sep: [y.content, y.id],
      trim_offsets: true,
      add_prefix_space: false,
    },
    4,
  ],
  template: (x, y) => [template("B", x, y), 4],
  reversed: (x, y) => [template("A", x, y), 4],
  sequence: (x, y) => [{ type: "Sequence", processors: [byteLevel, template("B", x, y)] }, 4],
  cased: (x, y) => [
    {
      type: "Sequence",
      processors: [{ type: "BertProcessing", cls: [x.content, x.id], sep: [y.content, y.id] }, byteLevel],
    },
    3,
  ],
  wrapped: (x, y) => {
    const processor = { type: "BertProcessing", cls: [x.content, x.id], sep: [y.content, y.id] };
    return [{ type: "Sequence", processors: [processor, processor] }, 6];
  },
};
const byteLevel = { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true };

/** Returns a template of four tokens, with the texts in either order and types that are not those of BERT. */
function template(last: "A" | "B", x: Json["added_tokens"][0], y: Json["added_tokens"][0]): object {
  const token = ({ content: id }: Json["added_tokens"][0], type_id: number) => ({ SpecialToken: { id, type_id } });
  const text = (id: string, type_id: number) => ({ Sequence: { id, type_id } });
  const special = [x, y].map(({ content, id }) => [content, { id: content, ids: [id], tokens: [content] }] as const);
  return {
    type: "TemplateProcessing",
    single: [token(x, 0), text("A", 0)],
    pair: [token(x, 2), text(last === "B" ? "A" : "B", 0), token(y, 0), token(y, 1), text(last, 3), token(x, 1)],
    special_tokens: Object.fromEntries(special),
  };
}

fuzz(
  "pairs of texts, whole and cut",
  fc.tuple(
    fc.oneof(
      byteLevelTokenizer().map(byteLevelJson),
      spacedTokenizer({ unigram: fc.constant(false) }).map(spacedJson),
      wordPieceTokenizer.map(wordPieceJson),
    ),
    fc.tuple(anyText, anyText),
    fc.constantFrom(...Object.keys(pairProcessors)),
    fc.option(fc.nat(25)),
    fc.boolean(),
  ),
  { ci: 150, nightly: 30_000 },
  async ([json, [a, b], name, room, addSpecialTokens]) => {
    const [x, y = x] = json.added_tokens.filter(({ special }) => special);
    const [processor, added] = x ? pairProcessors[name]!(x, y!) : [json.post_processor, 0];
    const file = { ...json, post_processor: processor };
    const own = new HuggingFaceTokenizer(file);
    const rust = Rust.fromString(JSON.stringify(file));
    const maxLength = room === null ? Infinity : room + (addSpecialTokens ? added : 0);
    if (room !== null) rust.setTruncation(maxLength);
    const expected = await rust.encode(a, b, { addSpecialTokens });
    const options = { special: true, addSpecialTokens, maxLength };
    const pair = own.encodePair(a, b, options);
    expect([...pair.ids]).toEqual(expected.getIds());
    expect([...pair.tokenTypes]).toEqual(expected.getTypeIds());
    expect(await own.encodePairAsync(a, b, options)).toEqual(pair);
  },
);

const gpt2 = await Gpt2Tokenizer.load();

fuzz(
  "characters and bytes of long texts, encoded in turns",
  fc.tuple(fc.array(anyText, { minLength: 1, maxLength: 4 }), fc.integer({ min: 1, max: 5000 })),
  { ci: 15, nightly: 3000 },
  async ([texts, times]) => {
    // The text includes lone surrogates, wherever it is cut.
    const text = ["\ud83d", ...Array.from({ length: times }, (_, i) => texts[(i * i) % texts.length]), "\ude00"].join(
      "",
    );
    const characters = await CharTokenizer.of(text);
    const bytes = new ByteTokenizer();
    const whole = Buffer.from(text).toString();
    expect(characters.toJSON()).toEqual(new CharTokenizer(text).toJSON());
    expect(characters.decode(await characters.encodeAsync(text))).toBe(whole);
    expect([...(await bytes.encodeAsync(text))]).toEqual([...Buffer.from(text)]);
    for (const tokenizer of [characters, bytes, gpt2]) {
      const ids = await tokenizer.encodeAsync(text);
      expect(ids).toEqual(tokenizer.encode(text));
      expect(tokenizer.decode(ids)).toBe(whole);
    }
  },
);

/** Returns the metadata of a GGUF file for a tokenizer, or null if it is refused with a reason. */
function toGguf(own: HuggingFaceTokenizer, rows?: number): Map<string, GgufInputValue> | null {
  try {
    return tokenizerToGguf(own, rows);
  } catch (error) {
    expect(error).toBeInstanceOf(HeedError);
    expect(error).toMatchObject({ code: "ERR_ARGUMENT" });
    return null;
  }
}

async function fromGguf(metadata: ReadonlyMap<string, GgufInputValue>): Promise<HuggingFaceTokenizer> {
  const values = [...metadata].map(([key, { value }]): [string, GgufValue] => {
    return [key, typeof value === "object" ? Array.from<string | number>(value) : value];
  });
  const file = new GgufMetadata("a.gguf", new Map([["general.architecture", "llama"], ...values]));
  return (await tokenizerOfGguf(file))!;
}

const folder = sharedFolder();
const ggufTokenizer = fc.oneof(ggufByteLevel.map(byteLevelJson), ggufSpaced.map(spacedJson));
/** Tokens that begin and end a text are special everywhere except in an invalid file. */
function configOf({ added_tokens }: Json): Record<string, string> {
  const named = { bos_token: "<s>", eos_token: "</s>" };
  const special = (name: string): boolean => added_tokens.some((token) => token.special && token.content === name);
  return Object.fromEntries(Object.entries(named).filter(([, name]) => special(name)));
}

fuzz(
  "through GGUF a text keeps its ids, or the tokenizer is refused",
  fc.tuple(ggufTokenizer, anyText, fc.nat(5)),
  { ci: 250, nightly: 50_000 },
  async ([json, text, more]) => {
    const own = new HuggingFaceTokenizer(json, { config: configOf(json) });
    const metadata = toGguf(own, own.vocabularySize + more);
    if (!metadata) return;
    const other = await fromGguf(metadata);
    expect(other.vocabularySize).toBe(own.vocabularySize);
    for (const special of [false, true]) {
      const ids = own.encode(text, { special });
      expect(other.encode(text, { special })).toEqual(ids);
      expect(other.decode(ids, { special })).toBe(own.decode(ids, { special }));
    }
  },
);

fuzz(
  "llama.cpp reads a GGUF file's tokenizer as heed does",
  fc.tuple(ggufTokenizer, fc.array(anyText, { minLength: 10, maxLength: 10 }), fc.nat(5)),
  { ci: 10, nightly: 500, unless: noLlamaCpp },
  async ([json, texts, more]) => {
    const own = new HuggingFaceTokenizer(json, { config: configOf(json) });
    const metadata = toGguf(own, own.vocabularySize + more);
    // llama.cpp treats these two as special whatever the file says.
    if (!metadata || ["<s>", "</s>"].some((name) => Object.hasOwn(json.model.vocab, name))) return;
    const file = path.join(folder, "a.gguf");
    const architecture = ["general.architecture", { type: "string", value: "llama" }] as const;
    await writeGguf(file, new Map([architecture, ...metadata]), []);
    // llama.cpp does not compose texts, and has no token for U+0000.
    const composed = texts.map((text) => text.normalize("NFC").replaceAll("\0", ""));
    // It also finds some special tokens in text of users: in a SentencePiece vocabulary it merges any two tokens that
    // form one, and with `ignore_merges` a word that is a token is not split.
    const spelt = json.added_tokens.filter((token) => token.special).map(({ content }) => content);
    const inText = (text: string): boolean => spelt.some((content) => text.includes(content));
    const finds = json.model.byte_fallback === true || json.model.ignore_merges === true;
    const plain = finds ? composed.filter((text) => !inText(text)) : composed;
    for (const special of [false, true]) {
      const given = special ? composed : plain;
      const { tokens, begins, ended } = await llamaVocabulary(file, { texts: given, special });
      const ids = given.map((text) => [...own.encode(text, { special, addSpecialTokens: false })]);
      expect(tokens).toEqual(ids);
      expect([begins, ended]).toEqual([own.before.length > 0, own.after.length > 0]);
    }
  },
);
