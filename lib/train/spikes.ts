import { checkInteger, checkNumber, checkObject } from "../util/check.js";

/** Options of the detection of spikes in the loss. */
export interface SpikeOptions {
  /** Number of standard deviations above its moving average at which a loss is a spike. @default 6 */
  deviations?: number;
  /** Smallest rise above the moving average that counts as a spike, in the unit of the loss. @default 0.5 */
  rise?: number;
  /** Number of steps over which average and deviation are taken, and after which detection begins. @default 50 */
  window?: number;
  /** Largest number of returns to a checkpoint in the whole run; one more ends it with ERR_DIVERGED. @default 5 */
  most?: number;
}

/** State of a `SpikeDetector`. */
export interface SpikeState {
  /** Moving average of the loss. */
  mean: number;
  /** Moving variance of the loss. */
  variance: number;
  /** Number of losses noted. */
  count: number;
  /** Number of returns to a checkpoint so far. */
  returns: number;
}

/** Detects losses that are far above those before. A loss that is not finite always is. */
export class SpikeDetector {
  readonly most: number;
  readonly #deviations: number;
  readonly #rise: number;
  readonly #window: number;
  state: SpikeState;

  /** @throws ERR_RANGE if an option is out of range. */
  constructor(op: string, options: SpikeOptions, before: SpikeState | null) {
    checkObject(op, "spikes", options);
    const { deviations = 6, rise = 0.5, window = 50, most = 5 } = options;
    checkNumber(op, "spikes.deviations", deviations, 0, Number.MAX_VALUE);
    checkNumber(op, "spikes.rise", rise, 0, Number.MAX_VALUE);
    checkInteger(op, "spikes.window", window, 1);
    checkInteger(op, "spikes.most", most, 0);
    [this.#deviations, this.#rise, this.#window, this.most] = [deviations, rise, window, most];
    this.state = before ?? { mean: 0, variance: 0, count: 0, returns: 0 };
  }

  /** Returns true if the loss of a step is a spike. Otherwise notes it. */
  isSpike(loss: number): boolean {
    if (!Number.isFinite(loss)) return true;
    const { mean, variance, count, returns } = this.state;
    const rise = loss - mean;
    if (count >= this.#window && rise > Math.max(this.#rise, this.#deviations * Math.sqrt(variance))) return true;
    // A moving average whose first losses count equally (West 1979).
    const weight = 1 / Math.min(count + 1, this.#window);
    const next = mean + weight * rise;
    this.state = {
      mean: next,
      variance: (1 - weight) * (variance + weight * rise * rise),
      count: count + 1,
      returns,
    };
    return false;
  }
}
