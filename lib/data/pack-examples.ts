// Packs examples of different lengths into sequences of one length. Examples in the same sequence do not see each other.
import { checkChoice, checkInteger, checkBoolean, checkObject } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import { ignored, type SequenceSource, type TrainingSequence } from "./sequence-source.js";

/** Tokens of a text or conversation to train on. */
export interface TrainingExample {
  /** Ids of the tokens. */
  ids: Int32Array;
  /** Mask of the tokens: 1 if the model learns to predict the token, otherwise 0. */
  mask: Uint8Array;
}

/** Options of `packExamples`. */
export interface PackOptions {
  /** T, the number of tokens in a sequence. */
  contextLength: number;
  /** True if short examples share a sequence, false if each has one of its own, with padding. @default true */
  packing?: boolean;
  /**
   * Rule for an example of more than T + 1 tokens: its end is cut off ("end"), its beginning is ("start"), it is left out
   * ("drop"), or it is cut into several examples, so that no token is lost ("split").
   * @default "end"
   */
  truncation?: "end" | "start" | "drop" | "split";
}

/** Examples in sequences of one length, for `Trainer`. */
export interface PackedExamples extends SequenceSource {
  /** Number of examples that are used. */
  readonly examples: number;
  /** Number of examples that were cut. */
  readonly truncated: number;
  /** Number of examples that were left out: those that are too long, or that have nothing to learn from. */
  readonly dropped: number;
  /** Number of tokens that count for the loss, in all sequences. */
  readonly targets: number;
}

/**
 * Packs examples into sequences of T tokens for `Trainer`. Every sequence is filled with the longest examples that still
 * fit (best fit, longest first), so that little of it is padding. The examples in a sequence do not see each other, and
 * positions restart in each: a packed example has the loss that it has alone.
 *
 * @example
 * const ids = tokenizer.encode("Call me Ishmael.");
 * const data = packExamples([{ ids, mask: new Uint8Array(ids.length).fill(1) }], { contextLength: 16 });
 * using trainer = new Trainer({ model: gpt, data, batchSize: 1, contextLength: 16, steps: 1 });
 *
 * @throws ERR_ARGUMENT if an option is invalid, or no example has a token to learn.
 * @throws ERR_SHAPE if an example has not one mask for each id.
 */
export function packExamples(examples: Iterable<TrainingExample>, options: PackOptions): PackedExamples {
  const op = "packExamples";
  checkObject(op, "options", options);
  const { contextLength, packing = true, truncation = "end" } = options;
  checkInteger(op, "contextLength", contextLength, 1);
  checkBoolean(op, "packing", packing);
  checkChoice(op, "truncation", truncation, ["end", "start", "drop", "split"]);
  const used: TrainingExample[] = [];
  let [truncated, dropped, targets] = [0, 0, 0];
  const whole = truncation === "split" ? splitExamples(examples, contextLength) : examples;
  for (const example of whole) {
    const { ids, mask } = example;
    if (ids.length !== mask.length)
      throw new HeedError("ERR_SHAPE", `${op}: expected a mask for each of ${ids.length} ids, got ${mask.length}`);
    const long = ids.length > contextLength + 1;
    // Parts of an example that is split are never long.
    const cut = long ? truncatedTo(contextLength + 1, example, truncation as "end" | "start" | "drop") : example;
    const counted = cut ? learned(cut) : 0;
    if (!cut || counted === 0) dropped++;
    else {
      used.push(cut);
      targets += counted;
      if (long) truncated++;
    }
  }
  if (used.length === 0)
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected at least one example with a token to learn, got ${dropped === 0 ? "none" : `${dropped} without`}`,
    );
  const rows = packing
    ? packLengths(
        used.map(({ ids }) => ids.length - 1),
        contextLength,
      )
    : used.map((_, i) => [i]);
  const sequence = (index: number): TrainingSequence =>
    joinExamples(
      rows[index]!.map((i) => used[i]!),
      contextLength,
    );
  return { sequences: rows.length, contextLength, sequence, examples: used.length, truncated, dropped, targets };
}

/** Returns the number of tokens that an example teaches. Nothing predicts its first token. */
function learned({ mask }: TrainingExample): number {
  let count = 0;
  for (let i = 1; i < mask.length; i++) count += mask[i]!;
  return count;
}

/**
 * @internal Yields examples of at most T + 1 tokens. The last token of a part is the first one of the next part, which it
 * does not count for.
 */
export function* splitExamples(
  examples: Iterable<TrainingExample>,
  contextLength: number,
): Generator<TrainingExample, void, undefined> {
  for (const example of examples) {
    const { ids, mask } = example;
    const most = contextLength + 1;
    if (ids.length <= most || ids.length !== mask.length) yield example;
    else
      for (let at = 0; at < ids.length - 1; at += contextLength)
        yield { ids: ids.subarray(at, at + most), mask: mask.subarray(at, at + most) };
  }
}

function truncatedTo(
  length: number,
  { ids, mask }: TrainingExample,
  truncation: "end" | "start" | "drop",
): TrainingExample | null {
  if (truncation === "drop") return null;
  const from = truncation === "start" ? ids.length - length : 0;
  return { ids: ids.subarray(from, from + length), mask: mask.subarray(from, from + length) };
}

/**
 * @internal Returns the indices of the examples of each sequence: the longest come first, and each goes where it leaves
 * the least room. `sizes` are the numbers of targets of the examples, each from 1 to `length`.
 */
export function packLengths(sizes: readonly number[], length: number): number[][] {
  const order = [...sizes.keys()].sort((a, b) => sizes[b]! - sizes[a]! || a - b);
  const rows: number[][] = [];
  /** Rows by the room that they have left. */
  const byRoom: number[][][] = Array.from({ length: length + 1 }, () => []);
  for (const i of order) {
    const size = sizes[i]!;
    let room = size;
    while (room <= length && byRoom[room]!.length === 0) room++;
    const row: number[] = byRoom[room]?.pop() ?? [];
    if (row.length === 0) rows.push(row);
    row.push(i);
    byRoom[Math.min(room, length) - size]!.push(row);
  }
  return rows;
}

/** @internal Returns the sequence of `length` tokens that consists of these examples and padding. */
export function joinExamples(examples: readonly TrainingExample[], length: number): TrainingSequence {
  const inputs = new Int32Array(length);
  const targets = new Int32Array(length).fill(ignored);
  const documents: number[] = [];
  let at = 0;
  for (const { ids, mask } of examples) {
    const size = ids.length - 1;
    inputs.set(ids.subarray(0, size), at);
    for (let t = 0; t < size; t++) if (mask[t + 1]) targets[at + t] = ids[t + 1]!;
    documents.push(size);
    at += size;
  }
  return { inputs, targets, documents };
}
