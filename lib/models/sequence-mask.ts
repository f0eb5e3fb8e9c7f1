// What a token sees beside what comes before it in its sequence: an option of every decoder's forward pass.
import type { Device } from "../device.js";
import { HeedError } from "../errors.js";
import type { KvCache } from "../nn/kv-cache.js";
import type { BlockMask } from "../ops/attention.js";
import { documentRanges, prefixRanges } from "../ops/attention-masks.js";
import { checkArray, checkObject } from "../ops/check.js";
import type { IntTensor } from "../tensor.js";

export interface SequenceMaskOptions {
  /** i32 [B]: real tokens in each sequence, the rest is padding at its end. Without a cache only. */
  keyLengths?: IntTensor | null;
  /**
   * The lengths of the documents that each sequence is packed from: a token sees those of its own document alone, and
   * positions start again with each. What is left of a sequence is padding. Without a cache only.
   */
  documents?: readonly ArrayLike<number>[] | null;
  /** The first prefixLengths[b] tokens of sequence b see each other (a prefix language model, Raffel et al. 2020). */
  prefixLengths?: ArrayLike<number> | null;
  /** Which blocks of the tokens before a token sees, by the positions in its sequence; all of them unless given. */
  blocks?: BlockMask | null;
}

/** The options as attention has them. */
export interface SequenceMask {
  keyLengths: IntTensor | null;
  blocks: BlockMask | null;
  /** i32 [B, T, 2] */
  keyRanges?: IntTensor;
  /** false where `keyRanges` alone say what is hidden. */
  causal?: boolean;
}

/** What attention needs to know of a pass of `tokens` positions. Throws ERR_ARGUMENT, ERR_SHAPE or ERR_RANGE. */
export function sequenceMask(
  op: string,
  options: SequenceMaskOptions & { cache?: KvCache | null },
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
      throw new HeedError("ERR_SHAPE", `${op}: expected documents of ${batch} sequences, got ${documents.length}`);
    return { keyLengths, blocks, keyRanges: documentRanges(documents, { length: tokens, device }) };
  }
  if (prefixLengths === null) return { keyLengths, blocks };
  checkObject(op, "prefixLengths", prefixLengths);
  if (prefixLengths.length !== batch)
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected prefixLengths of ${batch} sequences, got ${prefixLengths.length}`,
    );
  const starts = cache?.lengths ?? new Int32Array(batch);
  return { keyLengths, blocks, causal: false, keyRanges: prefixRanges(prefixLengths, tokens, { starts, device }) };
}
