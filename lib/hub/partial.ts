// The files that downloads write into until they are whole. Each download has one of its own, in whose name its owner
// is, beside the blob that it becomes:
//
//   blobs/<hash>.<host>-<process>-<time>-<random>.incomplete    somebody is downloading
//   blobs/<hash>.free-<random>.incomplete                       somebody gave up: whoever renames it may go on with it
//
// So nobody ever writes into another's file, and a file that is there, and grows, tells others to wait for it. Files of
// other names, such as those of Python's huggingface_hub, are left alone.
import { createHash, randomBytes } from "node:crypto";
import { mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { hostname } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { naming } from "../files.js";
import { isRunning } from "../formats/processes.js";

const host = createHash("sha256").update(hostname()).digest("hex").slice(0, 8);
/** When this process began, in milliseconds since 1970. */
const processStart = Date.now() - process.uptime() * 1000;
/** A download that has written nothing for so many milliseconds is not waited for. */
const stalled = 60_000;
/** Milliseconds that a later download gets for giving up. */
const decision = 50;
/** A file of an unknown owner that has not changed for so many milliseconds is removed. */
const forgotten = 24 * 3600_000;

interface Partial {
  file: string;
  size: number;
  /** When its owner began; 0 of a file that is free. */
  began: number;
  state: "growing" | "free" | "unknown" | "forgotten";
}

/**
 * Makes a file for the download of a blob, or takes over one that its owner has left. Resolves to its path, or, where
 * somebody else is downloading the blob, to the number of bytes that they have.
 */
export async function claimPartial(blob: string): Promise<string | number> {
  const began = Date.now();
  const own = `${blob}.${host}-${process.pid}-${began}-${random()}.incomplete`;
  return naming(own, async () => {
    await mkdir(path.dirname(blob), { recursive: true });
    const found = await partialsOf(blob);
    const growing = found.filter(({ state }) => state === "growing");
    if (growing.length > 0) return largest(growing)!.size;
    for (const { file } of found.filter(({ state }) => state === "forgotten")) await rm(file, { force: true });
    const free = largest(found.filter(({ state }) => state === "free"));
    if (!free || !(await renamed(free.file, own))) await (await open(own, "wx")).close();
    const rival = await rivalOf(own, began, blob);
    if (!rival) return own;
    await releasePartial(own, blob);
    return rival.size;
  });
}

/**
 * Of several downloads that begin at the same time the first one goes on: the others find its file, and give up theirs.
 * But one that made its file later may have looked before the first one's was there, and gone on. So the first one waits
 * until those that will give up have done so, and gives up where one has not. Resolves to the download to give up for.
 */
async function rivalOf(own: string, began: number, blob: string): Promise<Partial | undefined> {
  const others = async (): Promise<Partial[]> =>
    (await partialsOf(blob)).filter(({ file, state }) => state === "growing" && file !== own);
  const found = await others();
  const earlier = found.find((other) => other.began < began || (other.began === began && other.file < own));
  if (earlier || found.length === 0) return earlier;
  await sleep(decision);
  return (await others())[0];
}

/** Leaves what has come of a blob for the next download of it. */
export async function releasePartial(own: string, blob: string): Promise<void> {
  const { size } = await stat(own).catch(() => ({ size: 0 }));
  if (size === 0 || !(await renamed(own, `${blob}.free-${random()}.incomplete`))) await rm(own, { force: true });
}

/** How many bytes of a blob are there already, in a file that is growing or that can be taken over. */
export async function partialSize(blob: string): Promise<number> {
  const found = await naming(blob, () => partialsOf(blob));
  return largest(found.filter(({ state }) => state === "growing" || state === "free"))?.size ?? 0;
}

async function partialsOf(blob: string): Promise<Partial[]> {
  const folder = path.dirname(blob);
  const names = await readdir(folder).catch(ignoringMissing(() => []));
  const found = names.map(async (name): Promise<Partial | null> => {
    if (!name.startsWith(`${path.basename(blob)}.`)) return null;
    const match = /^[0-9a-f]+\.(?:([0-9a-f]{8})-(\d+)-(\d+)|free)-[0-9a-f]{8}\.incomplete$/.exec(name);
    if (!match) return null;
    const file = path.join(folder, name);
    const stats = await stat(file).catch(ignoringMissing(() => null));
    if (!stats) return null;
    const began = Number(match[3] ?? 0);
    const age = Date.now() - stats.mtimeMs;
    return { file, size: stats.size, began, state: stateOf(match[1], Number(match[2]), began, age) };
  });
  return (await Promise.all(found)).filter((partial) => partial !== null);
}

function stateOf(owner: string | undefined, pid: number, began: number, age: number): Partial["state"] {
  if (owner === undefined) return "free";
  // In a container a process often has the number of the one before it.
  if (owner === host && (pid === process.pid ? began < processStart : !isRunning(pid))) return "free";
  if (owner === host && age < stalled) return "growing";
  return age < forgotten ? "unknown" : "forgotten";
}

function largest(partials: readonly Partial[]): Partial | undefined {
  return [...partials].sort((a, b) => b.size - a.size)[0];
}

/** Renames a file; false where somebody else was faster. */
async function renamed(from: string, to: string): Promise<boolean> {
  return rename(from, to).then(
    () => true,
    ignoringMissing(() => false),
  );
}

function ignoringMissing<T>(otherwise: () => T): (error: unknown) => T {
  return (error) => {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return otherwise();
    throw error;
  };
}

function random(): string {
  return randomBytes(4).toString("hex");
}
