/** Tests the limits of a server's memory: what they refuse, how models share it, and what the metrics say about it. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { expect, test } from "vitest";
import { LanguageModel } from "../../lib/load/language-model.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import type { ServedSummary } from "../../lib/server/index.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { heed, main } from "../cli/support.js";
import { smallGpt } from "../generate/models.js";
import { sharedFolder } from "../support/folder.js";
import { nightly } from "../support/nightly.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";
import { startServe } from "./process.js";
import { chatModel, embeddingModel, type ErrorBody, start } from "./support.js";

const folder = sharedFolder();
/** Bytes of a token's keys and values in `chatModel`: 2 layers of width 32 in f32. */
const tokenBytes = 2 * 2 * 32 * 4;

interface Completion {
  choices: { finish_reason: string }[];
  usage: { prompt_tokens: number; completion_tokens: number };
}

test("a prompt that can never fit into the memory gets 400, with what it needs and what there is", async () => {
  const chosen: ServedSummary[] = [];
  const kvMemory = 40 * tokenBytes;
  const { url, post, answer } = await start({
    ...{ models: { tiny: chatModel(), vectors: embeddingModel() }, engine: { kvMemory, pageSize: 8 } },
    onModels: (models) => chosen.push(...models),
  });
  expect(chosen).toEqual([
    {
      ...{ id: "tiny", dtype: "f32", device: "cpu", activations: null, contextLength: 40, kvMemory, kvType: "f32" },
      weightsBytes: expect.any(Number) as number,
    },
    expect.objectContaining({ id: "vectors", contextLength: 12, kvMemory: null, kvType: null }),
  ]);
  const refusal = async (path: string, body: object): Promise<ErrorBody["error"]> => {
    const response = await post(path, body);
    expect(response.status).toBe(400);
    return ((await response.json()) as ErrorBody).error;
  };
  const tokens = (count: number): number[] => Array<number>(count).fill(5);
  const error = await refusal("/v1/completions", { prompt: tokens(51) });
  expect(error).toMatchObject({ type: "invalid_request_error", param: "prompt", code: "context_length_exceeded" });
  expect(error.message).toBe(
    `This model's maximum context length is 40 tokens. However, the prompt has 51. Its keys and values need ${56 * tokenBytes} bytes, and the server has ${kvMemory} for them. Shorten it.`,
  );
  // Of a text, no more is encoded than shows that it does not fit.
  const text = "so it is ".repeat(40);
  expect((await refusal("/v1/completions", { prompt: text })).message).toContain(`need more than ${kvMemory} bytes`);
  const messages = [{ role: "user", content: text }];
  expect((await refusal("/v1/chat/completions", { messages })).message).toContain(`has ${kvMemory} for them`);
  expect((await refusal("/v1/responses", { input: text })).message).toContain(`has ${kvMemory} for them`);
  // What fits is answered, as far as the memory goes.
  const { choices, usage } = await answer<Completion>("/v1/completions", { prompt: tokens(40), max_tokens: 500 });
  expect([usage.prompt_tokens, usage.completion_tokens, choices[0]!.finish_reason]).toEqual([40, 1, "length"]);
  const models = (await (await fetch(`${url}/v1/models`)).json()) as { data: { max_model_len: number }[] };
  expect(models.data.map((model) => model.max_model_len)).toEqual([40, 12]);
});

test("a context that was chosen is named alone, and the metrics say what was chosen", async () => {
  const { url, post, metric } = await start({ models: { tiny: chatModel() }, engine: { context: 50 } });
  const response = await post("/v1/completions", { prompt: Array<number>(51).fill(5) });
  const { error } = (await response.json()) as ErrorBody;
  expect(error.message).toBe(
    "This model's maximum context length is 50 tokens. However, the prompt has 51. Shorten it.",
  );
  expect(await metric("heed_engine_context_tokens")).toBe(50);
  expect(await metric("heed_engine_kv_limit_bytes")).toBe(64 * 64 * tokenBytes);
  expect(await metric("heed_model_weights_bytes")).toBe(chatModel().model.bytes);
  const text = await (await fetch(`${url}/metrics`)).text();
  expect(text).toContain('heed_model_info{model="tiny",dtype="f32",kv_type="f32",device="cpu"} 1');
  for (const part of ["weights", "keys_and_values", "work", "heap", "program"])
    expect(text).toMatch(new RegExp(`^heed_memory_bytes\\{part="${part}"\\} \\d+`, "m"));
});

test("models share the memory by the size of their tokens", async () => {
  const wide = new LanguageModel({
    model: smallGpt("cpu", { vocabularySize: 272, contextLength: 4096, layers: 6 }),
    tokenizer: chatModel().tokenizer,
  });
  const chosen: ServedSummary[] = [];
  const onModels = (models: readonly ServedSummary[]): void => void chosen.push(...models);
  const kvMemory = 4000 * tokenBytes;
  await start({ models: { small: chatModel(), wide }, engine: { kvMemory, pageSize: 8 }, onModels });
  // A token of the wide one takes three times as much.
  expect(chosen.map((one) => one.kvMemory)).toEqual([1000 * tokenBytes, 3000 * tokenBytes]);
  expect(chosen.map((one) => one.contextLength)).toEqual([96, 1000]);
  const none = start({ models: { small: chatModel(), wide }, engine: { kvMemory: tokenBytes } });
  await expect(none).rejects.toThrow(/kvMemory of at least \d+ bytes.*each of 2 models.*got 1024|got 512/);
});

test("the command line: flags, the first lines, and heed info", async () => {
  using model = smallGpt("cpu", { vocabularySize: 272, contextLength: 4096 });
  const tokenizer = new HuggingFaceTokenizer(byteLevelJson(), { config: { eos_token: "<|end|>" } });
  const at = path.join(folder, "whale");
  await savePretrained(at, model, { tokenizer, dtype: "bf16" });
  // 128 tokens, of 256 bytes in bf16.
  const limits = ["--kv-memory", "32KiB", "--context", "100"];
  const line =
    /^whale: bf16 on cpu, \d+ KiB of weights, a context of 100 tokens, at most 32\.0 KiB of keys and values in bf16$/m;
  const flags = ["--model", at, ...limits, "--device", "cpu"];
  const child = spawn(process.execPath, [main, "serve", "--port", "0", "--log-level", "silent", ...flags]);
  let said = "";
  child.stderr.on("data", (data: Buffer) => {
    said += data.toString();
    // A second SIGTERM would end the process at once.
    if (!child.killed && /^Serving /m.test(said)) child.kill("SIGTERM");
  });
  expect(await once(child, "exit")).toEqual([0, null]);
  expect(said).toMatch(line);
  expect(said.indexOf("whale: bf16")).toBeLessThan(said.indexOf("Serving"));
  const { stdout } = await heed(["info", ...flags]);
  expect(stdout).toMatch(new RegExp(line.source.replace("^", "^model "), "m"));
  expect(stdout).toMatch(/^memory {2,}\d+(\.\d+)? GiB, of which \S+ [GM]iB are available$/m);
  const long = await heed(["generate", ...flags, "so it is ".repeat(30)]);
  expect(long).toMatchObject({ code: 2, stderr: expect.stringMatching(/context of 100 tokens, got \d+/) as string });
  const short = ["generate", "--model", at, "--device", "cpu", "--kv-memory", "16K", "x ".repeat(90)];
  expect((await heed(short)).stderr).toMatch(
    /context of 64 tokens, got \d+: .*need \d+ bytes, and there are 16384 for/,
  );
  for (const [flag, value, message] of [
    ["--kv-memory", "much", "Expected a number of bytes, such as 2000000, 512MiB or 1.5GiB."],
    ["--kv-memory", "0", "Expected a number of bytes"],
    ["--kv-memory", "1.5XiB", "Expected a number of bytes"],
    ["--kv-memory", "100", "expected kvMemory of at least 16384 bytes"],
    ["--context", "0", "Expected an integer of at least 1."],
  ] as const) {
    const { code, stderr } = await heed(["serve", "--port", "0", "--model", at, flag, value]);
    expect([code, stderr]).toEqual([2, expect.stringContaining(message)]);
  }
});

/** Load of a server, and the bytes of keys and values that it needs at least. */
const load = nightly
  ? { words: 550, clients: 12, layers: 24, tokens: 200, bytes: 2 ** 29 }
  : { words: 110, clients: 4, layers: 12, tokens: 8, bytes: 2 ** 25 };

test("what the process takes is what it says, while the memory grows", async () => {
  const size = { vocabularySize: 272, contextLength: 8192, layers: load.layers, heads: 8, width: 256 };
  using model = smallGpt("cpu", size);
  const at = path.join(folder, "large");
  await savePretrained(at, model, { tokenizer: chatModel().tokenizer });
  const { url, metric, end } = await startServe(["--model", at, "--device", "cpu", "--no-playground"]);
  const ask = async (i: number): Promise<number> => {
    const body = { prompt: `${i} so it is `.repeat(load.words), max_tokens: load.tokens, min_tokens: load.tokens };
    const init = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
    return (await fetch(`${url}/v1/completions`, init)).status;
  };
  const statuses = Array.from({ length: load.clients }, (_, i) => ask(i));
  expect(new Set(await Promise.all(statuses))).toEqual(new Set([200]));
  const [said, taken] = [await metric("heed_memory_bytes"), await metric("process_resident_memory_bytes")];
  expect(await metric("heed_engine_kv_bytes")).toBeGreaterThan(load.bytes);
  expect(Math.abs(taken / said - 1), `${taken} bytes, and the parts are ${said}`).toBeLessThan(0.15);
  expect(await end("SIGTERM")).toBe(0);
}, 600_000);
