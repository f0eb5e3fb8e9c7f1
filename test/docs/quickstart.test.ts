/** After `npm run quickstart`, the commands of the README run with its model. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import ts from "typescript";
import { expect, onTestFinished, test } from "vitest";
import { execute, main } from "../cli/support.js";
import { freePort } from "../server/process.js";
import { temporaryFolder } from "../support/folder.js";
import { nightly } from "../support/nightly.js";
import { nightlyOnly, testUnless } from "../support/skip.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const quickstart = readFileSync(path.join(root, "scripts/quickstart.mjs"), "utf8");
const request = { custom_id: "1", method: "POST", url: "/v1/completions", body: { prompt: "Call me", max_tokens: 5 } };

/** Returns the arguments of the README's commands that work with any language model, for runs/quickstart. */
function commands(): string[][] {
  const readme = readFileSync(path.join(root, "README.md"), "utf8");
  const lines = [...readme.matchAll(/^npx heed ((?:report|eval|generate|inspect|serve|batch|info)\b.*?)(?: +#.*)?$/gm)];
  return lines
    .map(([, words]) =>
      words!.replace(/\b(my-run|smol\.gguf)\b/, "runs/quickstart").replace("last-chapter.txt", "text.txt"),
    )
    .filter((words) => !words.includes("--chat")) // it has no template
    .map((words) => [...words.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, word]) => quoted ?? word!));
}

/** Runs the commands in a folder that has runs/quickstart, with the command line of a build. */
async function runAll(program: string, cwd: string): Promise<void> {
  writeFileSync(
    path.join(cwd, "text.txt"),
    "Call me Ishmael. Some years ago, never mind how long precisely. ".repeat(9),
  );
  writeFileSync(path.join(cwd, "in.jsonl"), JSON.stringify(request));
  const seen = new Set<string>();
  for (const args of commands()) {
    const [name] = args as [string];
    seen.add(name);
    if (name === "serve") {
      await serve(program, args, cwd);
      continue;
    }
    const { code, stdout, stderr } = await execute(process.execPath, [program, ...args], { cwd });
    expect({ args, code, stderr: code === 0 ? "" : stderr }).toEqual({ args, code: 0, stderr: "" });
    if (name === "eval") expect(stdout).toMatch(/bits per byte +\d+ +\d/);
    if (name === "generate") expect(stdout.length).toBeGreaterThan("The whale".length);
    if (name === "info") expect(stdout).toMatch(/^device cpu/m);
  }
  expect([...seen].sort()).toEqual(["batch", "eval", "generate", "info", "inspect", "report", "serve"]);
  expect(readFileSync(path.join(cwd, "out.jsonl"), "utf8")).toContain('"status_code":200');
  // The pages have their scripts inside.
  for (const page of ["report.html", "page.html"]) expect(statSync(path.join(cwd, page)).size).toBeGreaterThan(20_000);
}

async function serve(program: string, args: readonly string[], cwd: string): Promise<void> {
  const port = await freePort();
  const own = args.map((word, i) => (args[i - 1] === "--port" ? String(port) : word));
  const child: ChildProcess = spawn(process.execPath, [program, ...own], { cwd, stdio: ["ignore", "ignore", "pipe"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  let said = "";
  await new Promise<void>((resolve, reject) => {
    child.stderr!.on("data", (data: Buffer) => {
      if (/^Serving /m.test((said += data.toString()))) resolve();
    });
    child.on("exit", (code) => reject(new Error(`serve has ended with ${code}: ${said}`)));
  });
  const url = `http://127.0.0.1:${port}`;
  const headers = { "content-type": "application/json" };
  const body = JSON.stringify({ model: "quickstart", ...request.body });
  const answer = await fetch(`${url}/v1/completions`, { method: "POST", headers, body });
  expect(await answer.json()).toMatchObject({ choices: [{ finish_reason: "length" }] });
  expect(await (await fetch(url)).text()).toContain("heed playground");
  child.kill("SIGTERM");
  expect(await once(child, "exit")).toEqual([0, null]);
}

/** Returns the flags that the script passes to `heed train`. */
function flags(): string[] {
  const lists = [...quickstart.matchAll(/^const (?:size|pace|checks) = (\[.*\]);$/gm)];
  expect(lists).toHaveLength(3);
  return lists.flatMap(([, list]) => JSON.parse(list!) as string[]);
}

test("the README's commands run with a model that is trained like the quickstart's", { timeout: 120_000 }, async () => {
  const folder = temporaryFolder();
  const text =
    "Call me Ishmael. Some years ago, never mind how long precisely, I thought I would sail about. The whale! ";
  writeFileSync(path.join(folder, "book.txt"), text.repeat(100));
  const given = flags().map((flag, i, all) => (all[i - 1] === "--max-minutes" ? "0.02" : flag));
  const args = ["train", "--data", "book.txt", "--out", "runs/quickstart", ...given];
  expect(await execute(process.execPath, [main, ...args], { cwd: folder })).toMatchObject({ code: 0 });
  await runAll(main, folder);
});

/** Returns the packages that a file imports, itself or by other files, without those that may be missing. */
function imports(entry: string): Set<string> {
  const packages = new Set<string>();
  const files = new Set<string>();
  const visit = (file: string): void => {
    if (files.has(file) || !existsSync(file)) return;
    files.add(file);
    const source = readFileSync(file, "utf8");
    for (const { fileName: module } of ts.preProcessFile(source).importedFiles) {
      const isOptional = source.includes(`() => import("${module}")`) || source.includes(`import("${module}").catch`);
      if (module.startsWith(".")) visit(path.join(path.dirname(file), module.replace(/\.js$/, path.extname(entry))));
      else if (!module.startsWith("node:") && !isOptional) packages.add(/^(@[^/]+\/)?[^/]+/.exec(module)![0]);
    }
  };
  visit(entry);
  return packages;
}

test("a quick setup installs every package that the command line and the pages import", async () => {
  const { quickPackages } = (await import(pathToFileURL(path.join(root, "scripts/quick-packages.mjs")).href)) as {
    quickPackages: string[];
  };
  const { dependencies, devDependencies } = (await import("../../package.json", { with: { type: "json" } })).default;
  const pages = ["server", "inspect", "report"].map((page) => path.join(root, `lib/${page}/web/main.ts`));
  const needed = [main, ...pages].map(imports);
  expect(needed[0]).toContain("fastify");
  expect(needed[3]).toContain("uplot");
  const all = needed.flatMap((packages) => [...packages]);
  const installed = [...quickPackages, ...Object.keys(dependencies)];
  expect(all.filter((name) => !installed.includes(name))).toEqual([]);
  // The lock file has their versions.
  expect(quickPackages.filter((name) => !(name in devDependencies))).toEqual([]);
});

testUnless(!nightly && nightlyOnly)(
  "npm run quickstart in a clone, and the README's commands after it",
  { timeout: 1_200_000 },
  async () => {
    const folder = mkdtempSync(path.join(tmpdir(), "heed-"));
    // It has some ten thousand files.
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }), 120_000);
    const clone = path.join(folder, "heed");
    expect(await execute("git", ["clone", "--quiet", root, clone])).toMatchObject({ code: 0 });
    const started = performance.now();
    const { code, stdout, stderr } = await execute("bash", ["-c", "TIMEFORMAT='%U %S'; time npm run quickstart"], {
      cwd: clone,
      env: { NODE_ENV: "", HEED_DEVICE: "", HEED_CUDA_DRIVER: "" },
    });
    expect(code, stdout + stderr).toBe(0);
    const seconds = (performance.now() - started) / 1000;
    console.log(
      `npm run quickstart: ${seconds.toFixed(0)} s; seconds of the processors: ${stderr.trim().split("\n").at(-1)}`,
    );
    // It takes longer on a machine that does something else too.
    if (loadavg()[1]! < 3) expect(seconds).toBeLessThan(210);
    await runAll(path.join(clone, "dist/cli/main.js"), clone);
    expect(readdirSync(path.join(clone, "node_modules"))).not.toContain("vitest");
  },
);
