import { checkBoolean, checkInteger } from "../util/check.js";
import { describe, HeedError } from "../util/errors.js";
import { warmUp, type WarmUpModel, type WarmUpOptions } from "./kernel-images.js";
import { native, type MemoryStats } from "./native.js";
import { systemMemory } from "../util/system-memory.js";

/**
 * Device that holds tensors and runs operations: a queue that runs in order, with its own memory.
 *
 * @example
 * const cpu = device("cpu");
 * const y = ones([2, 3], { device: cpu });
 * cpu.memory().live; // bytes of all tensors on the CPU
 */
export class Device {
  private constructor(
    /** Kind of the device. */
    readonly kind: "cpu" | "cuda",
    /** @internal Number of the device on the native side: 0 for the CPU, 1 + n for the CUDA device n. */
    readonly index: number,
  ) {}

  /** @internal */
  static readonly cpu = new Device("cpu", 0);
  private static readonly cudas: Device[] = [];

  /** @internal */
  static cuda(ordinal: number): Device {
    return (Device.cudas[ordinal] ??= new Device("cuda", 1 + ordinal));
  }

  /** Name of the device, such as "cpu" or "cuda:0". */
  get name(): string {
    return this.kind === "cpu" ? "cpu" : `cuda:${this.index - 1}`;
  }

  /**
   * Returns how much memory the device uses, in bytes. `live`, `cached` and `peak` follow from the order of your calls,
   * not from what has already run. `uploading` decreases while the queue runs.
   */
  memory(): MemoryStats {
    return native.memory(this.index);
  }

  /**
   * Returns how many bytes tensors on the device can still take: what the card has left, or what the system has left and
   * the limits of its control groups allow, and what heed holds for reuse.
   *
   * @example
   * const gigabytes = device("cpu").availableMemory() / 1e9;
   */
  availableMemory(): number {
    const left = native.availableMemory(this.index);
    return (left < 0 ? systemMemory().available : left) + this.memory().cached;
  }

  /** Sets the `peak` of `memory()` to the memory in use now. */
  resetPeak(): void {
    native.resetPeak(this.index);
  }

  /**
   * Gives memory that no tensor uses back to the system. The call returns at once, since operations that were enqueued
   * before may still use the memory. The promise resolves when the system has it.
   */
  async emptyCache(): Promise<void> {
    await native.releaseCached(this.index);
  }

  /**
   * Waits until everything enqueued so far has run.
   *
   * @throws the error of the first operation that failed on the device and that no read has reported yet, whichever
   *   code enqueued it.
   */
  async synchronize(): Promise<void> {
    await native.synchronize(this.index);
  }

  /**
   * Measures the milliseconds that the device takes for the operations that `work` enqueues, by the device's own clock.
   * Earlier operations do not count, and neither does the time of JavaScript as long as the queue does not run empty.
   *
   * @example
   * const ms = await x.device.elapsed(() => matmul(x, transpose(x)));
   */
  async elapsed(work: () => unknown): Promise<number> {
    const timer = native.startTimer(this.index);
    work();
    return new Float64Array(await native.stopTimer(this.index, timer))[0]!;
  }

  /**
   * Loads the kernels that a model needs on a CUDA device, in threads, so that the first pass does not wait for them.
   *
   * What has not been loaded is loaded by the first launch, on the JavaScript thread: a card that heed has no machine code
   * for compiles it there, which can take seconds for each kind of operation. Kernels for masks of blocks are left to the
   * first launch. All threads and workers of the process share what has been loaded. On the CPU there is nothing to load.
   *
   * @param model the model, or any of its modules
   * @param options dtypes besides those of the parameters, a callback for progress, and a signal that ends the work
   * @throws ERR_ARGUMENT for a bad argument, ERR_CUDA if the driver refuses a kernel. Rejects with the signal's reason.
   * @example
   * const model = new GPT({ vocabularySize: 50, contextLength: 8, layers: 1, heads: 2, width: 16 });
   * await device("auto").warmUp(model, { onProgress: ({ loaded, total }) => console.log(`${loaded} of ${total}`) });
   */
  async warmUp(model: WarmUpModel, options: WarmUpOptions = {}): Promise<void> {
    await warmUp(this.index, model, options);
  }

  /** Returns the name of the device. */
  toString(): string {
    return this.name;
  }
}

/** Information about one device, from `devices()`. */
export interface DeviceInfo {
  /** Name that `device()` accepts: "cpu", "cuda:0", …; "cuda" if there is no CUDA device at all. */
  name: string;
  /** True if heed can run on the device. */
  available: boolean;
  /** Description of the device for people; for an unavailable device, the reason. */
  description: string;
  /** Memory of a CUDA device in bytes. */
  memory?: number;
  /** Compute capability of a CUDA device, such as "8.0". */
  computeCapability?: string;
  /** Newest CUDA version that the driver supports, such as "12.2". */
  driverVersion?: string;
}

/**
 * Returns the device with a name: "cpu", "cuda" (the first CUDA device), "cuda:1", … "auto" is the device that the
 * environment variable HEED_DEVICE names. If it is not set, "auto" is the first available CUDA device, or else the CPU.
 *
 * @default "auto"
 *
 * @example
 * const best = device();
 * const weights = zeros([64, 64], { device: best });
 *
 * @throws ERR_DEVICE if the device is not available; the message says why.
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

/** Lists what a CUDA device does without if its driver lacks a function. */
const featureNames = [
  ["graphs", "decoding steps are not recorded"],
  ["timing", "elapsed() does not work"],
  ["peers", "copies between GPUs go through the host"],
] as const;

/**
 * Returns every device that heed finds, including unavailable ones and the reason why they are.
 *
 * @example
 * for (const { name, description } of devices()) console.log(`${name}: ${description}`);
 */
export function devices(): DeviceInfo[] {
  const cpu = { name: "cpu", available: true, description: `${native.isa()}, ${native.threads()} threads` };
  const cuda = native.cuda();
  if (cuda.problem) return [cpu, { name: "cuda", available: false, description: cuda.problem }];
  const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(bytes < 10 * 2 ** 30 ? 1 : 0)} GiB`;
  const lacks = featureNames.filter(([feature]) => cuda.lacks[feature] !== "");
  const without = lacks.map(([feature, what]) => `; ${what}, since the driver lacks ${cuda.lacks[feature]}`).join("");
  const cards = cuda.devices.map((card, ordinal): DeviceInfo => {
    const text =
      `${card.name}, ${gib(card.memory)}, compute capability ${card.capability}, CUDA ${cuda.driverVersion}` + without;
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

/**
 * Returns the number of threads on which CPU operations run. The whole process shares it.
 *
 * @example
 * const parallelism = threads();
 */
export function threads(): number {
  return native.threads();
}

/**
 * Sets the number of CPU threads for the whole process, from 1 to 256. By default it is the number of cores that the
 * process may use. If the system provides fewer threads, `threads()` returns how many there are.
 *
 * @example
 * setThreads(2);
 *
 * @throws ERR_RANGE if `count` is not an integer from 1 to 256.
 */
export function setThreads(count: number): void {
  checkInteger("setThreads", "count", count, 1, 256);
  native.setThreads(count);
}

/**
 * Lets the operations of this thread give way to those of other threads of the process, or no longer. Call it at the
 * beginning of a worker that trains while the main thread serves requests: the requests then hardly notice.
 *
 * On the CPU, operations in the background run while no others have run for 0.3 milliseconds. If others keep the
 * threads busy, those in the background get 5 of every 50 milliseconds. On CUDA, they run on a stream of the least
 * priority, and all others on streams of the greatest.
 *
 * @example
 * setBackground(true); // in the worker, before it uses a CUDA device
 *
 * @throws ERR_DEVICE if this thread has used a CUDA device already.
 */
export function setBackground(background: boolean): void {
  checkBoolean("setBackground", "background", background);
  native.setBackground(background);
}

/**
 * Returns true if f32 matrix products on CUDA may round their operands to tf32; see `setTf32`.
 *
 * @example
 * const exact = !tf32();
 */
export function tf32(): boolean {
  return native.tf32();
}

/**
 * Allows CUDA to multiply f32 matrices on tensor cores, or forbids it. That is faster, but rounds the operands to tf32,
 * which keeps the range of f32 and 10 bits after the point (relative errors up to 2⁻¹¹). Sums stay in f32, and
 * products of unaligned operands stay exact.
 *
 * It is off by default, so that f32 is exact; `HEED_TF32=1` turns it on from the start. The setting applies to the
 * whole process and to later calls.
 *
 * @example
 * setTf32(true);
 *
 * @throws ERR_ARGUMENT if `allowed` is not a boolean.
 */
export function setTf32(allowed: boolean): void {
  if (typeof allowed !== "boolean")
    throw new HeedError("ERR_ARGUMENT", `setTf32: expected true or false, got ${describe(allowed)}`);
  native.setTf32(allowed);
}
