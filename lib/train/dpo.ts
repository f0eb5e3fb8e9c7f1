// Direct preference optimisation: trains an adapter to prefer one answer over another, with the model without the adapter
// as the reference.
import { activeAdapter, withAdapter } from "../adapters/adapters.js";
import { noGrad } from "../core/autograd.js";
import { checkArray, checkNumber, checkObject } from "../util/check.js";
import { tensor } from "../core/creation.js";
import { HeedError } from "../util/errors.js";
import type { CausalDecoder } from "../models/causal-decoder.js";
import { inModes } from "../nn/training-modes.js";
import { abs, exp, log, neg } from "../ops/unary.js";
import { add, maximum, mul, sub } from "../ops/binary.js";
import { crossEntropy } from "../ops/cross-entropy.js";
import { narrow } from "../ops/views.js";
import { scope } from "../core/scope.js";
import type { FloatTensor } from "../core/tensor.js";
import type { TrainingExample } from "../data/pack-examples.js";
import type { PreferencePair } from "../data/preference-pair.js";
import { paddedExamples } from "./tasks/padded.js";

/**
 * Returns the mean DPO loss of pairs, −log σ(β · ((c − c₀) − (r − r₀))), f32 []. c and r are the log-probabilities of the
 * chosen and the rejected answer, c₀ and r₀ those of the model without its active adapter, which is the reference. No
 * dropout is applied, so that the loss is ln 2 as long as the adapter changes nothing.
 *
 * @param options `beta` is β, the strength with which the model is kept near the reference (0.1 by default)
 *
 * @example
 * const example = (text: string) => textExample(tokenizer, text, { prompt: "Hi. " });
 * const pairs = [{ chosen: await example("Hello!"), rejected: await example("Go away.") }];
 * addAdapter(gpt, { rank: 2 });
 * using optimizer = new AdamW(gpt.namedParameters());
 * dpoLoss(gpt, pairs).backward();
 * optimizer.step();
 *
 * @throws ERR_ARGUMENT if there are no pairs, the model has no active adapter, or an answer has no token that counts.
 * @throws ERR_SHAPE if an example is longer than the model's context.
 * @see Rafailov et al. 2023, "Direct Preference Optimization", arXiv:2305.18290.
 */
export function dpoLoss(
  model: CausalDecoder,
  pairs: readonly PreferencePair[],
  options: { beta?: number } = {},
): FloatTensor {
  const op = "dpoLoss";
  checkArray(op, "pairs", pairs);
  checkObject(op, "options", options);
  const { beta = 0.1 } = options;
  checkNumber(op, "beta", beta, 0, Number.MAX_VALUE);
  if (pairs.length === 0) throw new HeedError("ERR_ARGUMENT", `${op}: expected at least one pair, got none`);
  if (activeAdapter(model) === null)
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected a model with an active adapter, without which it is the reference; got one without`,
    );
  const examples = pairs.flatMap(({ chosen, rejected }) => [chosen, rejected]);
  // Two passes with different dropout masks would differ even if the model were the reference.
  const withoutDropout = (): void => void model.eval();
  return inModes(model, withoutDropout, () =>
    scope(() => {
      const reference = withAdapter(model, null, () => noGrad(() => logProbabilitiesOf(model, examples)));
      const policy = logProbabilitiesOf(model, examples);
      const losses = pairs.map((_, i) => {
        const ratio = (at: number): FloatTensor => sub(policy[at]!, reference[at]!);
        return softplus(mul(sub(ratio(2 * i), ratio(2 * i + 1)), -beta));
      });
      return mul(
        losses.reduce((sum, loss) => add(sum, loss)),
        1 / pairs.length,
      );
    }),
  );
}

/** Returns the log-probability of the counted tokens of each example, f32 [] each. */
function logProbabilitiesOf(model: CausalDecoder, examples: readonly TrainingExample[]): FloatTensor[] {
  const { device } = model;
  const { inputs, targets, lengths, counts, shape } = paddedExamples("dpoLoss", examples);
  if (counts.includes(0))
    throw new HeedError("ERR_ARGUMENT", "dpoLoss: expected answers with a token that counts, got one without");
  const logits = model.forward(tensor(inputs, shape, { device }), { documents: lengths.map((length) => [length]) });
  const wanted = tensor(targets, shape, { device });
  return counts.map((count, row) => {
    const loss = crossEntropy(narrow(logits, 0, row, 1), narrow(wanted, 0, row, 1));
    return mul(loss, -count);
  });
}

/** Returns log(1 + eˣ), which does not overflow. */
function softplus(x: FloatTensor): FloatTensor {
  return add(maximum(x, 0), log(add(exp(neg(abs(x))), 1)));
}
