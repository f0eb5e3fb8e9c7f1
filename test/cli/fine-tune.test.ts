/** `heed train --model` with an adapter, and what uses its run: generate, merge and --resume. */
import { Command } from "commander";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { UsageError } from "../../lib/cli/failure.js";
import { runFlags } from "../../lib/cli/run-flags.js";
import { define } from "../../lib/cli/commands/train.js";
import type { TrainFlags } from "../../lib/cli/train-flags.js";
import { GPT } from "../../lib/models/gpt.js";
import { AdamW } from "../../lib/optim/adamw.js";
import type { Checkpoint } from "../../lib/train/checkpoint.js";
import { temporaryFolder } from "../support/folder.js";
import { noShared, sharedModel } from "../support/shared.js";
import { testUnless } from "../support/skip.js";
import { heed } from "./support.js";

const stories = sharedModel("stories260K");
const messages = [
  { role: "user", content: "Who are you?" },
  { role: "assistant", content: "I am a whale." },
];

testUnless(!stories && noShared)(
  "a model learns an answer, and its run generates, merges and resumes",
  async () => {
    const folder = temporaryFolder();
    const at = (name: string): string => path.join(folder, name);
    writeFileSync(at("chats.jsonl"), `${JSON.stringify({ messages })}\n`.repeat(10));
    const env = { HEED_DEVICE: "cpu" };
    const run = async (...args: string[]): Promise<string> => {
      const { code, stdout, stderr } = await heed(args, { env });
      expect(stderr).toBe("");
      expect(code).toBe(0);
      return stdout;
    };
    const trained = await run(
      ...["train", "--model", stories!, "--data", at("chats.jsonl"), "--out", at("run")],
      ...["--lora", "4", "--steps", "20", "--batch-size", "2", "--context", "64", "--lr", "0.02", "--warmup", "2"],
    );
    expect(trained).toMatch(/^23,120 parameters, /);
    expect(existsSync(at("run/step-00000020/model.safetensors"))).toBe(false);
    const question = ["--chat", "--temperature", "0", "--max-tokens", "9", "Who are you?"];
    const answer = await run("generate", "--model", at("run"), ...question);
    expect(answer).toContain("I am a whale.");
    await run("merge", "--model", at("run"), "--out", at("merged"));
    expect(await run("generate", "--model", at("merged"), ...question)).toBe(answer);
    expect(await run("train", "--out", at("run"), "--resume", "--steps", "21")).toMatch(/continuing from step 20/);
    const config = JSON.parse(readFileSync(at("run/step-00000021/adapter_config.json"), "utf8")) as object;
    expect(config).toMatchObject({ r: 4, base_model_name_or_path: stories });

    writeFileSync(at("bad.jsonl"), `${JSON.stringify({ messages })}\n{"text": 3}\n`);
    const bad = await heed(["train", "--model", stories!, "--data", at("bad.jsonl"), "--out", at("other")], { env });
    expect(bad.code).toBe(1);
    expect(bad.stderr).toMatch(/bad\.jsonl:2: expected an object with messages/);
  },
  60_000,
);

testUnless(!stories && noShared)(
  "an adapter over a model in 4 bits (QLoRA) is trained, merged in two ways, and resumed",
  async () => {
    const folder = temporaryFolder();
    const at = (name: string): string => path.join(folder, name);
    writeFileSync(at("chats.jsonl"), `${JSON.stringify({ messages })}\n`.repeat(10));
    const run = async (...args: string[]): Promise<string> => {
      const { code, stdout, stderr } = await heed(args, { env: { HEED_DEVICE: "cpu" } });
      expect(stderr).toBe("");
      expect(code).toBe(0);
      return stdout;
    };
    await run(
      ...["train", "--model", stories!, "--data", at("chats.jsonl"), "--out", at("run"), "--quantize", "int4"],
      ...["--lora", "4", "--steps", "20", "--batch-size", "2", "--context", "64", "--lr", "0.02", "--warmup", "2"],
    );
    const question = ["--chat", "--temperature", "0", "--max-tokens", "9", "Who are you?"];
    const generated = (model: string, ...flags: string[]) =>
      run("generate", "--model", at(model), ...flags, ...question);
    const answer = await generated("run", "--quantize", "int4");
    expect(answer).toContain("I am a whale.");
    const told = await run("merge", "--model", at("run"), "--out", at("merged"));
    expect(told).toMatch(/trained over weights in 4 bits; it is merged into the model's own weights/);
    expect(existsSync(at("merged/model.safetensors"))).toBe(true);
    // A model that is stored in codes has no other weights.
    await run("quantize", "--model", stories!, "--out", at("codes"), "--type", "int4");
    await run(
      ...["train", "--model", at("codes"), "--data", at("chats.jsonl"), "--out", at("over-codes")],
      ...["--lora", "4", "--steps", "2", "--batch-size", "2", "--context", "64"],
    );
    expect(await run("merge", "--model", at("over-codes"), "--out", at("merged-codes"))).not.toMatch(/more precise/);
    await run("merge", "--model", at("run"), "--out", at("rounded"), "--quantize", "int4");
    expect(await generated("rounded")).toBe(answer);
    expect(await run("train", "--out", at("run"), "--resume", "--steps", "21")).toMatch(/continuing from step 20/);
    const state = JSON.parse(readFileSync(at("run/step-00000021/trainer.json"), "utf8")) as object;
    expect(state).toMatchObject({ baseQuantized: { bits: 4, groupSize: 32 }, options: { quantize: "int4" } });
  },
  60_000,
);

test.each([
  [{ lora: 8 }, /--lora: works only with --model/],
  [{ freeze: "wte" }, /--freeze: works only with --model/],
  [{ model: "a", layers: 3 }, /--layers: the model that --model names decides it/],
  [{ model: "a", tokenizer: "char" }, /--tokenizer: the model that --model names decides it/],
  [{ model: "a", dora: true }, /--dora: works only with --lora/],
  [{ model: "a", quantize: "int4" }, /--quantize: works only with --lora/],
] as [Partial<TrainFlags>, RegExp][])("flags that do not fit are refused: %o", (flags, pattern) => {
  const run = () => runFlags({ out: "run", data: "x", ...flags }, null);
  expect(run).toThrow(UsageError);
  expect(run).toThrow(pattern);
});

test("a run from a trained model has defaults of its own", () => {
  const flags = runFlags({ out: "run", data: "x", model: "owner/name", lora: 8 }, null);
  expect(flags).toMatchObject({ model: "owner/name", lr: 2e-4, context: 512, batchSize: 8, lora: 8 });
  // The model's own parameters are trained with smaller steps than an adapter, with every optimiser.
  const rate = (more: Partial<TrainFlags>) => runFlags({ out: "run", data: "x", ...more }, null).lr;
  const from = "owner/name";
  expect([rate({}), rate({ model: from }), rate({ model: from, freeze: "wte" })]).toEqual([1e-3, 2e-5, 2e-5]);
  for (const optimizer of ["sgd", "lion", "muon"] as const) {
    expect(rate({ model: from, optimizer }) / rate({ optimizer })).toBeCloseTo(2e-5 / 1e-3, 12);
    expect(rate({ model: from, optimizer, lora: 8 }) / rate({ optimizer })).toBeCloseTo(2e-4 / 1e-3, 12);
  }
  expect(rate({ model: from, lr: 0.5 })).toBe(0.5);
});

test("AdamW's second decay is the library's for a trained model, and that of the help for a new one", async () => {
  const beta2 = (more: Partial<TrainFlags>, options?: object) => {
    const checkpoint = { path: "x", model: new GPT(tiny), state: { seed: 0, options } } as unknown as Checkpoint;
    return runFlags({ out: "run", data: "x", ...more }, options ? checkpoint : null).beta2;
  };
  const tiny = { vocabularySize: 5, contextLength: 4, layers: 1, heads: 1, width: 4 };
  using optimizer = new AdamW(new GPT(tiny));
  expect(beta2({ model: "a" })).toBe(optimizer.beta2);
  expect([beta2({}), beta2({ beta2: 0.95 }), beta2({ model: "a", beta2: 0.9 })]).toEqual([0.99, 0.95, 0.9]);
  // A run keeps its decay when it resumes; earlier versions had 0.99 in all runs.
  expect([beta2({}, { model: "a", beta2: 0.999 }), beta2({}, { model: "a" }), beta2({}, {})]).toEqual([
    0.999, 0.99, 0.99,
  ]);
  expect(() => beta2({ optimizer: "lion", beta2: 0.9 })).toThrow(/--beta2: works only with --optimizer adamw/);
  const help = define(new Command("train")).helpInformation().replaceAll(/\s+/g, " ");
  expect(help).toContain("(default: 0.99; 0.999 with --model, as in the library)");
  expect(help).toContain("with --model 0.00002, 0.0002 with --lora, 0.00005 with --preference");
});
