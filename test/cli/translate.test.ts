import { rmSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { translate as runTranslate } from "../../lib/generate/translate.js";
import { T5 } from "../../lib/models/t5.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { sharedFolder, temporaryFolder } from "../support/folder.js";
import { noShared, sharedModel } from "../support/shared.js";
import { describeUnless } from "../support/skip.js";
import { onEachDevice } from "../support/targets.js";
import { writeTinyTranslator } from "../support/tiny-translator.js";
import { unigramJson } from "../tokenizer/fixtures.js";
import { heed, heedHere } from "./support.js";

const folder = sharedFolder();
beforeAll(() => writeTinyTranslator(folder));
/** Translates what `args` say in this process or, if they say nothing, the lines of `input` in one of its own. */
function translate(args: string[], input?: string) {
  const all = ["translate", "--model", folder, "--device", "cpu", "--max-tokens", "8", ...args];
  return input === undefined ? heedHere(all) : heed(all, { input });
}

describe("heed translate", () => {
  test("translates its arguments, or the lines of stdin, one line each, with any batch size", async () => {
    const { code, stdout, stderr } = await translate(["abc", "fed", "", "a"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^[xyz]*\n[xyz]*\n\n[xyz]*\n$/);
    expect(await translate(["--batch-size", "2"], "abc\nfed\r\n\na")).toEqual({
      ...{ code, signal: null, stderr },
      stdout,
    });
    expect(await translate([], "")).toMatchObject({ code: 0, stdout: "", stderr: "" });
  });

  test("prints the n best with their log-probabilities, in descending order if length does not count", async () => {
    const args = ["--beams", "4", "--n-best", "3", "--length-penalty", "0", "cab"];
    const { code, stdout } = await translate(args);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^(-\d+\.\d{4}\t[xyz]*\n){3}$/);
    const values = stdout.split("\n", 3).map((line) => Number(line.split("\t", 1)[0]));
    expect(values).toEqual([...values].sort((a, b) => b - a));
    const best = await translate(["--beams", "4", "--length-penalty", "0", "cab"]);
    expect(stdout.split("\n", 1)[0]!.split("\t")[1]).toBe(best.stdout.trimEnd());
  });

  test.each<[string[], number, RegExp]>([
    [["--n-best", "5", "a"], 2, /--n-best: expected at most the value of --beams \(4\), got 5/],
    [["--beams", "0", "a"], 2, /Expected an integer of at least 1/],
    [["--length-penalty", "x", "a"], 2, /Expected a number from -100 to 100/],
    [["a".repeat(600)], 1, /expected texts\[0\] to have 0 to 512 tokens, got 600/],
  ])("%j is refused", async (args, code, message) => {
    const ended = await translate(args);
    expect(ended).toMatchObject({ code, stdout: "" });
    expect(ended.stderr).toMatch(message);
  });

  test("a line on which the model diverges is empty, and the error names it at the end", async () => {
    const at = temporaryFolder();
    writeTinyTranslator(at, { spoilt: "e" });
    const lines = (await translate(["abc", "fad", "a"])).stdout.split("\n");
    const args = ["translate", "--model", at, "--device", "cpu", "--max-tokens", "8", "--batch-size", "2"];
    const { code, stdout, stderr } = await heed([...args, "abc", "bed", "fad", "", "e", "a"]);
    expect(stdout.split("\n")).toEqual([lines[0], "", lines[1], "", "", lines[2], ""]);
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr:
        "error: the model has diverged on 2 of 6 texts, the first of them text 2: " +
        "expected finite logits, got NaN or Infinity\n",
    });
  });

  test("a folder without a model is named", async () => {
    const { code, stderr } = await heedHere(["translate", "--model", temporaryFolder(), "a"]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error: .+expected a run of heed .+ got a folder with none of these\n$/);
  });
});

describe("a folder in Hugging Face's format", () => {
  const config = { vocabularySize: 16, contextLength: 20, layers: 1, heads: 2, width: 8, endToken: 2 };
  const tokenizer = new HuggingFaceTokenizer(unigramJson());

  test("gives the same translations as the library", async () => {
    const at = temporaryFolder();
    using model = new T5(config, { device: "cpu", seed: 3 });
    await savePretrained(at, model, { tokenizer, overwrite: true });
    const sources = ["ab a", "b"].map((text) => tokenizer.encode(text));
    const found = await runTranslate(model, sources, { beams: 2, maxTokens: 5 });
    const expected = found.map(([best]) => `${tokenizer.decode(best!.tokens)}\n`).join("");
    expect(expected.trim()).not.toBe("");
    const args = ["translate", "--model", at, "--device", "cpu", "--beams", "2", "--max-tokens", "5"];
    expect(await heed([...args, "ab a", "b"])).toMatchObject({ code: 0, stderr: "", stdout: expected });
    rmSync(path.join(at, "tokenizer.json"));
    const without = await heedHere([...args, "b"]);
    expect(without).toMatchObject({ code: 1, stdout: "" });
    expect(without.stderr).toMatch(
      /^error: .+expected a model with a tokenizer, got one without; pass a tokenizer in the options of load\(\)\n$/,
    );
  });
});

const published = sharedModel("ar-en-transliteration");
describeUnless(!published && noShared)("a published model", () => {
  onEachDevice((device) => {
    test.each(["1", "2"])("with %s beams", { timeout: 60_000 }, async (beams) => {
      const args = ["translate", "--model", published!, "--device", device, "--beams", beams];
      expect(await heed([...args, "آتزمون", "آزا"])).toMatchObject({ code: 0, stderr: "", stdout: "atzmon\nazza\n" });
      expect(await heed(args, { input: "آزا\n" })).toMatchObject({ code: 0, stderr: "", stdout: "azza\n" });
    });
  });
});
