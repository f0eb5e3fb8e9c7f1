import { checkInteger } from "./check.js";
import { describe, HeedError } from "./errors.js";
import { native, type MemoryStats } from "./native.js";

/** Where tensors live and operations run: an in-order queue with memory of its own. */
export class Device {
  private constructor(
    readonly kind: "cpu",
    /** @internal The native side's number. */
    readonly index: number,
  ) {}

  /** @internal */
  static readonly cpu = new Device("cpu", 0);

  /** "cpu" */
  get name(): string {
    return this.kind;
  }

  /** Bytes live, cached and at the peak. They follow from the order of calls, not from what has run yet. */
  memory(): MemoryStats {
    return native.memory(this.index);
  }

  /** Makes the present use the peak of `memory()`. */
  resetPeak(): void {
    native.resetPeak(this.index);
  }

  /** Gives memory that no tensor uses back to the system; waits for the queue. */
  emptyCache(): void {
    native.releaseCached(this.index);
  }

  /** Resolves when everything enqueued so far has run; rejects with what failed since the last read. */
  async synchronize(): Promise<void> {
    await native.synchronize(this.index);
  }

  toString(): string {
    return this.name;
  }
}

/** What `devices()` tells of one device. */
export interface DeviceInfo {
  name: string;
  available: boolean;
  /** In words: what it is, or why it is not available. */
  description: string;
}

/** "cpu"; "auto" is the best device there is. Throws ERR_DEVICE where it is not there, saying why. */
export function device(name: "cpu" | "auto" | (string & {}) | Device = "auto"): Device {
  if (name instanceof Device) return name;
  if (name === "cpu" || name === "auto") return Device.cpu;
  const known = devices().find((info) => info.name === name);
  throw new HeedError(
    "ERR_DEVICE",
    known
      ? `device "${name}" is not available: ${known.description}`
      : `expected device "cpu" or "auto", got ${describe(name)}`,
  );
}

/** Every device heed knows, also those that are not available, and why. */
export function devices(): DeviceInfo[] {
  return [
    { name: "cpu", available: true, description: `${native.isa()}, ${native.threads()} threads` },
    { name: "cuda", available: false, description: "this build of heed has no CUDA kernels" },
  ];
}

/** How many threads a CPU operation runs on; shared by the whole process. */
export function threads(): number {
  return native.threads();
}

/** Sets the number of CPU threads, 1 to 256; the default is the number of cores the process may use. */
export function setThreads(count: number): void {
  checkInteger("setThreads", "count", count, 1, 256);
  native.setThreads(count);
}
