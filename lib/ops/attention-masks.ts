/** Tensors for the options of `attention`: what is worked out once a batch, on the host. */
import type { Device } from "../device.js";
import { HeedError } from "../errors.js";
import { largest } from "../largest.js";
import { tensor } from "../creation.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import { checkArray, checkInteger, checkObject } from "./check.js";

/** Of i32, which ranges are in. */
const largestInteger = 2 ** 31 - 1;

export interface MaskOptions {
  /** Device that holds the mask: "cpu", "cuda:0", …, or "auto". @default "auto" */
  device?: Device | string;
}

/**
 * The slopes of ALiBi (Press et al. 2022, §3) for `heads` heads, f32 [heads]: the geometric sequence 2^(−8/n), 2^(−16/n),
 * … for n heads where n is a power of two; else that of the next lower power of two, followed by every other slope of
 * the next higher one, from its first.
 */
export function alibiSlopes(heads: number, options: MaskOptions = {}): FloatTensor {
  checkInteger("alibiSlopes", "heads", heads, 1, largestInteger);
  checkObject("alibiSlopes", "options", options);
  const lower = 2 ** Math.floor(Math.log2(heads));
  const slopes = Float32Array.from({ length: heads }, (_, h) =>
    h < lower ? 2 ** ((-8 * (h + 1)) / lower) : 2 ** ((-4 * (2 * (h - lower) + 1)) / lower),
  );
  return tensor(slopes, [heads], options);
}

export interface DocumentOptions extends MaskOptions {
  /** T; the tokens of the longest sequence unless given. What is left of a sequence is padding and sees nothing. */
  length?: number;
}

/**
 * The `keyRanges` [B, T, 2] of documents packed into sequences, so that none sees another: documents[b] are the lengths
 * of sequence b's documents, in order.
 */
export function documentRanges(documents: readonly ArrayLike<number>[], options: DocumentOptions = {}): IntTensor {
  checkObject("documentRanges", "options", options);
  const lengths = documentLengths("documentRanges", documents);
  const longest = largest(lengths.map((list) => list.reduce((a, b) => a + b, 0)));
  const { length = longest } = options;
  checkInteger("documentRanges", "length", length, 0, largestInteger);
  if (longest > length)
    throw new HeedError("ERR_SHAPE", `documentRanges: expected at most ${length} tokens a sequence, got ${longest}`);
  const ranges = new Int32Array(lengths.length * length * 2);
  for (const [b, list] of lengths.entries()) {
    let at = 2 * b * length;
    let first = 0;
    for (const count of list) {
      for (let t = 0; t < count; t++, at += 2) {
        ranges[at] = first;
        ranges[at + 1] = first + count;
      }
      first += count;
    }
  }
  return tensor(ranges, [lengths.length, length, 2], options);
}

function documentLengths(op: string, documents: readonly ArrayLike<number>[]): number[][] {
  checkArray(op, "documents", documents);
  return Array.from(documents, (list, b) => {
    checkObject(op, `documents[${b}]`, list);
    return Array.from(list, (count, i) => {
      checkInteger(op, `documents[${b}][${i}]`, count, 0, largestInteger);
      return count;
    });
  });
}

export interface PrefixOptions extends MaskOptions {
  /** Position of each sequence's first token: those before are in a cache. 0 unless given. */
  starts?: ArrayLike<number>;
}

/**
 * The `keyRanges` [B, T, 2] of a prefix language model (Raffel et al. 2020, §3.2.1): the first prefixLengths[b] tokens of
 * sequence b see each other, the others what is before them. For attention that is not `causal`: these ranges are.
 */
export function prefixRanges(prefixLengths: ArrayLike<number>, length: number, options: PrefixOptions = {}): IntTensor {
  checkObject("prefixRanges", "prefixLengths", prefixLengths);
  checkInteger("prefixRanges", "length", length, 0, largestInteger);
  checkObject("prefixRanges", "options", options);
  const prefixes = Array.from(prefixLengths);
  const { starts = new Int32Array(prefixes.length) } = options;
  checkObject("prefixRanges", "starts", starts);
  for (const [b, prefix] of prefixes.entries()) {
    checkInteger("prefixRanges", `starts[${b}]`, starts[b], 0, largestInteger - length);
    checkInteger("prefixRanges", `prefixLengths[${b}]`, prefix, 0, starts[b]! + length);
  }
  const ranges = Int32Array.from({ length: prefixes.length * length * 2 }, (_, i) => {
    if (i % 2 === 0) return 0;
    const token = Math.floor(i / 2);
    const b = Math.floor(token / length);
    return Math.max(prefixes[b]!, starts[b]! + (token % length) + 1);
  });
  return tensor(ranges, [prefixes.length, length, 2], options);
}
