import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { HeedError } from "./errors.js";
import { type Handle, namedOps, type NativeOps, type Ops } from "./native-ops.js";

export type { Handle } from "./native-ops.js";

/** Bytes of a device's memory. */
export interface MemoryStats {
  /** Bytes of live tensors. */
  live: number;
  /** The most that `live` has been. */
  peak: number;
  /** Bytes held for reuse and not live. */
  cached: number;
  /** Number of live blocks. */
  tensors: number;
  /** Bytes of host memory with values that are on their way to the device, from JavaScript or another device: 128 MiB at most. */
  uploading: number;
}

declare const graph: unique symbol;
declare const timer: unique symbol;

/** Recorded operations; opaque to JavaScript. */
export interface GraphHandle {
  readonly [graph]: true;
}

/** A point of a device's queue from which time is measured; opaque to JavaScript. */
export interface TimerHandle {
  readonly [timer]: true;
}

export interface CudaDevices {
  /** Why there are none, or "". */
  problem: string;
  /** The newest CUDA version that the driver knows: "12.2", …; "" where there is no driver. */
  driverVersion: string;
  devices: {
    name: string;
    /** Compute capability: "8.0", … */
    capability: string;
    /** Bytes. */
    memory: number;
    multiprocessors: number;
    /** Why heed does not run on it, or "". */
    problem: string;
  }[];
}

/** The whole contract with the addon (native/addon). Devices are indices (0 is the CPU), dtypes numbers of dtype.ts. */
export interface Native {
  /** With operands by their position; `ops` takes them by name. */
  readonly ops: NativeOps;
  /** Uninitialised, contiguous. A `released` handle is used again: nobody else may have it. */
  alloc(device: number, dtype: number, shape: readonly number[], released?: Handle): Handle;
  /** Shares the storage; strides and offset in elements. `released` as of `alloc`. */
  view(handle: Handle, shape: readonly number[], strides: readonly number[], offset: number, released?: Handle): Handle;
  /** Gives up a handle's share of its storage, in queue order; a second time does nothing. */
  release(handle: Handle): void;
  /** Copies host bytes in queue order; the array may change when the call returns. May wait: see `Tensor.set`. */
  upload(handle: Handle, data: ArrayBufferView): void;
  /** The bytes of a contiguous tensor, once everything enqueued so far has run. */
  read(handle: Handle): Promise<ArrayBuffer>;
  /** Copies a contiguous tensor to one of as many bytes on another device, in the order of both queues. */
  transfer(to: Handle, from: Handle): void;
  /** What is enqueued between the two is recorded, not run: no uploads, no reads. */
  beginCapture(device: number): void;
  endCapture(device: number): GraphHandle;
  launchGraph(graph: GraphHandle): void;
  releaseGraph(graph: GraphHandle): void;
  startTimer(device: number): TimerHandle;
  /** One float64: milliseconds of the device's time since the timer was started. */
  stopTimer(device: number, timer: TimerHandle): Promise<ArrayBuffer>;
  synchronize(device: number): Promise<unknown>;
  memory(device: number): MemoryStats;
  resetPeak(device: number): void;
  releaseCached(device: number): void;
  /** The CUDA devices, or in words why there are none. */
  cuda(): CudaDevices;
  isa(): string;
  selectIsa(name: string): void;
  supportsIsa(name: string): boolean;
  threads(): number;
  cores(): number;
  setThreads(count: number): void;
  tf32(): boolean;
  setTf32(allowed: boolean): void;
  setErrorClass(constructor: typeof HeedError): void;
}

function load(): Native {
  // One level up from lib/ (tests) and from dist/ (the package) alike.
  const root = fileURLToPath(new URL("..", import.meta.url));
  const require = createRequire(import.meta.url);
  let native: Native;
  try {
    const find = require("node-gyp-build") as (root: string) => Native;
    native = find(root);
  } catch (cause) {
    // What addon.cc throws: nothing that another installation would mend.
    if (cause instanceof Error && cause.message.startsWith("the addon could not start"))
      throw new HeedError("ERR_NATIVE", `heed: expected threads and memory for a device queue: ${cause.message}`, {
        cause,
      });
    throw new HeedError(
      "ERR_NATIVE",
      `heed: expected the native addon for ${process.platform}-${process.arch} in ${root}, and it does not load: ` +
        `${cause instanceof Error ? cause.message.split("\n")[0] : String(cause)}\n` +
        "Possible solutions:\n" +
        "- install scripts were blocked: run `npm rebuild heed`, or allow them for heed and install again\n" +
        "- no prebuilt binary for this platform: install a C++17 compiler, make and python3, then `npm rebuild heed`\n" +
        "- in a clone of the repository: `npm ci --ignore-scripts && npx cmake-js build`",
      { cause },
    );
  }
  native.setErrorClass(HeedError);
  return native;
}

export const native: Native = load();

/** The kernels, by their native names, with named operands. */
export const ops: Ops = namedOps(native.ops);
