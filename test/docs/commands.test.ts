/**
 * The commands of README.md and the guides must run as a user would copy them. A small model stands for those of the hub,
 * which a test does not download; `heed` is the one that was built. What cannot run here is listed with the reason.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, expect, onTestFinished, test } from "vitest";
import { addAdapter } from "../../lib/adapters/adapters.js";
import { saveAdapter } from "../../lib/pretrained/peft.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { execute, main } from "../cli/support.js";
import { chatModel } from "../server/support.js";
import { freePort } from "../server/process.js";
import { sharedFolder } from "../support/folder.js";
import { testUnless } from "../support/skip.js";
import { writeTinyTranslator } from "../support/tiny-translator.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = sharedFolder();
const bin = path.join(folder, "bin");

/** Commands that are not run, by how they begin, with the reasons. */
const notRun: readonly (readonly [command: string, reason: string])[] = [
  ["npm test", "it runs this test; .ci/run calls it"],
  ["npm install", "it needs npm's registry; scripts/check-package.mjs installs the packages"],
  ["HEED_CUDA_DRIVER=", "it runs a program of the reader's; the CUDA tests use the same variable"],
  ["mpirun ", "it needs an MPI library; test/distributed runs `heed train` under it"],
  ["docker ", "there is no Docker; test/deploy/files.test.ts checks the Dockerfile"],
  ["kubectl ", "there is no cluster; test/deploy/files.test.ts checks the manifest"],
  ["sudo ", "it changes the system; test/deploy has tests of the files that are copied"],
];

const pages = [
  "README.md",
  ...readdirSync(path.join(root, "docs/guides")).map((name) => path.join("docs/guides", name)),
].filter((name) => name.endsWith(".md"));

/** Returns the commands of a page's blocks: a command goes on while a line ends with a backslash or a quotation is open. */
function commandsOf(page: string): string[] {
  const text = readFileSync(path.join(root, page), "utf8");
  return [...text.matchAll(/^```sh\n([\s\S]*?)^```/gm)].flatMap(([, block]) => {
    const commands: string[] = [];
    let open = false;
    for (const text of block!.trimEnd().split("\n")) {
      const line = text.replace(/\s+# .*$/, "");
      if (open) commands.push(`${commands.pop()}\n${line}`);
      else commands.push(line);
      const command = commands.at(-1)!;
      open = command.endsWith("\\") || command.split("'").length % 2 === 0;
    }
    return commands.filter((command) => command !== "" && !command.startsWith("#"));
  });
}

beforeAll(async () => {
  // `npx heed` runs the package of the folder.
  mkdirSync(bin);
  writeFileSync(path.join(bin, "npx"), `#!/bin/sh\nshift\nexec "${process.execPath}" "${main}" "$@"\n`, {
    mode: 0o755,
  });
  symlinkSync(process.execPath, path.join(bin, "node"));
  using model = chatModel();
  await savePretrained(path.join(folder, "hub-model"), model.model, { tokenizer: model.tokenizer });
  for (const name of ["polite", "brief"]) {
    addAdapter(model.model, { name, active: false });
    await saveAdapter(path.join(folder, "adapters", name), model.model, { name });
  }
  mkdirSync(path.join(folder, "translator"));
  writeTinyTranslator(path.join(folder, "translator"));
  writeFileSync(path.join(folder, "book.txt"), "The whiteness of the whale appalled me. ".repeat(200));
  writeFileSync(path.join(folder, "last-chapter.txt"), "The whale appalled me. ".repeat(50));
  writeFileSync(path.join(folder, "keys.txt"), "alpha\n");
  const messages = [
    { role: "user", content: "Who are you?" },
    { role: "assistant", content: "I am Ishmael." },
  ];
  writeFileSync(path.join(folder, "chats.jsonl"), `${JSON.stringify({ messages })}\n`.repeat(8));
  // The task of the guide on evaluation and the pairs of that on fine-tuning, as they stand there.
  const block = (page: string, begin: string): string => {
    const guide = readFileSync(path.join(root, "docs/guides", page), "utf8");
    return new RegExp(`^\`\`\`${begin}[^]*?)^\`\`\``, "m").exec(guide)![1]!;
  };
  writeFileSync(path.join(folder, "capitals.yaml"), block("evaluation.md", "yaml\\n("));
  writeFileSync(path.join(folder, "capitals.jsonl"), block("evaluation.md", "json\\n("));
  writeFileSync(path.join(folder, "pairs.jsonl"), block("fine-tune.md", 'json\\n(\\{ "prompt"').repeat(6));
  const request = {
    custom_id: "1",
    method: "POST",
    url: "/v1/completions",
    body: { prompt: "The whale", max_tokens: 5 },
  };
  writeFileSync(path.join(folder, "in.jsonl"), `${JSON.stringify(request)}\n`);
});

/** Returns a command with a model that is there, few steps, and a port that is free. */
function local(command: string, port: number): string {
  return command
    .replaceAll("google-t5/t5-small", "translator")
    .replaceAll(/\b(Qwen|HuggingFaceTB|sentence-transformers)\/[\w.-]+/g, "hub-model")
    .replaceAll(/--steps \d+/g, "--steps 2")
    .replaceAll(/--port \d+/g, `--port ${port}`)
    .replace(/heed serve(?!.*--port)/, `heed serve --port ${port}`)
    .replaceAll(/(http:\/\/127\.0\.0\.1):\d+/g, `$1:${port}`);
}

const env = { PATH: `${bin}:${process.env.PATH}`, HF_HUB_OFFLINE: "1" };

/** Starts a server in the background, and resolves when it listens. */
async function serve(command: string): Promise<ChildProcess> {
  const child = spawn("sh", ["-c", `exec ${command}`], { cwd: folder, env: { ...process.env, ...env } });
  let said = "";
  await new Promise<void>((resolve, reject) => {
    child.stderr.on("data", (data: Buffer) => {
      said += data.toString();
      if (/^Serving /m.test(said)) resolve();
    });
    child.stdout.resume();
    child.on("exit", (code) => reject(new Error(`${command} has ended with ${code}: ${said}`)));
  });
  return child;
}

async function stop(server: ChildProcess): Promise<void> {
  server.kill("SIGTERM");
  const [code] = (await once(server, "exit")) as [number];
  expect(code).toBe(0);
}

const noCurl = spawnSync("curl", ["--version"]).status === 0 ? null : "need curl (apt-get install curl)";

for (const page of pages.filter((page) => commandsOf(page).length > 0)) {
  const usesCurl = commandsOf(page).some((command) => command.includes("curl "));
  testUnless(usesCurl && noCurl)(`the commands of ${page}`, { timeout: 120_000 }, async () => {
    const port = await freePort();
    let server: ChildProcess | null = null;
    onTestFinished(() => void server?.kill("SIGKILL"));
    for (const command of commandsOf(page)) {
      if (notRun.some(([start]) => command.startsWith(start))) continue;
      const changed = local(command, port);
      if (changed.startsWith("npx heed serve")) {
        // One server at a time; it runs while the commands after it do.
        if (server) await stop(server);
        server = await serve(changed);
        continue;
      }
      const { code, stdout, stderr } = await execute("bash", ["-ec", changed], { cwd: folder, env });
      expect({ command, code, stderr: code === 0 ? "" : stderr }).toEqual({ command, code: 0, stderr: "" });
      if (command.startsWith("curl ")) expect(stdout).toMatch(/"(choices|data|status)"|heed_/);
    }
    if (server) await stop(server);
  });
}

test("what is not run is in a page", () => {
  const commands = pages.flatMap(commandsOf);
  for (const [start] of notRun)
    expect(
      commands.some((command) => command.startsWith(start)),
      start,
    ).toBe(true);
});
