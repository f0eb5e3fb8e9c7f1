import { writeFileSync } from "node:fs";
import path from "node:path";
import * as library from "@huggingface/tokenizers";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { tokenizerFromJSON } from "../../lib/tokenizer/from-json.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { expectError, expectRejection } from "../support/errors.js";
import { sharedFolder } from "../support/folder.js";
import { byteCharacter, byteLevelJson, byteLevelMerges, bytePieces, unigramJson, wordPieceJson } from "./fixtures.js";

/** The whole library including its decoders, as an oracle. */
interface Oracle {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
  decode(ids: number[], options: object): string;
}
const oracleOf = (json: object): Oracle =>
  new (library as { Tokenizer: new (json: object, config: object) => Oracle }).Tokenizer(json, {});
const asLibrary = { skip_special_tokens: true, clean_up_tokenization_spaces: false };

const folder = sharedFolder();

const anyText = fc
  .array(
    fc.oneof(
      fc.string({ unit: "binary" }),
      fc.string({ unit: "grapheme" }),
      fc.constantFrom(" ", "  ", "\n\n", "hello world", "é", "日本語", "<|end|>", "</s>", "\ud800", "ab abc", "\u2581"),
    ),
    { maxLength: 8 },
  )
  .map((parts) => parts.join(""));
const wellFormed = (text: string) => Buffer.from(text).toString();

describe("byte-level BPE", () => {
  const json = byteLevelJson();
  const begin = 256 + byteLevelMerges.length;
  const tokenizer = new HuggingFaceTokenizer(json, {
    config: { eos_token: "<|end|>", bos_token: { content: "<|begin|>", lstrip: false } },
  });
  const merged = (text: string) => 256 + byteLevelMerges.findIndex((merge) => merge.replace(" ", "") === text);
  const byte = (text: string) => [...Buffer.from(text)];

  test("knows its special tokens", () => {
    expect(tokenizer.vocabularySize).toBe(begin + 4);
    expect(tokenizer.endOfText).toBe(begin + 1);
    expect(tokenizer.beginningOfText).toBe(begin);
  });

  // Derived by hand: "hello" merges h+e, l+l, he+ll, hell+o; " world" merges Ġ+w, o+r, Ġw+or, l+d.
  test.each<[string, number[]]>([
    ["", []],
    ["hello", [merged("hello")]],
    ["hello world", [merged("hello"), merged("Ġwor"), merged("ld")]],
    ["ehllo", [...byte("e"), ...byte("h"), merged("ll"), ...byte("o")]],
    ["hé", [...byte("h"), merged("Ã©")]],
    ["è", byte("è")],
    ["a\ud800", [...byte("a"), ...byte("\ufffd")]],
  ])("encodes %j", (text, ids) => {
    expect([...tokenizer.encode(text, { addSpecialTokens: false })]).toEqual(ids);
    expect([...tokenizer.encode(text)]).toEqual([begin, ...ids]);
  });

  test("finds special tokens in a text only on request, and other added tokens always", () => {
    const text = "<|user|>hello<|end|><tool>";
    expect([...tokenizer.encode(text, { special: true })]).toEqual([
      begin,
      begin + 2,
      merged("hello"),
      begin + 1,
      begin + 3,
    ]);
    const plain = [...tokenizer.encode(text)].slice(1);
    expect(plain.filter((id) => id >= begin)).toEqual([begin + 3]);
    expect(tokenizer.decode(plain)).toBe(text);
  });

  test("shows special tokens only on request", () => {
    const ids = [begin, merged("hello"), begin + 1];
    expect(tokenizer.decode(ids)).toBe("hello");
    expect(tokenizer.decode(ids, { special: true })).toBe("<|begin|>hello<|end|>");
  });

  test("decodes what it encodes, as the library does", () => {
    const oracle = oracleOf(json);
    fc.assert(
      fc.property(anyText, (text) => {
        const ids = [...tokenizer.encode(text, { addSpecialTokens: false })];
        expect(tokenizer.decode(ids)).toBe(wellFormed(text));
        if (ids.length > 0) expect(oracle.decode(ids, asLibrary)).toBe(wellFormed(text));
      }),
    );
  });

  test("streams whole characters, whatever the ids", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(tokenizer.vocabularySize - 1)), anyText, (numbers, text) => {
        const ids = [...tokenizer.encode(text), ...numbers];
        const stream = tokenizer.stream();
        const parts = ids.map((id) => stream.push(id));
        for (const part of parts) expect(wellFormed(part)).toBe(part);
        const joined = parts.join("") + stream.end();
        expect(joined).toBe(tokenizer.decode(ids));
        expect(joined).toBe(Buffer.from(ids.flatMap((id) => bytesOf(id))).toString());
      }),
    );
    /** Returns the bytes of a token, from the vocabulary of the fixture. */
    function bytesOf(id: number): number[] {
      const entry = Object.entries(json.model.vocab).find(([, value]) => value === id);
      if (!entry) return id === begin + 3 ? byte("<tool>") : [];
      return Array.from(entry[0], (character) => {
        for (let b = 0; b < 256; b++) if (byteCharacter(b) === character) return b;
        throw new Error(character);
      });
    }
  });

  test("keeps a character until its last byte has arrived", () => {
    const stream = tokenizer.stream();
    const parts = byte("日").map((id) => stream.push(id));
    expect(parts).toEqual(["", "", "日"]);
    expect(stream.push(byte("日")[0]!)).toBe("");
    expect(stream.end()).toBe("\ufffd");
  });

  test.each(["hello ", "日", " "])("encodes a long run of %j in time", (unit) => {
    const text = unit.repeat(100_000);
    const started = performance.now();
    const ids = tokenizer.encode(text);
    expect(performance.now() - started).toBeLessThan(20_000);
    expect(tokenizer.decode(ids)).toBe(text);
  });

  test("refuses ids outside the vocabulary", () => {
    for (const id of [-1, tokenizer.vocabularySize, 0.5, NaN])
      expectError(() => tokenizer.decode([id]), "ERR_RANGE", new RegExp(`expected an id .* got ${id}`));
  });

  test("can be restored from JSON", async () => {
    const copy = await tokenizerFromJSON(JSON.parse(JSON.stringify(tokenizer)));
    expect(copy.encode("hello wörld")).toEqual(tokenizer.encode("hello wörld"));
    expect(copy.endOfText).toBe(tokenizer.endOfText);
    expect(copy.toJSON()).toEqual(tokenizer.toJSON());
  });

  test("reads files of older kinds: no type, merges in pairs", () => {
    const { type: _, ...model } = json.model;
    const pairs = model.merges.map((merge) => merge.split(" "));
    const older = new HuggingFaceTokenizer({ ...json, model });
    const newer = new HuggingFaceTokenizer({ ...json, model: { ...json.model, merges: pairs } });
    for (const other of [older, newer]) expect(other.encode("hello world")).toEqual(tokenizer.encode("hello world"));
  });

  test("bytePieces is the rule of the fixture", () => {
    expect(bytePieces(" é\n")).toBe("ĠÃ©Ċ");
  });
});

describe("WordPiece", () => {
  const json = wordPieceJson();
  const tokenizer = new HuggingFaceTokenizer(json);
  const id = (piece: string) => Object.entries(json.model.vocab).find(([token]) => token === piece)![1];

  // Derived by hand: the longest piece from the left, "##" inside a word, and the whole word is unknown if its rest is.
  test.each<[string, string[]]>([
    ["", []],
    ["unaffable", ["un", "##aff", "##able"]],
    ["Café.", ["cafe", "."]],
    ["unaffx cafes", ["[UNK]", "cafe", "##s"]],
    ["[SEP]", ["[UNK]", "[UNK]", "[UNK]"]],
  ])("encodes %j", (text, pieces) => {
    const ids = [...tokenizer.encode(text)];
    expect(ids).toEqual([id("[CLS]"), ...pieces.map(id), id("[SEP]")]);
  });

  test("finds special tokens on request", () => {
    expect([...tokenizer.encode("un[SEP]", { special: true, addSpecialTokens: false })]).toEqual([
      id("un"),
      id("[SEP]"),
    ]);
  });

  test("decodes words with spaces in between, and none before punctuation, as the library does", () => {
    const oracle = oracleOf(json);
    const ids = [...tokenizer.encode("unaffable cafes.")];
    expect(tokenizer.decode(ids)).toBe("unaffable cafes.");
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 4, max: tokenizer.vocabularySize - 1 }), { minLength: 1 }), (ids) => {
        expect(tokenizer.decode(ids)).toBe(oracle.decode(ids, asLibrary));
      }),
    );
  });
});

describe("Unigram", () => {
  const json = unigramJson();
  const tokenizer = new HuggingFaceTokenizer(json, { config: { eos_token: "</s>" } });
  const encode = (text: string) =>
    [...tokenizer.encode(text, { addSpecialTokens: false })].map((id) => json.model.vocab[id]![0]);

  // Derived by hand: of all ways to split the text after its "▁", the one with the largest sum of scores; the cases
  // have no ties.
  test.each<[string, string[]]>([
    ["a", ["\u2581a"]],
    // ▁ + bc = -6, ▁ + b + c = -7.5
    ["bc", ["\u2581", "bc"]],
    ["ca", ["\u2581", "c", "a"]],
    ["c a", ["\u2581", "c", "\u2581a"]],
    // ▁ + c + ab + c = -8; with a + bc, -12
    ["cabc", ["\u2581", "c", "ab", "c"]],
    ["x", ["\u2581", "<unk>"]],
  ])("encodes %j", (text, pieces) => {
    expect(encode(text)).toEqual(pieces);
  });

  test("ends a text, and finds special tokens in it only on request", () => {
    expect(tokenizer.encode("a").at(-1)).toBe(2);
    expect([...tokenizer.encode("a</s>")].filter((id) => id === 2)).toHaveLength(1);
    expect([...tokenizer.encode("a</s>", { special: true })]).toEqual([4, 2, 2]);
  });

  test("decodes as the library does", () => {
    const oracle = oracleOf(json);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 3, max: tokenizer.vocabularySize - 1 }), { minLength: 1 }), (ids) => {
        expect(tokenizer.decode(ids)).toBe(oracle.decode(ids, asLibrary));
      }),
    );
  });

  test("encodes unknown characters as bytes, if the vocabulary has them", () => {
    const bytes = new HuggingFaceTokenizer(unigramJson(true));
    const first = 11;
    const ids = [...bytes.encode("cé", { addSpecialTokens: false })];
    expect(ids).toEqual([3, 10, first + 0xc3, first + 0xa9]);
    const stream = bytes.stream();
    expect(ids.map((id) => stream.push(id))).toEqual(["", "c", "", "é"]);
    // Names of hidden tokens begin with the first surrogate of U+10000.
    expect(bytes.decode(bytes.encode("\u{10000}1"))).toBe("\u{10000}1");
    fc.assert(
      fc.property(anyText, (text) => {
        // The pieces of the fixture treat U+2581 as a space.
        const plain = wellFormed(text).replaceAll("\u2581", "").replace(/^ +/, "");
        expect(bytes.decode(bytes.encode(plain))).toBe(plain);
      }),
    );
  });

  test("drops one space at the beginning of a text, not of its parts", () => {
    const stream = tokenizer.stream();
    expect([4, 4, 3, 4].map((id) => stream.push(id))).toEqual(["a", " a", " ", " a"]);
    const bytes = new HuggingFaceTokenizer(unigramJson(true)).stream();
    expect([3, 4, 5].map((id) => bytes.push(id))).toEqual(["", " a", "b"]);
  });

  test("without a prefix if Metaspace has none, under either name", () => {
    for (const part of [{ add_prefix_space: false }, { prepend_scheme: "never" }]) {
      const metaspace = { type: "Metaspace", replacement: "\u2581", ...part };
      const other = new HuggingFaceTokenizer({ ...json, pre_tokenizer: metaspace, decoder: metaspace });
      const ids = other.encode("c a", { addSpecialTokens: false });
      expect([...ids]).toEqual([10, 4]);
      expect(other.decode(ids)).toBe("c a");
      expect(other.decode([4])).toBe(" a");
    }
  });
});

describe("pairs of texts", () => {
  const token = (id: string, type_id: number) => ({ SpecialToken: { id, type_id } });
  const text = (id: string, type_id: number) => ({ Sequence: { id, type_id } });
  const json = wordPieceJson();
  const single = [token("[CLS]", 0), text("A", 0), token("[SEP]", 0)];
  const pair = [...single, text("B", 1), token("[SEP]", 1)];
  const bert = new HuggingFaceTokenizer({ ...json, post_processor: { ...json.post_processor, single, pair } });
  const encoded = (a: string, b: string, options: object = {}) => {
    const { ids, tokenTypes } = bert.encodePair(a, b, options);
    return [bert.decode(ids, { special: true }), [...tokenTypes].join("")];
  };

  test("have special tokens between them, and types", () => {
    expect(encoded("cafe.", "aff")).toEqual(["[CLS] cafe. [SEP] aff [SEP]", "0000" + "11"]);
    expect(encoded("", "aff")).toEqual(["[CLS] [SEP] aff [SEP]", "00" + "11"]);
    expect(encoded("cafe", "aff", { addSpecialTokens: false })).toEqual(["cafe aff", "01"]);
  });

  test("the longer text is cut first", () => {
    const cafes = (count: number): string => Array<string>(count).fill("cafe").join(" ");
    const remaining = (a: number, b: number, maxLength: number) => {
      const [, types] = encoded(cafes(a), cafes(b), { maxLength });
      return [types!.lastIndexOf("0") - 1, types!.length - types!.lastIndexOf("0") - 2];
    };
    expect(remaining(2, 9, 10)).toEqual([2, 5]);
    expect(remaining(9, 2, 10)).toEqual([5, 2]);
    expect(remaining(9, 8, 10)).toEqual([4, 3]);
    expect(remaining(8, 9, 10)).toEqual([3, 4]);
    expect(remaining(9, 9, 10)).toEqual([3, 4]);
    expect(remaining(9, 9, 3)).toEqual([0, 0]);
    expectError(() => encoded("a", "b", { maxLength: 2 }), "ERR_RANGE", /encodePair: expected maxLength .+ got 2/);
  });

  test("of a tokenizer whose configuration asks for a token at the beginning", () => {
    const config = { add_bos_token: true, bos_token: "[CLS]" };
    const own = new HuggingFaceTokenizer({ ...json, post_processor: null }, { config });
    const { ids, tokenTypes } = own.encodePair("cafe", "aff");
    expect(own.decode(ids, { special: true })).toBe("[CLS] cafe [CLS] aff");
    expect([...tokenTypes]).toEqual([0, 0, 1, 1]);
  });

  test("need a template", () => {
    const own = new HuggingFaceTokenizer(json);
    expectError(() => own.encodePair("a", "b"), "ERR_ARGUMENT", /pairs of texts are encoded \(post_processor\.pair\)/);
  });
});

describe("chat templates", () => {
  const template =
    "{{ bos_token }}{% for m in messages %}{{ '<|user|>' if m.role == 'user' else '' }}{{ m.content }}{{ eos_token }}{% endfor %}" +
    "{% if add_generation_prompt %}<tool>{% endif %}";
  const config = { bos_token: "<|begin|>", eos_token: "<|end|>", chat_template: template };
  const tokenizer = new HuggingFaceTokenizer(byteLevelJson(), { config });
  const begin = 256 + byteLevelMerges.length;
  const hello = 256 + byteLevelMerges.indexOf("hell o");

  test("become text and ids", () => {
    const messages = [{ role: "user", content: "hello" }];
    expect(tokenizer.chatTemplate!.render(messages)).toBe("<|begin|><|user|>hello<|end|><tool>");
    expect([...tokenizer.encodeChat(messages)]).toEqual([begin, begin + 2, hello, begin + 1, begin + 3]);
    expect(tokenizer.chatTemplate!.render(messages, { addGenerationPrompt: false })).not.toContain("<tool>");
    expect(new HuggingFaceTokenizer(byteLevelJson(), { config, chatTemplate: "{{ x }}" }).chatTemplate!.source).toBe(
      "{{ x }}",
    );
    const named = { ...config, chat_template: [{ name: "default", template: "d{{ tools }}" }] };
    const other = new HuggingFaceTokenizer(byteLevelJson(), { config: named });
    expect(other.chatTemplate!.render(messages, { tools: ["t"] })).toMatch(/^d.*t/s);
  });

  test("refuse invalid input", () => {
    const strict = new HuggingFaceTokenizer(byteLevelJson(), {
      chatTemplate: "{{ raise_exception('roles must alternate') }}",
    });
    expectError(
      () => strict.encodeChat([{ role: "user", content: "" }]),
      "ERR_ARGUMENT",
      /expected .*roles must alternate/,
    );
    expectError(() => tokenizer.encodeChat([]), "ERR_ARGUMENT");
    expectError(() => tokenizer.encodeChat([{} as { role: string; content: string }]), "ERR_ARGUMENT");
    expectError(
      () => new HuggingFaceTokenizer(byteLevelJson()).encodeChat([{ role: "user", content: "" }]),
      "ERR_ARGUMENT",
    );
    expectError(
      () => new HuggingFaceTokenizer(byteLevelJson(), { chatTemplate: "{% if %}" }),
      "ERR_FORMAT",
      /expected a Jinja/,
    );
    expectError(() => new HuggingFaceTokenizer(byteLevelJson(), { config: { chat_template: 3 } }), "ERR_FORMAT");
    expectError(() => new HuggingFaceTokenizer(byteLevelJson(), { config: null! }), "ERR_FORMAT");
  });
});

describe("folders", () => {
  const write = (name: string, value: unknown) =>
    writeFileSync(path.join(folder, name), typeof value === "string" ? value : JSON.stringify(value));

  test("need a tokenizer.json", async () => {
    await expectRejection(HuggingFaceTokenizer.fromFolder(folder), "ERR_IO", /tokenizer\.json/);
  });

  test("may have a configuration and a template", async () => {
    write("tokenizer.json", byteLevelJson());
    expect((await HuggingFaceTokenizer.fromFolder(folder)).endOfText).toBeNull();
    write("tokenizer_config.json", { eos_token: "<|end|>", chat_template: "a" });
    write("chat_template.jinja", "b");
    const tokenizer = await HuggingFaceTokenizer.fromFolder(folder);
    expect(tokenizer.endOfText).toBe(256 + byteLevelMerges.length + 1);
    expect(tokenizer.chatTemplate!.source).toBe("b");
  });

  test("with damaged files throw ERR_FORMAT", async () => {
    write("tokenizer_config.json", "[]");
    await expectRejection(HuggingFaceTokenizer.fromFolder(folder), "ERR_FORMAT", /tokenizer_config/);
    write("tokenizer_config.json", "{}");
    write("tokenizer.json", '{"model": {}}');
    await expectRejection(
      HuggingFaceTokenizer.fromFolder(folder),
      "ERR_FORMAT",
      /tokenizer\.json: .*expected model\.type/,
    );
    write("tokenizer.json", "{");
    await expectRejection(HuggingFaceTokenizer.fromFolder(folder), "ERR_FORMAT", /tokenizer\.json: expected JSON/);
  });
});

const model = byteLevelJson().model;
test.each<[string, unknown]>([
  ["nothing", null],
  ["a list", []],
  ["no model", {}],
  ["an unknown model", { model: { ...model, type: "Other" } }],
  ["a vocabulary that is none", { model: { ...model, vocab: 1 } }],
  ["an id that is none", { model: { ...model, vocab: { a: -1 } } }],
  ["an id too large", { model: { ...model, vocab: { a: 2 ** 31 } } }],
  ["no merges", { model: { ...model, merges: undefined } }],
  ["pieces that are none", { model: { type: "Unigram", unk_id: 0, vocab: [["a"]] } }],
  ["added tokens that are none", { model, added_tokens: 1 }],
  ["an added token without text", { model, added_tokens: [{ id: 1 }] }],
  ["an unknown decoder", { model, decoder: { type: "CTC" } }],
  ["an unknown decoder in a sequence", { model, decoder: { type: "Sequence", decoders: [null] } }],
  ["decoders in no list", { model, decoder: { type: "Sequence", decoders: {} } }],
  [
    "an end to strip",
    { model, decoder: { type: "Sequence", decoders: [{ type: "Fuse" }, { type: "Strip", stop: 1 }] } },
  ],
  ["an unknown pre-tokenizer", { model, pre_tokenizer: { type: "Other" } }],
])("refuses a tokenizer.json with %s", (_, json) => {
  expectError(() => new HuggingFaceTokenizer(json), "ERR_FORMAT", /expected /);
});
