import type { FloatDType } from "./dtype.js";
import { ops } from "./native.js";
import { allocate, type FloatTensor } from "./tensor.js";

/**
 * @internal A parameter rounded to a shorter dtype, kept from one pass to the next. It knows which version of the
 * parameter's storage it was made from. When it is stale, it is made again in the same memory, so that recorded
 * operations that read it find the present numbers there.
 *
 * Its parameter holds it, and so does each graph that was recorded with it.
 */
export class Rounding {
  readonly copy: FloatTensor;
  readonly source: FloatTensor;
  /** Of the source; below 0 until the copy is computed for the first time. */
  #version = -1;
  #holders = 1;

  constructor(parameter: FloatTensor, dtype: FloatDType) {
    this.source = parameter.alias();
    this.copy = allocate(parameter.shape, dtype, parameter.device, false);
  }

  /** The copy that is kept of a parameter. */
  static of(parameter: FloatTensor): Rounding | null {
    return parameter.rounding as Rounding | null;
  }

  get stale(): boolean {
    return this.#version !== this.source.version;
  }

  /** Whether a graph holds it beside its parameter. */
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

  /** Rounds again where it is stale. */
  renew(): void {
    if (!this.stale) return;
    ops.copy({ out: this.copy, inp: this.source });
    this.#renewed();
  }

  /** Renews several, in one launch. */
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
    // What a recorded pass of a frozen parameter has saved of it is stale now.
    this.copy.overwritten();
    this.#version = this.source.version;
  }
}
