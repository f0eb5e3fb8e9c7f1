import { parameter } from "../autograd.js";
import { checkInteger } from "../check.js";
import type { Device } from "../device.js";
import type { FloatDType } from "../dtype.js";
import { HeedError } from "../errors.js";
import { ops } from "../native.js";
import { numel, type Shape } from "../shape.js";
import { allocate, allocateLater, type FloatTensor } from "../tensor.js";

/** Limits on the size of a model, derived from the file that its parameters will be read from. */
export interface Room {
  /** The file's path, for error messages. */
  file: string;
  /** The most parameters. */
  tensors: number;
  /** The most numbers in all parameters together. */
  numbers: number;
  /** The most numbers in a table that is computed, which no file has. */
  computed: number;
}

/** The room of the model that is being made, and how much its parameters take of it; null where there is no limit. */
let limited: { room: Room; tensors: number; numbers: number } | null = null;

/**
 * Runs `make`, in which every parameter and table has to find room. Parameters get no first values, and their memory when
 * those of the file are put into them. Synchronous. Throws ERR_FORMAT where there is no room left.
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
      `${file}: expected parameters as many and as large as the configuration says, got far fewer`,
    );
}

/** Throws ERR_FORMAT for a table that is computed, such as one of positions, where a file's model may have none as large. */
export function checkComputed(shape: Shape): void {
  if (limited && !(numel(shape) <= limited.room.computed))
    throw new HeedError(
      "ERR_FORMAT",
      `${limited.room.file}: expected a context length for which a table of positions has at most ${limited.room.computed} numbers, got ${numel(shape)}`,
    );
}

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
    return this.#create(shape, (out) => ops.random_normal({ out, mean: 0, stddev: std, seed: this.#nextSeed() }));
  }

  /** Evenly distributed in [low, high). */
  uniform(shape: Shape, low: number, high: number): FloatTensor {
    return this.#create(shape, (out) => ops.random_uniform({ out, low, high, seed: this.#nextSeed() }));
  }

  constant(shape: Shape, value: number): FloatTensor {
    return this.#create(shape, (out) => ops.fill({ out, value }));
  }

  /**
   * Distinct seeds for distinct tensors: Philox streams of different keys are independent. The remainder keeps the product
   * exact: rounded, several tensors would have one seed.
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
