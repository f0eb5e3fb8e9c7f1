import { add, mul } from "../ops/binary.js";
import { checkInteger, checkNumber } from "../ops/check.js";
import { dropout } from "../ops/dropout.js";
import type { FloatTensor } from "../core/tensor.js";
import { Module } from "./module.js";

/**
 * Source of the seeds of a model's dropout masks. Each model has one: the trainer sets `step`, and every dropout in a
 * forward pass takes the `next()` seed. A run that resumes at any step therefore draws the same masks again.
 *
 * @example
 * const seeds = new DropoutSeeds(0);
 * seeds.step = 10;
 * const first = seeds.next();
 * seeds.step = 10;
 * seeds.next() === first; // true
 */
export class DropoutSeeds {
  #step = 0;
  #used = 0;

  constructor(readonly seed: number) {}

  /** Number of the step that begins. The seeds that follow depend on it and on how many were taken since. */
  set step(step: number) {
    this.#step = step;
    this.#used = 0;
  }

  /**
   * Returns a function that runs `body` with the seeds that are next now, however often it is called. The first call
   * uses these seeds up; later calls leave the sequence of seeds as they found it. Gradient checkpointing needs it.
   */
  repeatable<Arguments extends unknown[], T>(body: (...given: Arguments) => T): (...given: Arguments) => T {
    const first = [this.#step, this.#used] as const;
    let again = false;
    return (...given) => {
      const present = [this.#step, this.#used] as const;
      [this.#step, this.#used] = first;
      try {
        return body(...given);
      } finally {
        if (again) [this.#step, this.#used] = present;
        again = true;
      }
    };
  }

  /** Returns the next seed of the step. */
  next(): number {
    // The remainder keeps the products exact. If they were rounded, every dropout of a step would get the same seed.
    return (((this.seed % 2 ** 20) * 1_000_003 + this.#step) * 4099 + ++this.#used) % Number.MAX_SAFE_INTEGER;
  }
}

/**
 * Dropout: in training it zeroes each element with probability `p` and scales the others by 1/(1 − p); in evaluation it
 * returns its input.
 *
 * @example
 * const dropout = new Dropout(0.1, new DropoutSeeds(0));
 * dropout.forward(x).shape; // [2, 8], about a tenth of it zeros
 * dropout.eval().forward(x) === x; // true
 */
export class Dropout extends Module {
  readonly p: number;
  readonly #seeds: DropoutSeeds;

  constructor(p: number, seeds: DropoutSeeds) {
    super();
    checkNumber("Dropout", "p", p, 0, 1);
    checkInteger("Dropout", "seed", seeds.seed, 0);
    this.p = p;
    this.#seeds = seeds;
  }

  /**
   * Dropout options for a fused operation: the probability, 0 in evaluation, and a seed. Each read takes a new seed.
   */
  get fused(): { dropout: number; seed: number } {
    return this.training && this.p > 0 ? { dropout: this.p, seed: this.#seeds.next() } : { dropout: 0, seed: 0 };
  }

  /** Returns x with dropout applied, or x itself in evaluation and if `p` is 0. */
  forward(x: FloatTensor): FloatTensor {
    return this.training && this.p > 0 ? dropout(x, this.p, this.#seeds.next()) : x;
  }

  /**
   * Returns residual + scale · dropout(part). If there is neither dropout nor a scale, `part` receives the residual and
   * adds it itself, fused into its last product; otherwise `part` receives null. A `listener` receives what is added to
   * the residual and returns the tensor to add instead; nothing is fused then.
   */
  residual(
    residual: FloatTensor,
    part: (residual: FloatTensor | null) => FloatTensor,
    { scale = 1, listener = null }: { scale?: number; listener?: ((x: FloatTensor) => FloatTensor) | null } = {},
  ): FloatTensor {
    if (!listener && scale === 1 && !(this.training && this.p > 0)) return part(residual);
    const dropped = this.forward(part(null));
    const added = scale === 1 ? dropped : mul(dropped, scale);
    return add(residual, listener ? listener(added) : added);
  }
}
