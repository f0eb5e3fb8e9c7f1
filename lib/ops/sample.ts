import { empty } from "../core/creation.js";
import type { Device } from "../core/device.js";
import { HeedError } from "../util/errors.js";
import { ops } from "../core/native.js";
import { allocate, type FloatTensor, type IntTensor } from "../core/tensor.js";
import {
  checkDType,
  checkFloat,
  checkInteger,
  checkNumber,
  checkObject,
  checkShapeIs,
  checkTensor,
  largestFloat,
  smallestFloat,
} from "./check.js";
import { keep } from "../core/scope.js";
import { contiguous } from "./views.js";

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
  /** Number that is subtracted from the logits of tokens that were generated before; 0 turns it off. @default 0 */
  presencePenalty?: number;
  /**
   * Number that is subtracted from the logit of a token for each time that it was generated before; 0 turns it off.
   *
   * @default 0
   */
  frequencyPenalty?: number;
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
  /**
   * Probability that the most typical tokens to choose from have together; 1 turns it off. The most typical token is
   * the one whose −log p is nearest to the entropy of the tokens that are left.
   *
   * @default 1
   * @see Meister et al. 2023, "Locally Typical Sampling", arXiv:2202.00666.
   */
  typicalP?: number;
}

/** Sampling options of one row, with the seed of its draws. */
export interface RowSampling extends SamplingOptions {
  /** Seed of the draws, an integer from 0 to 2^53 − 1. */
  seed: number;
}

/** Tensors that change the logits before `sample` chooses a token. */
export interface SampleInputs {
  /** Tokens that the repetition penalty concerns, i32 [B, L]; negative ids are padding. @default null */
  history?: IntTensor | null;
  /**
   * Generated tokens, which the presence and frequency penalties concern, i32 [B, G]; negative ids are padding.
   *
   * @default null
   */
  generated?: IntTensor | null;
  /** Numbers that are added to the logits after the penalties, f32 [B, V]; -Infinity excludes a token. @default null */
  bias?: FloatTensor | null;
  /**
   * Bits of the tokens that may be chosen, i32 [B, ⌈V/32⌉]: token v is bit v mod 32 of word ⌊v/32⌋, and bit 0 is the
   * lowest one.
   *
   * @default null (all tokens may be chosen)
   */
  allowed?: IntTensor | null;
}

/**
 * @internal Checks sampling options and fills in the defaults.
 *
 * @throws ERR_RANGE if an option is out of range.
 */
export function checkSampling(op: string, options: SamplingOptions): Required<SamplingOptions> {
  checkObject(op, "options", options);
  const { repetitionPenalty = 1, presencePenalty = 0, frequencyPenalty = 0 } = options;
  const { temperature = 1, topK = 0, topP = 1, minP = 0, typicalP = 1 } = options;
  checkNumber(op, "repetitionPenalty", repetitionPenalty, smallestFloat, largestFloat);
  checkNumber(op, "presencePenalty", presencePenalty, -largestFloat, largestFloat);
  checkNumber(op, "frequencyPenalty", frequencyPenalty, -largestFloat, largestFloat);
  checkNumber(op, "temperature", temperature, 0, largestFloat);
  checkInteger(op, "topK", topK, 0);
  checkNumber(op, "topP", topP, smallestFloat, 1);
  checkNumber(op, "minP", minP, 0, 1);
  checkNumber(op, "typicalP", typicalP, smallestFloat, 1);
  return { repetitionPenalty, presencePenalty, frequencyPenalty, temperature, topK, topP, minP, typicalP };
}

/** @internal The options of all rows on a device, in the order of core/sampling.h. */
export class SamplingTensors implements Disposable {
  readonly numbers: FloatTensor;
  readonly integers: IntTensor;

  /** Creates tensors with room for the options of this many rows, which `set` gives them. */
  constructor(rows: number, device: Device) {
    this.numbers = keep(empty([rows, 7], { device }));
    this.integers = keep(empty([rows, 3], { dtype: "i32", device }));
  }

  /** Takes the options of all rows. */
  set(rows: readonly Required<RowSampling>[]): void {
    const { numbers, integers } = valuesOf(rows);
    this.numbers.set(numbers);
    this.integers.set(integers);
  }

  dispose(): void {
    this.numbers.dispose();
    this.integers.dispose();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Returns the options of all rows in the order of core/sampling.h. */
function valuesOf(rows: readonly Required<RowSampling>[]): {
  numbers: Float32Array;
  integers: Int32Array;
} {
  const numbers = new Float32Array(7 * rows.length);
  const integers = new Int32Array(3 * rows.length);
  // An engine does this in every step for every request, so nothing is made for a single row.
  let [n, i] = [0, 0];
  for (const row of rows) {
    numbers[n++] = row.repetitionPenalty;
    numbers[n++] = row.presencePenalty;
    numbers[n++] = row.frequencyPenalty;
    numbers[n++] = row.temperature;
    numbers[n++] = row.topP;
    numbers[n++] = row.minP;
    numbers[n++] = row.typicalP;
    integers[i++] = Math.min(row.topK, 2 ** 31 - 1);
    integers[i++] = row.seed | 0;
    integers[i++] = row.seed / 2 ** 32;
  }
  return { numbers, integers };
}

/**
 * Chooses a token for each row: logits [B, V] → i32 [B]. Row b uses draw number offsets[b] of its seed's sequence, so
 * that the tokens of a sequence do not depend on what else is in the batch.
 *
 * A row whose logits define no distribution gets the id -1: one of them is NaN or Infinity after penalties and bias, or
 * all of them are -Infinity. Single logits may be -Infinity: their tokens are never chosen.
 *
 * @param offsets i32 [B]
 * @param options The options of all rows, or an array with those of each row.
 *
 * @example
 * const logits = randn([2, 256], { seed: 1 });
 * const offsets = tensor(new Int32Array([0, 0]));
 * sample(logits, offsets, { seed: 7, temperature: 0.8, topK: 40 }); // the same options for both rows
 * sample(logits, offsets, [{ seed: 7, temperature: 0 }, { seed: 8, topP: 0.9 }]);
 *
 * @throws ERR_RANGE if an option is out of range.
 * @throws ERR_SHAPE or ERR_DTYPE if a tensor does not fit the logits, or the array does not have B options.
 */
export function sample(
  logits: FloatTensor,
  offsets: IntTensor,
  options: RowSampling | readonly RowSampling[],
  inputs: SampleInputs = {},
): IntTensor {
  checkFloat("sample", "logits", logits);
  checkShapeIs("sample", "logits", logits, [-1, -1]);
  const [batch, vocabulary] = logits.shape as [number, number];
  const rows = rowsOf(options, batch);
  checkInput("offsets", offsets, "i32", [batch], logits);
  checkObject("sample", "inputs", inputs);
  const { history = null, generated = null, bias = null, allowed = null } = inputs;
  if (history) checkInput("history", history, "i32", [batch, -1], logits);
  if (generated) checkInput("generated", generated, "i32", [batch, -1], logits);
  if (bias) checkInput("bias", bias, "f32", [batch, vocabulary], logits);
  if (allowed) checkInput("allowed", allowed, "i32", [batch, Math.ceil(vocabulary / 32)], logits);
  const ids = allocate([batch], "i32", logits.device);
  using sampling = new SamplingTensors(batch, logits.device);
  sampling.set(rows);
  sampleInto({ ids, inputs: null }, logits, offsets, sampling, { history, generated, bias, allowed });
  return ids;
}

/** Returns the checked options of each row. */
function rowsOf(options: RowSampling | readonly RowSampling[], batch: number): Required<RowSampling>[] {
  if (!Array.isArray(options)) return Array<ReturnType<typeof rowOf>>(batch).fill(rowOf(options as RowSampling));
  if (options.length !== batch)
    throw new HeedError("ERR_SHAPE", `sample: expected options for each of ${batch} rows, got ${options.length}`);
  return options.map(rowOf);
}

function rowOf(options: RowSampling): Required<RowSampling> {
  const sampling = checkSampling("sample", options);
  checkInteger("sample", "seed", options.seed, 0);
  return { ...sampling, seed: options.seed };
}

function checkInput(
  name: string,
  input: FloatTensor | IntTensor,
  dtype: "i32" | "f32",
  shape: number[],
  logits: FloatTensor,
): void {
  checkTensor("sample", name, input, logits);
  checkDType("sample", name, input, dtype);
  checkShapeIs("sample", name, input, shape);
}

/**
 * @internal Does the same as `sample`, for checked arguments, and writes to given tensors i32 [B]. `inputs`, if not
 * null, receives the ids for the model's next pass, with 0 instead of -1.
 */
export function sampleInto(
  { ids, inputs }: { ids: IntTensor; inputs: IntTensor | null },
  logits: FloatTensor,
  offsets: IntTensor,
  { numbers, integers }: SamplingTensors,
  given: SampleInputs,
): void {
  const { history = null, generated = null, bias = null, allowed = null } = given;
  const packed = new Map([logits, history, generated, bias, allowed].map((x) => [x, x && contiguous(x)]));
  const of = <T extends FloatTensor | IntTensor>(x: T | null): T | null => packed.get(x) as T | null;
  ops.sample({
    ids,
    inputs,
    logits: of(logits)!,
    history: of(history),
    generated: of(generated),
    bias: of(bias),
    allowed: of(allowed),
    offsets,
    numbers,
    integers,
  });
  for (const [x, copy] of packed) if (copy !== x) copy?.dispose();
}

/**
 * Returns the natural logarithms of the probabilities that the logits [B, V] give to tokens: ids i32 [B, J] → f32
 * [B, J]. The result is NaN for negative ids, and in rows that define no distribution.
 *
 * @example
 * const logits = tensor([[Math.log(3), 0]]);
 * await logProbabilities(logits, tensor(new Int32Array([0, 1]), [1, 2])).data(); // the logarithms of 0.75 and 0.25
 *
 * @throws ERR_SHAPE or ERR_DTYPE if the ids do not fit the logits. An id that is not below V is an error on the device:
 * reading the result rejects with ERR_RANGE.
 */
export function logProbabilities(logits: FloatTensor, ids: IntTensor): FloatTensor {
  checkFloat("logProbabilities", "logits", logits);
  checkShapeIs("logProbabilities", "logits", logits, [-1, -1]);
  checkTensor("logProbabilities", "ids", ids, logits);
  checkDType("logProbabilities", "ids", ids, "i32");
  checkShapeIs("logProbabilities", "ids", ids, [logits.shape[0]!, -1]);
  const [input, tokens] = [contiguous(logits), contiguous(ids)];
  const out: FloatTensor = allocate(ids.shape, "f32", logits.device);
  logProbabilitiesInto(out, input, tokens);
  if (input !== logits) input.dispose();
  if (tokens !== ids) tokens.dispose();
  return out;
}

/** @internal Does the same as `logProbabilities`, for checked contiguous arguments, and writes to f32 [B, J]. */
export function logProbabilitiesInto(out: FloatTensor, logits: FloatTensor, ids: IntTensor): void {
  ops.log_probabilities({ out, logits, ids });
}
