import { ops } from "../core/native.js";
import { checkNumber, checkObject } from "../ops/check.js";
import type { Entry } from "./entry.js";
import { Optimizer, type OptimizerOptions, type SharedNumbers } from "./optimizer.js";
import type { Trained } from "./parameter-groups.js";

/** Options of `AdamW`. */
export interface AdamWOptions extends OptimizerOptions {
  /** Learning rate; the optimiser's `lr` may be changed between steps. @default 1e-3 */
  lr?: number;
  /** Decay of the first moment. @default 0.9 */
  beta1?: number;
  /** Decay of the second moment. @default 0.999 */
  beta2?: number;
  /** Epsilon that is added to the divisor, the root of the second moment. @default 1e-8 */
  eps?: number;
  /** Weight decay: a step shrinks a parameter by lr · weightDecay. @default 0.01 */
  weightDecay?: number;
}

/** Numbers of AdamW beside those that all optimisers have. */
export interface AdamWNumbers {
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
}

/** @internal Checks the numbers of AdamW. */
export function checkAdamW(op: string, { beta1, beta2, eps }: AdamWNumbers): void {
  checkNumber(op, "beta1", beta1, 0, 1 - Number.EPSILON);
  checkNumber(op, "beta2", beta2, 0, 1 - Number.EPSILON);
  checkNumber(op, "eps", eps, 0, Number.MAX_VALUE);
}

/** @internal Enqueues AdamW's update of parameters that have the states "m" and "v". */
export function updateAdamW(entries: readonly Entry[], shared: SharedNumbers, numbers: AdamWNumbers): void {
  const { beta1, beta2, eps } = numbers;
  ops.adamw({
    params: entries.map(({ parameter }) => parameter),
    grads: entries.map(({ parameter }) => parameter.grad!),
    m: entries.map(({ state }) => state!.m!),
    v: entries.map(({ state }) => state!.v!),
    ...shared,
    beta1,
    beta2,
    eps,
  });
}

/**
 * Optimiser AdamW, with decoupled weight decay, bias-corrected moments, and clipping by the global norm of the
 * gradients. Everything else is described at `Optimizer`.
 *
 * @example
 * const w = parameter(randn([8, 4], { seed: 2 }));
 * using optimizer = new AdamW([["w", w]], { lr: 3e-4, maxNorm: 1 });
 * mean(square(matmul(x, w))).backward();
 * optimizer.step();
 * optimizer.zeroGrad();
 *
 * @see Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", arXiv:1711.05101.
 */
export class AdamW extends Optimizer {
  /** Decay of the first moment. */
  readonly beta1: number;
  /** Decay of the second moment. */
  readonly beta2: number;
  /** Epsilon that is added to the divisor, the root of the second moment. */
  readonly eps: number;

  /**
   * Makes an optimiser for a model, or for named parameters such as those of `model.namedParameters()`.
   *
   * @throws ERR_ARGUMENT if there is no parameter, one has no name, or a group matches none; ERR_DTYPE if one that is
   *   trained is not f32; ERR_RANGE if an option is out of range.
   */
  constructor(parameters: Trained, options: AdamWOptions = {}) {
    checkObject("AdamW", "options", options);
    const { beta1 = 0.9, beta2 = 0.999, eps = 1e-8 } = options;
    checkAdamW("AdamW", { beta1, beta2, eps });
    super("AdamW", parameters, options, { lr: 1e-3, weightDecay: 0.01 });
    [this.beta1, this.beta2, this.eps] = [beta1, beta2, eps];
    this.allocateStates();
  }

  protected override stateKinds(): readonly string[] {
    return ["m", "v"];
  }

  protected override cuts(): boolean {
    return true;
  }

  protected override update(entries: readonly Entry[], numbers: SharedNumbers): void {
    updateAdamW(entries, numbers, this);
  }
}
