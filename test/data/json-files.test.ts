/** Files whose name ends with .json: lines of JSON, one array of records, an object with an array, or one record. */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { blocksOf } from "../../lib/data/blocks.js";
import { documentRows } from "../../lib/data/document-rows.js";
import { findInputs } from "../../lib/data/inputs.js";
import { readPairs } from "../../lib/data/read-pairs.js";
import { locatedRecords, readRecords } from "../../lib/data/read-records.js";
import { TokenShards } from "../../lib/data/token-shards.js";
import { writeShards } from "../../lib/data/write-shards.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { readExamples } from "../../lib/data/read-examples.js";
import { expectRejection } from "../support/errors.js";
import { sharedFolder } from "../support/folder.js";

const folder = sharedFolder();
const at = (name: string): string => path.join(folder, name);
const file = (content: string | Uint8Array, name = "some.json"): string => {
  writeFileSync(at(name), content);
  return at(name);
};

async function all<T>(values: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const value of values) list.push(value);
  return list;
}

/** Records with all that a scanner of JSON may stumble over. */
const records = [
  { text: "Call me Ishmael.", id: 1 },
  { text: 'brackets ]}[{ , and "quotes" \\' },
  { id: [[1, 2], { a: [] }], text: "naïve 東京 💡\nnext line\\" },
  { text: '\\\\"', more: { text: "inner" } },
];
const texts = records.map(({ text }) => ({ text }));
const pretty = (value: unknown): string => JSON.stringify(value, null, 2);
const lines = (values: readonly unknown[]): string => values.map((value) => `${JSON.stringify(value)}\n`).join("");

describe("records", () => {
  const forms: [string, string][] = [
    ["lines", lines(records)],
    ["lines after empty ones", `\n \n${lines(records)}`],
    ["an array", JSON.stringify(records)],
    ["a pretty array", pretty(records)],
    ["an array with CRLF", pretty(records).replaceAll("\n", "\r\n")],
    ["an array with a record in each line", `[\n${records.map((one) => JSON.stringify(one)).join(",\n")}\n]\n`],
    ["an object", JSON.stringify({ version: "1", tags: ["a"], data: records })],
    ["a pretty object", pretty({ version: { data: [1] }, rows: records, empty: [] })],
    ["an object with a name of quotes", pretty({ 'a "b] {': records, "data]": "[{}]", last: { rows: [{}] } })],
    ["a name that is the text of another value", pretty({ version: "data", others: [1], data: records, name: "data" })],
  ];

  test.each(forms)("are read from %s", async (_, content) => {
    for (const mark of ["", "\ufeff"]) expect(await all(readRecords(file(mark + content)))).toEqual(texts);
    expect(await all(readRecords(file(gzipSync(content), "packed.json.gz")))).toEqual(texts);
    const blocks = async (blockBytes: number): Promise<string> => {
      const files = await findInputs(file(content));
      let read = "";
      for await (const block of blocksOf(files, { separator: null, textColumn: "text", blockBytes })) {
        if (block.kind !== "lines") throw new Error("expected lines");
        read += Buffer.from(block.bytes).toString();
        // A run that was stopped goes on from the end of any block.
        const rest = await all(blocksOf(files, { separator: null, textColumn: "text", blockBytes }, block.to));
        expect(read + rest.map((one) => ("bytes" in one ? Buffer.from(one.bytes).toString() : "")).join("")).toBe(
          await whole,
        );
      }
      return read;
    };
    const whole: Promise<string> = all(
      blocksOf(await findInputs(file(content)), { separator: null, textColumn: "text" }),
    ).then((all) => all.map((one) => ("bytes" in one ? Buffer.from(one.bytes).toString() : "")).join(""));
    expect(await blocks(40)).toBe(await whole);
  });

  test("are one record, or none, in a file of one object or an empty one", async () => {
    const messages = [
      { role: "user", content: "Hi" },
      { role: "assistant", content: "Hello!" },
    ];
    for (const record of [JSON.stringify({ messages }), pretty({ id: [{}], messages })])
      expect(await all(readRecords(file(record)))).toEqual([{ messages, tools: null }]);
    for (const none of ["", " \n", "[]", "[\n]\n", '{"data": []}'])
      expect(await all(readRecords(file(none)))).toEqual([]);
  });

  test("are read in pieces, and malformed ones are counted by their number in the array", async () => {
    // A piece of the file ends within every kind of token.
    const many = Array.from({ length: 40_000 }, (_, i) => ({ text: `${"x".repeat(i % 97)} "${i}", [${i}] {` }));
    const big = file(`[${many.map((one) => pretty(one)).join(",\n")}]`);
    let count = 0;
    for await (const record of readRecords(big)) if (!("text" in record) || record.text !== many[count++]!.text) break;
    expect(count).toBe(many.length);
    const bad = file(
      '[{"text": "a"}, {"text": 3},\n {"text": "b"} {"text": "c"}, [], {"text": "new\nline"}, {"text": "d"}]',
    );
    const found: number[] = [];
    const options = { maxBadLines: 4, onBadLine: ({ line }: { line: number }) => void found.push(line) };
    const located = await all(locatedRecords(bad, options));
    expect(located.map(({ record, line }) => [record, line])).toEqual([
      [{ text: "a" }, 1],
      [{ text: "d" }, 6],
    ]);
    expect(found).toEqual([2, 3, 4, 5]);
    // A malformed first line is a bad line too.
    expect(await all(readRecords(file('{"text":\n{"text": "b"}\n'), { maxBadLines: 1 }))).toEqual([{ text: "b" }]);
  });

  test.each([
    ['[{"text": "a"},', /expected an object in each line, one array of records, .+, got an array without its end/],
    ['[{"text": "a"}]\n[{"text": "b"}]', /got more after the end of an array/],
    ['[{"text": "a"}}', /got an array that ends with }/],
    ['{"data": [\n{"text": "a"},\n', /got an object that is malformed or has no end/],
    [pretty({ train: records, test: records }), /got arrays of records with the names train, test; write the records/],
    ['{"a": 1,\n"b": ["x"]}', /got an object with the fields a, b; write the records/],
    ['["a"]', /some\.json:1: expected an object, got "a"/],
    ["3", /some\.json:1: expected an object, got 3/],
  ])("%j is refused", async (content, message) => {
    await expectRejection(all(readRecords(file(content))), "ERR_FORMAT", message);
  });
});

test("an array in a .jsonl or .ndjson file is read too; lines that are arrays are bad lines", async () => {
  for (const name of ["some.jsonl", "some.ndjson"]) {
    for (const content of [JSON.stringify(records), pretty(records)])
      expect(await all(readRecords(file(content, name)))).toEqual(texts);
    const rows = file('[1, 2]\n{"text": "a"}\n', name);
    expect(await all(readRecords(rows, { maxBadLines: 1 }))).toEqual([{ text: "a" }]);
    await expectRejection(all(readRecords(rows)), "ERR_FORMAT", /:1: expected an object, got an array of 2/);
  }
});

test("examples, pairs, shards and rows are read from arrays", async () => {
  const tokenizer = new ByteTokenizer();
  const sums = [
    { prompt: "2+2=", completion: "4" },
    { prompt: "1+1=", completion: "2" },
  ];
  const decoded = (ids: Int32Array): string => tokenizer.decode(ids);
  for (const content of [pretty(sums), pretty({ data: sums }), lines(sums)]) {
    const examples = await readExamples(file(content), tokenizer);
    expect(examples.map(({ ids }) => decoded(ids))).toEqual(["2+2=4", "1+1=2"]);
  }
  await expectRejection(
    readExamples(file('[{"text": "a"}, {}]'), tokenizer),
    "ERR_FORMAT",
    /some\.json:2: expected an/,
  );
  expect(await readExamples(file("prompt,completion\n2+2=,4\n", "sums.csv"), tokenizer)).toHaveLength(1);
  const pairs = sums.map(({ prompt }) => ({ prompt, chosen: "yes", rejected: "no" }));
  const [pair] = await readPairs(file(pretty(pairs)), tokenizer);
  expect(decoded(pair!.chosen.ids)).toBe("2+2=yes");

  await writeShards(file(pretty({ data: sums }), "sums.json"), { out: at("shards"), tokenizer, threads: 0 });
  using shards = TokenShards.open(at("shards"));
  expect([shards.kind, shards.documents, decoded(shards.document(1).ids)]).toEqual(["examples", 2, "1+1=2"]);

  const rows = [{ n: 1, options: [{ a: 1 }] }, { n: 2 }];
  expect((await all(documentRows(file(pretty(rows))))).map(({ value }) => value)).toEqual(rows);
  expect((await all(documentRows(file(pretty({ rows }))))).map(({ value }) => value)).toEqual(rows);
});
