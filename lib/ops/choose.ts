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
 * Position of the largest element of the last dimension: [..., V] → [...]. The lowest wins a tie. NaN counts as less than
 * everything, unlike in PyTorch, so it is found only where there is nothing else.
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
 * The k largest of the last dimension and their positions, in falling order: [..., V] → [..., k] each. Of equal ones the
 * lowest position is first. NaN comes last, unlike in PyTorch.
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

/** How the next token is chosen from the logits; applied in this order. */
export interface SamplingOptions {
  /** Logits of tokens in the history are divided (if positive) or multiplied by this (Keskar et al. 2019); 1 is off. */
  repetitionPenalty?: number;
  /** Logits are divided by this; 0 takes the likeliest token. 1 unless given. */
  temperature?: number;
  /** Only the k likeliest tokens; 0 is off. */
  topK?: number;
  /** Only the likeliest tokens that together have probability p (Holtzman et al. 2020); 1 is off. */
  topP?: number;
  /** Only tokens at least this share as likely as the likeliest (Nguyen et al. 2024); 0 is off. */
  minP?: number;
}

/** @internal Throws ERR_RANGE for an option outside its range. */
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
 * Chooses a token for each row: logits [B, V] → [B]. Row b draws number offsets[b] of the seed's sequence, so that a
 * sequence's tokens do not depend on what else is in the batch.
 *
 * A row that has no distribution gets the id -1: one of its logits is NaN or Infinity after the penalty, or all of them are
 * -Infinity. Single logits may be -Infinity: their tokens are never chosen.
 *
 * @param offsets i32 [B]
 * @param history i32 [B, L], for the repetition penalty; negative ids are padding
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
 * @internal `sample` of checked arguments into tensors that there are, i32 [B] each: the ids and, unless null, what the
 * model may go on from, which is 0 in place of -1.
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
