import { type CollectiveHandle, native } from "../core/native.js";
import type { Tensor } from "../core/tensor.js";

/**
 * Collective operation on a tensor that has begun. Do not use its output before `wait()`; its inputs must not be written
 * to either.
 *
 * @example
 * const collectives = await Collectives.open();
 * const x = ones([4]);
 * collectives.allReduce(x).wait();
 * await x.data(); // as many as there are processes, four times
 */
export class PendingCollective implements Disposable {
  #works: readonly CollectiveHandle[];
  readonly #out: Tensor;

  /** @internal `out` is the tensor that gets the result. */
  constructor(works: readonly CollectiveHandle[], out: Tensor) {
    this.#works = works;
    this.#out = out;
  }

  /**
   * Lets every operation that is called from now on see the result. The call itself does not wait. If the operation has
   * failed, reading the tensor rejects with ERR_DISTRIBUTED. A second call does nothing.
   */
  wait(): void {
    const works = this.#works;
    this.#works = [];
    for (const work of works) native.collectiveWait(work);
    if (works.length > 0 && !this.#out.disposed) this.#out.overwritten();
  }

  /** Does the same as `wait()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.wait();
  }
}
