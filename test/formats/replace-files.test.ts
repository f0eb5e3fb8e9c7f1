// Either all of the new files or all of the old ones must be there, wherever a step fails, and a process that is killed at
// any step leaves a complete copy of the old files or the new ones where the next start finds it. The tests use a file
// system that refuses its k-th change, once or from then on, and processes that kill themselves before their k-th change.
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, describe, expect, test, vi } from "vitest";
import { replacedFolder, replaceFiles } from "../../lib/formats/replace-files.js";
import { dist } from "../support/dist.js";
import { temporaryFolder } from "../support/folder.js";

/** Decides which changes fail, counted from 0, and how. */
const disk = vi.hoisted(() => ({
  changes: 0,
  fails: (_: number): boolean => false,
  /** True if the file system has no hard links. */
  linkless: false,
}));

vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof import("node:fs/promises")>();
  const refusal = (code: string, syscall: string): Error => Object.assign(new Error(`${code}: no`), { code, syscall });
  const counted =
    <A extends unknown[], R>(syscall: string, change: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      if (disk.fails(disk.changes++)) throw refusal("EIO", syscall);
      return change(...args);
    };
  return {
    ...real,
    rename: counted("rename", real.rename),
    link: counted("link", async (...args: Parameters<typeof real.link>) => {
      if (disk.linkless) throw refusal("EPERM", "link");
      await real.link(...args);
    }),
  };
});
afterEach(() => {
  disk.fails = () => false;
  disk.linkless = false;
});

const before = { "config.json": "old", "model-1": "old", "model-2": "old" };
const after = { "config.json": "new", "model-1": "new", tokenizer: "new" };
const mine = { "README.md": "mine" };
const key = "config.json";
const replaces = (name: string): boolean => /^model|^config/.test(name);

function fill(folder: string, files: Record<string, string>): void {
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(path.join(folder, name), text);
}

function read(folder: string): Record<string, string> {
  if (!existsSync(folder)) return {};
  const files = readdirSync(folder, { withFileTypes: true }).filter((entry) => !entry.isDirectory());
  return Object.fromEntries(files.map(({ name }) => [name, readFileSync(path.join(folder, name), "utf8")]));
}

/** Makes a folder with old files, and new ones in a subfolder; `replace` puts the new files in place of the old ones. */
function place() {
  const folder = temporaryFolder();
  const temporary = path.join(folder, "temporary");
  fill(folder, { ...before, ...mine });
  fill(temporary, after);
  mkdirSync(path.join(folder, "model-folder"));
  disk.changes = 0;
  return { folder, temporary, replace: () => replaceFiles(folder, temporary, { replaces, key }) };
}

/** Returns what a reader finds: the files of the folder if it has the key, and else the copy of the old ones. */
async function found(folder: string): Promise<Record<string, string>> {
  const at = await replacedFolder(folder, key);
  return read(at ?? folder);
}

/**
 * Links of the lock and of the old files, three renames of new ones, and that which completes the copy and that which drops
 * it.
 */
const changes = 1 + Object.keys(before).length + Object.keys(after).length + 2;

test.each([false, true])("only the new files are left (without hard links: %s)", async (linkless) => {
  const { folder, temporary, replace } = place();
  disk.linkless = linkless;
  await replace();
  expect(read(folder)).toEqual({ ...after, ...mine });
  expect(readdirSync(folder).sort()).toEqual(["README.md", "config.json", "model-1", "model-folder", "tokenizer"]);
  expect(existsSync(temporary)).toBe(false);
  expect(disk.changes).toBe(changes);
});

test("a link to a file elsewhere is put back as it was, with its target", async () => {
  const { folder, replace } = place();
  writeFileSync(path.join(folder, "weights"), "old");
  symlinkSync("weights", path.join(folder, "model-3"));
  disk.fails = (i) => i === changes - 2;
  await expect(replace()).rejects.toThrow("EIO: no");
  expect(read(folder)).toMatchObject({ ...before, "model-3": "old" });
  expect(path.resolve(folder, readlinkSync(path.join(folder, "model-3")))).toBe(path.join(folder, "weights"));
});

test.each(Array.from({ length: changes - 1 }, (_, k) => k))(
  "if change %d fails, the old files are restored",
  async (k) => {
    const { folder, temporary, replace } = place();
    disk.fails = (i) => i === k;
    await expect(replace()).rejects.toThrow("EIO: no");
    expect(read(folder)).toEqual({ ...before, ...mine });
    expect(existsSync(temporary)).toBe(false);
    fill(temporary, after);
    await replace();
    expect(read(folder)).toEqual({ ...after, ...mine });
    expect(existsSync(path.join(folder, "replacing"))).toBe(false);
  },
);

test.each(Array.from({ length: changes - 1 }, (_, k) => k))(
  "if every change from %d on fails, a reader finds all old files",
  async (k) => {
    const { folder, temporary, replace } = place();
    disk.fails = (i) => i >= k;
    const error = await replace().then(
      () => expect.unreachable(),
      (error: unknown) => error,
    );
    expect(await found(folder)).toMatchObject(before);
    expect(read(folder)).toMatchObject(mine);
    if (!existsSync(path.join(folder, key)))
      expect(error).toMatchObject({
        code: "ERR_IO",
        message: expect.stringContaining(path.join(folder, "replacing", "before")) as string,
      });
    disk.fails = () => false;
    fill(temporary, after);
    await replace();
    expect(read(folder)).toEqual({ ...after, ...mine });
    expect(existsSync(path.join(folder, "replacing"))).toBe(false);
  },
);

test("only one process replaces the files of a folder at a time", async () => {
  const { folder, temporary, replace } = place();
  const second = path.join(folder, "second");
  fill(second, { ...after, "config.json": "second" });
  const all = await Promise.allSettled([replace(), replaceFiles(folder, second, { replaces, key })]);
  expect(all.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  expect(all.find(({ status }) => status === "rejected")).toMatchObject({ reason: { code: "ERR_BUSY" } });
  expect(existsSync(temporary) || existsSync(second)).toBe(false);
  expect(["new", "second"]).toContain(read(folder)["config.json"]);
});

describe("a process that is killed", () => {
  const module = JSON.stringify(pathToFileURL(dist("formats/replace-files.js")).href);
  // Each change of the file system counts; the process kills itself before the one whose number it is given.
  const program = `
    import fs from "node:fs/promises";
    import { syncBuiltinESMExports } from "node:module";
    const [folder, temporary, last] = process.argv.slice(1);
    let changes = 0;
    function count(object, name) {
      const real = object[name];
      object[name] = async (...args) => {
        if (changes++ === Number(last)) process.kill(process.pid, "SIGKILL");
        const result = await real.apply(object, args);
        if (name === "open" && args[1] !== "r") for (const change of ["write", "writeFile"]) count(result, change);
        return result;
      };
    }
    for (const name of ["rename", "link", "mkdir", "rm", "rmdir", "copyFile", "symlink", "open", "writeFile"])
      count(fs, name);
    syncBuiltinESMExports();
    const { replaceFiles } = await import(${module});
    await replaceFiles(folder, temporary, { replaces: (name) => /^model|^config/.test(name), key: "config.json" });`;

  async function killedAt(folder: string, temporary: string, k: number): Promise<boolean> {
    const child = spawn(process.execPath, ["--input-type=module", "-e", program, folder, temporary, String(k)], {
      stdio: ["ignore", "inherit", "inherit"],
    });
    const [, signal] = (await once(child, "exit")) as [number | null, string | null];
    return signal === "SIGKILL";
  }

  test("leaves a complete copy at each step, and the next one goes on from it", { timeout: 120_000 }, async () => {
    const seen = new Set<string>();
    for (let k = 0; ; k++) {
      const { folder, temporary } = place();
      const { ino } = statSync(path.join(folder, "model-2"));
      const wasKilled = await killedAt(folder, temporary, k);
      const files = await found(folder);
      const version = files["config.json"]!;
      expect(files, `step ${k}`).toMatchObject(version === "old" ? before : after);
      expect(read(folder), `step ${k}`).toMatchObject(mine);
      seen.add(`${version} ${existsSync(path.join(folder, key))}`);
      // The copy of a large file takes no room.
      const at = await replacedFolder(folder, key);
      if (at !== null) expect(statSync(path.join(at, "model-2")).ino).toBe(ino);
      // Sometimes the next process is killed too, at the same step, and the one after it succeeds.
      const last = path.join(folder, "last");
      fill(last, { ...after, "config.json": "last" });
      const again = wasKilled && k % 4 === 1 ? await killedAt(folder, last, k) : false;
      if (again) {
        expect(["old", "new", "last"]).toContain((await found(folder))["config.json"]);
        expect(Object.keys(await found(folder))).toEqual(expect.arrayContaining(["model-1"]));
        fill(last, { ...after, "config.json": "last" });
      }
      if (existsSync(last)) await replaceFiles(folder, last, { replaces, key });
      const names = Object.keys(read(folder));
      expect(read(folder), `step ${k}`).toMatchObject({ "config.json": "last", "model-1": "new", ...mine });
      expect(names, `step ${k}`).not.toContain("model-2");
      expect(existsSync(path.join(folder, "replacing")), `step ${k}`).toBe(false);
      if (!wasKilled) break;
      expect(k).toBeLessThan(100);
    }
    expect([...seen].sort()).toEqual(["new true", "old false", "old true"]);
  });
});
