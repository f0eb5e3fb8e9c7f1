// Which process is meant by a number in a file, and whether it still runs. Numbers are given out again, and a container
// has numbers of its own: where the system tells (Linux), a process is known by its start and by its namespace as well.
import { readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";

/** Where a process's number means that process. */
export const host = ((): string => {
  const namespace = attempt(() => readlinkSync("/proc/self/ns/pid"));
  return namespace === null ? hostname() : `${hostname()} ${namespace}`;
})();

/** When a process of this host began, in a form that only serves for comparison; null where the system does not tell. */
export function startOf(pid: number): string | null {
  return statusOf(pid)?.start ?? null;
}

/** Whether a process of this host runs, and is the one that began at `start` where that is known. */
export function isRunning(pid: number, start: string | null = null): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  const status = statusOf(pid);
  if (status === null) return true;
  // Nobody has asked yet how it ended (Z), or it is about to be gone (X).
  return !"ZX".includes(status.state) && (start === null || start === status.start);
}

/** Fields 3 and 22 of /proc/PID/stat; the second, a name in parentheses, may hold anything. */
function statusOf(pid: number): { state: string; start: string } | null {
  const text = attempt(() => readFileSync(`/proc/${pid}/stat`, "latin1"));
  if (text === null) return null;
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return { state: fields[0]!, start: fields[19]! };
}

function attempt<T>(body: () => T): T | null {
  try {
    return body();
  } catch {
    return null;
  }
}
