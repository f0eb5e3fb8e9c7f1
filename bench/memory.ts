// Memory of this process as the system sees it: the same measure for heed and for its peers.
import { readFileSync, writeFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Device } from "heed";

/** Whether it can be told: on the CPU, by Linux. */
export function measurable({ kind }: Device): boolean {
  return kind === "cpu" && process.platform === "linux";
}

function resident(which: "VmRSS" | "VmHWM"): number {
  const [, kib] = new RegExp(`^${which}:\\s+(\\d+)`, "m").exec(readFileSync("/proc/self/status", "utf8"))!;
  return Number(kib) * 1024;
}

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** Bytes in use, without garbage and what the device keeps for reuse; from here on the most counts anew. */
export function settled(device: Device): number {
  if (!measurable(device)) return 0;
  collectGarbage();
  device.emptyCache();
  writeFileSync("/proc/self/clear_refs", "5");
  return resident("VmRSS");
}

/** The most bytes in use since `settled`. */
export function most(): number {
  return process.platform === "linux" ? resident("VmHWM") : 0;
}
