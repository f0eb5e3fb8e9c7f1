import { writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { devices } from "../../lib/core/device.js";
import { noKernels } from "../support/cuda.js";
import { temporaryFolder } from "../support/folder.js";
import { heed, heedHere } from "./support.js";

describe("help", () => {
  test.for([
    ["--help"],
    ["help"],
    ["train", "--help"],
    ["generate", "--help"],
    ["serve", "--help"],
    ["batch", "--help"],
    ["convert", "--help"],
    ["quantize", "--help"],
    ["translate", "--help"],
    ["inspect", "--help"],
    ["info", "--help"],
    ["help", "train"],
  ])("heed %s", async (args) => {
    const { code, stdout, stderr } = await heedHere(args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^Usage: heed /);
    expect(stdout).toMatch(/Examples:\n {2}\$ heed /);
  });

  test("the version is the package's", async () => {
    const { version } = (await import("../../package.json", { with: { type: "json" } })).default;
    expect(await heed(["--version"])).toMatchObject({ code: 0, stdout: `${version}\n`, stderr: "" });
  });

  test("a missing command is wrong usage, and lists the commands", async () => {
    const { code, stderr } = await heed([]);
    expect(code).toBe(2);
    expect(stderr).toContain("Commands:\n  train");
  });
});

test("info shows versions, devices and why one is not available", async () => {
  const report = async (env: NodeJS.ProcessEnv): Promise<string> => {
    const { code, stdout, stderr } = await heed(["info"], { env });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^heed {2,}\d+\.\d+\.\d+\nNode\.js {2,}v\d/);
    expect(stdout).toMatch(/instruction set {2}\w+ \(supported: portable/);
    expect(stdout).toMatch(/threads {2,}\d+ on \d+ cores/);
    expect(stdout).toMatch(/device cpu {2,}\S/);
    return stdout;
  };
  const missing = "the driver library named by HEED_CUDA_DRIVER cannot be loaded: ";
  expect(await report({ HEED_CUDA_DRIVER: "/nonexistent/libcuda.so.1" })).toMatch(
    new RegExp(
      `device cuda {2,}not available: ${noKernels === null ? missing : "this build of heed has no CUDA kernels: "}`,
    ),
  );
  const found = await report({});
  for (const { name, available, description } of devices().slice(1)) {
    const line = found.split("\n").find((line) => line.startsWith(`device ${name} `));
    expect(line?.slice(`device ${name}`.length).trim()).toBe(available ? description : `not available: ${description}`);
  }
});

/** Wrong usage gives one line on stderr and exit code 2; a failure in spite of correct usage gives exit code 1. */
describe("errors take one line", () => {
  const out = ["--out", "run"];
  const data = ["--data", "book.txt"];
  const train = ["train", ...data, ...out];
  const generate = ["generate", "--model", "none", "x"];
  test.for<[number, string[], string]>([
    [2, ["trian"], "error: unknown command 'trian' (Did you mean train?)"],
    [2, ["train", ...data], "error: required option '--out <folder>' not specified"],
    [2, ["train", ...out], "error: required option '--data <file>' not specified"],
    [2, ["generate", "x"], "error: required option '--model <name>' not specified"],
    [2, [...train, "--layer", "2"], "error: unknown option '--layer' (Did you mean --layers?)"],
    [2, [...train, "--layers"], "error: option '--layers <n>' argument missing"],
    [
      2,
      [...train, "--layers", "0"],
      "error: option '--layers <n>' argument '0' is invalid. Expected an integer of at least 1.",
    ],
    [2, [...train, "--layers", "2.5"], "Expected an integer of at least 1."],
    [2, [...train, "--layers", "two"], "Expected an integer of at least 1."],
    [2, [...train, "--layers", ""], "Expected an integer of at least 1."],
    [2, [...train, "--threads", "257"], "Expected an integer from 1 to 256."],
    [2, [...train, "--lr", "-1"], "Expected a number of at least 0."],
    [2, [...train, "--lr", "Infinity"], "Expected a number of at most 3.4028234663852886e+38."],
    [2, [...train, "--dropout", "1.1"], "Expected a number from 0 to 1."],
    [
      2,
      [...train, "--tokenizer", "word"],
      "error: option '--tokenizer <kind>' argument 'word' is invalid. Allowed choices are char, byte, gpt2.",
    ],
    [2, [...train, "extra"], "error: too many arguments for 'train'. Expected 0 arguments but got 1."],
    [2, [...train, "--heads", "3"], "error: GPT: expected width to be a multiple of 3 heads, got 128"],
    [
      2,
      [...train, "--steps", "5", "--warmup", "6"],
      "error: Trainer: expected warmup to be an integer from 0 to 5, got 6",
    ],
    [2, [...train, "--min-lr", "1"], "error: Trainer: expected minLr to be a number from 0 to 0.001, got 1"],
    [2, [...train, "--resume"], "error: --out run: contains no run to resume"],
    [2, ["train", "--resume", ...out], "error: --out run: contains no run to resume"],
    [2, [...generate, "--top-p", "0"], "Expected a number from 1.401298464324817e-45 to 1."],
    [2, [...generate, "y"], "error: too many arguments for 'generate'. Expected 1 argument but got 2."],
    [2, [...generate, "--top-p", "1e-60"], "Expected a number from 1.401298464324817e-45 to 1."],
    [2, [...generate, "--temperature", "1e39"], "Expected a number of at most 3.4028234663852886e+38."],
    [2, [...generate, "--repetition-penalty", "1e300"], "Expected a number of at most 3.4028234663852886e+38."],
    [2, [...generate, "--stop", ""], "Expected a text that is not empty."],
    [2, [...generate, "--device", "tpu"], "Expected cpu, cuda, cuda:1, … or auto."],
    [2, [...train, "--device", "cuda:x"], "Expected cpu, cuda, cuda:1, … or auto."],
    [2, ["translate", "--model", "none", "--device", "gpu", "x"], "Expected cpu, cuda, cuda:1, … or auto."],
    [2, [...train, "--lr", "1e39"], "Expected a number of at most 3.4028234663852886e+38."],
    [2, ["train", "--data", "", ...out], "Expected a text that is not empty."],
    [2, ["train", ...data, "--out", ""], "Expected a text that is not empty."],
    [2, ["generate", "--model", "", "x"], "Expected a text that is not empty."],
    [2, ["convert", "--model", "none", "--out", ""], "Expected a text that is not empty."],
    [2, ["info", "--json"], "error: unknown option '--json'"],
    [1, ["train", "--data", "none.txt", ...out], "none.txt: ENOENT: no such file or directory"],
    [2, ["train", "--data", ".", ...out], "expected a file or a pattern of files, got a folder"],
    [1, ["train", "--data", "empty.txt", ...out], "empty.txt: expected a text, got an empty file"],
    [
      1,
      ["train", "--data", "short.txt", ...out],
      "short.txt: expected more than the 128 tokens of --context for training, got 90",
    ],
    [
      1,
      ["train", "--data", "short.txt", ...out, "--context", "20"],
      "short.txt: expected more than the 20 tokens of --context for validation, got 10",
    ],
    [1, ["train", ...data, "--out", "book.txt"], "error: book.txt: EEXIST: file already exists"],
    [1, ["train", ...data, "--validation", "none.txt", ...out], "none.txt: ENOENT"],
    [2, ["serve"], "error: required option '--model <name>' not specified"],
    [2, ["serve", "--model", "a", "--port", "70000"], "Expected an integer from 0 to 65535."],
    [2, ["serve", "--model", "a", "--name", "x", "--name", "y"], "error: --name: expected one for each of 1 models"],
    [2, ["serve", "--model", "a/x", "--model", "b/x"], "error: --name: expected different names, got x, x"],
    [2, ["serve", "--model", "a", "--tls-key", "k"], "error: --tls-cert: expected it together with --tls-key"],
    [1, ["serve", "--model", "a", "--api-keys", "none.txt"], "none.txt: ENOENT"],
    [1, ["serve", "--model", "a", "--api-keys", "empty.txt"], "empty.txt: expected API keys, one a line, got none"],
    [1, ["serve", "--model", "none"], "error: none: expected a run of heed"],
    [2, [...generate, "--prompt", "y"], "error: --prompt: expected one prompt, got another as an argument"],
    [2, [...generate, "--system", "y"], "error: --system: works only with --chat"],
    [
      1,
      generate,
      "error: none: expected a run of heed (train --out), a Hugging Face folder (config.json), a CTranslate2 folder",
    ],
    [1, ["generate", "--model", "book.txt"], "got a file of another kind"],
  ])("exit code %d: heed %s", async ([expected, args, message]) => {
    const cwd = temporaryFolder();
    writeFileSync(path.join(cwd, "book.txt"), "All the rest is silence. ".repeat(100));
    writeFileSync(path.join(cwd, "short.txt"), "silence ...".repeat(10).slice(0, 100));
    writeFileSync(path.join(cwd, "empty.txt"), "");
    const { code, stdout, stderr } = await heedHere(args, cwd);
    expect(stderr).toContain(message);
    expect(stderr).toMatch(/^error: [^\n]*\n$/);
    expect({ code, stdout }).toEqual({ code: expected, stdout: "" });
  });

  test("a prompt that the model's tokenizer turns into no tokens", async () => {
    const cwd = temporaryFolder();
    writeFileSync(path.join(cwd, "book.txt"), "All the rest is silence. ".repeat(100));
    const size = [
      "--steps",
      "1",
      "--layers",
      "1",
      "--width",
      "8",
      "--heads",
      "1",
      "--context",
      "8",
      "--batch-size",
      "1",
    ];
    expect(await heedHere([...train, ...size], cwd)).toMatchObject({ code: 0 });
    for (const [prompt, message] of [
      ["", "error: generate: expected a prompt that is not empty"],
      ["xyz", 'error: CharTokenizer: expected only characters of the vocabulary, got "x"'],
    ] as const) {
      const ended = await heedHere(["generate", "--model", "run", prompt], cwd);
      expect(ended).toMatchObject({ code: 2, stdout: "" });
      expect(ended.stderr).toContain(message);
    }
  });

  test("HEED_DEBUG=1 adds the place of the error", async () => {
    const { code, stderr } = await heed(generate, { env: { HEED_DEBUG: "1" } });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error: none: .*\nHeedError: none: .*\n {4}at /);
  });
});
