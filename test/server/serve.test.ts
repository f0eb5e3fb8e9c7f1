/** `heed serve` as a user runs it. */
import { readFileSync } from "node:fs";
import { request } from "node:http";
import path from "node:path";
import { expect, test } from "vitest";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { heed } from "../cli/support.js";
import { sharedFolder } from "../support/folder.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { smallGpt } from "../generate/models.js";
import { noShared, sharedModel } from "../support/shared.js";
import { linuxOnly, testUnless } from "../support/skip.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";
import { startServe } from "./process.js";
import { chatModel } from "./support.js";

const folder = sharedFolder();

test("serves a model until a signal, and finishes what runs", async () => {
  using model = chatModel();
  await savePretrained(path.join(folder, "whale"), model.model, { tokenizer: model.tokenizer });
  let page: Promise<number> | null = null;
  let answer: Promise<[number, string]> | null = null;
  let killed = false;
  const ended = await heed(["serve", "--model", "whale", "--port", "0", "--no-playground"], {
    cwd: folder,
    watch: (stdout, kill) => {
      const url = /"msg":"Server listening at (http:[^"]+)"/.exec(stdout)?.[1];
      if (!url) return;
      const body = JSON.stringify({ model: "whale", prompt: "Call me", max_tokens: 80, min_tokens: 80 });
      const init = { method: "POST", headers: { "content-type": "application/json" }, body };
      page ??= fetch(url).then(({ status }) => status);
      answer ??= page
        .then(() => fetch(`${url}/v1/completions`, init))
        .then(async (response): Promise<[number, string]> => [response.status, await response.text()]);
      if (killed || !stdout.includes('"url":"/v1/completions"')) return;
      killed = true;
      kill("SIGTERM");
    },
  });
  expect(ended).toMatchObject({ code: 0, signal: null });
  expect(ended.stderr).toMatch(/^whale: f32 on cpu, [^\n]+\nServing whale at http:\/\/127\.0\.0\.1:\d+\nShutting down/);
  expect(await page!).toBe(404);
  const [status, text] = await answer!;
  expect(status).toBe(200);
  expect(JSON.parse(text)).toMatchObject({ usage: { completion_tokens: 80 } });
  // Each line of the log is an object; none contains what people wrote.
  const lines = ended.stdout.trim().split("\n");
  expect(lines.map((line) => JSON.parse(line) as object).length).toBeGreaterThan(2);
  expect(ended.stdout).not.toContain("Call me");
});

test.each([
  [[], "evil.example", 403, false],
  [["--allowed-host", "evil.example"], "evil.example", 200, false],
  [["--host", "0.0.0.0", "--trust-proxy", "--max-connections", "8", "--send-seconds", "9"], "box.example", 200, true],
] as const)("%j: the name %s gets %i", async (flags, host, status, warns) => {
  using model = chatModel();
  await savePretrained(path.join(folder, "whale"), model.model, { tokenizer: model.tokenizer, overwrite: true });
  let answered: Promise<number> | null = null;
  const given = ["--share-prefix-cache", "--raw-control-tokens", ...flags];
  const ended = await heed(["serve", "--model", "whale", "--port", "0", ...given], {
    cwd: folder,
    watch: (stdout, kill) => {
      const port = /"msg":"Server listening at http:[^"]+:(\d+)"/.exec(stdout)?.[1];
      if (port === undefined || answered) return;
      answered = new Promise<number>((resolve, reject) => {
        const asked = request({ host: "127.0.0.1", port, path: "/v1/models", headers: { host } }, (response) => {
          response.resume();
          resolve(response.statusCode!);
        });
        asked.on("error", reject).end();
      });
      void answered.finally(() => kill("SIGTERM"));
    },
  });
  expect(await answered!).toBe(status);
  expect(ended.stderr.includes("Warning: Everybody who can reach this address may use the server")).toBe(warns);
  expect(ended.code).toBe(0);
});

test("values that are nested deeply are refused, and the process can end", async () => {
  const chatTemplate =
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{% for call in m.tool_calls or [] %}{{ call | tojson }}" +
    "<tool_call>{% endfor %}{% endfor %}{{ tools | tojson if tools }}";
  const tokenizer = new HuggingFaceTokenizer(byteLevelJson(), { config: { eos_token: "<|end|>" }, chatTemplate });
  using model = smallGpt("cpu", { vocabularySize: 272, contextLength: 4096 });
  await savePretrained(path.join(folder, "deep"), model, { tokenizer });
  const { url, end } = await startServe(["--model", path.join(folder, "deep")]);
  const ask = async (fields: string): Promise<number> => {
    const body = `{ "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 2 ${fields} }`;
    const headers = { "content-type": "application/json" };
    return (await fetch(`${url}/v1/chat/completions`, { method: "POST", headers, body })).status;
  };
  const nested = (depth: number, open: string, close: string): string => open.repeat(depth) + close.repeat(depth);
  const schema = (depth: number): string =>
    nested(depth, '{"type":"object","properties":{"a":', "}}").replace(":}", ":{}}");
  const tool = (parameters: string): string =>
    `"tools": [{ "type": "function", "function": { "name": "f", "parameters": ${parameters} } }]`;
  const format = (text: string): string =>
    `"response_format": { "type": "json_schema", "json_schema": { "name": "f", "schema": ${text} } }`;
  for (const depth of [10, 60]) {
    expect(await ask(`, ${tool(schema(depth))}`)).toBe(200);
    expect(await ask(`, ${format(schema(depth))}`)).toBe(200);
  }
  for (const depth of [300, 600, 3000]) {
    expect(await ask(`, ${tool(schema(depth))}`)).toBe(400);
    const list = `"messages": [{ "role": "user", "content": ${nested(depth, "[", "]")} }]`;
    expect(await ask(`, ${list}`)).toBe(400);
    const given = JSON.stringify(nested(depth, "[", "]"));
    const call = `{ "id": "a", "type": "function", "function": { "name": "f", "arguments": ${given} } }`;
    expect(await ask(`, "messages": [{ "role": "assistant", "tool_calls": [${call}] }]`)).toBe(400);
  }
  for (const depth of [600, 3000]) expect(await ask(`, ${format(schema(depth))}`)).toBe(400);
  expect(await ask("")).toBe(200);
  expect(await end("SIGTERM")).toBe(0);
});

const stories = sharedModel("stories260K");

testUnless(process.platform !== "linux" ? linuxOnly : !stories && noShared)(
  "answers within two seconds of its start",
  async () => {
    const { url, child } = await startServe(["--model", stories!]);
    const body = JSON.stringify({ prompt: "Once upon a time", max_tokens: 16, temperature: 0 });
    const headers = { "content-type": "application/json" };
    const answer = await fetch(`${url}/v1/completions`, { method: "POST", headers, body });
    const { choices } = (await answer.json()) as { choices: { text: string }[] };
    expect(choices[0]!.text).toBe(", there was a little girl named Lily. She loved to play");
    // The time for which it had a core, since other tests need the cores too. Fields 14 and 15 are in hundredths of seconds.
    const fields = readFileSync(`/proc/${child.pid}/stat`, "utf8").split(") ").at(-1)!.split(" ");
    expect((Number(fields[11]) + Number(fields[12])) / 100).toBeLessThan(2);
  },
);
