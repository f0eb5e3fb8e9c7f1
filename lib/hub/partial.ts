// Files to which downloads write until they are complete. Each download has a file of its own beside the future blob,
// and the file's name identifies the owner:
//
//   blobs/<hash>.<host>-<process>-<time>-<random>.incomplete    a download is running
//   blobs/<hash>.free-<random>.incomplete                       a download gave up; the next one renames the file
//
// So no download writes to the file of another, and a file that exists and grows tells others to wait for it. Files
// with other names, such as those of Python's huggingface_hub, are left alone.
import { createHash, randomBytes } from "node:crypto";
import { mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { hostname } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { naming } from "../util/files.js";
import { isRunning } from "../formats/processes.js";

const host = createHash("sha256").update(hostname()).digest("hex").slice(0, 8);
/** Time at which this process started, in milliseconds since 1970. */
const processStart = Date.now() - process.uptime() * 1000;
/** A download that has written nothing for this many milliseconds is not waited for. */
const stalled = 60_000;
/** Time in milliseconds after which a later download must have given up. */
const decision = 50;
/** A file of an unknown owner that has not changed for this many milliseconds is removed. */
const forgotten = 24 * 3600_000;

/** An incomplete file. */
interface Partial {
  file: string;
  size: number;
  /** Time at which the download began, in milliseconds since 1970, or 0 if the file is free. */
  began: number;
  state: "growing" | "free" | "unknown" | "forgotten";
}

/**
 * Creates a file for the download of a blob, or takes over a file that its owner has left. Returns the file's path. If
 * another download of the blob is running, returns the number of bytes that it has received.
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
 * Returns the download for which this one must give up, or undefined if this one may continue.
 *
 * If several downloads begin at the same time, the first one continues: the others find its file and give up. But a
 * download that created its file later may have looked for others before the first file existed, and may have
 * continued. So the first download waits until the others have had time to give up, and gives up itself if one has not.
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

/** Leaves the bytes that have arrived to the next download of the blob. */
export async function releasePartial(own: string, blob: string): Promise<void> {
  const { size } = await stat(own).catch(() => ({ size: 0 }));
  if (size === 0 || !(await renamed(own, `${blob}.free-${random()}.incomplete`))) await rm(own, { force: true });
}

/** Returns the number of bytes of a blob that have arrived, in a file that is growing or can be taken over. */
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
  // In a container, a process often has the same number as its predecessor.
  if (owner === host && (pid === process.pid ? began < processStart : !isRunning(pid))) return "free";
  if (owner === host && age < stalled) return "growing";
  return age < forgotten ? "unknown" : "forgotten";
}

function largest(partials: readonly Partial[]): Partial | undefined {
  return [...partials].sort((a, b) => b.size - a.size)[0];
}

/** Renames a file. Returns false if another process was faster. */
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
