/** Block masks for `attention`: patterns whose cost grows more slowly than the square of the sequence length. */
import { HeedError } from "../util/errors.js";
import { Permutation } from "../util/permutation.js";
import { tensor } from "../core/creation.js";
import type { BlockMask } from "./attention.js";
import type { MaskOptions } from "./attention-masks.js";
import { checkInteger, checkObject } from "./check.js";

const largestInteger = 2 ** 31 - 1;

/** Options of every block mask. */
export interface BlockOptions extends MaskOptions {
  /** Largest number of positions that queries and keys have. */
  length: number;
  /** Positions along each side of a block. @default 64 */
  size?: number;
  /** Leaves out the blocks after a query's own block, for attention that is `causal`. @default false */
  causal?: boolean;
}

/** Options of `localBlocks`. */
export interface LocalBlockOptions extends BlockOptions {
  /** Number of blocks that a block sees on each side of itself. @default 1 */
  window?: number;
  /** Number of blocks at the start that see all blocks and are seen by all. @default 0 */
  global?: number;
  /** Number of further blocks that each block sees, drawn at random. @default 0 */
  random?: number;
  /** Number of heads, each with its own draw; with 1, all heads share one draw. @default 1 */
  heads?: number;
  /** Seed of the draws. @default 0 */
  seed?: number;
}

/**
 * Returns a block mask u8 [1, heads, n, n], with n = ⌈length / size⌉, in which each block sees the blocks near it, the
 * first blocks and some random ones.
 *
 * @example
 * const q = randn([1, 256, 2, 16], { seed: 1 });
 * const blocks = localBlocks({ length: 256, size: 64, window: 1, global: 1 });
 * const y = attention(q, q, q, { blocks });
 *
 * @throws ERR_RANGE if an option is out of range or the mask would have more than 2³¹ − 1 blocks.
 * @see Beltagy et al. 2020, "Longformer", arXiv:2004.05150; Zaheer et al. 2020, "Big Bird", arXiv:2007.14062.
 */
export function localBlocks(options: LocalBlockOptions): BlockMask {
  const op = "localBlocks";
  checkObject(op, "options", options);
  const { window = 1, global = 0, random = 0, heads = 1, seed = 0, causal = false } = options;
  checkInteger(op, "window", window, 0, largestInteger);
  checkInteger(op, "global", global, 0, largestInteger);
  checkInteger(op, "random", random, 0, largestInteger);
  checkInteger(op, "heads", heads, 1, largestInteger);
  checkInteger(op, "seed", seed, 0);
  const near = (i: number, j: number): boolean => Math.abs(i - j) <= window || i < global || j < global;
  return blockMask(op, options, heads, (visible, count, head) => {
    for (let i = 0; i < count; i++) {
      const candidates = [];
      for (let j = 0; j < (causal ? i + 1 : count); j++)
        if (near(i, j)) visible(i, j);
        else candidates.push(j);
      if (candidates.length === 0) continue;
      const order = new Permutation(candidates.length, seed, head * count + i);
      for (let n = 0; n < Math.min(random, candidates.length); n++) visible(i, candidates[order.at(n)]!);
    }
  });
}

/** Options of `stridedBlocks`. */
export interface StridedBlockOptions extends BlockOptions {
  /**
   * Distance between the blocks that are seen far away, in blocks. About the square root of the number of blocks makes
   * both parts of the pattern equally large.
   */
  stride: number;
}

/**
 * Returns a block mask u8 [1, 1, n, n], with n = ⌈length / size⌉, in which each block sees the last `stride` blocks,
 * itself included, and every stride-th block before them. Unless `causal` is set, it sees the blocks after it in the
 * same way.
 *
 * @example
 * const q = randn([1, 256, 2, 16], { seed: 1 });
 * const blocks = stridedBlocks({ length: 256, size: 16, stride: 4, causal: true });
 * const y = attention(q, q, q, { causal: true, blocks });
 *
 * @throws ERR_RANGE if an option is out of range or the mask would have more than 2³¹ − 1 blocks.
 * @see Child et al. 2019, "Generating Long Sequences with Sparse Transformers", §4.2, arXiv:1904.10509.
 */
export function stridedBlocks(options: StridedBlockOptions): BlockMask {
  const op = "stridedBlocks";
  checkObject(op, "options", options);
  const { stride, causal = false } = options;
  checkInteger(op, "stride", stride, 1, largestInteger);
  return blockMask(op, options, 1, (visible, count) => {
    for (let i = 0; i < count; i++)
      for (let j = 0; j < (causal ? i + 1 : count); j++)
        if (Math.abs(i - j) < stride || (i - j) % stride === 0) visible(i, j);
  });
}

type Visible = (row: number, column: number) => void;

/** Returns a mask [1, heads, count, count]; `mark` calls `visible` for each pair of blocks that a head sees. */
function blockMask(
  op: string,
  { length, size = 64, device }: BlockOptions,
  heads: number,
  mark: (visible: Visible, count: number, head: number) => void,
): BlockMask {
  checkInteger(op, "length", length, 1, largestInteger);
  checkInteger(op, "size", size, 1, largestInteger);
  const count = Math.ceil(length / size);
  if (heads * count * count > largestInteger)
    throw new HeedError(
      "ERR_RANGE",
      `${op}: expected a mask of at most ${largestInteger} blocks, got ${heads} × ${count} × ${count}`,
    );
  const values = new Uint8Array(heads * count * count);
  for (let head = 0; head < heads; head++)
    mark((row, column) => (values[(head * count + row) * count + column] = 1), count, head);
  return { mask: tensor(values, [1, heads, count, count], device === undefined ? {} : { device }), size };
}
