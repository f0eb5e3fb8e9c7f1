import type { Device } from "./device.js";
import { type GraphHandle, native } from "./native.js";

/**
 * @internal Operations of a device that were recorded once and run again as one, without the cost of enqueueing
 * each. They work on the memory they were recorded with: what changes from run to run is set in tensors beforehand.
 */
export class Graph implements Disposable {
  readonly #handle: GraphHandle;

  private constructor(handle: GraphHandle) {
    this.#handle = handle;
  }

  /** Records what `body` enqueues, without running it. It must neither upload nor read. */
  static capture(device: Device, body: () => void): Graph {
    native.beginCapture(device.index);
    try {
      body();
    } catch (error) {
      native.releaseGraph(native.endCapture(device.index));
      throw error;
    }
    return new Graph(native.endCapture(device.index));
  }

  /** Enqueues everything that was recorded. */
  launch(): void {
    native.launchGraph(this.#handle);
  }

  dispose(): void {
    native.releaseGraph(this.#handle);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
