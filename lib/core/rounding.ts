import type { FloatDType } from "./dtype.js";
import { ops } from "./native.js";
import { allocate, type FloatTensor } from "./tensor.js";

/**
 * @internal Copy of a parameter that is rounded to a shorter dtype and kept from one pass to the next. It remembers the
 * version of the parameter's storage that it was made from. A stale copy is recomputed in the same memory, so that
 * recorded operations that read it find the current numbers.
 *
 * The parameter holds its copy, and so does each graph that was recorded with it.
 */
export class Rounding {
  readonly copy: FloatTensor;
  readonly source: FloatTensor;
  /** Version of the source that the copy was made from; negative until the copy is computed for the first time. */
  #version = -1;
  #holders = 1;

  constructor(parameter: FloatTensor, dtype: FloatDType) {
    this.source = parameter.alias();
    this.copy = allocate(parameter.shape, dtype, parameter.device, false);
  }

  /** Returns the copy that a parameter holds, or null. */
  static of(parameter: FloatTensor): Rounding | null {
    return parameter.rounding as Rounding | null;
  }

  get stale(): boolean {
    return this.#version !== this.source.version;
  }

  /** True if a graph holds the copy in addition to the parameter. */
  get shared(): boolean {
    return this.#holders > 1;
  }

  hold(): void {
    this.#holders++;
  }

  release(): void {
    if (--this.#holders > 0) return;
    this.copy.dispose();
    this.source.dispose();
  }

  /** Rounds the parameter again if the copy is stale. */
  renew(): void {
    if (!this.stale) return;
    ops.copy({ out: this.copy, inp: this.source });
    this.#renewed();
  }

  /** Renews several copies in one launch. */
  static renewAll(roundings: Iterable<Rounding>): void {
    const stale: Rounding[] = [];
    for (const rounding of roundings) {
      if (!rounding.stale) continue;
      if (rounding.source.contiguous) stale.push(rounding);
      else rounding.renew();
    }
    if (stale.length === 0) return;
    ops.copy_list({ outs: stale.map(({ copy }) => copy), inps: stale.map(({ source }) => source) });
    for (const rounding of stale) rounding.#renewed();
  }

  #renewed(): void {
    // If a recorded pass saved this copy of a frozen parameter, it must notice the change.
    this.copy.overwritten();
    this.#version = this.source.version;
  }
}
