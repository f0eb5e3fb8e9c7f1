/** Faults that affect all work for a while. */
import { once } from "node:events";
import { rmSync, statfsSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { type ChildProcessByStdio, spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import path from "node:path";
import type { Device, ErrorCode } from "heed";
import type { Random } from "../support/random.js";
import {
  abortGeneration,
  abortTraining,
  awaitLimit,
  breakDownload,
  failSome,
  large,
  loadTruncated,
  terminateWorker,
  trainOnBadTokens,
  wantMuch,
} from "./broken.js";
import { hoard } from "./hoard.js";
import { employ, usual } from "./usual.js";
import type { Work } from "./world.js";

export interface Fault {
  name: string;
  /** Errors that the fault causes: a caller that gets one has been refused, and nothing else has happened. */
  causes: readonly ErrorCode[];
  /** Jobs that run while it lasts. */
  work: readonly Work[];
  /** Causes the fault; resolves to a function that ends it. */
  strike: (random: Random) => Promise<() => Promise<void>>;
}

const calm: Fault = { name: "no fault", causes: [], work: usual, strike: async () => async () => undefined };

const killedReads: Fault = {
  ...calm,
  name: "killed reads",
  work: [...usual, abortTraining, abortGeneration, loadTruncated, breakDownload, terminateWorker, terminateWorker],
};

const failedOperations: Fault = {
  ...calm,
  name: "failed operations",
  work: [...usual, failSome, failSome, trainOnBadTokens],
};

const KiB = 2 ** 10;

const noDeviceMemory = (device: Device): Fault => ({
  name: "no memory",
  causes: ["ERR_OOM"],
  work: usual,
  strike: async (random) => {
    const hoarded = hoard(device, random);
    return async () => {
      for (const tensor of hoarded) tensor.dispose();
    };
  },
});

/**
 * A process that sets limits of this process's memory, which it reads line by line. It is a single long-lived process,
 * because starting one holds up the event loop in proportion to the size of this process.
 */
let limiter: ChildProcessByStdio<Writable, Readable, null> | undefined;

/** Limits the process's memory to its current size and `room` bytes more; null lifts the limit. */
function limitMemory(room: number | null): Promise<void> {
  const change = setLimit(room);
  awaitLimit(change);
  return change;
}

async function setLimit(room: number | null): Promise<void> {
  limiter ??= spawn("sh", ["-c", `while read limit; do prlimit --pid ${process.pid} --as="$limit:" && echo; done`], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const status = await readFile("/proc/self/status", "utf8");
  const used = Number(/VmSize:\s+(\d+)/.exec(status)![1]) * KiB;
  limiter.stdin.write(room === null ? "unlimited\n" : `${used + room}\n`);
  await once(limiter.stdout, "data");
}

/** Ends the processes that the faults have started. */
export function endFaults(): void {
  limiter?.stdin.end();
}

/**
 * V8 ends a process that has no memory for V8's own needs. So when tensors of `large` bytes have taken all the memory
 * they can, at least three quarters of such a size are left. Usual work once left too little of 192 MiB for V8's next
 * collection. It is not enough for the V8 of a new thread.
 */
const noHostMemory: Fault = {
  name: "no memory",
  causes: ["ERR_OOM"],
  work: [...usual.filter((work) => work !== employ), wantMuch, wantMuch],
  strike: async (random) => {
    await limitMemory(large * random.integer(2) + (large * 3) / 4 + random.integer(large / 4));
    return () => limitMemory(null);
  },
};

const noDisk = (disk: string): Fault => ({
  name: "no disk",
  causes: ["ERR_IO"],
  work: usual,
  strike: async (random) => {
    const filler = path.join(disk, "filler");
    const { bavail, bsize } = statfsSync(disk);
    try {
      writeFileSync(filler, new Uint8Array(Math.max(0, bavail * bsize - 4 * KiB * random.integer(32))));
    } catch (error) {
      // Other work has written meanwhile, so the disk is already full.
      if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    }
    return async () => rmSync(filler, { force: true });
  },
});

/** Returns all faults of a device; `small` says whether the disk is a small one. */
export function faultsOf(device: Device, disk: string, small: boolean): Fault[] {
  const limited = device.kind !== "cpu" || process.platform === "linux";
  return [
    calm,
    ...(limited ? [device.kind === "cpu" ? noHostMemory : noDeviceMemory(device)] : []),
    ...(small ? [noDisk(disk)] : []),
    killedReads,
    failedOperations,
  ];
}
