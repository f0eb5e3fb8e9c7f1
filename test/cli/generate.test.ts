import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { writeSafetensors } from "../../lib/formats/safetensors.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import { toHuggingFaceGptConfig } from "../../lib/pretrained/families/gpt-config.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { load } from "../../lib/load/load.js";
import { smallGpt } from "../generate/models.js";
import { describeUnless } from "../support/skip.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";
import { temporaryFolder } from "../support/folder.js";
import { noShared, sharedModel } from "../support/shared.js";
import { heed, heedHere } from "./support.js";

const stories = sharedModel("stories260K");
describeUnless(!stories && noShared)("generate with llama2.c's files", () => {
  const published = stories ? readFileSync(path.join(stories, "EXPECTED_greedy.txt"), "utf8") : "";
  const generate = ["generate", "--temperature", "0", "--model"];

  test("generates the published story", async () => {
    const prompted = await heed([...generate, stories!, "--prompt", "Once upon a time", "--max-tokens", "60"]);
    expect(prompted).toMatchObject({ code: 0, stderr: "" });
    expect(prompted.stdout.length).toBeGreaterThan(100);
    expect(published.startsWith(prompted.stdout)).toBe(true);
    const whole = await heedHere([...generate, path.join(stories!, "stories260K.bin"), "--max-tokens", "256"]);
    expect(whole).toMatchObject({ code: 0, stdout: published.replace(/\n$/, ""), stderr: "" });
  });

  test("fills the context unless it is told to stop, at the temperature of the API", async () => {
    using model = await load(stories!, { kind: "causal", device: "cpu" });
    const { contextLength } = model.model.config;
    const flags = ["generate", "--model", stories!, "--device", "cpu", "--seed", "7", "--no-echo", "Once upon a time"];
    const { text, usage } = await model.generate("Once upon a time", { seed: 7, maxTokens: contextLength });
    expect(usage.completionTokens).toBeGreaterThan(256);
    expect(await heedHere(flags)).toMatchObject({ code: 0, stdout: text });
  });

  test("runs in 8 bits, and in no other number", async () => {
    const { code, stdout } = await heedHere([...generate, stories!, "--quantize", "int8", "--max-tokens", "60"]);
    expect(code).toBe(0);
    expect(published.startsWith(stdout)).toBe(true);
    const refused = await heedHere([...generate, stories!, "--quantize", "int5"]);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toMatch(/argument 'int5' is invalid. Allowed choices are int8, int4/);
  });

  test("has no chat template", async () => {
    const { code, stderr } = await heedHere([...generate, stories!, "--chat", "Hello"]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^error: chat: expected a model with a chat template, got one without\n$/);
  });
});

describe("generate with a folder in Hugging Face's format", () => {
  test("uses the model's own template, sampling options and end tokens", async () => {
    const folder = temporaryFolder();
    const put = (name: string, value: unknown) => writeFileSync(path.join(folder, name), JSON.stringify(value));
    using model = smallGpt("cpu", { vocabularySize: 269, contextLength: 128 });
    const tensors = Object.entries(model.stateDict()).map(
      ([name, tensor]) => ({ name, dtype: "F32", shape: tensor.shape, data: () => tensor.data() }) as const,
    );
    await writeSafetensors(path.join(folder, "model.safetensors"), tensors);
    put("config.json", toHuggingFaceGptConfig(model.config));
    put("tokenizer.json", byteLevelJson());
    put("tokenizer_config.json", {
      eos_token: "<|end|>",
      chat_template: "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>{% endfor %}",
    });
    put("generation_config.json", { do_sample: false });
    const run = (...flags: string[]) => heedHere(["generate", "--model", folder, "--max-tokens", "12", ...flags]);

    const greedy = await run("--temperature", "0", "hello");
    expect(greedy).toMatchObject({ code: 0, stderr: "" });
    expect(await run("hello")).toEqual(greedy);
    expect(await run("--seed", "1", "--temperature", "9", "hello")).not.toEqual(greedy);

    const long = "hello ".repeat(100);
    expect(await run(long)).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(
        /^error: generate: expected prompt to fit into the context of 128 tokens, got \d+; overflow: "slide" drops/,
      ) as string,
    });
    expect(await run("--overflow", "slide", "--no-echo", long)).toMatchObject({ code: 0, stderr: "" });

    const tokenizer = await HuggingFaceTokenizer.fromFolder(folder);
    const plain = await run("--no-echo", "user: hello");
    const chat = await run("--chat", "hello");
    const told = await run("--chat", "--system", "Be brief.", "hello");
    expect(new Set([plain.stdout, chat.stdout, told.stdout]).size).toBe(3);
    expect(chat).toMatchObject({ code: 0, stderr: "" });
    // The message ends with its text, or with the token that it names.
    const named = await run("--chat", "--temperature", "0", "hello<|end|>");
    const raw = await run("--chat", "--temperature", "0", "--raw-control-tokens", "hello<|end|>");
    expect(raw).toMatchObject({ code: 0, stderr: "" });
    expect(raw.stdout).not.toBe(named.stdout);
    expect(await run("--raw-control-tokens", "hello")).toMatchObject({ code: 2 });

    // The first generated token ends the text if the model's configuration names it as an end.
    const prompt = tokenizer.encode("hello");
    const [first] = await generateTokens(model, [prompt], { maxTokens: 1, temperature: 0 });
    put("generation_config.json", { do_sample: false, eos_token_id: [first!.tokens[0]] });
    expect(await run("--no-echo", "hello")).toMatchObject({ code: 0, stdout: "", stderr: "" });
  });
});
