// What every platform's package must do, for systems that cannot run vitest (.ci/nightly platforms): a softmax, a model
// that learns an alternating text and generates it from the KV cache, and a checkpoint that survives a round trip.
// It imports the heed that is installed where it is run from.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";

const installed = createRequire(path.join(process.cwd(), "/")).resolve("heed");
const { CharTokenizer, devices, generate, GPT, load, softmax, splitSource, tensor, tokenData, Trainer } = await import(
  pathToFileURL(installed)
);
const cpu = devices()[0].description;
assert.ok(cpu.startsWith(process.env.HEED_CPU_ISA ?? ""), `expected HEED_CPU_ISA to choose kernels, got ${cpu}`);

const values = [0.5, -1, 3, 100, 99, -100];
const probabilities = await softmax(tensor(values, [2, 3], { device: "cpu" })).data();
for (const row of [0, 1]) {
  const exps = values.slice(3 * row, 3 * row + 3).map((value) => Math.exp(value - 100));
  const total = exps.reduce((a, b) => a + b);
  exps.forEach((value, i) => assert.ok(Math.abs(probabilities[3 * row + i] - value / total) < 1e-6));
}

const folder = mkdtempSync(path.join(tmpdir(), "heed-smoke-"));
try {
  const text = "abc ".repeat(200);
  const tokenizer = new CharTokenizer(text);
  const { train, validation } = splitSource(tokenData(tokenizer.encode(text)), 0.1);
  const size = { contextLength: 16, layers: 2, heads: 2, width: 32, seed: 1 };
  const model = new GPT({ vocabularySize: tokenizer.vocabularySize, ...size });
  const checkpoint = { folder, tokenizer };
  const trainer = new Trainer({ model, data: train, validation, batchSize: 8, steps: 60, lr: 1e-2, checkpoint });
  const { evaluation } = await trainer.train();
  assert.ok(evaluation.loss < 0.5, `expected a loss below 0.5, got ${evaluation.loss}`);

  const written = async (model, tokenizer) => {
    let all = "";
    const options = { maxTokens: 12, temperature: 0, overflow: "slide" };
    for await (const { text } of generate(model, tokenizer, "abc a", options)) all += text;
    return all;
  };
  assert.equal(await written(model, tokenizer), "bc abc abc a");
  const loaded = await load(folder, { kind: "causal" });
  assert.equal(
    (await loaded.generate("abc a", { maxTokens: 12, temperature: 0, overflow: "slide" })).text,
    "bc abc abc a",
  );
  const system = `${process.platform}-${process.arch}, Node.js ${process.versions.node}, ${cpu}`;
  console.log(`${system}: trains to a loss of ${evaluation.loss.toFixed(3)}, generates, saves and loads`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
