import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { brotliDecompressSync } from "node:zlib";
import { HeedError } from "../util/errors.js";
import { type Handle, namedOps, type NativeOps, type Ops } from "./native-ops.js";

export type { Handle } from "./native-ops.js";

/** Use of a device's memory, in bytes. */
export interface MemoryStats {
  /** Bytes of all live tensors. */
  live: number;
  /** Largest value that `live` has had. */
  peak: number;
  /** Bytes that heed holds for reuse and that no live tensor uses. */
  cached: number;
  /** Bytes of `cached` for which the system gives memory only when they are used; 0 on CUDA. */
  unbacked: number;
  /** Number of live blocks of memory. */
  tensors: number;
  /**
   * Bytes on their way to the device through host memory. `set` keeps those from JavaScript at 1 GiB at most, or at
   * HEED_UPLOAD_LIMIT MiB. Those from another device are counted from the call on, but no more than 128 MiB from any
   * device take memory at a time.
   */
  uploading: number;
}

declare const graph: unique symbol;
declare const timer: unique symbol;
declare const collective: unique symbol;
declare const nativeInterface: unique symbol;
declare const nativeTensor: unique symbol;
declare const dlpackTensor: unique symbol;

/** Recorded operations, opaque to JavaScript. */
export interface GraphHandle {
  readonly [graph]: true;
}

/** Point in a device's queue from which time is measured, opaque to JavaScript. */
export interface TimerHandle {
  readonly [timer]: true;
}

/** Collective operation on tensors that has begun, opaque to JavaScript. */
export interface CollectiveHandle {
  readonly [collective]: true;
}

/** Facts that a launcher such as mpirun puts into the environment of a process. */
export interface LaunchEnvironment {
  rank: number;
  /** Number of processes; 0 without a launcher, −1 if the launcher leaves it to MPI. */
  size: number;
  /** Rank among the processes of this machine. */
  localRank: number;
  /** Name of the launcher for messages. */
  launcher: string;
}

/** Facts that a process knows of the others once MPI has started. */
export interface CollectivesInfo {
  rank: number;
  size: number;
  localRank: number;
  /** File of the MPI library. */
  library: string;
  /** The library's own text about its version. */
  version: string;
}

/** External that `nativeInterface()` returns for addons, opaque to JavaScript. */
export interface NativeInterface {
  readonly [nativeInterface]: true;
}

/** External that takes a tensor to an addon or from one, opaque to JavaScript. */
export interface NativeTensor {
  readonly [nativeTensor]: true;
}

/** External that holds a DLPack tensor until somebody takes it, opaque to JavaScript. */
export interface DLPackTensor {
  readonly [dlpackTensor]: true;
}

/** Tensor that came from outside of JavaScript. */
export interface DescribedTensor {
  handle: Handle;
  device: number;
  dtype: number;
  shape: number[];
  strides: number[];
}

/** CUDA devices of this machine, as the addon reports them. */
export interface CudaDevices {
  /** Reason why there are no devices, or "". */
  problem: string;
  /** Newest CUDA version that the driver supports, such as "12.2"; "" if there is no driver. */
  driverVersion: string;
  /** Lists, for each feature that only some drivers have, the function that the driver lacks for it, or "". */
  lacks: { graphs: string; timing: string; peers: string };
  devices: {
    name: string;
    /** Compute capability, such as "8.0". */
    capability: string;
    /** Memory in bytes. */
    memory: number;
    multiprocessors: number;
    /** Reason why heed does not run on the device, or "". */
    problem: string;
  }[];
}

/**
 * Everything that the addon exports (native/addon). Devices are indices (0 is the CPU); dtypes are the numbers of
 * dtype.ts.
 */
export interface Native {
  /** Operations with operands by position; the constant `ops` takes them by name. */
  readonly ops: NativeOps;
  /**
   * Allocates an uninitialised, contiguous tensor. A handle given as `released` is used again and must have no other
   * user.
   */
  alloc(device: number, dtype: number, shape: readonly number[], released?: Handle): Handle;
  /**
   * Returns a view of the same storage. `strides` and `offset` are in elements; `released` means the same as for
   * `alloc`.
   */
  view(handle: Handle, shape: readonly number[], strides: readonly number[], offset: number, released?: Handle): Handle;
  /** Releases a handle's share of its storage, in queue order. A second call does nothing. */
  release(handle: Handle): void;
  /**
   * Copies bytes of the host to the device, in queue order. The array may change after the call. The call may wait: see
   * `Tensor.set`.
   */
  upload(handle: Handle, data: ArrayBufferView): void;
  /** Returns the bytes of a contiguous tensor, once everything enqueued so far has run. */
  read(handle: Handle): Promise<ArrayBuffer>;
  /**
   * Returns the bytes of a contiguous tensor, and waits for everything enqueued so far on its device: the event loop stands
   * still meanwhile.
   */
  readNow(handle: Handle): ArrayBuffer;
  /** Returns a promise that settles as that of `read`, without a copy. */
  computed(handle: Handle): Promise<unknown>;
  /** Returns the External that `heed_open` of native/include/heed.h takes. */
  interface(): NativeInterface;
  /** Returns a tensor on the CPU over the memory of the array, which is kept alive. Throws if it is not aligned. */
  share(dtype: number, shape: readonly number[], bytes: Uint8Array): Handle;
  toNative(handle: Handle): NativeTensor;
  fromNative(tensor: NativeTensor): DescribedTensor;
  /** Returns a DLPack tensor, whose elements may not have been computed yet. */
  toDLPack(handle: Handle, versioned: boolean): DLPackTensor;
  /** Takes the DLPack tensor out of the External. */
  fromDLPack(tensor: DLPackTensor): DescribedTensor;
  /** Copies a contiguous tensor to one of equally many bytes on another device, in the order of both queues. */
  transfer(to: Handle, from: Handle): void;
  /**
   * Starts recording: operations are recorded and not run until `endCapture`. Uploads and reads are not allowed
   * meanwhile.
   */
  beginCapture(device: number): void;
  endCapture(device: number): GraphHandle;
  launchGraph(graph: GraphHandle): void;
  releaseGraph(graph: GraphHandle): void;
  startTimer(device: number): TimerHandle;
  /** Returns one float64: the milliseconds that have passed on the device since the timer was started. */
  stopTimer(device: number, timer: TimerHandle): Promise<ArrayBuffer>;
  synchronize(device: number): Promise<unknown>;
  memory(device: number): MemoryStats;
  /** Returns the bytes that the device has left, or -1 if only the system knows, as for the CPU. */
  availableMemory(device: number): number;
  resetPeak(device: number): void;
  /** Returns a promise that resolves when the system has the memory. */
  releaseCached(device: number): Promise<unknown>;
  /** Returns the CUDA devices, or the reason why there are none. */
  cuda(): CudaDevices;
  isa(): string;
  selectIsa(name: string): void;
  supportsIsa(name: string): boolean;
  threads(): number;
  cores(): number;
  setThreads(count: number): void;
  setBackground(background: boolean): void;
  tf32(): boolean;
  setTf32(allowed: boolean): void;
  setErrorClass(constructor: typeof HeedError): void;
  /**
   * Returns the images of kernels that a CUDA device can load. `loaded` is true if any environment has loaded the image;
   * images that are packed together have the same `pack`.
   */
  kernelImages(device: number): { name: string; loaded: boolean; pack: number }[];
  /** Returns an image's pack as it is in the addon, packed by Brotli. */
  packedImage(name: string): ArrayBuffer;
  /** Loads an image, unpacked, with its kernels, in a thread of libuv's. */
  loadImage(device: number, name: string, unpacked: Buffer): Promise<void>;
  /** Sets the function that unpacks the image of a kernel that is launched before its image has been loaded. */
  setUnpack(unpack: (packed: ArrayBuffer) => Buffer): void;
  launchEnvironment(): LaunchEnvironment;
  /**
   * Starts MPI on a thread of its own, once in a process. `timeout` is the number of seconds after which a silent process
   * counts as dead, and `grace` the number of seconds that this process then has until all are ended.
   */
  collectivesOpen(timeout: number, grace: number): Promise<CollectivesInfo>;
  /**
   * Begins a collective operation on numbers of the host, which are copied before the call returns. Kinds, reductions and
   * types are the numbers of lib/distributed/kinds.ts.
   */
  collectiveHost(
    kind: number,
    reduction: number,
    wire: number,
    root: number,
    data: ArrayBuffer | SharedArrayBuffer,
  ): Promise<ArrayBuffer>;
  /**
   * Begins a collective operation on tensors, when the queue has computed `inp`. Nothing may be enqueued that uses `out`
   * before `collectiveWait`.
   */
  collectiveStart(kind: number, reduction: number, root: number, out: Handle, inp: Handle): CollectiveHandle;
  /** Lets everything that is enqueued from now on wait for the result. A second call does nothing. */
  collectiveWait(work: CollectiveHandle): void;
  /** Notes that the JavaScript thread lives. */
  collectivesTick(): void;
  /** Chooses whether the other processes are told if `collectivesTick` has not been called for long. */
  collectivesWatch(watched: boolean): void;
  /** Fails the run: all operations fail, and all processes are ended if this one does not end by itself. */
  collectivesFail(message: string): void;
  /** Ends MPI together with all other processes, and blocks until then. Returns false if that has failed. */
  collectivesClose(): boolean;
  /** Ends all processes of the run at once. */
  collectivesAbort(code: number): never;
}

/**
 * Returns the addon's file. One that was built from source comes before the one of the platform's package: it exists only
 * if the package was missing, did not load, or was not wanted.
 */
function addonFile(require: NodeJS.Require, root: string): string {
  const { resolve } = require("node-gyp-build") as { resolve: (root: string) => string };
  try {
    return resolve(root);
  } catch (missing) {
    try {
      return require.resolve(`@heed/${process.platform}-${process.arch}`);
    } catch {
      throw missing;
    }
  }
}

function load(): Native {
  // The root is one level above lib/ (tests) and also one level above dist/ (the package).
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const require = createRequire(import.meta.url);
  let native: Native;
  try {
    native = require(addonFile(require, root)) as Native;
  } catch (cause) {
    // addon.cc throws this error. Installing heed again would not help.
    if (cause instanceof Error && cause.message.startsWith("the addon could not start"))
      throw new HeedError(
        "ERR_NATIVE",
        `heed: expected enough threads and memory for a device queue: ${cause.message}`,
        {
          cause,
        },
      );
    const platform = `${process.platform}-${process.arch}`;
    throw new HeedError(
      "ERR_NATIVE",
      `heed: expected a native addon for ${platform} in ${root} or the package @heed/${platform}, but none could be ` +
        `loaded: ${cause instanceof Error ? cause.message.split("\n")[0] : String(cause)}\n` +
        "Possible solutions:\n" +
        "- optional packages were left out: install heed again without --omit=optional\n" +
        "- install scripts were blocked: run `npm rebuild heed`, or allow them for heed and install again\n" +
        "- no prebuilt binary for this platform: install a C++17 compiler, make and python3, then `npm rebuild heed`\n" +
        "- in a clone of the repository: `npm ci --ignore-scripts && npx cmake-js build`",
      { cause },
    );
  }
  native.setErrorClass(HeedError);
  native.setUnpack((packed) => brotliDecompressSync(packed));
  return native;
}

export const native: Native = load();

/** Native operations by name, with named operands. */
export const ops: Ops = namedOps(native.ops);
