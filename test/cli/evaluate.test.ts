/** The commands that follow and measure models: train's samples and event files, report, and eval. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { sharedFolder } from "../support/folder.js";
import { heed, heedHere } from "./support.js";

const cwd = sharedFolder();
const size = ["--layers", "1", "--heads", "2", "--width", "16", "--context", "16", "--batch-size", "4"];
const train = ["train", "--data", "book.txt", "--out", "runs/book", ...size, "--eval-every", "5"];

beforeAll(async () => {
  const text = Array.from({ length: 300 }, (_, i) => `The whale number ${(i * i) % 97} swims. `).join("");
  writeFileSync(path.join(cwd, "book.txt"), text);
  const watched = ["--sample", "The wh", "--tensorboard", "board"];
  expect(await heed([...train, "--steps", "10", ...watched], { cwd })).toMatchObject({ code: 0, stderr: "" });
  // A resumed run goes on with its samples and event files.
  const more = await heed(["train", "--out", "runs/book", "--resume", "--steps", "15"], { cwd });
  expect(more).toMatchObject({ code: 0, stderr: "" });
}, 120_000);

interface Line {
  type: string;
  step: number;
  prompt?: string;
  text?: string;
}

describe("heed train", () => {
  test("writes samples into its log, and event files", () => {
    const lines = readFileSync(path.join(cwd, "runs/book/log.jsonl"), "utf8").trimEnd().split("\n");
    const samples = lines.map((line) => JSON.parse(line) as Line).filter(({ type }) => type === "sample");
    expect(samples.map(({ step, prompt }) => [step, prompt])).toEqual([5, 10, 15].map((step) => [step, "The wh"]));
    expect(samples.map(({ text }) => text!.length)).toEqual([100, 100, 100]);
    const files = readdirSync(path.join(cwd, "board"));
    expect(files).toHaveLength(2);
    for (const file of files)
      expect(readFileSync(path.join(cwd, "board", file)).includes("loss/validation")).toBe(true);
  });
});

test("a text for samples that the tokenizer cannot encode is refused at once", async () => {
  const flags = ["--steps", "1", "--sample", "§"];
  const { code, stderr } = await heedHere(["train", "--data", "book.txt", "--out", "other", ...size, ...flags], cwd);
  expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining("§") });
});

describe("heed report", () => {
  test("writes a page of the runs", async () => {
    const made = await heedHere(["report", "runs/book", "runs/book/log.jsonl", "--out", "two.html"], cwd);
    expect(made).toMatchObject({ code: 0, stdout: "wrote two.html\n", stderr: "" });
    expect(readFileSync(path.join(cwd, "two.html"), "utf8")).toContain('"prompt":"The wh"');
  });

  test("says what is missing", async () => {
    expect(await heedHere(["report", "runs/none"], cwd)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("runs/none"),
    });
    expect(existsSync(path.join(cwd, "report.html"))).toBe(false);
  });
});

describe("heed eval", () => {
  const yaml = `
task: numbers
dataset_path: json
dataset_kwargs: { data_files: { test: numbers.jsonl } }
test_split: test
output_type: multiple_choice
doc_to_text: "{{start}}"
doc_to_choice: ["swims", "whale"]
doc_to_target: 0
`;

  test("prints a table, and writes results and samples", async () => {
    writeFileSync(path.join(cwd, "numbers.yaml"), yaml);
    writeFileSync(path.join(cwd, "numbers.jsonl"), '{"start": "number 1"}\n{"start": "number 4"}\n');
    const flags = ["--perplexity", "book.txt", "--stride", "8", "--output", "out.json", "--samples", "samples.jsonl"];
    const { code, stdout, stderr } = await heed(["eval", "numbers.yaml", "--model", "runs/book", ...flags], { cwd });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout.split("\n").map((line) => line.split(/ {2,}/))).toEqual([
      ["task", "metric", "documents", "few-shot", "value", "stderr"],
      ["numbers", "acc", "2", "0", expect.stringMatching(/^[01]\.\d{4}$/), expect.stringMatching(/^± 0\.\d{4}$/)],
      ["numbers", "acc_norm", "2", "0", expect.stringMatching(/^[01]\.\d{4}$/), expect.stringMatching(/^± 0\.\d{4}$/)],
      [""],
      ["text", "metric", "tokens", "value", "stderr"],
      ...["perplexity", "bits per byte", "loss in nats"].map((name) => [
        "book.txt",
        name,
        ...Array<unknown>(3).fill(expect.anything()),
      ]),
      [""],
    ]);
    const results = JSON.parse(readFileSync(path.join(cwd, "out.json"), "utf8")) as Record<string, unknown>;
    expect(results).toMatchObject({
      model: "runs/book",
      tasks: [{ task: "numbers", documents: 2, metrics: [{ metric: "acc" }, { metric: "acc_norm" }] }],
      perplexity: [{ file: "book.txt" }],
    });
    const samples = readFileSync(path.join(cwd, "samples.jsonl"), "utf8").trimEnd().split("\n");
    expect(samples.map((line) => JSON.parse(line) as object)).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ task: "numbers", index: 1, prompt: "number 4", choices: ["swims", "whale"] }),
      ]),
    );
  });

  test("refuses what it cannot do before it loads the model", async () => {
    const model = ["--model", "none"];
    writeFileSync(path.join(cwd, "bad.yaml"), `${yaml}process_results: !function utils.results\n`);
    expect(await heedHere(["eval", "bad.yaml", ...model], cwd)).toMatchObject({
      code: 1,
      stderr:
        "error: bad.yaml: expected no process_results, which heed does not support, got !function utils.results\n",
    });
  });
});
