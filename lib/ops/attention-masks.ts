/** Tensors for the options of `attention`. They are computed on the host, once for each batch. */
import type { Device } from "../core/device.js";
import { HeedError } from "../util/errors.js";
import { largest } from "../util/largest.js";
import { tensor } from "../core/creation.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import { checkArray, checkInteger, checkObject } from "./check.js";

/** Largest number of i32, the dtype of ranges. */
const largestInteger = 2 ** 31 - 1;

/** Options of functions that make masks, slopes and decays. */
export interface MaskOptions {
  /** Device that holds the mask: "cpu", "cuda:0", …, or "auto". @default "auto" */
  device?: Device | string;
}

/**
 * Returns the slopes of ALiBi for `heads` heads, f32 [heads]. If the number of heads n is a power of two, they are the
 * geometric sequence 2^(−8/n), 2^(−16/n), … Otherwise they are the slopes for the next lower power of two, followed by
 * every other slope for the next higher one, beginning with its first.
 *
 * @example
 * const q = randn([1, 6, 8, 16], { seed: 1 });
 * const y = attention(q, q, q, { causal: true, slopes: alibiSlopes(8) });
 *
 * @throws ERR_RANGE if `heads` is not an integer of at least 1.
 * @see Press et al. 2022, "Train Short, Test Long", §3, arXiv:2108.12409.
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

/** Options of `documentRanges`. */
export interface DocumentOptions extends MaskOptions {
  /**
   * T, the length of every sequence; by default that of the longest one. The positions after a sequence's last document
   * are padding, which sees nothing.
   */
  length?: number;
}

/**
 * Returns the `keyRanges` i32 [B, T, 2] of documents that are packed into sequences, so that no document sees another.
 * documents[b] are the lengths of the documents in sequence b, in order.
 *
 * @example
 * const q = randn([2, 8, 2, 16], { seed: 1 });
 * const keyRanges = documentRanges([[3, 5], [8]]);
 * const y = attention(q, q, q, { causal: true, keyRanges });
 *
 * @throws ERR_SHAPE if a sequence has more than `length` tokens; ERR_RANGE if a length is not an integer of at least 0.
 */
export function documentRanges(documents: readonly ArrayLike<number>[], options: DocumentOptions = {}): IntTensor {
  checkObject("documentRanges", "options", options);
  const lengths = documentLengths("documentRanges", documents);
  const longest = largest(lengths.map((list) => list.reduce((a, b) => a + b, 0)));
  const { length = longest } = options;
  checkInteger("documentRanges", "length", length, 0, largestInteger);
  if (longest > length)
    throw new HeedError(
      "ERR_SHAPE",
      `documentRanges: expected at most ${length} tokens in each sequence, got ${longest}`,
    );
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

/** Options of `prefixRanges`. */
export interface PrefixOptions extends MaskOptions {
  /** Position of each sequence's first token, [B]: the tokens before it are in a cache. @default 0 */
  starts?: ArrayLike<number>;
}

/**
 * Returns the `keyRanges` i32 [B, T, 2] of a prefix language model, where T is `length`. The first prefixLengths[b]
 * tokens of sequence b see each other; every later token sees itself and all tokens before it. Use it without `causal`:
 * these ranges hide later tokens already.
 *
 * @example
 * const q = randn([2, 8, 2, 16], { seed: 1 });
 * const y = attention(q, q, q, { keyRanges: prefixRanges([3, 5], 8) });
 *
 * @throws ERR_RANGE if a prefix length is not an integer from 0 to the last position, or another number is out of
 *   range.
 * @see Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", §3.2.1,
 *   arXiv:1910.10683.
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
