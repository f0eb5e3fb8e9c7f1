import type { AdamW, AdamWOptions } from "../../lib/optim/adamw.js";
import { scope } from "../../lib/scope.js";
import type { FloatTensor } from "../../lib/tensor.js";

/** Of every training in test/fixtures/families.py and lstm.py: `adamw_options` of support.py, and what they add. */
export const fixtureTraining: AdamWOptions = { lr: 1e-2, beta1: 0.9, beta2: 0.95, weightDecay: 0.1, maxNorm: 1 };

/** The losses of so many steps, each before its step; `after` each step, what else there is to see. */
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
