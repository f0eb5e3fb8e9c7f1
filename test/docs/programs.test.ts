/** The programs in examples/ must run as their first lines say, with small models and few steps. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, expect, test } from "vitest";
import { Bert } from "../../lib/models/bert.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { smallGpt } from "../generate/models.js";
import { rankingModel } from "../server/support.js";
import { sharedFolder } from "../support/folder.js";
import { Programs } from "../support/programs.js";
import { writeTinyTranslator } from "../support/tiny-translator.js";
import { byteLevelJson, wordPieceJson, wordPieces } from "../tokenizer/fixtures.js";

const examples = fileURLToPath(new URL("../../examples", import.meta.url));
const names = readdirSync(examples).flatMap((file) => (file.endsWith(".ts") ? [path.basename(file, ".ts")] : []));
const folder = sharedFolder();
const models = sharedFolder();
const programs = new Programs(folder);
const lines = ["the whale breathes air", "ships sail", "", "a cetacean leaps"];

beforeAll(async () => {
  for (const name of names) programs.add(name, readFileSync(path.join(examples, `${name}.ts`), "utf8"));
  programs.transpile(); // `npm run typecheck` checks their types
  writeFileSync(
    path.join(folder, "book.txt"),
    "It was the whiteness of the whale that above all things appalled me. ".repeat(60),
  );
  writeFileSync(path.join(folder, "notes.txt"), lines.join("\n"));

  const chatTemplate = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>{% endfor %}";
  const tokenizer = new HuggingFaceTokenizer(byteLevelJson(), { config: { eos_token: "<|end|>" }, chatTemplate });
  using gpt = smallGpt("cpu", { vocabularySize: 272, contextLength: 8192 });
  await savePretrained(path.join(models, "gpt"), gpt, { tokenizer });
  const size = {
    vocabularySize: wordPieces.length,
    contextLength: 12,
    layers: 1,
    heads: 2,
    width: 8,
    feedForwardWidth: 12,
  };
  using bert = new Bert(size, { device: "cpu", seed: 5 });
  await savePretrained(path.join(models, "bert"), bert, { tokenizer: new HuggingFaceTokenizer(wordPieceJson()) });
  using ranker = rankingModel();
  await savePretrained(path.join(models, "ranker"), ranker.model, { tokenizer: ranker.tokenizer });
}, 60_000);

test("train, resume and worker", async () => {
  const trained = await programs.run("train", ["book.txt", "my-run", "60"]);
  expect(trained).toMatch(/^\d+ parameters on cpu\n/);
  expect(trained).toMatch(/step 50: loss 0\.\d+\nvalidation loss: 0\.\d+ nats/);
  expect(trained.split("\n").at(-2)!.length).toBeGreaterThan(100);
  const resumed = await programs.run("resume", ["book.txt", "my-run", "70"]);
  expect(resumed).toMatch(/resuming at step 60 of .*step-00000060\nvalidation loss after 70 steps: 0\.\d+ nats/);
  expect((await programs.run("worker", ["my-run", "It was"])).length).toBeGreaterThan(50);
});

test("fine-tune", async () => {
  const messages = [
    { role: "user", content: "Hi" },
    { role: "assistant", content: "Hello" },
  ];
  writeFileSync(path.join(folder, "chats.jsonl"), `${JSON.stringify({ messages })}\n`.repeat(6));
  const said = await programs.run("fine-tune", ["chats.jsonl", "Hi", path.join(models, "gpt"), "20"]);
  expect(said).toMatch(/^before: [^]*\d+ adapted layers, 6 examples in 1 sequences\nstep 10: [^]*step 20: [^]*after: /);
});

test("tuned-service", async () => {
  const chats = ["Hi", "Why?", "Who?"].map((content) => [
    { role: "user", content },
    { role: "assistant", content: "Hello" },
  ]);
  writeFileSync(path.join(folder, "chats.jsonl"), chats.map((messages) => JSON.stringify({ messages })).join("\n"));
  const texts: string[] = [];
  const said = await programs.run("tuned-service", ["chats.jsonl", path.join(models, "gpt"), "12", "0"], {
    async serving(url) {
      for (const model of ["base", "tuned"]) {
        const body = {
          model,
          messages: [{ role: "user", content: "Hi" }],
          max_tokens: 4,
          temperature: 0,
          logprobs: true,
        };
        const response = await fetch(`${url}/v1/chat/completions`, {
          ...{ method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } },
        });
        // A few steps change the likelihood of texts before they change the likeliest one.
        texts.push(
          JSON.stringify(((await response.json()) as { choices: { logprobs: object }[] }).choices[0]!.logprobs),
        );
      }
    },
  });
  const [, before, after] = /^perplexity before: (\S+)\nperplexity after: (\S+)\nserving base and tuned at /.exec(
    said,
  )!;
  expect(Number(after)).toBeLessThan(Number(before));
  expect(texts[0]).not.toBe(texts[1]);
});

test("chat", async () => {
  const said = await programs.run("chat", [path.join(models, "gpt")], { input: "Hello\nWhy?\n" });
  // The model, which has learned little, may write "> " as well.
  expect(said.split("> ").length).toBeGreaterThanOrEqual(4);
  expect(said.length).toBeGreaterThan(50);
});

test("search", async () => {
  const found = await programs.run("search", ["notes.txt", "ships sail", path.join(models, "bert")]);
  expect(found.split("\n")[0]).toBe("1.000 ships sail");
  expect(found.trim().split("\n")).toHaveLength(3);
});

test("answers", async () => {
  const docs = path.join(examples, "../docs");
  const names = ["bert", "ranker", "gpt"].map((name) => path.join(models, name));
  const answer = await programs.run("answers", [docs, "cafe?", ...names]);
  const [, text, files] = /^(.+)\n\nFrom: (.+)\n$/s.exec(answer)!;
  expect(text!.length).toBeGreaterThan(50);
  for (const file of files!.split(", ")) expect(readdirSync(docs, { recursive: true })).toContain(file);
});

test("translate", async () => {
  writeTinyTranslator(models);
  const found = (await programs.run("translate", [models], { input: "abc\nfed\n" })).split("\n");
  expect(found[0]).toBe("abc");
  expect(found[1]).toMatch(/^ {2}-?\d+\.\d\d [xyz]*$/);
  expect(found[4]).toBe("fed");
});

test("custom-model", async () => {
  const right = /(\d+) of 256 points/.exec(await programs.run("custom-model"))?.[1];
  expect(Number(right)).toBeGreaterThan(240);
});

test("custom-operation", async () => {
  const [, gradient, quotient] = /gradient (\S+), difference quotient (\S+)\n/.exec(
    await programs.run("custom-operation"),
  )!;
  expect(Number(gradient)).not.toBe(0);
  expect(Math.abs(Number(gradient) - Number(quotient))).toBeLessThan(0.01 * Math.abs(Number(gradient)));
});

test("mixed-precision", async () => {
  const said = await programs.run("mixed-precision", ["2"]);
  const memory = [...said.matchAll(/([\d.]+) MiB/g)].map(([, mebibytes]) => Number(mebibytes));
  expect(memory, said).toHaveLength(3);
  expect(memory[1]).toBeLessThan(0.75 * memory[0]!);
  expect(memory[2]).toBeLessThan(0.75 * memory[1]!);
});

test("files", async () => {
  expect(await programs.run("files")).toMatch(
    /c_attn\.weight BF16 \[ 32, 96 \][\s\S]+halved wte\.weight, \[256, 32\]\n".*"\n/,
  );
});

test("every example has a test", () => {
  const source = readFileSync(fileURLToPath(import.meta.url), "utf8");
  for (const name of names) expect(source).toContain(`programs.run("${name}"`);
});
