import { checkInteger, checkNumber, checkObject } from "../ops/check.js";

/** The learning rate at a step, counted from 0. */
export type Schedule = (step: number) => number;

export interface CosineOptions {
  /** The highest rate. */
  lr: number;
  /** Steps over which the rate rises to it from 0. */
  warmup?: number;
  /** When the lowest rate is reached. */
  steps: number;
  /** The lowest rate; lr/10 unless given. */
  minLr?: number;
}

/** Linear warm-up, then half a cosine down (Loshchilov & Hutter 2017), then constant. */
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

export interface NoamOptions {
  /** C, the model's. */
  width: number;
  /** Steps over which the rate rises; 4000, the paper's, unless given. */
  warmup?: number;
  /** What the rate is multiplied by; 1 unless given. */
  factor?: number;
}

/**
 * factor · C^(−½) · min(n^(−½), n · warmup^(−3/2)) at step n, counted from 1: a linear rise, then a fall by the root of the
 * steps (Vaswani et al. 2017, eq. 3).
 */
export function noamSchedule(options: NoamOptions): Schedule {
  checkObject("noamSchedule", "options", options);
  const { width, warmup = 4000, factor = 1 } = options;
  checkInteger("noamSchedule", "width", width, 1);
  checkInteger("noamSchedule", "warmup", warmup, 1);
  checkNumber("noamSchedule", "factor", factor, 0, Number.MAX_VALUE);
  return (step) => factor * width ** -0.5 * Math.min((step + 1) ** -0.5, (step + 1) * warmup ** -1.5);
}
