// Options of a decoder's forward pass that change which tokens a token sees: padding, packed documents, prefixes and
// block masks. By default a token sees all tokens before it in its sequence.
import type { Device } from "../core/device.js";
import { HeedError } from "../util/errors.js";
import type { AttentionCache } from "../nn/attention-cache.js";
import { KvCache } from "../nn/kv-cache.js";
import type { BlockMask } from "../ops/attention.js";
import { documentRanges, prefixRanges } from "../ops/attention-masks.js";
import { checkArray, checkObject } from "../ops/check.js";
import type { IntTensor } from "../core/tensor.js";

/** Options that change which tokens a token sees. */
export interface SequenceMaskOptions {
  /**
   * Number of real tokens in each sequence, i32 [B]; the rest is padding at its end. A pass with a cache has `counts`
   * instead.
   * @default null (no padding)
   */
  keyLengths?: IntTensor | null;
  /**
   * Lengths of the documents that each sequence is packed from. A token sees only tokens of its own document, and
   * positions restart in each document. The rest of a sequence is padding. It cannot be combined with a cache.
   * @default null (one document per sequence)
   */
  documents?: readonly ArrayLike<number>[] | null;
  /**
   * Lengths of prefixes, [B]: the first prefixLengths[b] tokens of sequence b all see each other (a prefix language
   * model, Raffel et al. 2020).
   * @default null (no prefixes)
   */
  prefixLengths?: ArrayLike<number> | null;
  /** Mask of the blocks of earlier tokens that a token sees, by their positions in the sequence. @default null (all) */
  blocks?: BlockMask | null;
}

/** Masks of a pass in the form that attention takes; see `AttentionContext`. */
export interface SequenceMask {
  keyLengths: IntTensor | null;
  blocks: BlockMask | null;
  /** Range of keys that each token may see, i32 [B, T, 2]. */
  keyRanges?: IntTensor;
  /** False if `keyRanges` alone decide which keys are hidden. */
  causal?: boolean;
}

/**
 * Returns the options in the form that attention takes, for a pass of `batch` sequences of `tokens` positions.
 *
 * @throws ERR_ARGUMENT if options exclude each other.
 * @throws ERR_SHAPE if an option does not have one entry for each sequence.
 * @throws ERR_RANGE if a length is out of range.
 */
export function sequenceMask(
  op: string,
  options: SequenceMaskOptions & { cache?: AttentionCache | null },
  { batch, tokens, device }: { batch: number; tokens: number; device: Device },
): SequenceMask {
  const { cache = null, keyLengths = null, documents = null, prefixLengths = null, blocks = null } = options;
  if (documents !== null) {
    if (cache !== null || prefixLengths !== null)
      throw new HeedError(
        "ERR_ARGUMENT",
        `${op}: expected documents without ${cache ? "a cache" : "prefixLengths"}, got both`,
      );
    checkArray(op, "documents", documents);
    if (documents.length !== batch)
      throw new HeedError("ERR_SHAPE", `${op}: expected documents for ${batch} sequences, got ${documents.length}`);
    return { keyLengths, blocks, keyRanges: documentRanges(documents, { length: tokens, device }) };
  }
  if (prefixLengths === null) return { keyLengths, blocks };
  checkObject(op, "prefixLengths", prefixLengths);
  if (prefixLengths.length !== batch)
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected prefixLengths for ${batch} sequences, got ${prefixLengths.length}`,
    );
  if (cache !== null && !(cache instanceof KvCache))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected prefixLengths without pages, got both`);
  const starts = cache?.lengths ?? new Int32Array(batch);
  return { keyLengths, blocks, causal: false, keyRanges: prefixRanges(prefixLengths, tokens, { starts, device }) };
}
