import { checkInteger, checkNumber, checkObject } from "../ops/check.js";

/** Function that returns the learning rate at a step; steps count from 0. */
export type Schedule = (step: number) => number;

/** Options of `cosineSchedule`. */
export interface CosineOptions {
  /** Highest learning rate. */
  lr: number;
  /** Number of steps over which the rate rises from 0 to `lr`. @default 0 */
  warmup?: number;
  /** Number of steps after which the lowest rate is reached. */
  steps: number;
  /** Lowest learning rate. @default lr / 10 */
  minLr?: number;
}

/**
 * Returns a schedule that rises linearly during the warm-up, falls along half a cosine to `minLr`, and then stays
 * there.
 *
 * @example
 * const schedule = cosineSchedule({ lr: 3e-4, warmup: 100, steps: 1000 });
 * schedule(99); // 3e-4
 *
 * @throws ERR_RANGE if a number is out of range.
 * @see Loshchilov & Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts", arXiv:1608.03983.
 */
export function cosineSchedule(options: CosineOptions): Schedule {
  checkObject("cosineSchedule", "options", options);
  const { lr, warmup = 0, steps } = options;
  checkNumber("cosineSchedule", "lr", lr, 0, Number.MAX_VALUE);
  const { minLr = lr / 10 } = options;
  checkNumber("cosineSchedule", "minLr", minLr, 0, lr);
  checkInteger("cosineSchedule", "steps", steps, 1);
  checkInteger("cosineSchedule", "warmup", warmup, 0, steps);
  return (step) => {
    if (step < warmup) return (lr * (step + 1)) / warmup;
    if (step >= steps) return minLr;
    const progress = (step - warmup) / (steps - warmup);
    return minLr + 0.5 * (1 + Math.cos(Math.PI * progress)) * (lr - minLr);
  };
}

/** Options of `noamSchedule`. */
export interface NoamOptions {
  /** C, the width of the model. */
  width: number;
  /** Number of steps over which the rate rises; the default is the paper's. @default 4000 */
  warmup?: number;
  /** Factor of the rate. @default 1 */
  factor?: number;
}

/**
 * Returns the schedule factor · C^(−½) · min(n^(−½), n · warmup^(−3/2)) for step n, counted from 1: it rises linearly
 * and then falls with the root of the number of steps.
 *
 * @example
 * const schedule = noamSchedule({ width: 512 });
 * schedule(3999); // 0.0007, the highest rate
 *
 * @throws ERR_RANGE if a number is out of range.
 * @see Vaswani et al. 2017, "Attention Is All You Need", eq. 3, arXiv:1706.03762.
 */
export function noamSchedule(options: NoamOptions): Schedule {
  checkObject("noamSchedule", "options", options);
  const { width, warmup = 4000, factor = 1 } = options;
  checkInteger("noamSchedule", "width", width, 1);
  checkInteger("noamSchedule", "warmup", warmup, 1);
  checkNumber("noamSchedule", "factor", factor, 0, Number.MAX_VALUE);
  return (step) => factor * width ** -0.5 * Math.min((step + 1) ** -0.5, (step + 1) * warmup ** -1.5);
}
