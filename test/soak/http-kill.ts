/** Kills servers by SIGKILL in the middle of their work. Each continues the work of the one before, in the same folder. */
import { deepStrictEqual, ok } from "node:assert/strict";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Random } from "../support/random.js";
import { clients } from "./http-clients.js";
import type { Lane } from "./http-lane.js";
import { answersNow, lastAnswers, type Seen, straysIn } from "./http-disk.js";
import { ServerProcess } from "./http-process.js";
import type { Begun } from "./http-settings.js";
import { pick } from "./world.js";

export interface Killing {
  /** Folder of the servers. */
  folder: string;
  seed: number;
  random: Random;
  laneOf: (begun: Begun) => Lane;
  /** Number of clients that act at the same time. */
  lanes: number;
  /** Counts a client that is done. */
  done: () => void;
  fail: (error: unknown) => void;
}

/** Seconds in which a server must start, or end. */
const patience = 120;

/**
 * Starts servers and kills them, for some seconds. The last one is stopped by SIGTERM, and must leave no lock and no
 * unfinished file. Resolves to the number of servers that were killed.
 */
export async function killRepeatedly(seconds: number, killing: Killing): Promise<number> {
  const end = performance.now() + 1000 * seconds;
  const before: Found = { saved: 0, seen: new Map() };
  let count = 0;
  do await live(killing.seed + count++, "SIGKILL", killing, before);
  while (performance.now() < end);
  await live(killing.seed + count, "SIGTERM", killing, before);
  const strays = straysIn(path.join(killing.folder, "work"));
  if (strays.length > 0) killing.fail(new Error(`locks or unfinished files stay behind: ${strays.join(", ")}`));
  return count;
}

/** Work that a server has acknowledged. No later server may lose it. */
interface Found {
  /** Number of the last model of which the server said that it was saved. */
  saved: number;
  /** Answers of batches that have been seen. */
  seen: Seen;
}

/** Starts a server, lets it work on its disk and for clients, and ends it by a signal. */
async function live(seed: number, signal: "SIGKILL" | "SIGTERM", killing: Killing, found: Found): Promise<void> {
  const { folder, random, fail } = killing;
  const server = new ServerProcess(seed, folder, fail);
  const late = setTimeout(() => server.kill("SIGKILL"), 1000 * patience);
  const work = path.join(folder, "work");
  let ending = false;
  try {
    const begun = await server.begun();
    ok(begun.saved >= found.saved, `expected model ${found.saved} or a later one, got ${begun.saved}`);
    const lane = killing.laneOf(begun);
    const questions = begun.questions.filter(({ model }) => model === "cpu");
    await server.tell("work");
    const acting = Array.from({ length: killing.lanes }, async () => {
      while (!ending)
        await pick(
          random,
          clients,
        )(lane).then(killing.done, (error: unknown) => {
          if (!ending || !isCutOff(error)) fail(error);
        });
    });
    await sleep(100 + random.integer(1500));
    const seen = lastAnswers(work, questions);
    ending = true;
    server.kill(signal);
    deepStrictEqual(await server.exit, signal === "SIGKILL" ? [null, signal] : [0, null]);
    await Promise.all(acting);
    await server.readLog();
    answersNow(work, questions, found.seen);
    found.seen = answersNow(work, questions, seen);
    found.saved = Math.max(begun.saved, server.saved);
  } catch (error) {
    fail(error);
    server.kill("SIGKILL");
    await server.exit;
  } finally {
    clearTimeout(late);
  }
}

/** Returns true if a client was cut off, or refused by a server that ends: what it got before was right. */
function isCutOff(error: unknown): boolean {
  const { code, message, cause } = error as NodeJS.ErrnoException;
  if (error instanceof TypeError && (message === "fetch failed" || message === "terminated" || cause)) return true;
  return ["ECONNRESET", "ECONNREFUSED", "EPIPE"].includes(code!) || /shutting_down|ECONNRE/.test(String(error));
}
