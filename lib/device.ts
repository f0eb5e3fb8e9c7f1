import { checkInteger } from "./check.js";
import { describe, HeedError } from "./errors.js";
import { native, type MemoryStats } from "./native.js";

/** Where tensors live and operations run: an in-order queue with memory of its own. */
export class Device {
  private constructor(
    readonly kind: "cpu" | "cuda",
    /** @internal The native side's number: 0 is the CPU, 1 + n the CUDA device n. */
    readonly index: number,
  ) {}

  /** @internal */
  static readonly cpu = new Device("cpu", 0);
  private static readonly cudas: Device[] = [];

  /** @internal */
  static cuda(ordinal: number): Device {
    return (Device.cudas[ordinal] ??= new Device("cuda", 1 + ordinal));
  }

  /** "cpu", "cuda:0", … */
  get name(): string {
    return this.kind === "cpu" ? "cpu" : `cuda:${this.index - 1}`;
  }

  /**
   * Bytes live, cached and at the peak, which follow from the order of calls, not from what has run yet; and bytes on
   * their way to the device, which are fewer when more has run.
   */
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

  /**
   * Resolves when everything enqueued so far has run.
   *
   * @throws the first error of an operation that failed on the device of which no read has told yet, whoever called it
   */
  async synchronize(): Promise<void> {
    await native.synchronize(this.index);
  }

  /**
   * Milliseconds that the device took for what `work` enqueues, by its own clock: neither what was enqueued before nor
   * the time of JavaScript counts, as long as the queue does not run empty meanwhile.
   */
  async elapsed(work: () => unknown): Promise<number> {
    const timer = native.startTimer(this.index);
    work();
    return new Float64Array(await native.stopTimer(this.index, timer))[0]!;
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
  /** Bytes of a CUDA device's memory. */
  memory?: number;
  /** Of a CUDA device: "8.0", … */
  computeCapability?: string;
  /** The newest CUDA version that the driver knows: "12.2", … */
  driverVersion?: string;
}

/**
 * "cpu", "cuda" (the first CUDA device), "cuda:1", …; "auto" is the first CUDA device if there is one, else the CPU,
 * unless the environment variable HEED_DEVICE names another. Throws ERR_DEVICE where it is not there, saying why.
 */
export function device(name: "cpu" | "cuda" | "auto" | (string & {}) | Device = "auto"): Device {
  if (name instanceof Device) return name;
  if (name === "cpu") return Device.cpu;
  if (name === "auto") {
    const named = process.env.HEED_DEVICE;
    if (named && named !== "auto") return device(named);
    const found = devices().find((info) => info.available && info.name !== "cpu");
    return found ? device(found.name) : Device.cpu;
  }
  const ordinal = typeof name === "string" ? /^cuda(?::(\d{1,4}))?$/.exec(name) : null;
  if (!ordinal)
    throw new HeedError("ERR_DEVICE", `expected device "cpu", "cuda", "cuda:1", … or "auto", got ${describe(name)}`);
  const wanted = Number(ordinal[1] ?? 0);
  const all = devices();
  const info = all.find((info) => info.name === `cuda:${wanted}`) ?? all.find((info) => info.name === "cuda");
  if (info?.available) return Device.cuda(wanted);
  const last = all.filter((info) => info.name.startsWith("cuda:")).length - 1;
  const reason = info?.description ?? `the last CUDA device is "cuda:${last}"`;
  throw new HeedError("ERR_DEVICE", `device "${name}" is not available: ${reason}`);
}

/** Every device heed knows, also those that are not available, and why. */
export function devices(): DeviceInfo[] {
  const cpu = { name: "cpu", available: true, description: `${native.isa()}, ${native.threads()} threads` };
  const cuda = native.cuda();
  if (cuda.problem) return [cpu, { name: "cuda", available: false, description: cuda.problem }];
  const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(bytes < 10 * 2 ** 30 ? 1 : 0)} GiB`;
  const cards = cuda.devices.map((card, ordinal): DeviceInfo => {
    const text = `${card.name}, ${gib(card.memory)}, compute capability ${card.capability}, CUDA ${cuda.driverVersion}`;
    return {
      name: `cuda:${ordinal}`,
      available: card.problem === "",
      description: card.problem ? `${text}: ${card.problem}` : text,
      memory: card.memory,
      computeCapability: card.capability,
      driverVersion: cuda.driverVersion,
    };
  });
  return [cpu, ...cards];
}

/** How many threads a CPU operation runs on; shared by the whole process. */
export function threads(): number {
  return native.threads();
}

/**
 * Sets the number of CPU threads, 1 to 256; the default is the number of cores the process may use. Where the system
 * gives fewer, `threads()` says how many there are.
 */
export function setThreads(count: number): void {
  checkInteger("setThreads", "count", count, 1, 256);
  native.setThreads(count);
}

/** Whether matrix products of f32 on CUDA may round their operands to tf32; see `setTf32`. */
export function tf32(): boolean {
  return native.tf32();
}

/**
 * Lets CUDA multiply f32 matrices on tensor cores: faster, with operands rounded to tf32, which keeps f32's range and 10
 * bits after the point (relative errors up to 2⁻¹¹), and sums in f32. Off by default: f32 is exact. `HEED_TF32=1` turns
 * it on from the start. It holds for the whole process and for calls from now on; small and unaligned products stay
 * exact.
 */
export function setTf32(allowed: boolean): void {
  if (typeof allowed !== "boolean")
    throw new HeedError("ERR_ARGUMENT", `setTf32: expected true or false, got ${describe(allowed)}`);
  native.setTf32(allowed);
}
