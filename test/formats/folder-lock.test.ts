// A folder has one writer at most, whoever else tries, and a killed process leaves no lock that would exclude all
// others.
import { type ChildProcess, spawn } from "node:child_process";
import {
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { lockFolder } from "../../lib/formats/folder-lock.js";
import { dist } from "../support/dist.js";
import { expectError, expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { linuxOnly, testUnless } from "../support/skip.js";

const module = JSON.stringify(pathToFileURL(dist("formats/folder-lock.js")).href);

/** Starts a process that locks the folder, prints "locked" or the error's code, and waits. */
async function locker(folder: string): Promise<{ child: ChildProcess; said: string }> {
  const program = `
    import { lockFolder } from ${module};
    process.stdin.resume().on("end", () => process.exit());
    console.log(await lockFolder(process.argv[1]).then(() => "locked", ({ code }) => code));`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", program, folder], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const said = await new Promise<string>((resolve) =>
    child.stdout.once("data", (data: Buffer) => resolve(data.toString().trim())),
  );
  return { child, said };
}

const ended = (child: ChildProcess): Promise<unknown> => new Promise((resolve) => child.on("exit", resolve));
const fileOf = (folder: string): string => path.join(folder, "lock");
const read = (folder: string): Record<string, unknown> =>
  JSON.parse(readFileSync(fileOf(folder), "utf8")) as Record<string, unknown>;
const minutesAgo = (minutes: number): Date => new Date(Date.now() - 60_000 * minutes);

test("a folder has one writer, which the error names, until it is released", async () => {
  const folder = temporaryFolder();
  const lock = await lockFolder(folder);
  const named = new RegExp(`process ${process.pid} of .*remove ${fileOf(folder)}$`);
  await expectRejection(lockFolder(folder), "ERR_BUSY", named);
  await lock.release();
  await lock.release();
  expect(readdirSync(folder)).toEqual([]);
  await (await lockFolder(folder)).release();
});

test("its owner touches a lock", async () => {
  const folder = temporaryFolder();
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  onTestFinished(() => void vi.useRealTimers());
  const lock = await lockFolder(folder);
  utimesSync(fileOf(folder), minutesAgo(3), minutesAgo(3));
  vi.advanceTimersByTime(15_000);
  await expect.poll(() => statSync(fileOf(folder)).mtimeMs).toBeGreaterThan(minutesAgo(1).getTime());
  await lock.release();
});

test("an owner notices that its lock was taken or removed, and touches no lock of another", async () => {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  onTestFinished(() => void vi.useRealTimers());
  const folder = temporaryFolder();
  const lock = await lockFolder(folder);
  await lock.check();
  lock.checkSync();
  const other = JSON.stringify({ ...read(folder), pid: 7, host: "elsewhere", token: "other" });
  for (const text of [other, "", null]) {
    rmSync(fileOf(folder), { force: true });
    if (text !== null) {
      writeFileSync(`${fileOf(folder)}.new`, text);
      renameSync(`${fileOf(folder)}.new`, fileOf(folder));
      utimesSync(fileOf(folder), minutesAgo(1), minutesAgo(1));
    }
    const reason = text === other ? /got that of process 7 of elsewhere/ : /got none/;
    await expectRejection(lock.check(), "ERR_BUSY", reason);
    expectError(() => lock.checkSync(), "ERR_BUSY", reason);
    if (text === null) continue;
    vi.advanceTimersByTime(15_000);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(statSync(fileOf(folder)).mtimeMs).toBeLessThan(minutesAgo(0.5).getTime());
    expect(readFileSync(fileOf(folder), "utf8")).toBe(text);
  }
  writeFileSync(fileOf(folder), other);
  await lock.release();
  expect(readFileSync(fileOf(folder), "utf8")).toBe(other);
  await expectRejection(lock.check(), "ERR_BUSY");
});

test.each([
  ["ahead", 60],
  ["behind", -60],
])("the clock of this host does not matter: it is %s", async (_, minutes) => {
  const folder = temporaryFolder();
  const lock = await lockFolder(folder);
  const own = read(folder);
  await lock.release();
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 60_000 * minutes });
  onTestFinished(() => void vi.useRealTimers());
  writeFileSync(fileOf(folder), JSON.stringify({ ...own, host: "elsewhere", token: "other" }));
  await expectRejection(lockFolder(folder), "ERR_BUSY", /of elsewhere writes to/);
  const old = new Date(statSync(fileOf(folder)).mtimeMs - 180_000);
  utimesSync(fileOf(folder), old, old);
  await (await lockFolder(folder)).release();
  expect(readdirSync(folder)).toEqual([]);
});

test("a folder that was made for the lock is removed with it unless it is in use", async () => {
  const folder = path.join(temporaryFolder(), "a", "b");
  await (await lockFolder(folder)).release();
  expect(existsSync(path.dirname(folder))).toBe(false);
  const lock = await lockFolder(folder);
  writeFileSync(path.join(folder, "file"), "");
  await lock.release();
  expect(readdirSync(folder)).toEqual(["file"]);
});

test("a folder that cannot be written is an ERR_IO", async () => {
  const file = path.join(temporaryFolder(), "file");
  writeFileSync(file, "");
  await expectRejection(lockFolder(path.join(file, "folder")), "ERR_IO", /file/);
});

describe("another process", () => {
  test("that runs keeps its lock; one that has ended, or was killed, does not", async () => {
    const folder = temporaryFolder();
    const first = await locker(folder);
    expect(first.said).toBe("locked");
    utimesSync(fileOf(folder), minutesAgo(60), minutesAgo(60));
    await expectRejection(lockFolder(folder), "ERR_BUSY", new RegExp(`process ${first.child.pid} `));
    const end = ended(first.child);
    first.child.stdin!.end();
    await end;
    expect(readdirSync(folder)).toEqual([]);

    const second = await locker(folder);
    second.child.kill("SIGKILL");
    await ended(second.child);
    expect(readdirSync(folder)).toEqual(["lock"]);
    const lock = await lockFolder(folder);
    expect(read(folder).pid).toBe(process.pid);
    await lock.release();
    expect(readdirSync(folder)).toEqual([]);
  });

  testUnless(process.platform !== "linux" && linuxOnly)(
    "that has the number of an earlier one is another process",
    async () => {
      const folder = temporaryFolder();
      const lock = await lockFolder(folder);
      const own = read(folder);
      await lock.release();
      for (const pid of [process.pid, process.ppid]) {
        writeFileSync(fileOf(folder), JSON.stringify({ ...own, pid, start: "1", token: "other" }));
        await (await lockFolder(folder)).release();
      }
    },
  );

  test("if many find a stale lock at once, one of them replaces it", async () => {
    const folder = temporaryFolder();
    const killed = await locker(folder);
    killed.child.kill("SIGKILL");
    await ended(killed.child);
    const said = (await Promise.all(Array.from({ length: 6 }, () => locker(folder)))).map(({ said }) => said).sort();
    expect(said).toEqual([...Array.from({ length: 5 }, () => "ERR_BUSY"), "locked"]);
  });
});

test("if many in this process try at once, one of them gets it", async () => {
  const folder = temporaryFolder();
  for (let round = 0; round < 20; round++) {
    if (round % 2 === 0) {
      writeFileSync(fileOf(folder), "");
      utimesSync(fileOf(folder), minutesAgo(60), minutesAgo(60));
    }
    const all = await Promise.allSettled(Array.from({ length: 30 }, () => lockFolder(folder)));
    const locks = all.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
    expect(locks).toHaveLength(1);
    for (const result of all)
      if (result.status === "rejected") expect(result.reason).toMatchObject({ code: "ERR_BUSY" });
    await locks[0]!.release();
    expect(readdirSync(folder)).toEqual([]);
  }
});

describe("a process that cannot be asked", () => {
  test.each([
    ["a process of another host", (own: object) => JSON.stringify({ ...own, host: "elsewhere", token: "other" })],
    ["another thread of this process", (own: object) => JSON.stringify({ ...own, token: "other" })],
    ["a file that does not say", () => ""],
  ])("is there as long as the lock is touched: %s", async (_, text) => {
    const folder = temporaryFolder();
    const lock = await lockFolder(folder);
    const own = read(folder);
    await lock.release();
    writeFileSync(fileOf(folder), text(own));
    utimesSync(fileOf(folder), minutesAgo(1), minutesAgo(1));
    await expectRejection(lockFolder(folder), "ERR_BUSY");
    utimesSync(fileOf(folder), minutesAgo(3), minutesAgo(3));
    await (await lockFolder(folder)).release();
    expect(readdirSync(folder)).toEqual([]);
  });
});
