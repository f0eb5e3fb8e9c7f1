import { parameter } from "../core/autograd.js";
import { checkInteger } from "../util/check.js";
import type { Device } from "../core/device.js";
import type { FloatDType } from "../core/dtype.js";
import { HeedError } from "../util/errors.js";
import { ops } from "../core/native.js";
import { numel, type Shape } from "../core/shape.js";
import { allocate, allocateLater, type FloatTensor } from "../core/tensor.js";

/** Limits on the size of a model, which follow from the file that its parameters will be read from. */
export interface Room {
  /** Path of the file, for error messages. */
  file: string;
  /** Largest number of parameter tensors. */
  tensors: number;
  /** Largest number of elements in all parameters together. */
  numbers: number;
  /** Largest number of elements in a computed table, such as one of positions, which files do not contain. */
  computed: number;
}

/** Limits for the model under construction and how much of them its parameters use; null if there is no limit. */
let limited: { room: Room; tensors: number; numbers: number } | null = null;

/**
 * Runs the synchronous `make` under the limits of `room`, which every parameter and table that it creates counts
 * against. Parameters get no initial values and no memory yet: their memory is allocated when the file's values are
 * stored in them.
 *
 * @throws ERR_FORMAT if a parameter or table exceeds the limits.
 */
export function within<T>(room: Room, make: () => T): T {
  const outer = limited;
  limited = { room, tensors: 0, numbers: 0 };
  try {
    return make();
  } finally {
    limited = outer;
  }
}

function checkParameter(shape: Shape): void {
  if (!limited) return;
  const { file, tensors, numbers } = limited.room;
  limited.tensors += 1;
  limited.numbers += numel(shape);
  if (limited.tensors > tensors || !(limited.numbers <= numbers))
    throw new HeedError(
      "ERR_FORMAT",
      `${file}: expected as many parameters, and as large, as the configuration says, got far fewer`,
    );
}

/**
 * Checks the size of a computed table, such as one of positions, against the limits of the model under construction.
 *
 * @throws ERR_FORMAT if the table is larger than the limits allow.
 */
export function checkComputed(shape: Shape): void {
  if (limited && !(numel(shape) <= limited.room.computed))
    throw new HeedError(
      "ERR_FORMAT",
      `${limited.room.file}: expected a context length for which a table of positions has at most ${limited.room.computed} numbers, got ${numel(shape)}`,
    );
}

/**
 * Factory of a model's initial parameters. Each tensor gets a seed of its own, derived from the model's seed and the
 * order of creation, so that the same seed gives the same model on every device.
 *
 * @example
 * const init = new Initializer(1, device());
 * const weight = init.normal([16, 8], 0.02);
 * weight.requiresGrad; // true
 */
export class Initializer {
  #tensors = 0;

  constructor(
    readonly seed: number,
    readonly device: Device,
    /** Dtype of the parameters. @default "f32" */
    readonly dtype: FloatDType = "f32",
  ) {
    checkInteger("Initializer", "seed", seed, 0);
  }

  /** Creates a parameter with values from a normal distribution with mean 0 and standard deviation `std`. */
  normal(shape: Shape, std: number): FloatTensor {
    return this.#create(shape, (out) => ops.random_normal({ out, mean: 0, stddev: std, seed: this.#nextSeed() }));
  }

  /** Creates a parameter with values from a uniform distribution over [low, high). */
  uniform(shape: Shape, low: number, high: number): FloatTensor {
    return this.#create(shape, (out) => ops.random_uniform({ out, low, high, seed: this.#nextSeed() }));
  }

  /** Creates a parameter whose elements are all `value`. */
  constant(shape: Shape, value: number): FloatTensor {
    return this.#create(shape, (out) => ops.fill({ out, value }));
  }

  /**
   * Returns a distinct seed for each tensor; Philox streams with different keys are independent. The remainder keeps
   * the product exact: if it were rounded, several tensors would share a seed.
   */
  #nextSeed(): number {
    return (this.seed % 2 ** 36) * 65_537 + ++this.#tensors;
  }

  #create(shape: Shape, fill: (created: FloatTensor) => void): FloatTensor {
    checkParameter(shape);
    const { dtype, device } = this;
    if (limited) return parameter(allocateLater(shape, dtype, device));
    const created = parameter(allocate(shape, dtype, device, false));
    fill(created);
    return created;
  }
}
