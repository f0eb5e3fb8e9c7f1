import type { Device } from "./device.js";
import { type GraphHandle, native } from "./native.js";
import { Rounding } from "./rounding.js";

/** Rounded parameters that the graph being recorded on each device reads. */
const capturing = new Map<Device, Set<Rounding>>();

/**
 * @internal Operations of a device that are recorded once and then run again as one, without the cost of enqueueing
 * each. They use the memory they were recorded with: whatever changes between runs must be written to tensors
 * beforehand.
 */
export class Graph implements Disposable {
  readonly #handle: GraphHandle;
  /** Rounded parameters of the graph. Rounding is not recorded: `launch` first renews those that are stale. */
  readonly #roundings: Set<Rounding>;

  private constructor(handle: GraphHandle, roundings: Set<Rounding>) {
    this.#handle = handle;
    this.#roundings = roundings;
  }

  /** Returns true if graphs can be recorded on the device. Some CUDA drivers lack the functions. */
  static supported(device: Device): boolean {
    return device.kind === "cpu" || native.cuda().lacks.graphs === "";
  }

  /** Records the operations that `body` enqueues, without running them. `body` must neither upload nor read. */
  static capture(device: Device, body: () => void): Graph {
    native.beginCapture(device.index);
    const roundings = new Set<Rounding>();
    capturing.set(device, roundings);
    let handle: GraphHandle | null = null;
    try {
      try {
        body();
      } finally {
        capturing.delete(device);
        handle = native.endCapture(device.index);
      }
      return new Graph(handle, roundings);
    } catch (error) {
      if (handle) native.releaseGraph(handle);
      for (const rounding of roundings) rounding.release();
      throw error;
    }
  }

  /** Returns true if a graph is being recorded on a device. */
  static isCapturing(device: Device): boolean {
    return capturing.has(device);
  }

  /** Makes the graph that is being recorded renew a rounded parameter before each launch. */
  static hold(rounding: Rounding): void {
    const roundings = capturing.get(rounding.copy.device)!;
    if (!roundings.has(rounding)) rounding.hold();
    roundings.add(rounding);
  }

  /** Enqueues all recorded operations. */
  launch(): void {
    Rounding.renewAll(this.#roundings);
    native.launchGraph(this.#handle);
  }

  dispose(): void {
    native.releaseGraph(this.#handle);
    for (const rounding of this.#roundings) rounding.release();
    this.#roundings.clear();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
