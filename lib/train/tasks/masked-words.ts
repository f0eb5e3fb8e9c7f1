import { checkInteger, checkNumber, checkObject } from "../../util/check.js";
import { tensor } from "../../core/creation.js";
import type { Module } from "../../nn/module.js";
import type { FloatTensor, IntTensor } from "../../core/tensor.js";
import { type MaskedTokens, type MaskingOptions, maskTokens } from "../../data/mask-tokens.js";
import type { Task, TaskContext } from "../task.js";
import { type Ids, padded } from "./padded.js";

/** Options of `maskedWords`. */
export interface MaskedWordsOptions extends Omit<MaskingOptions, "seed"> {
  /** Id of padding, which is never masked. @default 0 */
  padToken?: number;
  /** Seed of the choice of tokens, which is another one in every micro-batch. @default 0 */
  seed?: number;
}

/** Model that predicts masked tokens, such as `BertForMaskedLM`. */
export interface MaskingModel extends Module {
  /**
   * Returns the mean cross-entropy of targets i32 [N] at positions i32 [N] of ids i32 [B, T], of which keyLengths
   * i32 [B] are real.
   */
  loss(ids: IntTensor, targets: IntTensor, options: { positions: IntTensor; keyLengths: IntTensor }): FloatTensor;
}

/**
 * Returns the task of predicting masked tokens, BERT's pretraining, in batches of texts as ids. Which tokens are masked
 * follows from the seed and the number of the micro-batch, so that a text is masked differently in every epoch, and the
 * same when a run resumes.
 *
 * @example
 * const bert = new Bert({ vocabularySize: 100, contextLength: 16, layers: 1, heads: 2, width: 16 });
 * const model = new BertForMaskedLM(bert);
 * const task = maskedWords({ maskToken: 4, vocabularySize: 100 });
 * using trainer = new TaskTrainer({ model, task, data: [[[5, 17, 31, 8], [9, 12]]], steps: 2 });
 *
 * @throws ERR_RANGE if an option is out of range.
 * @see Devlin et al. 2019, "BERT", §3.1, arXiv:1810.04805.
 */
export function maskedWords(options: MaskedWordsOptions): Task<MaskingModel, readonly Ids[]> {
  const op = "maskedWords";
  checkObject(op, "options", options);
  const { padToken = 0, seed = 0, special = [], ...masking } = options;
  checkInteger(op, "vocabularySize", masking.vocabularySize, 1, 2 ** 31 - 1);
  checkInteger(op, "maskToken", masking.maskToken, 0, masking.vocabularySize - 1);
  checkInteger(op, "padToken", padToken, 0, masking.vocabularySize - 1);
  checkInteger(op, "seed", seed, 0, 2 ** 20 - 1);
  checkNumber(op, "probability", masking.probability ?? 0.15, 0, 1);
  const masked = (
    texts: readonly Ids[],
    { microBatch, training }: TaskContext,
  ): MaskedTokens & { lengths: Int32Array; shape: [number, number] } => {
    const { ids, lengths, shape } = padded(op, texts, padToken);
    // Evaluations mask the same tokens every time.
    const own = (2 * seed + (training ? 1 : 0)) * 2 ** 32 + (microBatch % 2 ** 32);
    return { ...maskTokens(ids, { ...masking, special: [...special, padToken], seed: own }), lengths, shape };
  };
  return {
    loss(model, texts, context) {
      const { device } = context;
      const { ids, positions, targets, lengths, shape } = masked(texts, context);
      return model.loss(tensor(ids, shape, { device }), tensor(targets, [targets.length], { device }), {
        positions: tensor(positions, [positions.length], { device }),
        keyLengths: tensor(lengths, [shape[0]], { device }),
      });
    },
    targets: (texts, context) => masked(texts, context).targets.length,
    tokens: (texts) => texts.reduce((sum, { length }) => sum + length, 0),
  };
}
