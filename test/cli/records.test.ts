/** Files of records in `heed train`, and byte order marks in what commands read. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { parquetWriteBuffer } from "hyparquet-writer";
import { beforeAll, describe, expect, test } from "vitest";
import { readData } from "../../lib/cli/run-data.js";
import { defaults } from "../../lib/cli/train-flags.js";
import { sharedFolder } from "../support/folder.js";
import { writeTinyTranslator } from "../support/tiny-translator.js";
import { heed, heedHere } from "./support.js";

const folder = sharedFolder();
const at = (name: string): string => path.join(folder, name);
const words = ["call me ishmael", "some years ago", "never mind how long precisely", "a whale"];
/** Texts, one of which is longer than the context. */
const texts = [...words, words.join(" ").repeat(3)];
const records = Array.from({ length: 3 }, () => texts.map((text) => ({ text }))).flat();
const jsonLines = (values: readonly unknown[]): string => values.map((value) => `${JSON.stringify(value)}\n`).join("");

const parquet = (columns: Record<string, string[]>): Uint8Array =>
  new Uint8Array(
    parquetWriteBuffer({
      columnData: Object.entries(columns).map(([name, data]) => ({ name, data, type: "STRING" as const })),
    }),
  );

const files: Record<string, string | Uint8Array> = {
  "a.jsonl": jsonLines(records),
  "a.ndjson": jsonLines(records),
  "a.json": jsonLines(records),
  "array.json": JSON.stringify(records),
  "pretty.json": JSON.stringify(records, null, 2),
  "object.json": JSON.stringify({ version: "[1]", data: records }, null, 2),
  "a.csv": `text\n${records.map(({ text }) => `${text}\n`).join("")}`,
  "quoted.csv": `id,text\n${records.map(({ text }, i) => `${i},"${text}"\n`).join("")}`,
  "a.tsv": `text\tid\n${records.map(({ text }, i) => `${text}\t${i}\n`).join("")}`,
  "a.jsonl.gz": gzipSync(jsonLines(records)),
  "a.json.gz": gzipSync(JSON.stringify(records)),
  "a.parquet": parquet({ text: records.map(({ text }) => text) }),
};
const marked = Object.keys(files).filter((name) => typeof files[name] === "string");

const tiny = ["--layers", "1", "--heads", "2", "--width", "16", "--context", "32", "--batch-size", "2", "--steps", "1"];
const train = (name: string, out: string, ...more: string[]) =>
  heedHere(["train", "--data", name, "--out", out, ...tiny, "--device", "cpu", ...more], folder);

const letters = [...new Set(texts.join(""))].sort();

beforeAll(() => {
  for (const [name, content] of Object.entries(files)) writeFileSync(at(name), content);
  mkdirSync(at("marked"));
  for (const name of marked) writeFileSync(at(`marked/${name}`), `\ufeff${files[name] as string}`);
  writeFileSync(at("marked/a.txt"), `\ufeff${texts.join(" ").repeat(4)}`);
});

describe("records of texts", () => {
  // A text of n characters has n - 1 targets: nothing predicts its first one.
  const targets = records.reduce((sum, { text }) => sum + text.length - 1, 0);

  test.each(Object.keys(files))("%s: the values are learned, not the syntax", async (name) => {
    const { code, stdout, stderr } = await train(name, `run-${name}`, "--validation-fraction", "0");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toContain(`tokens to train on, with ${targets.toLocaleString("en")} targets, no validation\n`);
    const saved = readFileSync(at(`run-${name}/step-00000001/heed-tokenizer.json`), "utf8");
    const { tokenizer } = await readData({ ...defaults, context: 32, data: at(name) }, null);
    // Texts are joined by line ends to make the vocabulary.
    const vocabulary = Array.from({ length: tokenizer.vocabularySize }, (_, id) => tokenizer.decode([id]));
    expect(vocabulary.filter((one) => one !== "\n").sort()).toEqual(letters);
    expect(JSON.parse(saved)).toEqual(JSON.parse(JSON.stringify(tokenizer.toJSON())));
  });

  test.each([...marked, "a.txt"])("%s: a byte order mark is no character of the text", async (name) => {
    const { tokenizer } = await readData({ ...defaults, context: 32, data: at(`marked/${name}`) }, null);
    expect(() => tokenizer.encode("\ufeff")).toThrow(/U\+FEFF|\ufeff/);
    expect(tokenizer.encode(letters.join(""))).toHaveLength(letters.length);
  });
});

test("records that are left out are counted, and a file that has none is refused", async () => {
  const lines = [
    { prompt: "2+2=", completion: "4" },
    { prompt: "2+2=", completion: "5", label: false },
    { prompt: "x".repeat(33), completion: "y" },
    { prompt: "", completion: "z".repeat(40) },
    { text: "w".repeat(40) },
    { prompt: "nothing follows", completion: "" },
  ];
  writeFileSync(at("sums.json"), JSON.stringify(lines, null, 1));
  const { code, stdout, stderr } = await train(
    "sums.json",
    "sums",
    "--tokenizer",
    "byte",
    "--validation-fraction",
    "0",
  );
  expect({ code, stderr: stderr.replaceAll(folder + path.sep, "") }).toEqual({
    code: 0,
    stderr:
      "warning: sums.json: 2 of 6 examples do not fit into --context 32 and are left out\n" +
      "warning: sums.json: 1 of 6 examples are left out, because their label says that the answer is a bad one\n" +
      "warning: sums.json: 1 of 6 examples are left out, because no token of theirs is to be learned\n",
  });
  expect(stdout).toMatch(/, with 40 targets, no validation\n/);
  writeFileSync(at("fields.json"), '{"train": {"text": ["a"]}, "version": 1}');
  expect(await train("fields.json", "none")).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(
      /^error: .+fields\.json: expected an object in each line, .+write the records/,
    ) as string,
  });
});

describe("a byte order mark", () => {
  test("in the prompt of heed generate", async () => {
    // A model of characters cannot read the mark.
    await train("a.jsonl", "chars");
    const args = [
      "generate",
      "--model",
      at("chars"),
      "--device",
      "cpu",
      "--temperature",
      "0",
      "--max-tokens",
      "3",
      "-",
    ];
    const { code, stdout, stderr } = await heed(args, { input: "\ufeffcall" });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^call/);
  });

  test("in the lines of heed translate", async () => {
    mkdirSync(at("translator"));
    writeTinyTranslator(at("translator"));
    const args = ["translate", "--model", at("translator"), "--device", "cpu", "--max-tokens", "8"];
    const { stdout, stderr } = await heed(args, { input: "\ufeffabc\nfed" });
    expect(stderr).toBe("");
    expect(stdout).toBe((await heedHere([...args, "abc", "fed"])).stdout);
  });
});
