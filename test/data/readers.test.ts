/** Readers of files: what other programs wrote, blocks of every size, and malformed input. */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { parquetWriteBuffer } from "hyparquet-writer";
import { describe, expect, test } from "vitest";
import { documentsOf } from "../../lib/data/block-text.js";
import { type Block, blocksOf } from "../../lib/data/blocks.js";
import { findInputs } from "../../lib/data/inputs.js";
import { readRecords, type ReadRecordsOptions } from "../../lib/data/read-records.js";
import { expectRejection } from "../support/errors.js";
import { sharedFolder } from "../support/folder.js";

const fixtures = fileURLToPath(new URL("../fixtures/data", import.meta.url));
const folder = sharedFolder();
const texts = ['Call me "Ishmael".', "Some years ago,\nnever mind how long", "naïve — 東京 💡", "comma, separated"];

async function all<T>(values: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const value of values) list.push(value);
  return list;
}

const file = (name: string, content: string | Uint8Array): string => {
  const at = path.join(folder, name);
  mkdirSync(path.dirname(at), { recursive: true });
  writeFileSync(at, content);
  return at;
};

const read = (input: string | string[], options?: ReadRecordsOptions) => all(readRecords(input, options));

describe("files of other programs", () => {
  test.each(["texts.csv", "texts.tsv", "texts.jsonl", "texts.jsonl.gz", "texts.jsonl.zst"])("%s", async (name) => {
    expect(await read(path.join(fixtures, name))).toEqual(texts.map((text) => ({ text })));
  });

  const chat = [
    { role: "user", content: "Hi" },
    { role: "assistant", content: "Hello!" },
  ];

  test.each(["UNCOMPRESSED", "SNAPPY"] as const)("Parquet, %s", async (codec) => {
    const bytes = parquetWriteBuffer({
      columnData: [
        { name: "id", data: [0, 1, 2, 3], type: "INT32" },
        { name: "body", data: texts, type: "STRING" },
      ],
      codec,
      rowGroupSize: 3,
    });
    const at = file(`${codec}.parquet`, new Uint8Array(bytes));
    expect(await read(at, { textColumn: "body" })).toEqual(texts.map((text) => ({ text })));
    await expectRejection(read(at), "ERR_FORMAT", /expected a column text, messages, .+, got id, body/);
    const { size } = (await findInputs(at))[0]!;
    await expectRejection(
      read(file("short.parquet", new Uint8Array(bytes).subarray(0, size - 9))),
      "ERR_FORMAT",
      /short\.parquet: expected a Parquet file, got: /,
    );
  });

  test("conversations and pairs in tables", async () => {
    const pair = { prompt: "Hi", chosen: "Hello!", rejected: "Go away." };
    const bytes = parquetWriteBuffer({
      columnData: [{ name: "messages", data: [chat, chat], type: "JSON" }],
    });
    expect(await read(file("chats.parquet", new Uint8Array(bytes)))).toEqual(
      [chat, chat].map((messages) => ({ messages, tools: null })),
    );
    const quoted = JSON.stringify(chat).replaceAll('"', '""');
    const csv = `messages,prompt,chosen,rejected\n"${quoted}",,,\n,Hi,Hello!,Go away.\n`;
    expect(await read(file("mixed.csv", csv))).toEqual([{ messages: chat, tools: null }, pair]);
    const lines = [
      { ...pair, chosen: chat, rejected: chat },
      { chosen: chat, rejected: chat },
    ];
    expect(await read(file("pairs.jsonl", lines.map((line) => JSON.stringify(line)).join("\n")))).toEqual([
      { prompt: [], chosen: chat, rejected: chat, tools: null },
      { prompt: [], chosen: chat, rejected: chat, tools: null },
    ]);
  });
});

describe("inputs", () => {
  test("files, folders and patterns are sorted, and a file counts once", async () => {
    for (const name of ["b/2.jsonl", "b/10.jsonl.gz", "a.txt", "b/notes.pdf"]) file(`in/${name}`, "");
    const found = async (input: string | string[]) =>
      (await findInputs(input)).map(({ path: at }) => path.relative(path.join(folder, "in"), at));
    expect(await found(path.join(folder, "in"))).toEqual(["a.txt", "b/10.jsonl.gz", "b/2.jsonl"]);
    expect(await found(path.join(folder, "in/b/*.jsonl"))).toEqual(["b/2.jsonl"]);
    const inputs = [path.join(folder, "in/b/2.jsonl"), path.join(folder, "in/**/*.{txt,jsonl}")];
    expect(await found(inputs)).toEqual(["b/2.jsonl", "a.txt"]);
    await expectRejection(found(path.join(folder, "in/*.csv")), "ERR_IO", /expected files that match/);
    await expectRejection(found(path.join(folder, "in/b/notes.pdf")), "ERR_FORMAT", /expected a file with data/);
    await expectRejection(found(path.join(folder, "nothing")), "ERR_IO", /got no such file or folder/);
    await expectRejection(found([]), "ERR_ARGUMENT", /expected paths/);
    await expectRejection(found(["hf:nothing"]), "ERR_ARGUMENT", /expected hf:owner\/name/);
  });
});

describe("malformed input", () => {
  test("bad lines are reported with their file and line, up to a limit", async () => {
    const bytes = Buffer.concat([
      Buffer.from('\ufeff{"text": "a"}\r\n\n{"text": 3}\n{"text":\n'),
      Buffer.from([0x7b, 0xff, 0x7d, 10]),
      Buffer.from('[1]\n{"text": "b"}'),
    ]);
    const at = file("bad.jsonl", bytes);
    const bad: string[] = [];
    const onBadLine = (line: { file: string; line: number; message: string }) =>
      bad.push(`${line.file === at} ${line.line} ${line.message}`);
    expect(await read(at, { maxBadLines: 4, onBadLine })).toEqual([{ text: "a" }, { text: "b" }]);
    expect(bad.sort()).toEqual([
      expect.stringMatching(/^true 3 expected an object with messages/),
      expect.stringMatching(/^true 4 .*JSON/),
      "true 5 expected UTF-8, got other bytes",
      "true 6 expected an object, got an array of 1",
    ]);
    await expectRejection(
      read(at, { maxBadLines: 3 }),
      "ERR_FORMAT",
      /bad\.jsonl:\d: .+ \(expected at most 3 bad lines/,
    );
    await expectRejection(read(at), "ERR_FORMAT", /got 1 line\)/);
  });

  test("rows of CSV with other numbers of cells", async () => {
    const at = file("bad.csv", 'text,id\na,1\nb\n"c\nc",2\nd,3,4\ne,5\n');
    const bad: number[] = [];
    const records = await read(at, { maxBadLines: 2, onBadLine: ({ line }) => bad.push(line) });
    expect(records).toEqual(["a", "c\nc", "e"].map((text) => ({ text })));
    expect(bad).toEqual([3, 6]);
    await expectRejection(read(file("empty.csv", "")), "ERR_FORMAT", /expected a line of column names/);
    await expectRejection(read(file("open.csv", 'text\n"a\n')), "ERR_FORMAT", /open\.csv/);
  });

  test("lines of text that are not UTF-8 are left out of their document", async () => {
    const at = file("latin.txt", Buffer.concat([Buffer.from("one\n"), Buffer.from([0xe9, 10]), Buffer.from("two\n")]));
    expect(await read(at, { maxBadLines: 1 })).toEqual([{ text: "one\ntwo\n" }]);
  });

  test.each(["gz", "zst"])("damaged .%s", async (extension) => {
    const whole = readFileSync(path.join(fixtures, `texts.jsonl.${extension}`));
    const short = file(`short.jsonl.${extension}`, whole.subarray(0, whole.length - 12));
    await expectRejection(read(short), "ERR_FORMAT", /short\.jsonl.+expected compressed data, got: /);
    const other = file(`other.jsonl.${extension}`, "This is no compressed file, but text.");
    await expectRejection(read(other), "ERR_FORMAT", /other\.jsonl.+expected compressed data, got: /);
  });

  test("options", async () => {
    await expectRejection(read(fixtures, { separator: "" }), "ERR_ARGUMENT", /separator/);
    await expectRejection(read(fixtures, { maxBadLines: -1 }), "ERR_RANGE", /maxBadLines/);
  });
});

describe("blocks", () => {
  const piece = fc.constantFrom("a", "é", "💡", " ", "\n", "\n\n", "\r\n", "word", "\u3000", "--");
  const content = fc.array(piece, { maxLength: 120 }).map((pieces) => pieces.join(""));

  /** Returns the blocks of a file from a place on. */
  async function blocks(at: string, options: Parameters<typeof blocksOf>[1], from?: Block["from"]): Promise<Block[]> {
    return all(blocksOf(await findInputs(at), options, from));
  }

  test("of text give the documents of the whole text, from whichever block they are read", async () => {
    await fc.assert(
      fc.asyncProperty(
        content,
        fc.integer({ min: 4, max: 60 }),
        fc.constantFrom(null, "\n", "\n\n", "--"),
        fc.boolean(),
        async (text, blockBytes, separator, packed) => {
          const at = packed ? file("text.txt.gz", gzipSync(text)) : file("text.txt", text);
          const options = { separator, textColumn: "text", blockBytes };
          const found = await blocks(at, options);
          const documents: string[] = [];
          let document = "";
          for (const [i, block] of found.entries()) {
            expect(block.from).toEqual(i === 0 ? { file: 0, offset: 0, line: 1, open: false } : found[i - 1]!.to);
            for (const part of documentsOf(block as Block & { kind: "text" }, separator, [])) {
              document += part.text;
              if (!part.ends) continue;
              documents.push(document);
              document = "";
            }
          }
          expect(document).toBe("");
          const expected = separator === null ? [text] : text.split(separator);
          const solid = (list: string[]) => list.filter((part) => part.trim() !== "");
          expect(solid(documents)).toEqual(solid(expected));
          for (const block of found.slice(1, 3))
            expect(await blocks(at, options, block.from)).toEqual(found.slice(found.indexOf(block)));
        },
      ),
      // Three line ends are one separator and one character.
      { numRuns: 60, examples: [["\n\n\naa", 4, "\n\n", false]] },
    );
  });

  test("of lines contain every line once", async () => {
    const line = fc.string({ maxLength: 30 }).map((text) => JSON.stringify({ text }));
    await fc.assert(
      fc.asyncProperty(
        fc.array(line, { maxLength: 20 }),
        fc.integer({ min: 1, max: 80 }),
        fc.boolean(),
        async (lines, blockBytes, ended) => {
          const text = lines.join("\n") + (ended ? "\n" : "");
          const at = file("lines.jsonl", text);
          const found = await blocks(at, { separator: null, textColumn: "text", blockBytes });
          expect(
            found.map((block) => (block.kind === "lines" ? Buffer.from(block.bytes).toString() : "")).join(""),
          ).toBe(text);
          let number = 1;
          for (const block of found) {
            expect(block.from.line).toBe(number);
            const { bytes } = block as Block & { kind: "lines" };
            if (block !== found.at(-1)) expect(bytes.at(-1)).toBe(10);
            number += Buffer.from(bytes).toString().split("\n").length - 1;
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  test("leave out lines that are too long", async () => {
    const long = JSON.stringify({ text: "x".repeat(500) });
    const at = file("long.jsonl", `{"text": "a"}\n${long}\n{"text": "b"}\n${long}`);
    const found = await blocks(at, { separator: null, textColumn: "text", blockBytes: 32, longestLine: 100 });
    const kept = found.map((block) => Buffer.from((block as Block & { kind: "lines" }).bytes).toString()).join("");
    expect(kept).toBe('{"text": "a"}\n{"text": "b"}\n');
    expect(found.flatMap(({ bad }) => bad)).toEqual([
      { line: 2, message: "expected a line of at most 100 bytes, got 512" },
      { line: 4, message: "expected a line of at most 100 bytes, got 511" },
    ]);
  });

  test("of rows continue at any block", async () => {
    copyFileSync(path.join(fixtures, "texts.csv"), path.join(folder, "rows.csv"));
    const options = { separator: null, textColumn: "text", blockBytes: 8 };
    const found = await blocks(path.join(folder, "rows.csv"), options);
    expect(found.length).toBe(4);
    for (const [i, { from }] of found.entries())
      expect(await blocks(path.join(folder, "rows.csv"), options, from)).toEqual(found.slice(i));
  });
});
