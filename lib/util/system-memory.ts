// How much memory this process can have: what the system has left, and what the control groups of Linux allow.
import { readFileSync } from "node:fs";
import { freemem, totalmem } from "node:os";
import path from "node:path";

/** Memory of the host, in bytes. */
export interface SystemMemory {
  /** Most memory that the process can have: that of the machine, or the limit of a control group. */
  readonly total: number;
  /** Memory that it can still take. Memory of the system's file cache counts, since the system gives it up. */
  readonly available: number;
}

/**
 * Returns the memory that the process can have. On Linux, limits of control groups count (versions 1 and 2), also those
 * of the groups around the process's own.
 *
 * @param root folder in which /proc and /sys are looked for; tests have their own. @default "/"
 */
export function systemMemory(root = "/"): SystemMemory {
  const read = (file: string): string | null => readText(path.join(root, file));
  const machine = machineMemory(read("/proc/meminfo"));
  const groups = groupFolders(read("/proc/self/cgroup") ?? "", read("/proc/self/mountinfo") ?? "").flatMap(
    ({ folder, version }) => groupMemory((name) => read(path.join(folder, name)), version) ?? [],
  );
  // Version 1 writes a number far above the memory of any machine if there is no limit.
  const limits = groups.filter(({ total }) => total < machine.total);
  return {
    total: Math.min(machine.total, ...limits.map(({ total }) => total)),
    available: Math.max(0, Math.min(machine.available, ...limits.map(({ available }) => available))),
  };
}

function machineMemory(meminfo: string | null): SystemMemory {
  const kilobytes = (name: string): number => Number(new RegExp(`^${name}: +(\\d+) kB`, "m").exec(meminfo ?? "")?.[1]);
  const [total, available] = [kilobytes("MemTotal"), kilobytes("MemAvailable")];
  if (total > 0 && available >= 0) return { total: total * 1024, available: available * 1024 };
  // macOS counts what its file cache has as used; about half of the memory can be had as a rule.
  const least = process.platform === "darwin" ? totalmem() / 2 - process.memoryUsage.rss() : 0;
  return { total: totalmem(), available: Math.max(freemem(), least) };
}

/** A folder with the files of a control group. */
interface GroupFolder {
  readonly folder: string;
  readonly version: 1 | 2;
}

/** Returns the folders of the groups that limit the process's memory: its own, and those around it. */
function groupFolders(cgroup: string, mountinfo: string): GroupFolder[] {
  const mounts = mountinfo.split("\n").flatMap((line) => {
    // 36 35 98:0 /root /mount/point options [optional fields] - type source options
    const [left = "", right = ""] = line.split(" - ");
    const [, , , inner, at] = left.split(" ");
    const [type, , options = ""] = right.split(" ");
    const version = type === "cgroup2" ? 2 : type === "cgroup" && options.split(",").includes("memory") ? 1 : null;
    return version && inner && at ? [{ version, inner: unescaped(inner), at: unescaped(at) } as const] : [];
  });
  return cgroup.split("\n").flatMap((line) => {
    // 4:memory:/path in version 1, and 0::/path in version 2
    const [, controllers, own] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (own === undefined) return [];
    const version = controllers === "" ? 2 : controllers!.split(",").includes("memory") ? 1 : null;
    return mounts
      .filter((mount) => mount.version === version)
      .flatMap(({ at, inner }) => foldersUpTo(at, own, inner).map((folder) => ({ folder, version: version! })));
  });
}

/** Returns the folders of a group and of those around it, below a mount of the group `inner` at `at`. */
function foldersUpTo(at: string, own: string, inner: string): string[] {
  const relative = path.posix.relative(inner, own);
  // A container may see only its own group, and know its path outside.
  const parts = relative.startsWith("../..") ? [] : relative.split("/").filter((part) => part !== "");
  return parts.map((_, i) => path.posix.join(at, ...parts.slice(0, i + 1))).concat(at);
}

/** Returns the limit of a group, and what is left below it; null if the group has no limit. */
function groupMemory(read: (name: string) => string | null, version: 1 | 2): SystemMemory | null {
  const [limitFile, usageFile] =
    version === 2 ? ["memory.max", "memory.current"] : ["memory.limit_in_bytes", "memory.usage_in_bytes"];
  const [total, used] = [numberOf(read(limitFile)), numberOf(read(usageFile))];
  if (Number.isNaN(total) || Number.isNaN(used)) return null;
  const stat = read("memory.stat") ?? "";
  const of = (name: string): number => {
    const prefix = version === 1 ? "total_" : "";
    return Number(new RegExp(`^${prefix}${name} (\\d+)$`, "m").exec(stat)?.[1] ?? 0);
  };
  return { total, available: total - used + of("inactive_file") + of("active_file") };
}

/** Returns the number in a file; NaN if there is none, as in "max". */
function numberOf(content: string | null): number {
  return content === null || content.trim() === "" ? NaN : Number(content);
}

/** Returns a path of mountinfo, where spaces and backslashes are octal numbers. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)));
}

function readText(file: string): string | null {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return null;
  }
}
