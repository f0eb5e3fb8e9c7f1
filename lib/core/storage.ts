import { type Handle, native } from "./native.js";

let latestVersion = 0;

/** @internal Memory that a tensor, its views and the graphs that saved them share. */
export class Storage {
  /** Number of tensors that use this memory: aliases, views, and tensors that a graph saved. */
  references = 0;
  /** True if code outside of heed may use this memory too. */
  foreign = false;
  /**
   * Number of the latest writing to elements; no two writings and no two storages have the same. A copy or a graph
   * remembers the version that it was made from.
   */
  version = ++latestVersion;

  /** Gives the elements a new version. */
  overwritten(): void {
    this.version = ++latestVersion;
  }
}

/** Handles without memory, for later tensors: making a handle takes longer than a small operation. */
const released: Handle[] = [];
const mostReleased = 256;

/** @internal Native handle that a tensor shares with the graphs that saved it. */
export class SharedHandle {
  #references = 0;
  constructor(
    readonly handle: Handle,
    readonly storage: Storage,
  ) {
    this.retain();
  }

  retain(): this {
    this.#references++;
    this.storage.references++;
    return this;
  }

  release(): void {
    this.storage.references--;
    if (--this.#references !== 0) return;
    native.release(this.handle);
    if (released.length < mostReleased) released.push(this.handle);
  }
}

/** @internal Returns a handle without memory, which `native.alloc` and `native.view` can use again, or undefined. */
export function releasedHandle(): Handle | undefined {
  return released.pop();
}
