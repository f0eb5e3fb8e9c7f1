import { parameter } from "../autograd.js";
import { checkInteger } from "../check.js";
import type { Device } from "../device.js";
import { ops } from "../native.js";
import type { FloatDType } from "../dtype.js";
import type { Shape } from "../shape.js";
import { allocate, type FloatTensor } from "../tensor.js";

/**
 * Where a model's first parameters come from: one seed, a number drawn for each tensor in the order of creation, so
 * that the same seed gives the same model on every device.
 */
export class Initializer {
  #tensors = 0;

  constructor(
    readonly seed: number,
    readonly device: Device,
    /** Of the parameters. */
    readonly dtype: FloatDType = "f32",
  ) {
    checkInteger("Initializer", "seed", seed, 0);
  }

  /** Normally distributed with mean 0. */
  normal(shape: Shape, std: number): FloatTensor {
    const tensor = this.#create(shape);
    ops.random_normal(tensor.handle, 0, std, this.#nextSeed());
    return tensor;
  }

  /** Evenly distributed in [low, high). */
  uniform(shape: Shape, low: number, high: number): FloatTensor {
    const tensor = this.#create(shape);
    ops.random_uniform(tensor.handle, low, high, this.#nextSeed());
    return tensor;
  }

  constant(shape: Shape, value: number): FloatTensor {
    const tensor = this.#create(shape);
    ops.fill(tensor.handle, value);
    return tensor;
  }

  /**
   * Distinct seeds for distinct tensors: Philox streams of different keys are independent. The remainder keeps the product
   * exact: rounded, several tensors would have one seed.
   */
  #nextSeed(): number {
    return (this.seed % 2 ** 36) * 65_537 + ++this.#tensors;
  }

  #create(shape: Shape): FloatTensor {
    return parameter(allocate(shape, this.dtype, this.device, false));
  }
}
