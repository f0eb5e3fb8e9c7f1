/** Tests of the log's output: a reader that is away, and a disk that is full, end neither the log nor the server. */
import { execFileSync } from "node:child_process";
import { closeSync, constants, existsSync, openSync, readSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import { LogOutput } from "../../lib/server/log-output.js";
import { expectChild } from "../support/child.js";
import { dist } from "../support/dist.js";
import { temporaryFolder } from "../support/folder.js";
import { describeUnless, linuxOnly, testUnless } from "../support/skip.js";

/** Lines of different lengths, so that the pipe ends in the middle of one. */
const lineOf = (i: number): string => `${JSON.stringify({ i, text: "x".repeat((i * 37) % 1000) })}\n`;

/** Opens a pipe that takes 64 KiB and then refuses more; `read` resolves to what comes until nothing has come for a while. */
function openPipe(): { descriptor: number; read: () => Promise<string> } {
  const name = path.join(temporaryFolder(), "pipe");
  execFileSync("mkfifo", [name]);
  const descriptor = openSync(name, constants.O_RDWR | constants.O_NONBLOCK);
  onTestFinished(() => closeSync(descriptor));
  const read = async (): Promise<string> => {
    const buffer = Buffer.alloc(2 ** 20);
    let text = "";
    for (let quiet = 0; quiet < 10; quiet++)
      try {
        const count = readSync(descriptor, buffer, 0, buffer.length, null);
        text += buffer.toString("latin1", 0, count);
        quiet = -1;
      } catch (error) {
        expect((error as NodeJS.ErrnoException).code).toBe("EAGAIN");
        await sleep(50);
      }
    return text;
  };
  return { descriptor, read };
}

describeUnless(process.platform !== "linux" && linuxOnly)("the output of the log", () => {
  test("keeps what a reader has not taken yet, in order and whole", async () => {
    const { descriptor, read } = openPipe();
    const output = new LogOutput(descriptor);
    const lines = Array.from({ length: 400 }, (_, i) => lineOf(i));
    for (const line of lines) output.write(line);
    await sleep(150);
    expect(await read()).toBe(lines.join(""));
    output.write("again\n");
    expect(await read()).toBe("again\n");
  });

  test("loses what is too much, and says how much", async () => {
    const { descriptor, read } = openPipe();
    const output = new LogOutput(descriptor, 100_000);
    const count = 1000;
    for (let i = 0; i < count; i++) output.write(lineOf(i));
    await sleep(150);
    const lines = (await read()).split("\n").slice(0, -1);
    const said = JSON.parse(lines.pop()!) as { level: number; msg: string };
    expect(said).toMatchObject({ level: 40, msg: expect.stringContaining("could not be written") });
    expect(lines.every((line, i) => `${line}\n` === lineOf(i))).toBe(true);
    expect(lines.length).toBeGreaterThan(100);
    expect(lines.length + Number.parseInt(said.msg)).toBe(count);
  });

  testUnless(!existsSync("/dev/full") && "need /dev/full")(
    "does not end a server whose log has no room on the disk",
    async () => {
      const url = JSON.stringify(pathToFileURL(dist("server/index.js")).href);
      const program = `
      const { createServer } = await import(${url});
      const model = new heed.LanguageModel({
        model: new heed.GPT({ vocabularySize: 256, contextLength: 16, layers: 1, heads: 1, width: 8 }, { device: "cpu" }),
        tokenizer: new heed.ByteTokenizer(),
      });
      const { writeFileSync } = await import("node:fs");
      const app = await createServer({ models: { tiny: model }, logger: { level: "info" } });
      const url = await app.listen({ port: 0 });
      const statuses = [];
      for (let i = 0; i < 3; i++) {
        const init = { method: "POST", headers: { "content-type": "application/json" } };
        const body = JSON.stringify({ prompt: "a", max_tokens: 1 });
        statuses.push((await fetch(url + "/v1/completions", { ...init, body })).status);
      }
      if (statuses.join() !== "200,200,200") throw new Error(statuses.join());
      await app.close();
      model.dispose();`;
      await expectChild(program, 0, {}, ["sh", "-c", 'exec "$@" > /dev/full', "sh"]);
    },
  );
});
