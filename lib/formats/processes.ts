// Identifies the process whose number is in a file, and tells if it still runs. Systems reuse process numbers, and a
// container numbers its processes separately. On Linux, where the system reports them, the start time and the namespace
// of a process therefore identify it as well.
import { readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";

/** Name of the scope in which process numbers are unique: the host name and, on Linux, the process namespace. */
export const host = ((): string => {
  const namespace = attempt(() => readlinkSync("/proc/self/ns/pid"));
  return namespace === null ? hostname() : `${hostname()} ${namespace}`;
})();

/**
 * Returns when a process of this host started, or null if the system does not tell. The value has no unit; use it only
 * to compare processes.
 */
export function startOf(pid: number): string | null {
  return statusOf(pid)?.start ?? null;
}

/** Returns true if a process of this host runs. If `start` is not null, the process must also have started then. */
export function isRunning(pid: number, start: string | null = null): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  const status = statusOf(pid);
  if (status === null) return true;
  // A zombie (Z) has ended, but its parent has not read its exit status yet. A dead process (X) is about to disappear.
  return !"ZX".includes(status.state) && (start === null || start === status.start);
}

/**
 * Reads fields 3 (state) and 22 (start time) of /proc/PID/stat. Field 2, a name in parentheses, may contain any
 * character.
 */
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
