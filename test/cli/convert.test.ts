import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { readGguf } from "../../lib/formats/gguf.js";
import { readLlama2c } from "../../lib/formats/llama2c.js";
import { readSafetensors } from "../../lib/formats/safetensors.js";
import { GPT } from "../../lib/models/gpt.js";
import type { QuantizedWeight } from "../../lib/nn/quantized-weight.js";
import { quantizationOf } from "../../lib/nn/quantization.js";
import { quantizeBySearch } from "../../lib/pretrained/gptq/quantize-by-search.js";
import { loadModel } from "../../lib/pretrained/load-model.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { CharTokenizer } from "../../lib/tokenizer/char-tokenizer.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { saveCheckpoint } from "../../lib/train/checkpoint.js";
import { temporaryFolder } from "../support/folder.js";
import { noShared, sharedModel } from "../support/shared.js";
import { describeUnless } from "../support/skip.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";
import { heed, heedHere } from "./support.js";

const stories = sharedModel("stories260K");
describeUnless(!stories && noShared)("stories260K from format to format", () => {
  test("generates the same story in each", { timeout: 60_000 }, async () => {
    const cwd = temporaryFolder();
    const published = readFileSync(path.join(stories!, "EXPECTED_greedy.txt"), "utf8");
    const notice =
      "stored in f16 instead of q8_0, whose blocks do not fit rows of 172: 5 × blk.*.ffn_down.weight [64, 172]\n";
    const convert = async (from: string, to: string, ...flags: string[]) => {
      expect(await heed(["convert", "--model", from, "--out", to, ...flags], { cwd })).toEqual({
        code: 0,
        signal: null,
        stdout: `${flags.includes("q8_0") ? notice : ""}saved in ${to}; try: heed generate --model ${to} "…"\n`,
        stderr: "",
      });
      const generate = ["generate", "--model", to, "--temperature", "0", "--max-tokens", "40", "--prompt"];
      const { code, stdout, stderr } = await heedHere([...generate, "Once upon a time"], cwd);
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      expect(stdout.length).toBeGreaterThan(60);
      expect(published.startsWith(stdout), `${to}: ${stdout}`).toBe(true);
    };
    await convert(stories!, "a.gguf", "--dtype", "q8_0");
    await convert(stories!, "folder");
    await convert("folder", "b.gguf");
    await convert("b.gguf", "half", "--dtype", "bf16");
    await convert("b.gguf", "new/c.bin");
    expect(readdirSync(path.join(cwd, "new")).sort()).toEqual(["c.bin", "tokenizer.bin"]);

    await using quantised = await readGguf(path.join(cwd, "a.gguf"));
    expect(quantised.tensors.get("blk.0.attn_q.weight")!.dtype).toBe("Q8_0");
    expect(quantised.metadata.get("general.name")).toBe("a");
    await using half = await readSafetensors(path.join(cwd, "half", "model.safetensors"));
    expect(half.tensors.get("model.norm.weight")!.dtype).toBe("BF16");
    // After f32 in every format in between, the file is the published one: the weights are equal to the bit, and the
    // tables almost.
    await using original = await readLlama2c(path.join(stories!, "stories260K.bin"));
    await using last = await readLlama2c(path.join(cwd, "new", "c.bin"));
    expect(last.config).toEqual(original.config);
    for (const name of original.tensors.keys())
      expect(await last.readFloats(name), name).toEqual(await original.readFloats(name));
    const tables = [path.join(stories!, "stories260K.bin"), path.join(cwd, "new", "c.bin")].map((file) => {
      const bytes = readFileSync(file);
      return new Float32Array(
        bytes.buffer.slice(bytes.byteOffset + bytes.length - 512 * 8 * 4, bytes.byteOffset + bytes.length),
      );
    });
    for (const [i, value] of tables[0]!.entries()) expect(Math.abs(tables[1]![i]! - value)).toBeLessThan(1e-3);
  });
});

/** Makes a run's folder with a model of characters. */
async function run(cwd: string): Promise<void> {
  const size = { vocabularySize: 3, contextLength: 8, layers: 1, heads: 1, width: 4 };
  using model = new GPT(size, { device: "cpu", seed: 3 });
  using optimizer = new AdamW(model.namedParameters());
  const state = { step: 1, seconds: 0, seed: 0, dropoutSeed: 0, options: {} };
  await saveCheckpoint(path.join(cwd, "run"), { model, optimizer, tokenizer: new CharTokenizer("abc"), state });
}

test("a run becomes a folder that generates the same", async () => {
  const cwd = temporaryFolder();
  await run(cwd);
  expect(await heed(["convert", "--model", "run", "--out", "saved"], { cwd })).toMatchObject({ code: 0, stderr: "" });
  expect(readdirSync(path.join(cwd, "saved")).sort()).toEqual([
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
  ]);
  const generate = (name: string) => heedHere(["generate", "--model", name, "--seed", "4", "ab"], cwd);
  expect(await generate("saved")).toEqual(await generate("run"));
});

test("a GGUF file keeps the tokens that end a text, and the options of sampling", async () => {
  const cwd = temporaryFolder();
  const config = { vocabularySize: 270, contextLength: 8, layers: 1, heads: 1, width: 4 };
  using model = new GPT(config, { device: "cpu", seed: 3 });
  const defaults = { stopTokens: [266, 267], temperature: 0.6, topP: 0.9 };
  const tokenizer = new HuggingFaceTokenizer(byteLevelJson(), { config: { eos_token: "<|end|>" } });
  await savePretrained(path.join(cwd, "folder"), model, { tokenizer, defaults });
  expect(await heed(["convert", "--model", "folder", "--out", "a.gguf"], { cwd })).toMatchObject({
    code: 0,
    stderr: "",
  });
  const loaded = await loadModel(path.join(cwd, "a.gguf"), { device: "cpu" });
  loaded.model.dispose();
  expect(loaded.defaults).toEqual(defaults);
});

/** Saves a GPT in a new folder, and a text beside it, and returns how to quantise it. */
async function quantizing(sizes: { width: number; feedForwardWidth: number }) {
  const cwd = temporaryFolder();
  const config = { vocabularySize: 270, contextLength: 8, layers: 2, heads: 4, ...sizes };
  using model = new GPT(config, { device: "cpu", seed: 3 });
  const tokenizer = new HuggingFaceTokenizer(byteLevelJson(), { config: { eos_token: "<|end|>" } });
  await savePretrained(path.join(cwd, "folder"), model, { tokenizer });
  writeFileSync(path.join(cwd, "text.txt"), "a text of more than eight tokens, for calibration");
  const quantize = (...flags: string[]) =>
    heedHere(["quantize", "--model", "folder", "--device", "cpu", ...flags], cwd);
  return { cwd, tokenizer, quantize };
}

test("heed quantize reads a text and writes matrices in blocks", async () => {
  const { cwd, quantize } = await quantizing({ width: 256, feedForwardWidth: 64 });
  expect(await quantize("--out", "a.gguf", "--calibrate", "text.txt")).toEqual({
    ...{ code: 0, signal: null, stderr: "" },
    stdout: `stored in q8_0 instead of q4_k, whose blocks do not fit rows of 64: 2 × blk.*.ffn_down.weight [256, 64]
saved in a.gguf; try: heed generate --model a.gguf "…"
`,
  });
  expect(await quantize("--out", "b.gguf", "--type", "q4_0")).toMatchObject({
    ...{ code: 0, stdout: 'saved in b.gguf; try: heed generate --model b.gguf "…"\n' },
  });
  // With a text, q4_0 has the codes of GPTQ, and so other bytes.
  const calibrated = await quantize("--out", "c.gguf", "--type", "q4_0", "--calibrate", "text.txt");
  expect(calibrated).toMatchObject({ code: 0, stdout: expect.stringContaining("saved in c.gguf") });
  const [plain, chosen] = ["b.gguf", "c.gguf"].map((name) => readFileSync(path.join(cwd, name)));
  expect(chosen!.length).toBe(plain!.length);
  expect(chosen!.equals(plain!)).toBe(false);
  await using written = await readGguf(path.join(cwd, "a.gguf"));
  const types = ["token_embd", "blk.0.attn_qkv", "blk.0.ffn_up", "blk.0.ffn_down", "position_embd"];
  expect(types.map((name) => written.tensors.get(`${name}.weight`)!.dtype)).toEqual(
    ["Q6_K", "Q4_K", "Q4_K", "Q8_0", "F32"], // rows of 64 numbers do not fill blocks of 256
  );
  const loaded = await loadModel(path.join(cwd, "a.gguf"), { device: "cpu" });
  expect(loaded.model.isQuantized).toBe(true);
  loaded.model.dispose();
  expect(await quantize("--out", "folder2")).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("expected the name of a .gguf file"),
  });
});

test("heed quantize writes a folder in heed's own codes, which other commands read", async () => {
  const { cwd, tokenizer, quantize } = await quantizing({ width: 64, feedForwardWidth: 73 });
  const cases = [
    ["a", "int8", 32],
    ["b", "int4", 32],
    ["c", "int4", 64],
  ] as const;
  for (const [to, type, groupSize] of cases) {
    expect(
      await quantize("--out", to, "--type", type, ...(groupSize === 64 ? ["--group-size", "64"] : [])),
    ).toMatchObject({ code: 0, stderr: "", stdout: `saved in ${to}; try: heed generate --model ${to} "…"\n` });
    const loaded = await loadModel(path.join(cwd, to), { device: "cpu" });
    const bits = type === "int8" ? 8 : 4;
    expect(quantizationOf("test", loaded.model)).toEqual({ bits, groupSize });
    expect(loaded.tokenizer!.encode("a text")).toEqual(tokenizer.encode("a text"));
    // The same codes as in a program.
    using same = (await loadModel(path.join(cwd, "folder"), { device: "cpu" })).model;
    await quantizeBySearch(same, { bits, groupSize });
    const codesOf = (model: object): Promise<Uint8Array> =>
      ((model as GPT).h[1]!.mlp.c_proj.quantized as QuantizedWeight).codes.data();
    expect(await codesOf(loaded.model)).toEqual(await codesOf(same));
    loaded.model.dispose();
  }
  expect(await quantize("--out", "d", "--type", "int4", "--calibrate", "text.txt")).toMatchObject({ code: 0 });
  const weights = (name: string) => readFileSync(path.join(cwd, name, "model.safetensors"));
  expect(weights("d").length).toBe(weights("b").length);
  expect(weights("d").equals(weights("b"))).toBe(false);
  const generate = ["generate", "--model", "d", "--temperature", "0", "--max-tokens", "4", "ab"];
  expect(await heedHere(generate, cwd)).toMatchObject({ code: 0, stderr: "" });
  expect(await heedHere(["convert", "--model", "d", "--out", "e"], cwd)).toMatchObject({ code: 0, stderr: "" });
  for (const [flags, message] of [
    [["--out", "d", "--type", "int4"], "d exists already; add --force to replace it"],
    [["--out", "e.gguf", "--type", "int4"], "--out e.gguf: expected the name of a folder for --type int4"],
    [["--out", "e.gguf", "--group-size", "64"], "--group-size: works only with --type int8 or int4"],
    [["--out", "f", "--type", "int4", "--group-size", "16"], "--group-size"],
  ] as const)
    expect(await quantize(...flags)).toMatchObject({ code: 2, stderr: expect.stringContaining(message) });
  expect(await quantize("--out", "d", "--type", "int8", "--force")).toMatchObject({ code: 0 });
});

test("existing files are replaced only with --force, and errors take one line", async () => {
  const cwd = temporaryFolder();
  await run(cwd);
  mkdirSync(path.join(cwd, "folder"));
  writeFileSync(path.join(cwd, "folder", "README.md"), "mine");
  for (const name of ["a.gguf", "b.bin", "tokenizer.bin"]) writeFileSync(path.join(cwd, name), "mine");
  const convert = (...flags: string[]) => heedHere(["convert", "--model", "run", ...flags], cwd);
  for (const [flags, code, message] of [
    [["--out", "folder"], 2, "--out folder: folder exists already; add --force to replace it"],
    [["--out", "a.gguf"], 2, "--out a.gguf: a.gguf exists already; add --force to replace it"],
    [["--out", "c.bin"], 2, "--out c.bin: tokenizer.bin exists already; add --force to replace it"],
    [["--out", "x", "--dtype", "q8_0"], 2, "--dtype q8_0: works only if --out ends in .gguf"],
    [["--out", "x.bin", "--dtype", "bf16"], 2, "--dtype bf16: llama2.c files store f32 only"],
    [
      ["--out", "x", "--dtype", "f64"],
      2,
      "argument 'f64' is invalid. Allowed choices are f32, bf16, f16, q8_0, q4_0, q4_k, q5_k, q6_k.",
    ],
    [[], 2, "required option '--out <name>' not specified"],
    [["--out", "x.gguf"], 1, "expected a byte-pair tokenizer that a GGUF file can describe, got one that splits text"],
    [["--out", "b.bin", "--force"], 1, "saveLlama2c: expected a Llama, got an object"],
    [["--out", "x", "--model", "none"], 1, "none: expected a run of heed"],
  ] as [string[], number, string][]) {
    const ended = await convert(...flags);
    expect(ended.stderr).toContain(message);
    expect(ended.stderr).toMatch(/^error: [^\n]*\n$/);
    expect({ code: ended.code, stdout: ended.stdout }).toEqual({ code, stdout: "" });
  }
  expect(readFileSync(path.join(cwd, "b.bin"), "utf8")).toBe("mine");
  expect(await convert("--out", "folder", "--force")).toMatchObject({ code: 0, stderr: "" });
  expect(readdirSync(path.join(cwd, "folder"))).toContain("README.md");
});
