import { type Handle, native } from "./native.js";

/** @internal Memory that tensors share: a tensor, its views and what a graph saved of them. */
export class Storage {
  /** Number of tensors that are made of this memory: aliases, views, and what a graph has saved. */
  references = 0;
  /** How often elements have been overwritten. What is kept beside the memory says of which version it is. */
  version = 0;
}

/** Handles without memory, for the next tensors: making one takes longer than a small operation. */
const released: Handle[] = [];
const mostReleased = 256;

/** @internal A native handle shared by a tensor and the graph that saved it. */
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

/** @internal A handle whose memory is gone, for `native.alloc` and `native.view` to use again. */
export function releasedHandle(): Handle | undefined {
  return released.pop();
}
