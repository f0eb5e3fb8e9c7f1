// Either all of the new files or all of the old ones must be there, wherever renaming fails, and nothing may be lost if
// it fails for good. The tests use a file system that refuses its k-th rename, once or from then on.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { replaceFiles } from "../../lib/formats/replace-files.js";
import { temporaryFolder } from "../support/folder.js";

/** Decides which renames fail, counted from 0. */
const disk = vi.hoisted(() => ({ renames: 0, fails: (_: number): boolean => false }));

vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof import("node:fs/promises")>();
  return {
    ...real,
    rename: async (...args: Parameters<typeof real.rename>) => {
      if (disk.fails(disk.renames++)) throw Object.assign(new Error("EIO: no"), { code: "EIO", syscall: "rename" });
      await real.rename(...args);
    },
  };
});
afterEach(() => {
  disk.fails = () => false;
});

const before = { "config.json": "old", "model-1": "old", "model-2": "old" };
const after = { "config.json": "new", "model-1": "new", tokenizer: "new" };
const mine = { "README.md": "mine" };

function fill(folder: string, files: Record<string, string>): void {
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(path.join(folder, name), text);
}

function read(folder: string): Record<string, string> {
  if (!existsSync(folder)) return {};
  const files = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isFile());
  return Object.fromEntries(files.map(({ name }) => [name, readFileSync(path.join(folder, name), "utf8")]));
}

/**
 * Makes a folder with old files, and new ones in a subfolder; `replace` puts the new files in place of the old ones.
 */
function place() {
  const folder = temporaryFolder();
  const temporary = path.join(folder, "temporary");
  fill(folder, { ...before, ...mine });
  fill(temporary, after);
  mkdirSync(path.join(folder, "model-folder"));
  disk.renames = 0;
  const replace = () =>
    replaceFiles(folder, temporary, { replaces: (name) => /^model|^config/.test(name), key: "config.json" });
  return { folder, temporary, replaced: path.join(temporary, "replaced"), replace };
}

const renames = Object.keys(before).length + Object.keys(after).length;

test("only the new files are left", async () => {
  const { folder, temporary, replace } = place();
  await replace();
  expect(read(folder)).toEqual({ ...after, ...mine });
  expect(existsSync(temporary)).toBe(false);
  expect(existsSync(path.join(folder, "model-folder"))).toBe(true);
  expect(disk.renames).toBe(renames);
});

test.each(Array.from({ length: renames }, (_, k) => k))("if rename %d fails, the old files are restored", async (k) => {
  const { folder, temporary, replace } = place();
  disk.fails = (i) => i === k;
  await expect(replace()).rejects.toThrow("EIO: no");
  expect(read(folder)).toEqual({ ...before, ...mine });
  expect(existsSync(temporary)).toBe(false);
});

test.each(Array.from({ length: renames }, (_, k) => k))(
  "if every rename from %d on fails, all files are there",
  async (k) => {
    const { folder, temporary, replaced, replace } = place();
    disk.fails = (i) => i >= k;
    const error = await replace().then(
      () => expect.unreachable(),
      (error: unknown) => error,
    );
    // If the process had ended at this place, the key's file would be there with all files that belong to it, or not at
    // all.
    const left = read(folder);
    if (k === 0) expect(left).toEqual({ ...before, ...mine });
    else {
      expect(left).not.toHaveProperty("config.json");
      expect(error).toMatchObject({ code: "ERR_IO", message: expect.stringContaining(replaced) as string });
      const old = { ...left, ...read(replaced) };
      for (const name of Object.keys(before)) expect(read(replaced)[name] ?? left[name], name).toBe("old");
      expect(old["README.md"]).toBe("mine");
      for (const name of Object.keys(after)) expect(read(temporary)[name] ?? left[name], name).toBe("new");
    }
  },
);
