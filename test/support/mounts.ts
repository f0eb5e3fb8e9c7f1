/** Disks of their own for processes: mounts that the process alone sees, and that go with it. */
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";

/** The command line through which a process starts after a shell script has mounted what it wants. */
export function mounted(script: string): string[] {
  return ["unshare", "-rm", "sh", "-ec", `${script}\nexec "$@"`, "sh"];
}

const [command, ...args] = [...mounted(`mount -t tmpfs tmpfs "${tmpdir()}"`), "true"];
const tried = spawnSync(command, args, { encoding: "utf8" });

/** Why there are no mounts here; null where there are. */
export const noMounts =
  tried.status === 0 ? null : (tried.error?.message ?? tried.stderr.trim()) || `unshare ended with ${tried.status}`;

if (noMounts !== null) console.warn(`tests that need mounts are skipped: ${noMounts}`);
