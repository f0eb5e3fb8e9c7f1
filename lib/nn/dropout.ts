import { add, mul } from "../ops/binary.js";
import { checkInteger, checkNumber } from "../ops/check.js";
import { dropout } from "../ops/dropout.js";
import type { FloatTensor } from "../tensor.js";
import { Module } from "./module.js";

/**
 * Where dropout's seeds come from, one object a model: the trainer sets `step`, and every use in a forward pass takes
 * the next number, so that a run can be resumed at any step and draws the same masks.
 */
export class DropoutSeeds {
  #step = 0;
  #used = 0;

  constructor(readonly seed: number) {}

  /** Begins a step: the seeds that follow are those of this step whenever it is run. */
  set step(step: number) {
    this.#step = step;
    this.#used = 0;
  }

  /** `body` as a function that draws the same seeds whenever it is run, and takes none from others but at first. */
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

  next(): number {
    // The remainder keeps the products exact: rounded, all uses of a step would have one seed.
    return (((this.seed % 2 ** 20) * 1_000_003 + this.#step) * 4099 + ++this.#used) % Number.MAX_SAFE_INTEGER;
  }
}

/** Dropout while training, nothing in evaluation. */
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

  /** The probability in force and a seed, for operations that have dropout fused in. */
  get fused(): { dropout: number; seed: number } {
    return this.training && this.p > 0 ? { dropout: this.p, seed: this.#seeds.next() } : { dropout: 0, seed: 0 };
  }

  forward(x: FloatTensor): FloatTensor {
    return this.training && this.p > 0 ? dropout(x, this.p, this.#seeds.next()) : x;
  }

  /** residual + scale · part, the sum fused into the part's last product unless dropout or a scale comes between. */
  residual(residual: FloatTensor, part: (residual: FloatTensor | null) => FloatTensor, scale = 1): FloatTensor {
    if (scale === 1 && !(this.training && this.p > 0)) return part(residual);
    const dropped = this.forward(part(null));
    return add(residual, scale === 1 ? dropped : mul(dropped, scale));
  }
}
