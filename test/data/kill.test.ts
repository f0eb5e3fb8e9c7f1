/** The tokeniser in threads of a process: its bytes, its bounds of memory, and kills at random moments. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { expect, test } from "vitest";
import { writeShards } from "../../lib/data/write-shards.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { dist } from "../support/dist.js";
import { sharedFolder } from "../support/folder.js";
import { nightly } from "../support/nightly.js";
import { Random } from "../support/random.js";

const kills = nightly ? 50 : 2;
const folder = sharedFolder();
const module = (file: string): string => pathToFileURL(dist(file)).href;
const lines = Array.from({ length: 3000 }, (_, i) => JSON.stringify({ text: `${i} ${"whale ".repeat(i % 40)}` }));
const input = path.join(folder, "lines.jsonl");
writeFileSync(input, `${lines.join("\n")}\n{"text": 1}\n`);
const options = { blockBytes: 4096, shardTokens: 100_000, maxBadLines: 1 };

/** A program that tokenises the file in a thread, says when it has written a block, and notes its place often. */
const program = `
  import { writeShards } from "${module("data/write-shards.js")}";
  import { ByteTokenizer } from "${module("tokenizer/byte-tokenizer.js")}";
  const [, out] = process.argv;
  const onProgress = () => process.stdout.write(".");
  const options = ${JSON.stringify({ ...options, threads: 1, commitInterval: 10 })};
  await writeShards(${JSON.stringify(input)}, { ...options, out, tokenizer: new ByteTokenizer(), onProgress });
`;

const contents = (of: string): Record<string, string> =>
  Object.fromEntries(
    readdirSync(of)
      .filter((name) => !/^progress|\.tmp-|^lock/.test(name))
      .map((name) => [name, readFileSync(path.join(of, name), "latin1")]),
  );

test(`a thread writes the same bytes as none, also after ${kills} kills`, async () => {
  const whole = path.join(folder, "whole");
  const statistics = await writeShards(input, { ...options, out: whole, tokenizer: new ByteTokenizer(), threads: 0 });
  expect(statistics).toMatchObject({ documents: 3000, badLines: 1 });

  const killed = path.join(folder, "killed");
  const random = new Random(Math.floor(Math.random() * 2 ** 31));
  for (let run = 0, done = false; !done; run++) {
    const child = spawn(process.execPath, ["--input-type=module", "-e", program, killed], { stdio: "pipe" });
    let errors = "";
    child.stderr.on("data", (data: Buffer) => (errors += data.toString()));
    const ended = once(child, "exit");
    if (run < kills) {
      // A run has about a hundred blocks.
      const blocks = 1 + Math.floor(60 * random.uniform());
      let seen = 0;
      child.stdout.on("data", (data: Buffer) => {
        seen += data.length;
        if (seen >= blocks) child.kill("SIGKILL");
      });
    } else child.stdout.resume();
    await ended;
    expect(errors).toBe("");
    done = existsSync(path.join(killed, "index.json"));
  }
  expect(contents(killed)).toEqual(contents(whole));
}, 120_000);
