import { HeedError } from "../util/errors.js";
import { ops } from "../core/native.js";
import { checkBoolean, checkNumber, checkObject } from "../ops/check.js";
import type { Entry } from "./entry.js";
import { Optimizer, type OptimizerOptions, type SharedNumbers } from "./optimizer.js";
import type { Trained } from "./parameter-groups.js";

/** Options of `SGD`. */
export interface SGDOptions extends OptimizerOptions {
  /** Learning rate; the optimiser's `lr` may be changed between steps. @default 0.01 */
  lr?: number;
  /** Share of the step before that a step keeps. 0 needs no memory for it. @default 0 */
  momentum?: number;
  /** True for Nesterov's momentum, which looks one step ahead. @default false */
  nesterov?: boolean;
  /** Weight decay, which is added to the gradients: weightDecay · parameter. @default 0 */
  weightDecay?: number;
}

/**
 * Stochastic gradient descent, with momentum as PyTorch defines it: m = momentum · m + g, and the step is lr · m, or
 * lr · (g + momentum · m) with `nesterov`. Everything else is described at `Optimizer`.
 *
 * @example
 * const w = parameter(randn([8, 4], { seed: 2 }));
 * using optimizer = new SGD([["w", w]], { lr: 0.1, momentum: 0.9, nesterov: true });
 * mean(square(matmul(x, w))).backward();
 * optimizer.step();
 *
 * @see Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning".
 */
export class SGD extends Optimizer {
  /** Share of the step before that a step keeps. */
  readonly momentum: number;
  /** True for Nesterov's momentum. */
  readonly nesterov: boolean;

  /**
   * Makes an optimiser for a model, or for named parameters such as those of `model.namedParameters()`.
   *
   * @throws ERR_ARGUMENT if there is no parameter, one has no name, a group matches none, or `nesterov` is true without
   *   momentum; ERR_DTYPE if one that is trained is not f32; ERR_RANGE if an option is out of range.
   */
  constructor(parameters: Trained, options: SGDOptions = {}) {
    checkObject("SGD", "options", options);
    const { momentum = 0, nesterov = false } = options;
    checkNumber("SGD", "momentum", momentum, 0, 1 - Number.EPSILON);
    checkBoolean("SGD", "nesterov", nesterov);
    if (nesterov && momentum === 0)
      throw new HeedError("ERR_ARGUMENT", "SGD: expected momentum above 0 with nesterov, got 0");
    super("SGD", parameters, options, { lr: 0.01, weightDecay: 0 });
    [this.momentum, this.nesterov] = [momentum, nesterov];
    this.allocateStates();
  }

  protected override stateKinds(): readonly string[] {
    return this.momentum > 0 ? ["m"] : [];
  }

  protected override cuts(): boolean {
    return true;
  }

  protected override update(entries: readonly Entry[], { lr, weightDecay, norm, maxNorm }: SharedNumbers): void {
    const { momentum, nesterov } = this;
    ops.sgd({
      params: entries.map(({ parameter }) => parameter),
      grads: entries.map(({ parameter }) => parameter.grad!),
      m: momentum > 0 ? entries.map(({ state }) => state!.m!) : [],
      norm,
      maxNorm,
      lr,
      momentum,
      weightDecay,
      nesterov,
    });
  }
}
