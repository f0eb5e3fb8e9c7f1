import { tensor } from "../../core/creation.js";
import { HeedError } from "../../util/errors.js";
import type { TrainingExample } from "../../data/pack-examples.js";
import type { Task } from "../task.js";
import type { TrainableModel } from "../trainable-model.js";
import { paddedExamples } from "./padded.js";

/**
 * Returns the task of predicting the next token in batches of examples, and of instruction tuning: of each example, the
 * tokens with a mask of 1 count. Examples are padded to the longest of their batch.
 *
 * To train on a stream of tokens, or to pack examples into sequences of one length, use `Trainer` with `packExamples`.
 *
 * @example
 * const example = await textExample(tokenizer, "Hi. Hello!", { prompt: "Hi. " });
 * using trainer = new TaskTrainer({ model: gpt, task: languageModelling(), data: [[example]], steps: 1 });
 */
export function languageModelling(): Task<TrainableModel, readonly TrainingExample[]> {
  const op = "languageModelling";
  const targetsOf = (examples: readonly TrainingExample[]): number => {
    let count = 0;
    for (const { mask } of examples) for (let t = 1; t < mask.length; t++) count += mask[t] ? 1 : 0;
    return count;
  };
  return {
    loss(model, examples, { device }) {
      const { inputs, targets, lengths, shape } = paddedExamples(op, examples);
      if (lengths.some((length) => length < 1))
        throw new HeedError("ERR_ARGUMENT", `${op}: expected examples of at least 2 tokens, got a shorter one`);
      return model.loss(tensor(inputs, shape, { device }), tensor(targets, shape, { device }), {
        documents: lengths.map((length) => [length]),
      });
    },
    targets: targetsOf,
    tokens: (examples) => examples.reduce((sum, { ids }) => sum + ids.length - 1, 0),
  };
}
