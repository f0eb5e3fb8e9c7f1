/** `heed data`, and `heed train` on its folders. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { run as runData } from "../../lib/cli/commands/data.js";
import { resolveData, shardParts } from "../../lib/cli/data-parts.js";
import { readData } from "../../lib/cli/run-data.js";
import { defaults } from "../../lib/cli/train-flags.js";
import { writeShards } from "../../lib/data/write-shards.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import type { SequenceSource } from "../../lib/data/sequence-source.js";
import { sharedFolder } from "../support/folder.js";
import { heed, heedHere } from "./support.js";

const folder = sharedFolder();
const at = (name: string): string => path.join(folder, name);
const line = "It was the whiteness of the whale that above all things appalled me.\n";

async function run(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await heed(args, { env: { HEED_DEVICE: "cpu" }, cwd: folder });
  // A slow machine has time for lines about the progress.
  const said = stderr.replaceAll(/^\d+ MB of text, .+\n/gm, "");
  expect({ code, said }).toEqual({ code: 0, said: "" });
  return stdout;
}

const small = ["--layers", "1", "--heads", "2", "--width", "16", "--context", "16", "--batch-size", "2"];

test("files become shards, on which a model trains and resumes", { timeout: 120_000 }, async () => {
  mkdirSync(at("texts"));
  writeFileSync(at("texts/a.txt"), line.repeat(20));
  writeFileSync(at("texts/b.txt"), "Call me Ishmael.\n\nSome years ago.\n");
  const made = await run("data", "texts/*.txt", "--tokenizer", "byte", "--separator", "\\n\\n", "--out", "tokens");
  expect(made).toBe(
    "3 documents, 1,412 tokens, 1.00 bytes per token, longest document 1,380 tokens, 0 bad lines left out\n" +
      "saved in tokens; try: heed train --data tokens --out run\n",
  );
  expect(await run("data", "tokens", "--show", "1")).toBe("Call me Ishmael.\n");
  writeFileSync(at("pairs.jsonl"), '{"prompt": "2+2=", "completion": "4"}\n'.repeat(30));
  const pairs = await run("data", "pairs.jsonl", "--tokenizer", "byte", "--out", "pairs");
  expect(pairs).toMatch(/^30 documents, 150 tokens of which 30 count for the loss/);

  await run("train", "--data", "tokens=3,pairs=1", "--out", "run", ...small, "--steps", "2");
  const resumed = await run("train", "--out", "run", "--resume", "--steps", "3");
  expect(resumed).toMatch(/continuing from step 2\n[^]*validation loss [\d.]+ nats per token/);
});

test("shards of answers: bad ones are counted, and training leaves out and counts those that do not fit", async () => {
  const answer = (prompt: string, more: object = {}): string =>
    `${JSON.stringify({ prompt, completion: "4", ...more })}\n`;
  const lines = [answer("2+2=").repeat(20), answer("2+2=", { label: false }), answer("x".repeat(40))];
  writeFileSync(at("kto.jsonl"), `${lines.join("")}{"text": "${"y".repeat(33)}"}\n`);
  const statistics = await writeShards(at("kto.jsonl"), {
    ...{ tokenizer: new ByteTokenizer(), out: at("kto"), threads: 0, kind: "examples" },
  });
  expect(statistics).toMatchObject({ documents: 22, targets: 20 + 1 + 33, badLines: 0, badAnswers: 1 });
  const shown = await heedHere(["data", "kto"], folder);
  expect(shown.stdout).toMatch(/, 0 bad lines left out, 1 bad answers \(label false\) left out\n$/);
  // An index of an earlier version has no such number.
  const index = JSON.parse(readFileSync(at("kto/index.json"), "utf8")) as { statistics: Record<string, unknown> };
  delete index.statistics.badAnswers;
  writeFileSync(at("kto/index.json"), JSON.stringify(index));
  expect((await heedHere(["data", "kto"], folder)).stdout).toMatch(/, 0 bad lines left out\n$/);

  const { stdout, stderr } = await heedHere(
    ["train", "--data", "kto", "--out", "of-answers", ...small, "--steps", "1", "--validation-fraction", "0"],
    folder,
  );
  expect(stderr.replace(folder + path.sep, "")).toBe(
    "warning: kto: 1 of 22 examples do not fit into --context 16 and are left out\n",
  );
  // The text of 33 bytes is split: nothing predicts its first byte.
  expect(stdout).toMatch(/tokens to train on, with 52 targets, no validation\n/);
  // A share of the sequences is held out, and its targets are not those of the training.
  const warnings: string[] = [];
  const flags = { ...defaults, data: at("kto"), context: 16, validationFraction: 0.5 };
  const { train, targets } = await readData(flags, null, { warn: (text) => void warnings.push(text) });
  const source = train as SequenceSource;
  const sequences = Array.from({ length: source.sequences }, (_, i) => source.sequence(i).targets);
  expect(targets).toBe(sequences.flatMap((each) => [...each]).filter((id) => id >= 0).length);
  expect(warnings).toHaveLength(1);
});

test("mistakes are explained", async () => {
  writeFileSync(at("bad.jsonl"), '{"text": "a"}\n{"text":\n{"text": "b"}\n');
  const bad = await heed(["data", "bad.jsonl", "--tokenizer", "byte", "--out", "bad"], { cwd: folder });
  expect(bad.code).toBe(1);
  expect(bad.stderr).toMatch(
    /^bad\.jsonl:2: .*JSON.*\nerror: bad\.jsonl:2: .*\(expected at most 0 bad lines, got 1 line\)\n$/,
  );
  writeFileSync(at("a.txt.bz2"), "BZh9");
  await expect(readData({ ...defaults, data: at("a.txt.bz2") }, null)).rejects.toThrow(/whose name says its format/);
  await expect(readData({ ...defaults, data: at("*.md") }, null)).rejects.toThrow(/expected files that match/);
  const flags = { tokenizer: "byte", textColumn: "text", maxBad: 0 };
  await expect(runData([at("bad.jsonl")], flags)).rejects.toThrow(/expected --out, or a folder of shards to show/);
  await expect(runData([folder, folder], flags)).rejects.toThrow(/'--out <folder>' not specified/);
  await expect(runData([at("bad.jsonl")], { ...flags, show: 1, out: at("x") })).rejects.toThrow(/only without --out/);
});

test("the value of --data", () => {
  expect(resolveData("a.txt")).toBe(path.resolve("a.txt"));
  expect(resolveData("a=2,b")).toBe(`${path.resolve("a")}=2,${path.resolve("b")}`);
  expect(() => resolveData("a=0")).toThrow(/expected a weight above 0/);
  expect(() => resolveData("a=x,b=1")).toThrow(/expected a weight above 0/);
  expect(shardParts(at("nothing.txt"))).toBeNull();
  writeFileSync(at("is.txt"), "a");
  expect(shardParts(at("is.txt"))).toBeNull();
  expect(() => shardParts("nothing=1,other=2")).toThrow(/expected a folder of shards/);
});
