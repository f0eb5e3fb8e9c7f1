import type { AdamW, AdamWOptions } from "../../lib/optim/adamw.js";
import { scope } from "../../lib/core/scope.js";
import type { FloatTensor } from "../../lib/core/tensor.js";

/**
 * Options of every training in test/fixtures/families.py and lstm.py: `adamw_options` of support.py, and their
 * additions.
 */
export const fixtureTraining: AdamWOptions = { lr: 1e-2, beta1: 0.9, beta2: 0.95, weightDecay: 0.1, maxNorm: 1 };

/**
 * Returns the losses of this many steps, each before its step. `after` is called after each step for further checks.
 */
export async function trainedLosses(
  optimizer: AdamW,
  steps: number,
  lossOf: (step: number) => FloatTensor,
  after?: () => Promise<unknown>,
): Promise<number[]> {
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    using loss = scope(() => {
      const loss = lossOf(step);
      optimizer.zeroGrad();
      loss.backward();
      optimizer.step();
      return loss;
    });
    losses.push(await loss.item());
    await after?.();
  }
  return losses;
}
