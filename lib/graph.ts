import type { Device } from "./device.js";
import { type GraphHandle, native } from "./native.js";
import { Rounding } from "./rounding.js";

/** The rounded parameters that the graph being recorded on a device reads. */
const capturing = new Map<Device, Set<Rounding>>();

/**
 * @internal Operations of a device that were recorded once and run again as one, without the cost of enqueueing
 * each. They work on the memory they were recorded with: what changes from run to run is set in tensors beforehand.
 */
export class Graph implements Disposable {
  readonly #handle: GraphHandle;
  /** Rounding them is no part of the graph: a launch does it first where they are stale. */
  readonly #roundings: Set<Rounding>;

  private constructor(handle: GraphHandle, roundings: Set<Rounding>) {
    this.#handle = handle;
    this.#roundings = roundings;
  }

  /** Records what `body` enqueues, without running it. It must neither upload nor read. */
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

  /** Whether a graph is being recorded on a device. */
  static isCapturing(device: Device): boolean {
    return capturing.has(device);
  }

  /** Has the graph that is being recorded keep a rounded parameter up to date from launch to launch. */
  static hold(rounding: Rounding): void {
    const roundings = capturing.get(rounding.copy.device)!;
    if (!roundings.has(rounding)) rounding.hold();
    roundings.add(rounding);
  }

  /** Enqueues everything that was recorded. */
  launch(): void {
    Rounding.renewAll(this.#roundings);
    native.launchGraph(this.#handle);
  }

  dispose(): void {
    native.releaseGraph(this.#handle);
    for (const rounding of this.#roundings) rounding.release();
    this.#roundings.clear();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
