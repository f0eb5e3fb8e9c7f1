// The last complete version must load wherever the process dies. This is tested once exhaustively, with a file system
// that stops before its k-th change, and once for real, with SIGKILL at random moments.
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import ts from "typescript";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { writeFileAtomic } from "../../lib/formats/atomic-file.js";
import { latestVersion, saveVersion } from "../../lib/formats/versioned-folder.js";

/** Stops every change of the file system once `left` changes have been made. */
const crash = vi.hoisted(() => ({ left: Infinity }));

vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof import("node:fs/promises")>();
  const change = () => {
    if (crash.left-- <= 0) throw new Error("crashed");
  };
  return {
    ...real,
    open: async (...args: Parameters<typeof real.open>) => {
      if (args[1] !== "r") change();
      const handle = await real.open(...args);
      const writeWhole = handle.writeFile.bind(handle);
      handle.writeFile = async (...rest) => {
        change();
        await writeWhole(...rest);
      };
      return handle;
    },
    mkdir: async (...args: Parameters<typeof real.mkdir>) => (change(), real.mkdir(...args)),
    rename: async (...args: Parameters<typeof real.rename>) => (change(), real.rename(...args)),
    rm: async (...args: Parameters<typeof real.rm>) => (change(), real.rm(...args)),
    writeFile: async (...args: Parameters<typeof real.writeFile>) => (change(), real.writeFile(...args)),
  };
});

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "heed-"));
});
afterEach(() => {
  crash.left = Infinity;
  rmSync(folder, { recursive: true });
});

/** Writes two files with the same text, which only a complete version has. */
async function write(temporary: string, text: string): Promise<void> {
  await writeFile(path.join(temporary, "model"), text);
  await writeFile(path.join(temporary, "optimizer"), text);
}

async function load(): Promise<string | null> {
  const version = await latestVersion(folder);
  if (version === null) return null;
  const texts = ["model", "optimizer"].map((name) => readFileSync(path.join(version, name), "utf8"));
  expect(texts[0]).toBe(texts[1]);
  return texts[0]!;
}

describe("writeFileAtomic", () => {
  const replace = (file: string, text: string) =>
    writeFileAtomic(file, async (handle) => {
      await handle.writeFile(text);
    });

  test("writes and replaces", async () => {
    const file = path.join(folder, "a");
    await replace(file, "one");
    await replace(file, "two");
    expect(readFileSync(file, "utf8")).toBe("two");
    expect(readdirSync(folder)).toEqual(["a"]);
  });

  test("keeps the old file and leaves nothing behind when writing fails", async () => {
    const file = path.join(folder, "a");
    await replace(file, "one");
    const failing = writeFileAtomic(file, async (handle) => {
      await handle.writeFile("half");
      throw new Error("disk on fire");
    });
    await expect(failing).rejects.toThrow("disk on fire");
    expect(readFileSync(file, "utf8")).toBe("one");
    expect(readdirSync(folder)).toEqual(["a"]);
  });

  test("begins nothing if there is not enough room", async () => {
    const file = path.join(folder, "a");
    await replace(file, "one");
    const writing = writeFileAtomic(file, () => expect.unreachable(), { bytes: 1e18 });
    await expect(writing).rejects.toMatchObject({
      code: "ERR_IO",
      message: expect.stringMatching(`${file}: expected 1,000,.* bytes of free space on its disk, got `) as string,
    });
    expect(readFileSync(file, "utf8")).toBe("one");
    expect(readdirSync(folder)).toEqual(["a"]);
  });

  test("names the file it cannot write", async () => {
    const file = path.join(folder, "missing", "a");
    await expect(replace(file, "one")).rejects.toMatchObject({
      code: "ERR_IO",
      message: expect.stringContaining(file),
    });
  });
});

describe("saveVersion", () => {
  test("makes the new version the latest and keeps the newest", async () => {
    expect(await latestVersion(folder)).toBe(null);
    for (const step of [1, 2, 3, 4]) {
      const version = await saveVersion(folder, `step-${step}`, (name) => write(name, `${step}`), { keep: 2 });
      expect(version).toBe(path.join(folder, `step-${step}`));
      expect(await latestVersion(folder)).toBe(version);
      expect(await load()).toBe(`${step}`);
    }
    expect(readdirSync(folder).sort()).toEqual(["latest", "step-3", "step-4"]);
  });

  test("uses another name if one is taken", async () => {
    await saveVersion(folder, "step-1", (name) => write(name, "a"));
    const version = await saveVersion(folder, "step-1", (name) => write(name, "b"));
    expect(version).toBe(path.join(folder, "step-1-1"));
    expect(await load()).toBe("b");
  });

  test("keeps the latest when writing fails", async () => {
    await saveVersion(folder, "step-1", (name) => write(name, "a"));
    const failing = saveVersion(folder, "step-2", async (name) => {
      await writeFile(path.join(name, "model"), "half");
      throw new Error("out of memory");
    });
    await expect(failing).rejects.toThrow("out of memory");
    expect(await load()).toBe("a");
    expect(readdirSync(folder).sort()).toEqual(["latest", "step-1"]);
  });

  test("removes temporaries of dead processes, and nothing else", async () => {
    const dead = spawn(process.execPath, ["-e", ""]);
    await new Promise((resolve) => dead.on("exit", resolve));
    const names = {
      dead: `step-1.tmp-${dead.pid}-0123abcd`,
      alive: `step-1.tmp-${process.ppid}-0123abcd`,
      own: `step-1.tmp-${process.pid}-0123abcd`,
      // Left by a process of the same number before this one began.
      earlier: `step-1.tmp-${process.pid}-4567abcd`,
      logs: "logs",
    };
    for (const name of Object.values(names)) mkdirSync(path.join(folder, name));
    utimesSync(path.join(folder, names.earlier), 1e9, 1e9);
    for (const step of [1, 2]) await saveVersion(folder, `step-${step}`, (name) => write(name, "a"), { keep: 1 });
    expect(readdirSync(folder).sort()).toEqual([names.logs, names.alive, names.own, "latest", "step-2"].sort());
  });

  test.each(["", ".", "..", "a/b", "latest", "step 1", "step-1.tmp-1-0123abcd"])(
    "refuses the name %j",
    async (name) => {
      await expect(saveVersion(folder, name, async () => undefined)).rejects.toMatchObject({ code: "ERR_ARGUMENT" });
    },
  );

  test.each([0, -1, 1.5, NaN])("refuses to keep %d versions", async (keep) => {
    const saving = saveVersion(folder, "step-1", async () => undefined, { keep });
    await expect(saving).rejects.toMatchObject({ code: "ERR_RANGE" });
  });

  test.each(["../../etc\n", "gone\n", "\n", ""])("refuses a pointer to %j", async (text) => {
    writeFileSync(path.join(folder, "latest"), text);
    await expect(latestVersion(folder)).rejects.toMatchObject({ code: "ERR_FORMAT" });
  });

  test("removes versions that were never listed; keeps those that were removed from the list or added beside it", async () => {
    for (const step of [1, 2]) await saveVersion(folder, `step-${step}`, (name) => write(name, `${step}`));
    for (const name of ["lost", "mine"]) {
      mkdirSync(path.join(folder, name));
      await write(path.join(folder, name), name);
    }
    writeFileSync(path.join(folder, "lost", "unlisted"), "");
    writeFileSync(path.join(folder, "latest"), "step-1\n");
    await saveVersion(folder, "step-3", (name) => write(name, "3"));
    expect(readdirSync(folder).sort()).toEqual(["latest", "mine", "step-1", "step-2", "step-3"]);
  });

  test("begins nothing if there is not enough room", async () => {
    await saveVersion(folder, "step-1", (name) => write(name, "1"));
    const saving = saveVersion(folder, "step-2", () => expect.unreachable(), { bytes: 1e18 });
    await expect(saving).rejects.toMatchObject({
      code: "ERR_IO",
      message: expect.stringMatching(/expected 1,000,000,000,000,000,000 bytes of free space on its disk, got [\d,]+$/),
    });
    expect(readdirSync(folder).sort()).toEqual(["latest", "step-1"]);
  });

  test("has a complete version to load wherever it stops", async () => {
    const save = (step: number) => saveVersion(folder, `step-${step}`, (name) => write(name, `${step}`), { keep: 2 });
    let stop = 0;
    for (let done = false; !done; stop++) {
      rmSync(folder, { recursive: true });
      for (const step of [1, 2]) await save(step);
      crash.left = stop;
      done = await save(3).then(
        () => true,
        () => false,
      );
      crash.left = Infinity;
      expect(["2", "3"]).toContain(await load());
      if (done) expect(await load()).toBe("3");
      // Whatever was left, the next save works, and its version loads.
      await save(4);
      expect(await load()).toBe("4");
      const left = readdirSync(folder).filter((name) => !name.includes(".tmp-"));
      expect(left.sort()).toEqual(["latest", done ? "step-3" : expect.stringMatching(/^step-[23]$/), "step-4"]);
    }
    // Two folders are made, three files written, one is renamed, the pointer is replaced (three changes), and a file
    // and an old version (two changes) are removed.
    expect(stop - 1).toBe(12);
  });

  test("survives SIGKILL", async () => {
    const program = compile(folder);
    let last = 0;
    for (let i = 0; i < 8; i++) {
      const child = spawn(process.execPath, [program, path.join(folder, "checkpoints"), `${last}`], { stdio: "pipe" });
      let errors = "";
      child.stderr.on("data", (data: Buffer) => (errors += data.toString()));
      const ended = new Promise((resolve) => child.on("exit", resolve));
      await new Promise((resolve) => child.stdout.once("data", resolve));
      await new Promise((resolve) => setTimeout(resolve, 7 * i));
      child.kill("SIGKILL");
      await ended;
      expect(errors).toBe("");
      const version = (await latestVersion(path.join(folder, "checkpoints")))!;
      const texts = ["model", "optimizer"].map((name) => readFileSync(path.join(version, name), "utf8"));
      expect(texts[0]).toHaveLength(1 << 16);
      expect(texts[0]).toBe(texts[1]);
      expect(Number(texts[0])).toBeGreaterThan(last);
      last = Number(texts[0]);
    }
  });
});

/** Compiles a program that saves versions endlessly, from lib/ as plain JavaScript. */
function compile(target: string): string {
  for (const file of [
    ...["errors", "files", "json", "turns"].map((name) => `util/${name}`),
    ...["atomic-file", "free-space", "processes", "versioned-folder"].map((name) => `formats/${name}`),
  ]) {
    const source = readFileSync(new URL(`../../lib/${file}.ts`, import.meta.url), "utf8");
    const output = path.join(target, "lib", `${file}.js`);
    mkdirSync(path.dirname(output), { recursive: true });
    const options = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 };
    writeFileSync(output, ts.transpileModule(source, { compilerOptions: options }).outputText);
  }
  writeFileSync(path.join(target, "package.json"), '{ "type": "module" }');
  const program = path.join(target, "save.js");
  writeFileSync(
    program,
    `import { writeFile } from "node:fs/promises";
     import { saveVersion } from "./lib/formats/versioned-folder.js";
     for (let step = Number(process.argv[3]) + 1; ; step++) {
       const text = String(step).padStart(1 << 16);
       await saveVersion(process.argv[2], "step-" + step, async (folder) => {
         for (const name of ["model", "optimizer"]) await writeFile(folder + "/" + name, text);
       });
       console.log(step);
     }`,
  );
  return program;
}
