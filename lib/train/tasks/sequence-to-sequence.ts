import { checkInteger, checkNumber, checkObject } from "../../util/check.js";
import { tensor } from "../../core/creation.js";
import { HeedError } from "../../util/errors.js";
import type { SequenceToSequence } from "../../models/sequence-to-sequence.js";
import { ignored } from "../../data/sequence-source.js";
import type { Task } from "../task.js";
import { type Ids, padded } from "./padded.js";

/** Sources with their targets. */
export interface SequencePairs {
  /** Ids of each source, B of them, as the model expects them: T5's end with the end token. */
  sources: readonly Ids[];
  /** Ids of each target, B of them, without start and end token. */
  targets: readonly Ids[];
}

/** Options of `sequenceToSequence`. */
export interface SequenceToSequenceOptions {
  /** Share of the probability that is spread over all tokens (label smoothing). @default 0 */
  smoothing?: number;
  /** Token with which a target begins. @default the model's */
  startToken?: number;
  /** Token with which a target ends. @default the model's */
  endToken?: number;
}

/** Model that turns one sequence into another, with the tokens around a target in its configuration. */
export type TranslatingModel = SequenceToSequence & {
  readonly config: { readonly startToken: number; readonly endToken: number };
};

/**
 * Returns the task of turning one sequence into another, such as translation, in batches of sources and targets. The
 * decoder reads "start x y" and predicts "x y end". Sequences are padded to the longest of their batch.
 *
 * @example
 * const model = new T5({ vocabularySize: 100, layers: 1, heads: 2, width: 16 });
 * const data = [{ sources: [[7, 8, 9, 1], [5, 1]], targets: [[17, 18], [15]] }];
 * using trainer = new TaskTrainer({ model, task: sequenceToSequence(), data, steps: 2 });
 *
 * @throws ERR_RANGE if an option is out of range.
 */
export function sequenceToSequence(options: SequenceToSequenceOptions = {}): Task<TranslatingModel, SequencePairs> {
  const op = "sequenceToSequence";
  checkObject(op, "options", options);
  const { smoothing = 0, startToken, endToken } = options;
  checkNumber(op, "smoothing", smoothing, 0, 1);
  for (const [name, token] of Object.entries({ startToken, endToken }))
    if (token !== undefined) checkInteger(op, name, token, 0);
  return {
    loss(model, batch, { device }) {
      checkObject(op, "the batch", batch);
      const [start, end] = [startToken ?? model.config.startToken, endToken ?? model.config.endToken];
      const sources = padded(op, batch.sources);
      const inputs = padded(
        op,
        batch.targets.map((ids) => [start, ...Array.from(ids)]),
      );
      const labels = padded(
        op,
        batch.targets.map((ids) => [...Array.from(ids), end]),
        ignored,
      );
      if (inputs.shape[0] !== sources.shape[0])
        throw new HeedError("ERR_SHAPE", `${op}: expected ${sources.shape[0]} targets, got ${inputs.shape[0]}`);
      const on = (ids: Int32Array, shape: readonly number[]) => tensor(ids, shape, { device });
      return model.loss(on(sources.ids, sources.shape), on(inputs.ids, inputs.shape), on(labels.ids, labels.shape), {
        sourceLengths: on(sources.lengths, [sources.shape[0]]),
        targetLengths: on(inputs.lengths, [inputs.shape[0]]),
        labelSmoothing: smoothing,
      });
    },
    targets: ({ targets }) => targets.reduce((sum, { length }) => sum + length + 1, 0),
    tokens: ({ sources, targets }) => [...sources, ...targets].reduce((sum, { length }) => sum + length, 0),
  };
}
