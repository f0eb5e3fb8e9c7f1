import { checkInteger, checkNumber, checkObject } from "../util/check.js";

/** Options of the scale of the loss, with which f16 trains. */
export interface LossScaleOptions {
  /** Scale at the beginning. @default 65536 */
  initial?: number;
  /** Number of steps without overflow after which the scale is doubled. @default 2000 */
  interval?: number;
}

/** State of a `LossScale`. */
export interface LossScaleState {
  /** Factor of the loss in the next backward pass. */
  scale: number;
  /** Number of steps without overflow since it changed. */
  good: number;
}

const [least, most] = [1, 2 ** 24];

/**
 * Factor of the loss that keeps the gradients of f16 activations from vanishing. It is halved after each step whose
 * gradients overflow, which is skipped, and doubled after `interval` steps that do not.
 *
 * @see Micikevicius et al. 2018, "Mixed Precision Training", arXiv:1710.03740.
 */
export class LossScale {
  readonly #interval: number;
  state: LossScaleState;

  /** @throws ERR_RANGE if an option is out of range. */
  constructor(op: string, options: LossScaleOptions, before: LossScaleState | null) {
    checkObject(op, "lossScale", options);
    const { initial = 2 ** 16, interval = 2000 } = options;
    checkNumber(op, "lossScale.initial", initial, least, most);
    checkInteger(op, "lossScale.interval", interval, 1);
    this.#interval = interval;
    this.state = before ?? { scale: initial, good: 0 };
  }

  /** Adapts the scale to the outcome of a step. Returns true if it could still be lowered after an overflow. */
  settle(overflowed: boolean): boolean {
    const { scale, good } = this.state;
    if (overflowed) this.state = { scale: Math.max(least, scale / 2), good: 0 };
    else if (good + 1 < this.#interval) this.state = { scale, good: good + 1 };
    else this.state = { scale: Math.min(most, scale * 2), good: 0 };
    return overflowed && scale > least;
  }
}
