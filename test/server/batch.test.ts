/** Files of requests: each line of the input has one answer in the output, also if runs are killed. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  existsSync,
  linkSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { runBatch } from "../../lib/server/index.js";
import { heed, main } from "../cli/support.js";
import { expectRejection } from "../support/errors.js";
import { sharedFolder, temporaryFolder } from "../support/folder.js";
import { chatModel, embeddingModel, type ErrorBody, until } from "./support.js";

interface Line {
  custom_id: string;
  response: { status_code: number; body: Partial<ErrorBody> & { choices: { text: string }[] } };
  error: null;
}

const model = chatModel();
const folder = sharedFolder();
const models = { tiny: model, minilm: embeddingModel() };

const request = (name: string, body: object, url = "/v1/completions"): string =>
  JSON.stringify({ custom_id: name, method: "POST", url, body });
const linesOf = (file: string): Line[] =>
  readFileSync(file, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);

/** Writes an input with these lines and returns the names of the input and the output. */
function files(...lines: string[]): [input: string, output: string] {
  const own = temporaryFolder();
  const input = path.join(own, "in.jsonl");
  writeFileSync(input, lines.join("\n"));
  return [input, path.join(own, "out.jsonl")];
}

describe("runBatch", () => {
  test("answers each line, also those that fail", async () => {
    const messages = [{ role: "user", content: "Why?" }];
    const [input, output] = files(
      request("text", { model: "tiny", prompt: "Call me", max_tokens: 5, seed: 1 }),
      request("chat", { model: "tiny", messages, max_tokens: 5, seed: 1 }, "/v1/chat/completions"),
      "",
      request("vector", { model: "minilm", input: "the whale" }, "/v1/embeddings"),
      request("wrong", { model: "tiny", prompt: "a", temperature: 9 }),
      request("streamed", { model: "tiny", prompt: "a", stream: true }),
      request("other", { model: "gpt-4o", prompt: "a" }),
    );
    expect(await runBatch(input, output, { models })).toEqual({ total: 6, earlier: 0, failed: 3 });
    const lines = new Map(linesOf(output).map((line) => [line.custom_id, line.response]));
    expect(lines.size).toBe(6);
    const expected = await model.generate("Call me", { maxTokens: 5, seed: 1 });
    expect(lines.get("text")).toMatchObject({ status_code: 200, body: { choices: [{ text: expected.text }] } });
    expect(lines.get("chat")).toMatchObject({ status_code: 200, body: { object: "chat.completion" } });
    expect(lines.get("vector")).toMatchObject({ status_code: 200, body: { data: [{ index: 0 }] } });
    expect(lines.get("wrong")).toMatchObject({ status_code: 400, body: { error: { param: "temperature" } } });
    expect(lines.get("streamed")).toMatchObject({ status_code: 400, body: { error: { param: "stream" } } });
    expect(lines.get("other")).toMatchObject({ status_code: 404, body: { error: { code: "model_not_found" } } });
  });

  test("reads over a byte order mark, also that of an output that is continued", async () => {
    const names = ["a", "b"].map((name) => request(name, { prompt: name, max_tokens: 3 }));
    const [input, output] = files(`\ufeff${names[0]}`, names[1]!);
    expect(await runBatch(input, output, { models })).toEqual({ total: 2, earlier: 0, failed: 0 });
    writeFileSync(output, `\ufeff${readFileSync(output, "utf8")}`);
    expect(await runBatch(input, output, { models })).toEqual({ total: 2, earlier: 2, failed: 0 });
  });

  test("continues an output whose last line was cut off", async () => {
    const names = Array.from({ length: 6 }, (_, i) => `request ${i}`);
    const [input, output] = files(...names.map((name) => request(name, { prompt: name, max_tokens: 3, seed: 1 })));
    await runBatch(input, output, { models });
    const whole = readFileSync(output, "utf8");
    const lines = whole.trimEnd().split("\n");
    for (const cut of [0, 10, lines[0]!.length, lines[0]!.length + 1, whole.length - 1, whole.length]) {
      writeFileSync(output, whole.slice(0, cut));
      const earlier = whole.slice(0, cut).split("\n").length - 1;
      expect(await runBatch(input, output, { models })).toEqual({ total: 6, earlier, failed: 0 });
      expect(
        linesOf(output)
          .map((line) => line.custom_id)
          .sort(),
      ).toEqual(names);
    }
  });

  test.for<[string, string[], string]>([
    ["no JSON", ["{"], 'line 1: expected an object in JSON, got "{"'],
    ["no name", [JSON.stringify({ method: "POST" })], "line 1: expected custom_id to be a text, got undefined"],
    ["the same name", [request("a", {}), request("a", {})], "line 2: expected a custom_id that no line before has"],
    ["another method", [request("a", {}).replace("POST", "GET")], 'expected method to be "POST", got "GET"'],
    ["another route", [request("a", {}, "/v1/files")], "expected url to be /v1/chat/completions, "],
    ["no body", [request("a", 1 as never)], "expected body to be an object, got 1"],
  ])("an input with %s", async ([, lines, message]) => {
    const [input, output] = files(...lines);
    const running = runBatch(input, output, { models });
    await expect(running).rejects.toMatchObject({ code: "ERR_FORMAT", message: expect.stringContaining(message) });
    expect(existsSync(output)).toBe(false);
  });

  test("files that are missing or folders", async () => {
    const [input, output] = files(request("a", { prompt: "a", max_tokens: 1 }));
    await expect(runBatch(`${input}.none`, output, { models })).rejects.toMatchObject({ code: "ERR_IO" });
    await expect(runBatch(path.dirname(input), output, { models })).rejects.toMatchObject({ code: "ERR_IO" });
    await expect(runBatch(input, path.dirname(input), { models })).rejects.toMatchObject({ code: "ERR_IO" });
  });

  test("an output of another input is left as it is", async () => {
    const [input, output] = files(request("a", { prompt: "a", max_tokens: 1 }));
    const other = `${JSON.stringify({ custom_id: "b" })}\n`;
    writeFileSync(output, other);
    await expect(runBatch(input, output, { models })).rejects.toMatchObject({ code: "ERR_FORMAT" });
    expect(readFileSync(output, "utf8")).toBe(other);
  });

  test("an output that is the input, whatever it is called, is refused and left as it is", async () => {
    const [input] = files(request("a", { prompt: "a", max_tokens: 1 }));
    const own = path.dirname(input);
    // A run would remove this line, because it has no end.
    const before = readFileSync(input, "utf8");
    const names = [input, path.join(own, ".", "..", path.basename(own), "in.jsonl"), path.join(own, "soft")];
    symlinkSync("in.jsonl", names[2]!);
    linkSync(input, path.join(own, "hard"));
    symlinkSync(own, path.join(own, "folder"));
    const others = [path.join(own, "hard"), path.join(own, "folder", "in.jsonl"), path.join(own, "folder", "hard")];
    for (const output of [...names, ...others]) {
      const running = runBatch(input, output, { models });
      await expect(running, output).rejects.toMatchObject({ code: "ERR_ARGUMENT" });
      await expect(runBatch(names[2]!, output, { models }), output).rejects.toMatchObject({ code: "ERR_ARGUMENT" });
    }
    expect(readFileSync(input, "utf8")).toBe(before);
    expect(readdirSync(own).sort()).toEqual(["folder", "hard", "in.jsonl", "soft"]);
  });

  test("two runs never write to one output", async () => {
    const names = Array.from({ length: 20 }, (_, i) => `request ${i}`);
    const [input, output] = files(...names.map((name) => request(name, { prompt: name, max_tokens: 40 })));
    const [soft, hard] = [`${output}.soft`, `${output}.hard`];
    symlinkSync(output, soft);
    const first = runBatch(input, output, { models, concurrency: 2 });
    first.catch(() => undefined);
    await until(() => existsSync(output) && readFileSync(output, "utf8").includes("\n"));
    for (const again of [output, soft])
      await expect(runBatch(input, again, { models })).rejects.toMatchObject({ code: "ERR_BUSY" });
    // A hard link in another folder has no lock beside it; the first run notices the line that it has not written.
    linkSync(output, hard);
    appendFileSync(hard, "{}\n");
    await expect(first).rejects.toMatchObject({
      code: "ERR_BUSY",
      message: expect.stringContaining("another") as string,
    });
    expect(readdirSync(path.dirname(output)).filter((name) => name.endsWith(".lock"))).toEqual([]);
  });

  test("a run whose lock another one has taken writes nothing more", async () => {
    const names = Array.from({ length: 20 }, (_, i) => `request ${i}`);
    const [input, output] = files(...names.map((name) => request(name, { prompt: name, max_tokens: 40 })));
    const running = runBatch(input, output, { models, concurrency: 2 });
    running.catch(() => undefined);
    await until(() => existsSync(output) && readFileSync(output, "utf8").includes("\n"));
    const lock = path.join(`${output}.lock`, "lock");
    writeFileSync(lock, readFileSync(lock, "utf8").replace(/"token":"[^"]*"/, '"token":"other"'));
    await expect(running).rejects.toMatchObject({ code: "ERR_BUSY" });
    expect(linesOf(output).length).toBeLessThan(20);
    expect(existsSync(lock)).toBe(true);
  });

  test("a line without an end is refused before it fills the memory", async () => {
    const [input, output] = files(request("a", { prompt: "a", max_tokens: 1 }), "");
    // 2 GiB of zero bytes, which take no room on the disk and are no text that JavaScript can hold.
    truncateSync(input, 2 ** 31);
    const begin = performance.now();
    const running = runBatch(input, output, { models });
    await expect(running).rejects.toMatchObject({
      code: "ERR_FORMAT",
      message: expect.stringContaining("line 2: expected a line of at most 67108864 bytes") as string,
    });
    expect(performance.now() - begin).toBeLessThan(10_000);
  });

  test("requests for many answers wait for room, and one for more than there ever is fails alone", async () => {
    const engine = { maxSequences: 2, maxQueue: 4 };
    const ask = (name: string, n: number, prompts: number): string =>
      request(name, { prompt: Array(prompts).fill(name), n, max_tokens: 6 });
    const [input, output] = files(
      ...Array.from({ length: 12 }, (_, i) => ask(`three ${i}`, 3, 1)),
      ...[ask("six", 2, 3), ask("seven", 7, 1), ask("eight", 2, 4)],
      request("chat", { messages: [{ role: "user", content: "a" }], n: 7 }, "/v1/chat/completions"),
      ...Array.from({ length: 12 }, (_, i) => ask(`two ${i}`, 1, 2)),
    );
    expect(await runBatch(input, output, { models, engine })).toEqual({ total: 28, earlier: 0, failed: 3 });
    const lines = new Map(linesOf(output).map((line) => [line.custom_id, line.response]));
    for (const name of ["seven", "eight", "chat"])
      expect(lines.get(name)).toMatchObject({ status_code: 429, body: { error: { code: "too_many_answers" } } });
    expect(lines.get("six")!.body.choices).toHaveLength(6);
    expect(lines.get("three 11")!.body.choices).toHaveLength(3);
  });

  test("a signal stops it, and the next run continues", async () => {
    const names = Array.from({ length: 20 }, (_, i) => `request ${i}`);
    const [input, output] = files(...names.map((name) => request(name, { prompt: name, max_tokens: 40 })));
    const controller = new AbortController();
    const running = runBatch(input, output, { models, concurrency: 2, signal: controller.signal });
    running.catch(() => undefined);
    await until(() => existsSync(output) && readFileSync(output, "utf8").includes("\n"));
    controller.abort(new Error("enough"));
    await expect(running).rejects.toThrow("enough");
    const { earlier } = await runBatch(input, output, { models });
    expect(earlier).toBeGreaterThan(0);
    expect(earlier).toBeLessThan(20);
    expect(linesOf(output)).toHaveLength(20);
  });
});

/** A request whose message names a control token, with the number of tokens that its answer says the prompt has. */
const naming = request(
  "naming",
  { messages: [{ role: "user", content: "Why?<|end|>" }], max_tokens: 1 },
  "/v1/chat/completions",
);
const promptTokens = (output: string): number => {
  const { status_code, body } = linesOf(output)[0]!.response as { status_code: number; body: unknown };
  expect(status_code).toBe(200);
  return (body as { usage: { prompt_tokens: number } }).usage.prompt_tokens;
};

test("messages name no control tokens, unless the run is told so", async () => {
  const counts: number[] = [];
  for (const options of [{}, { rawControlTokens: false }, { rawControlTokens: true }]) {
    const [input, output] = files(naming);
    await runBatch(input, output, { models: { tiny: model }, ...options });
    counts.push(promptTokens(output));
  }
  // The name is one token, or as many as it has characters.
  expect(counts).toEqual([counts[2]! + "<|end|>".length - 1, counts[0], counts[2]]);
  const [input, output] = files(naming);
  const wrong = { models: { tiny: model }, rawControlTokens: "yes" as never };
  await expectRejection(runBatch(input, output, wrong), "ERR_ARGUMENT", /rawControlTokens/);
});

describe("heed batch", () => {
  test("refuses an output that is the input, before it loads a model", async () => {
    const [input] = files(request("a", { prompt: "a", max_tokens: 1 }));
    const { code, stderr } = await heed(["batch", input, `${path.dirname(input)}//./in.jsonl`, "--model", "none/such"]);
    expect(code).toBe(2);
    expect(stderr).toContain("expected another file for the output than for the input");
  });

  beforeAll(async () => {
    await savePretrained(path.join(folder, "whale"), model.model, { tokenizer: model.tokenizer });
  });

  test("takes the names of control tokens for these tokens if a flag says so", async () => {
    const counts: number[] = [];
    for (const flags of [[], ["--raw-control-tokens"]]) {
      const [input, output] = files(naming);
      expect(await heed(["batch", input, output, "--model", path.join(folder, "whale"), ...flags])).toMatchObject({
        code: 0,
      });
      counts.push(promptTokens(output));
    }
    expect(counts[0]! - counts[1]!).toBe("<|end|>".length - 1);
  });

  test("answers each line once, although it is killed again and again", { timeout: 180_000 }, async () => {
    const count = 120;
    const names = Array.from({ length: count }, (_, i) => `request ${i}`);
    const [input, output] = files(...names.map((name) => request(name, { prompt: name, max_tokens: 30, seed: 1 })));
    const args = ["batch", input, output, "--model", path.join(folder, "whale"), "--concurrency", "4"];
    const size = (): number => (existsSync(output) ? readFileSync(output, "utf8").split("\n").length : 0);
    for (let kills = 0; kills < 2; kills++) {
      const before = size();
      const child = spawn(process.execPath, [main, ...args], { stdio: "ignore" });
      const ended = once(child, "exit");
      await until(() => size() > before + 8 || child.exitCode !== null);
      child.kill("SIGKILL");
      await ended;
      expect(child.signalCode).toBe("SIGKILL");
      appendFileSync(output, '{"id":"batch_req_');
    }
    const last = await heed(args);
    expect(last).toMatchObject({ code: 0, stdout: "" });
    expect(last.stderr).toMatch(/^120 requests answered, \d+ of them by an earlier run; 0 failed\n$/);
    expect(
      linesOf(output)
        .map((line) => line.custom_id)
        .sort(),
    ).toEqual([...names].sort());
    expect(existsSync(`${output}.lock`)).toBe(false);
    const expected = await model.generate("request 7", { maxTokens: 30, seed: 1 });
    const found = linesOf(output).find((line) => line.custom_id === "request 7");
    expect(found!.response.body.choices[0]!.text).toBe(expected.text);
  });
});
