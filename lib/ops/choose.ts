import { ops } from "../native.js";
import { allocate, type FloatTensor, type IntTensor } from "../tensor.js";
import {
  checkDType,
  checkFloat,
  checkInteger,
  checkNumber,
  checkObject,
  checkRank,
  checkShapeIs,
  checkTensor,
  largestFloat,
  smallestFloat,
} from "./check.js";
import { contiguous } from "./views.js";

/**
 * Returns the position of the largest element along the last dimension: [..., V] → i32 [...]. The lowest position wins
 * a tie. NaN counts as less than everything, unlike in PyTorch, so it wins only against other NaN.
 *
 * @example
 * const ids = argmax(tensor([[1, 3, 2], [5, 4, 0]])); // [1, 0]
 */
export function argmax(x: FloatTensor): IntTensor {
  checkFloat("argmax", "x", x);
  checkRank("argmax", "x", x, 1);
  const input = contiguous(x);
  const ids = allocate(x.shape.slice(0, -1), "i32", x.device);
  ops.argmax({ ids, inp: input });
  if (input !== x) input.dispose();
  return ids;
}

/**
 * Returns the k largest elements along the last dimension and their positions, in descending order: [..., V] → [..., k]
 * each. Equal elements are ordered by position. NaN comes last, unlike in PyTorch.
 *
 * @example
 * const { values, ids } = topk(tensor([1, 3, 2]), 2); // [3, 2] and [1, 2]
 *
 * @throws ERR_RANGE if `k` is not an integer from 1 to V.
 */
export function topk(x: FloatTensor, k: number): { values: FloatTensor; ids: IntTensor } {
  checkFloat("topk", "x", x);
  checkRank("topk", "x", x, 1);
  checkInteger("topk", "k", k, 1, x.shape.at(-1));
  const input = contiguous(x);
  const shape = [...x.shape.slice(0, -1), k];
  const values: FloatTensor = allocate(shape, x.dtype, x.device);
  const ids = allocate(shape, "i32", x.device);
  ops.topk({ values, ids, inp: input });
  if (input !== x) input.dispose();
  return { values, ids };
}

/** Options that say how the next token is chosen from the logits. They are applied in this order. */
export interface SamplingOptions {
  /**
   * Factor against repetition: positive logits of tokens in the history are divided by it, negative ones are
   * multiplied; 1 turns it off.
   *
   * @default 1
   * @see Keskar et al. 2019, "CTRL", §4.1, arXiv:1909.05858.
   */
  repetitionPenalty?: number;
  /** Number that the logits are divided by; 0 always takes the most likely token. @default 1 */
  temperature?: number;
  /** Number of most likely tokens to choose from; 0 turns it off. @default 0 */
  topK?: number;
  /**
   * Probability that the most likely tokens to choose from have together; 1 turns it off.
   *
   * @default 1
   * @see Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", arXiv:1904.09751.
   */
  topP?: number;
  /**
   * Share of the highest probability that a token must have to be chosen; 0 turns it off.
   *
   * @default 0
   * @see Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling", arXiv:2407.01082.
   */
  minP?: number;
}

/**
 * @internal Checks sampling options and fills in the defaults.
 *
 * @throws ERR_RANGE if an option is out of range.
 */
export function checkSampling(op: string, options: SamplingOptions): Required<SamplingOptions> {
  checkObject(op, "options", options);
  const { repetitionPenalty = 1, temperature = 1, topK = 0, topP = 1, minP = 0 } = options;
  checkNumber(op, "repetitionPenalty", repetitionPenalty, smallestFloat, largestFloat);
  checkNumber(op, "temperature", temperature, 0, largestFloat);
  checkInteger(op, "topK", topK, 0);
  checkNumber(op, "topP", topP, smallestFloat, 1);
  checkNumber(op, "minP", minP, 0, 1);
  return { repetitionPenalty, temperature, topK, topP, minP };
}

/**
 * Chooses a token for each row: logits [B, V] → i32 [B]. Row b uses draw number offsets[b] of the seed's sequence, so
 * that the tokens of a sequence do not depend on what else is in the batch.
 *
 * A row whose logits define no distribution gets the id -1: one of them is NaN or Infinity after the penalty, or all of
 * them are -Infinity. Single logits may be -Infinity: their tokens are never chosen.
 *
 * @param offsets i32 [B]
 * @param options `seed` of the draws; `history` i32 [B, L] for the repetition penalty, in which negative ids are
 *   padding
 *
 * @example
 * const logits = randn([2, 256], { seed: 1 });
 * const offsets = tensor(new Int32Array([0, 0]));
 * const ids = sample(logits, offsets, { seed: 7, temperature: 0.8, topK: 40 });
 *
 * @throws ERR_RANGE if an option is out of range.
 */
export function sample(
  logits: FloatTensor,
  offsets: IntTensor,
  options: SamplingOptions & { seed: number; history?: IntTensor | null },
): IntTensor {
  const sampling = checkSampling("sample", options);
  const { seed, history = null } = options;
  checkInteger("sample", "seed", seed, 0);
  checkFloat("sample", "logits", logits);
  checkShapeIs("sample", "logits", logits, [-1, -1]);
  const batch = logits.shape[0]!;
  checkTensor("sample", "offsets", offsets, logits);
  checkDType("sample", "offsets", offsets, "i32");
  checkShapeIs("sample", "offsets", offsets, [batch]);
  if (history) {
    checkTensor("sample", "history", history, logits);
    checkDType("sample", "history", history, "i32");
    checkShapeIs("sample", "history", history, [batch, -1]);
  }
  const ids = allocate([batch], "i32", logits.device);
  sampleInto({ ids, inputs: null }, logits, offsets, { ...sampling, seed, history });
  return ids;
}

/**
 * @internal Does the same as `sample`, for checked arguments, and writes to given tensors i32 [B]. `inputs`, if not
 * null, receives the ids for the model's next pass, with 0 instead of -1.
 */
export function sampleInto(
  { ids, inputs }: { ids: IntTensor; inputs: IntTensor | null },
  logits: FloatTensor,
  offsets: IntTensor,
  options: Required<SamplingOptions> & { seed: number; history: IntTensor | null },
): void {
  const { repetitionPenalty, temperature, topK, topP, minP, seed, history } = options;
  const input = contiguous(logits);
  const past = history && contiguous(history);
  ops.sample({
    ids,
    inputs,
    logits: input,
    history: past,
    offsets,
    temperature,
    topK,
    topP,
    minP,
    repetitionPenalty,
    seed,
  });
  if (input !== logits) input.dispose();
  if (past !== history) past?.dispose();
}
