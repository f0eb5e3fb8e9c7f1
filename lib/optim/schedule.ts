import { checkChoice, checkInteger, checkNumber, checkObject } from "../ops/check.js";

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
  const { lr, warmup = 0, steps, minLr = lr / 10 } = checkPeak("cosineSchedule", options);
  return (step) => {
    if (step < warmup) return (lr * (step + 1)) / warmup;
    if (step >= steps) return minLr;
    const progress = (step - warmup) / (steps - warmup);
    return minLr + 0.5 * (1 + Math.cos(Math.PI * progress)) * (lr - minLr);
  };
}

/** Options of `linearSchedule`. */
export interface LinearScheduleOptions {
  /** Highest learning rate. */
  lr: number;
  /** Number of steps over which the rate rises from 0 to `lr`. @default 0 */
  warmup?: number;
  /** Number of steps after which the lowest rate is reached. */
  steps: number;
  /** Lowest learning rate. @default 0 */
  minLr?: number;
}

/**
 * Returns a schedule that rises linearly during the warm-up, falls linearly to `minLr`, and then stays there.
 *
 * @example
 * const schedule = linearSchedule({ lr: 2e-5, warmup: 100, steps: 1100 });
 * schedule(600); // 1e-5
 *
 * @throws ERR_RANGE if a number is out of range.
 */
export function linearSchedule(options: LinearScheduleOptions): Schedule {
  const { lr, warmup = 0, steps, minLr = 0 } = checkPeak("linearSchedule", options);
  return (step) => {
    if (step < warmup) return (lr * (step + 1)) / warmup;
    if (step >= steps) return minLr;
    return minLr + (1 - (step - warmup) / (steps - warmup)) * (lr - minLr);
  };
}

/** Options of `wsdSchedule`. */
export interface WsdOptions extends LinearScheduleOptions {
  /** Number of steps at the end over which the rate falls. @default a fifth of `steps` */
  decay?: number;
  /**
   * Form of the fall: along a straight line, or along 1 − √x, which is steep at first and was best in the comparison of
   * Hägele et al.
   * @default "sqrt"
   */
  shape?: "sqrt" | "linear";
}

/**
 * Returns a schedule of three phases (WSD): the rate rises linearly during the warm-up, stays at `lr`, and falls to
 * `minLr` at the end. Since it is constant for so long, a run may be continued from a checkpoint before the fall with
 * any number of further steps.
 *
 * @example
 * const schedule = wsdSchedule({ lr: 1e-3, warmup: 100, steps: 1000, decay: 200 });
 * schedule(500); // 1e-3
 *
 * @throws ERR_RANGE if a number is out of range, or warm-up and decay together are longer than `steps`.
 * @throws ERR_ARGUMENT if `shape` is unknown.
 * @see Hu et al. 2024, "MiniCPM", arXiv:2404.06395; Hägele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond
 *   Fixed Training Durations", arXiv:2405.18392.
 */
export function wsdSchedule(options: WsdOptions): Schedule {
  const { lr, warmup = 0, steps, minLr = 0 } = checkPeak("wsdSchedule", options);
  const { decay = Math.min(Math.floor(steps / 5), steps - warmup), shape = "sqrt" } = options;
  checkInteger("wsdSchedule", "decay", decay, 0, steps - warmup);
  checkChoice("wsdSchedule", "shape", shape, ["sqrt", "linear"]);
  return (step) => {
    if (step < warmup) return (lr * (step + 1)) / warmup;
    if (step < steps - decay) return lr;
    if (step >= steps) return decay === 0 ? lr : minLr;
    const progress = (step - (steps - decay)) / decay;
    return minLr + (1 - (shape === "sqrt" ? Math.sqrt(progress) : progress)) * (lr - minLr);
  };
}

/** Checks the numbers of a schedule with a highest and a lowest rate. */
function checkPeak<T extends LinearScheduleOptions>(op: string, options: T): T {
  checkObject(op, "options", options);
  const { lr, warmup = 0, steps, minLr = 0 } = options;
  checkNumber(op, "lr", lr, 0, Number.MAX_VALUE);
  checkNumber(op, "minLr", minLr, 0, lr);
  checkInteger(op, "steps", steps, 1);
  checkInteger(op, "warmup", warmup, 0, steps);
  return options;
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
