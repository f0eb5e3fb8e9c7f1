// What attribution and ablation measure in a model's output: log-probabilities of tokens or of labels, or, for an encoder
// without a head, how far the state of each token turns.
import { HeedError } from "../../util/errors.js";
import { Encoder, MaskedLanguageModel, TextClassifier } from "../../models/encoder.js";
import { add, div, mul, sub } from "../../ops/binary.js";
import { crossEntropy } from "../../ops/cross-entropy.js";
import { sum } from "../../ops/reduce.js";
import { logProbabilities } from "../../ops/sample.js";
import { softmax } from "../../ops/softmax.js";
import { log, sqrt, square } from "../../ops/unary.js";
import { reshape } from "../../ops/views.js";
import { argmax } from "../../ops/choose.js";
import { noGrad } from "../../core/autograd.js";
import { tensor } from "../../core/creation.js";
import { scope } from "../../core/scope.js";
import type { FloatTensor, IntTensor } from "../../core/tensor.js";
import type { InspectedModel } from "../hook-names.js";

/** Measure of a model's output, which attribution and ablation explain. */
export interface Goal {
  /** Unit of the scores. */
  unit: string;
  /** Meaning of a score, as the end of a sentence. */
  meaning: string;
  /** Names of the scores. */
  columns: string[];
  /** Name of what the objective is about. */
  predicted: string;
  /** Index of the sequence whose tokens have a score each; null if the scores belong to labels. */
  sequence: number | null;
  /** Tokens whose log-probabilities are the scores; null if the scores are something else. */
  targets: Int32Array | null;
  /** Returns the scores of an output, [columns]. No gradient flows through it. */
  scores(output: FloatTensor): FloatTensor;
  /** Returns the differentiable sum of what is predicted, a tensor of one element; null if nothing is predicted. */
  objective: ((output: FloatTensor) => FloatTensor) | null;
}

/** Texts that a goal needs for its names. */
export interface GoalTexts {
  /** Index of the sequence that the output belongs to. */
  sequence: number;
  /** Tokens of that sequence. */
  ids: Int32Array;
  textOf: (id: number) => string;
}

/** Resolves to what is measured in a model's output, given its output without any change. */
export async function goalOf(model: InspectedModel, output: FloatTensor, texts: GoalTexts): Promise<Goal> {
  if (model instanceof TextClassifier) return await labelGoal(model, output);
  if (model instanceof Encoder) return stateGoal(output, texts);
  const { sequence, ids, textOf } = texts;
  using best = noGrad(() => argmax(output)); // [1, T]
  const likeliest = await best.data();
  // A model of masked tokens predicts each token itself, all others the token after it.
  const targets =
    model instanceof MaskedLanguageModel ? likeliest : Int32Array.from(likeliest, (id, t) => ids[t + 1] ?? id);
  const count = targets.length;
  return {
    unit: "nats",
    meaning: "the log-probability of the token that is named",
    columns: Array.from(targets, textOf),
    ...{ predicted: "all tokens", sequence, targets },
    scores: (logits) =>
      scope(() => {
        const rows = reshape(logits, [count, -1]);
        return reshape(logProbabilities(rows, tensor(targets, [count, 1], { device: logits.device })), [count]);
      }),
    objective: (logits) => scope(() => mul(crossEntropy(logits, targetsOn(logits, targets, [1, count])), -count)),
  };
}

function targetsOn({ device }: FloatTensor, targets: Int32Array, shape: number[]): IntTensor {
  return tensor(targets, shape, { device });
}

async function labelGoal({ labels }: TextClassifier, output: FloatTensor): Promise<Goal> {
  const values = await output.data();
  const best = values.indexOf(Math.max(...values));
  if (labels.length === 1)
    return {
      ...{ unit: "logits", meaning: "the logit", columns: [...labels], sequence: null, targets: null },
      predicted: labels[0]!,
      scores: (logits) => reshape(logits.to("f32"), [1]),
      objective: (logits) => sum(logits.to("f32")),
    };
  return {
    ...{
      unit: "nats",
      meaning: "the log-probability of the label",
      columns: [...labels],
      sequence: null,
      targets: null,
    },
    predicted: labels[best]!,
    scores: (logits) => scope(() => reshape(log(softmax(logits.to("f32"))), [labels.length])),
    objective: (logits) => scope(() => mul(crossEntropy(logits, targetsOn(logits, Int32Array.of(best), [1])), -1)),
  };
}

function stateGoal(output: FloatTensor, { sequence, ids, textOf }: GoalTexts): Goal {
  const [, tokens] = output.shape as [number, number, number];
  if (tokens !== ids.length)
    throw new HeedError("ERR_SHAPE", `inspectionPage: expected states of ${ids.length} tokens`);
  const clean = output.to("f32");
  const product = (a: FloatTensor, b: FloatTensor): FloatTensor => sum(mul(a, b), { axes: [2] }); // [1, T]
  return {
    unit: "cosine",
    meaning: "the cosine of each token's state to its state in the whole model",
    columns: Array.from(ids, textOf),
    ...{ predicted: "", sequence, targets: null, objective: null },
    scores: (states) =>
      noGrad(() =>
        scope(() => {
          const own = states.to("f32");
          const size = (x: FloatTensor): FloatTensor => sqrt(add(sum(square(x), { axes: [2] }), 1e-12));
          return reshape(sub(div(product(own, clean), mul(size(own), size(clean))), 0), [tokens]);
        }),
      ),
  };
}
