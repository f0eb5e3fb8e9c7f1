import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { tokenizerFromJSON } from "../../lib/tokenizer/from-json.js";
import { Llama2cTokenizer } from "../../lib/tokenizer/llama2c-tokenizer.js";
import { expectRejection } from "../support/errors.js";
import { sharedFolder } from "../support/folder.js";
import { noShared, sharedModel } from "../support/shared.js";
import { describeUnless } from "../support/skip.js";

const folder = sharedFolder();
const file = path.join(folder, "tokenizer.bin");

type Entry = [text: string, score: number];
const bytes: Entry[] = Array.from({ length: 256 }, (_, byte) => [
  `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
  0,
]);
const small: Entry[] = [
  ["<unk>", 0],
  ["\n<s>\n", 0],
  ["\n</s>\n", 0],
  ...bytes,
  [" a", -1],
  ["ab", -2],
  ["bc", -3],
  ["abc", -4],
  [" ", -10],
  ["a", -11],
  ["b", -12],
  ["c", -13],
  ["é", -14],
];

function fileOf(entries: readonly Entry[], longest = Math.max(...entries.map(([text]) => Buffer.byteLength(text)))) {
  const head = Buffer.alloc(4);
  head.writeInt32LE(longest);
  const parts = entries.map(([text, score]) => {
    const part = Buffer.alloc(8 + Buffer.byteLength(text));
    part.writeFloatLE(score, 0);
    part.writeInt32LE(part.length - 8, 4);
    part.write(text, 8);
    return part;
  });
  return Buffer.concat([head, ...parts]);
}

async function tokenizerOf(entries: readonly Entry[]): Promise<Llama2cTokenizer> {
  writeFileSync(file, fileOf(entries));
  return Llama2cTokenizer.fromFile(file);
}

/** The algorithm as it is usually described, with a search over all pairs for every merge. */
function naive(entries: readonly Entry[], text: string): number[] {
  if (text === "") return [];
  const find = (piece: string) => entries.findIndex(([entry]) => entry === piece);
  const ids = Array.from(` ${text}`).flatMap((character) => {
    const id = find(character);
    return id >= 0 ? [id] : Array.from(Buffer.from(character), (byte) => 3 + byte);
  });
  for (;;) {
    let best = { at: -1, id: -1, score: -Infinity };
    for (let at = 0; at + 1 < ids.length; at++) {
      const id = find(entries[ids[at]!]![0] + entries[ids[at + 1]!]![0]);
      if (id >= 0 && entries[id]![1] > best.score) best = { at, id, score: entries[id]![1] };
    }
    if (best.at < 0) return ids;
    ids.splice(best.at, 2, best.id);
  }
}

describe("by hand", () => {
  const id = (piece: string) => small.findIndex(([text]) => text === piece);

  test.each<[string, number[]]>([
    ["", []],
    // " a" is merged before "ab".
    ["ab", [id(" a"), id("b")]],
    ["bab", [id(" "), id("b"), id("ab")]],
    ["babc", [id(" "), id("b"), id("abc")]],
    ["é", [id(" "), id("é")]],
    ["x日", [id(" "), 3 + 0x78, 3 + 0xe6, 3 + 0x97, 3 + 0xa5]],
    ["a\ud800", [id(" a"), 3 + 0xef, 3 + 0xbf, 3 + 0xbd]],
  ])("%j", async (text, ids) => {
    const tokenizer = await tokenizerOf(small);
    expect([...tokenizer.encode(text, { begin: false })]).toEqual(ids);
    expect([...tokenizer.encode(text)]).toEqual([1, ...ids]);
    expect(tokenizer.decode([1, ...ids, 2])).toBe(Buffer.from(text).toString());
  });

  test("the first token loses one space, and those after it none", async () => {
    const stream = (await tokenizerOf(small)).stream();
    expect([1, id(" a"), id(" a"), id(" ")].map((token) => stream.push(token))).toEqual(["", "a", " a", " "]);
  });

  test("can be restored from JSON", async () => {
    const tokenizer = await tokenizerOf(small);
    const copy = await tokenizerFromJSON(JSON.parse(JSON.stringify(tokenizer)));
    expect(copy.encode("babc 日")).toEqual(tokenizer.encode("babc 日"));
    expect(copy.toJSON()).toEqual(tokenizer.toJSON());
  });
});

describe("damaged files", () => {
  const whole = fileOf(small);
  test.each<[string, Uint8Array, RegExp]>([
    ["an empty one", Buffer.alloc(0), /expected at least 4 bytes, got 0/],
    ["one cut in a token", whole.subarray(0, whole.length - 1), /truncated/],
    ["one cut in a token's length", whole.subarray(0, 4 + 6), /truncated/],
    ["a token longer than the longest", fileOf(small, 3), /expected a token of 0 to 3 bytes/],
    ["no bytes", fileOf(small.slice(0, 100)), /expected token 100 to be <0x61>, got "none"/],
    ["bytes elsewhere", fileOf(small.slice(1)), /expected token 3 to be <0x00>/],
  ])("%s", async (_, content, message) => {
    writeFileSync(file, content);
    await expectRejection(Llama2cTokenizer.fromFile(file), "ERR_FORMAT", message);
  });

  test("a file that does not exist", async () => {
    await expectRejection(Llama2cTokenizer.fromFile(path.join(folder, "none")), "ERR_IO", /none/);
  });

  test("JSON", async () => {
    for (const tokens of [undefined, [1], [["a", 1]]])
      await expectRejection(tokenizerFromJSON({ type: "llama2c", tokens }), "ERR_FORMAT");
  });
});

const stories = sharedModel("stories260K");
describeUnless(!stories && noShared)("stories260K", async () => {
  const source = stories ? path.join(stories, "tok512.bin") : "";
  const tokenizer = stories ? await Llama2cTokenizer.fromFile(source) : null!;
  const entries: Entry[] = stories ? entriesOf(readFileSync(source)) : [];

  test("has 512 tokens", () => {
    expect(tokenizer.vocabularySize).toBe(512);
    expect([...tokenizer.encode("")]).toEqual([1]);
  });

  test("decodes what it encodes, and encodes by the described algorithm", () => {
    const words = fc.constantFrom(
      "Once upon a time, ",
      "Lily",
      "there was",
      " ",
      "\n",
      "é",
      "日本",
      "the",
      '"Hi!"',
      "x",
    );
    fc.assert(
      fc.property(
        fc.array(fc.oneof(words, fc.string({ unit: "grapheme", maxLength: 5 })), { maxLength: 8 }),
        (parts) => {
          const text = parts.join("");
          const ids = tokenizer.encode(text, { begin: false });
          expect([...ids]).toEqual(naive(entries, text));
          expect(tokenizer.decode(ids)).toBe(Buffer.from(text).toString());
        },
      ),
    );
  });

  test("the published text, whole and as a stream", () => {
    const text = readFileSync(path.join(stories!, "EXPECTED_greedy.txt"), "utf8");
    const ids = [...tokenizer.encode(text)];
    expect(ids.slice(1)).toEqual(naive(entries, text));
    const stream = tokenizer.stream();
    expect(ids.map((id) => stream.push(id)).join("") + stream.end()).toBe(text);
    expect(ids.length).toBeLessThan(text.length / 2);
  });

  test("encodes a long text in time", () => {
    const text = "there was a little girl ".repeat(20_000);
    const started = performance.now();
    const ids = tokenizer.encode(text);
    expect(performance.now() - started).toBeLessThan(20_000);
    expect(tokenizer.decode(ids)).toBe(text);
  });

  function entriesOf(content: Buffer): Entry[] {
    const list: Entry[] = [];
    for (let at = 4; at < content.length;) {
      const length = content.readInt32LE(at + 4);
      list.push([content.toString("utf8", at + 8, at + 8 + length), content.readFloatLE(at)]);
      at += 8 + length;
    }
    return list;
  }
});
