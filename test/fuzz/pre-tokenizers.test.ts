/**
 * Compares the ways in which GGUF files' byte-level tokenizers cut texts with Hugging Face's library in Rust, which gets
 * the same expressions, and with llama.cpp, which knows the names alone.
 */
import path from "node:path";
import { Tokenizer as Rust } from "@anush008/tokenizers";
import fc from "fast-check";
import { expect } from "vitest";
import { type GgufInputValue, writeGguf } from "../../lib/formats/write-gguf.js";
import type { GgufValue } from "../../lib/formats/gguf-values.js";
import { GgufMetadata } from "../../lib/pretrained/gguf/metadata.js";
import { tokenizerOfGguf } from "../../lib/pretrained/gguf/tokenizer.js";
import { known } from "../../lib/tokenizer/byte-level-pieces.js";
import { sharedFolder } from "../support/folder.js";
import { llamaTokenize, noLlamaCpp } from "../support/llama-cpp.js";
import { fuzz } from "./fuzz.js";

/** The characters of bytes in byte-level vocabularies, in the order of the bytes. */
const bytes = ((): string[] => {
  const printed = /[!-~¡-¬®-ÿ]/;
  let other = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const own = String.fromCharCode(byte);
    return printed.test(own) ? own : String.fromCharCode(other++);
  });
})();

/** Returns the metadata of a tokenizer in which every part of a text, up to a length, is a token that merges reach. */
function metadataOf(pre: string, text: string): Map<string, GgufInputValue> {
  const written = Array.from(Buffer.from(text), (byte) => bytes[byte]!);
  const merges = new Set<string>();
  for (let length = 2; length <= 12; length++)
    for (let at = 0; at + length <= written.length; at++)
      for (let cut = 1; cut < length; cut++)
        merges.add([written.slice(at, at + cut).join(""), written.slice(at + cut, at + length).join("")].join(" "));
  const tokens = [...new Set([...bytes, ...[...merges].map((merge) => merge.replace(" ", ""))]), "<s>"];
  const id = { type: "u32", value: tokens.length - 1 } as const;
  return new Map<string, GgufInputValue>([
    ["general.architecture", { type: "string", value: "llama" }],
    ["tokenizer.ggml.model", { type: "string", value: "gpt2" }],
    ["tokenizer.ggml.pre", { type: "string", value: pre }],
    ["tokenizer.ggml.tokens", { type: "strings", value: tokens }],
    ["tokenizer.ggml.token_type", { type: "i32s", value: tokens.map((_, i) => (i === id.value ? 3 : 1)) }],
    ["tokenizer.ggml.merges", { type: "strings", value: [...merges] }],
    ["tokenizer.ggml.bos_token_id", id],
    ["tokenizer.ggml.eos_token_id", id],
  ]);
}

function tokenizerOf(metadata: ReadonlyMap<string, GgufInputValue>) {
  const values = [...metadata].map(([key, { value }]): [string, GgufValue] => {
    return [key, typeof value === "object" ? Array.from<string | number>(value) : value];
  });
  return tokenizerOfGguf(new GgufMetadata("a.gguf", new Map(values)));
}

const pieceOf = (...pieces: string[]): fc.Arbitrary<string> =>
  fc.array(fc.constantFrom(...pieces), { minLength: 1, maxLength: 14 }).map((list) => list.join("").slice(0, 24));
const latin = [
  "a",
  "B",
  "don't",
  "IT'S",
  "'ll",
  " ",
  "  ",
  "\n",
  "\r\n",
  "\t",
  "1",
  "23",
  "456",
  "!",
  ".",
  "/",
  "$",
  "_",
];
const scripts = [
  "é",
  "ß",
  "Ж",
  "ж",
  "漢字",
  "かな",
  "カ",
  "한",
  "ㄅ",
  "א",
  "ع",
  "ก",
  "अ",
  "ि",
  "Ա",
  "ա",
  "ა",
  "𝐀",
  "ǅ",
  "ʰ",
];
const others = [
  "😀",
  "👍🏽",
  "²",
  "½",
  "Ⅷ",
  "٣",
  "、",
  "！",
  "Ａ",
  "…",
  "“",
  "€",
  "\u00a0",
  "\u3000",
  "\u0301",
  "ﬁ",
  "\u2028",
];
const names = fc.constantFrom(...Object.keys(known));

fuzz(
  "GGUF's pre-tokenizers cut as Rust's expressions do",
  fc.tuple(names, pieceOf(...latin, ...scripts, ...others)),
  { ci: 150, nightly: 20_000 },
  async ([pre, text]) => {
    const own = (await tokenizerOf(metadataOf(pre, text.normalize("NFC"))))!;
    const rust = Rust.fromString(JSON.stringify(own.toJSON().tokenizer));
    const encoded = await rust.encode(text, null, { addSpecialTokens: false });
    expect([...own.encode(text, { addSpecialTokens: false })]).toEqual(encoded.getIds());
  },
);

/** Names that the pinned release of llama.cpp does not know yet, or for which it takes capitals and others alike. */
const different = new Set(["hy_v4", "spark2_5", "ufakzeka", "youtu"]);
const folder = sharedFolder();

fuzz(
  "GGUF's pre-tokenizers cut as llama.cpp does",
  // llama.cpp replaces properties of Unicode that its expressions cannot have, so the texts are of ASCII.
  fc.tuple(
    fc.constantFrom(...Object.keys(known).filter((name) => !different.has(name))),
    fc.array(pieceOf(...latin), { minLength: 10, maxLength: 10 }),
  ),
  { ci: 10, nightly: 500, unless: noLlamaCpp },
  async ([pre, texts]) => {
    const metadata = metadataOf(pre, texts.join("\0"));
    const own = (await tokenizerOf(metadata))!;
    const file = path.join(folder, "a.gguf");
    await writeGguf(file, metadata, []);
    const ids = texts.map((text) => [...own.encode(text, { addSpecialTokens: false })]);
    expect(await llamaTokenize(file, texts)).toEqual(ids);
  },
);
