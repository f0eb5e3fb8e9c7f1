// Memory of a process as the system sees it: the same measure for heed and for its peers.
import { readFileSync, writeFileSync } from "node:fs";
import type { Device } from "heed";

/** Whether the system tells: Linux. */
export const measurable = process.platform === "linux";

function resident(which: "VmRSS" | "VmHWM"): number {
  const [, kib] = new RegExp(`^${which}:\\s+(\\d+)`, "m").exec(readFileSync("/proc/self/status", "utf8"))!;
  return Number(kib) * 1024;
}

/** Bytes in use, without what the device keeps for reuse; from here on the most counts anew. */
export function settled(device: Device): number {
  device.emptyCache();
  writeFileSync("/proc/self/clear_refs", "5");
  return resident("VmRSS");
}

/** The most bytes in use since `settled`. */
export function most(): number {
  return resident("VmHWM");
}
