import { ops } from "../core/native.js";
import { checkNumber, checkObject } from "../ops/check.js";
import type { Entry } from "./entry.js";
import { Optimizer, type OptimizerOptions, type SharedNumbers } from "./optimizer.js";
import type { Trained } from "./parameter-groups.js";

/** Options of `Lion`. */
export interface LionOptions extends OptimizerOptions {
  /**
   * Learning rate; the optimiser's `lr` may be changed between steps. Lion's steps are larger than AdamW's: take a third
   * to a tenth of AdamW's rate.
   * @default 1e-4
   */
  lr?: number;
  /** Share of the moment in the direction of a step; the rest is the gradient. @default 0.9 */
  beta1?: number;
  /** Decay of the moment. @default 0.99 */
  beta2?: number;
  /**
   * Weight decay: a step shrinks a parameter by lr · weightDecay. Since the learning rate is smaller than AdamW's, it
   * should be larger by the same factor.
   * @default 0
   */
  weightDecay?: number;
}

/**
 * Optimiser Lion: every element moves by the learning rate, in the direction of a moving average of its gradient. It has
 * one moment, half as much memory as AdamW. Everything else is described at `Optimizer`.
 *
 * @example
 * const w = parameter(randn([8, 4], { seed: 2 }));
 * using optimizer = new Lion([["w", w]], { lr: 1e-4, weightDecay: 0.1 });
 * mean(square(matmul(x, w))).backward();
 * optimizer.step();
 *
 * @see Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", arXiv:2302.06675.
 */
export class Lion extends Optimizer {
  /** Share of the moment in the direction of a step. */
  readonly beta1: number;
  /** Decay of the moment. */
  readonly beta2: number;

  /**
   * Makes an optimiser for a model, or for named parameters such as those of `model.namedParameters()`.
   *
   * @throws ERR_ARGUMENT if there is no parameter, one has no name, or a group matches none; ERR_DTYPE if one that is
   *   trained is not f32; ERR_RANGE if an option is out of range.
   */
  constructor(parameters: Trained, options: LionOptions = {}) {
    checkObject("Lion", "options", options);
    const { beta1 = 0.9, beta2 = 0.99 } = options;
    checkNumber("Lion", "beta1", beta1, 0, 1 - Number.EPSILON);
    checkNumber("Lion", "beta2", beta2, 0, 1 - Number.EPSILON);
    super("Lion", parameters, options, { lr: 1e-4, weightDecay: 0 });
    [this.beta1, this.beta2] = [beta1, beta2];
    this.allocateStates();
  }

  protected override stateKinds(): readonly string[] {
    return ["m"];
  }

  protected override cuts(): boolean {
    return true;
  }

  protected override update(entries: readonly Entry[], { lr, weightDecay, norm, maxNorm }: SharedNumbers): void {
    const { beta1, beta2 } = this;
    ops.lion({
      params: entries.map(({ parameter }) => parameter),
      grads: entries.map(({ parameter }) => parameter.grad!),
      m: entries.map(({ state }) => state!.m!),
      norm,
      maxNorm,
      lr,
      beta1,
      beta2,
      weightDecay,
    });
  }
}
