/** Gives processes disks of their own: mounts that only the process sees and that disappear with it. */
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";

/** Returns the command line that starts a process after a shell script has mounted its disks. */
export function mounted(script: string): string[] {
  return ["unshare", "-rm", "sh", "-ec", `${script}\nexec "$@"`, "sh"];
}

const [command, ...args] = [...mounted(`mount -t tmpfs tmpfs "${tmpdir()}"`), "true"];
const tried = spawnSync(command, args, { encoding: "utf8" });

/** Why mounts are not possible here; null if they are. */
export const noMounts =
  tried.status === 0
    ? null
    : `need mounts: ${(tried.error?.message ?? tried.stderr.trim()) || `unshare ended with ${tried.status}`}`;
