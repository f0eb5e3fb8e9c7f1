// The memory of this process as the system sees it, so that heed and its peers are measured in the same way.
import { readFileSync, writeFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Device } from "heed";

/** Returns true if memory can be measured, which is on the CPU (also by others than heed: null) under Linux. */
export function measurable(device: Device | null): boolean {
  return device?.kind !== "cuda" && process.platform === "linux";
}

function resident(which: "VmRSS" | "VmHWM"): number {
  const [, kib] = new RegExp(`^${which}:\\s+(\\d+)`, "m").exec(readFileSync("/proc/self/status", "utf8"))!;
  return Number(kib) * 1024;
}

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** Returns the bytes in use, without garbage and blocks that the device keeps for reuse, and resets the peak. */
export async function settled(device: Device | null): Promise<number> {
  if (!measurable(device)) return 0;
  collectGarbage();
  await device?.emptyCache();
  writeFileSync("/proc/self/clear_refs", "5");
  return resident("VmRSS");
}

/** Returns the most bytes that were in use since `settled`. */
export function most(): number {
  return process.platform === "linux" ? resident("VmHWM") : 0;
}
