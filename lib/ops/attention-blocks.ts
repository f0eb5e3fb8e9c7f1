/** Masks of blocks for `attention`: patterns whose cost grows with the length, not with its square. */
import { HeedError } from "../errors.js";
import { Permutation } from "../permutation.js";
import { tensor } from "../creation.js";
import type { BlockMask } from "./attention.js";
import type { MaskOptions } from "./attention-masks.js";
import { checkInteger, checkObject } from "./check.js";

const largestInteger = 2 ** 31 - 1;

export interface BlockOptions extends MaskOptions {
  /** The most positions that queries and keys have. */
  length: number;
  /** Positions of a block's side; 64 unless given. */
  size?: number;
  /** Leaves out the blocks after a query's own, for attention that is `causal`; false unless given. */
  causal?: boolean;
}

export interface LocalBlockOptions extends BlockOptions {
  /** Blocks that a block sees on each side of itself; 1 unless given. */
  window?: number;
  /** The first blocks, which see all and are seen by all; 0 unless given. */
  global?: number;
  /** Further blocks that each block sees, drawn for each head; 0 unless given. */
  random?: number;
  /** Heads to draw for; all share one draw unless given. */
  heads?: number;
  /** Of the draws; 0 unless given. */
  seed?: number;
}

/** The blocks near each block, the first ones and some at random (Longformer, Beltagy et al. 2020; BigBird, Zaheer et al. 2020). */
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

export interface StridedBlockOptions extends BlockOptions {
  /** Blocks: about the root of how many there are makes both parts of the pattern equally large. */
  stride: number;
}

/**
 * The last `stride` blocks and, from there on, every stride-th (Sparse Transformer, Child et al. 2019, §4.2), and, unless
 * causal, those after in the same way.
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

/** [1, heads, count, count], where `mark` says what is visible of a head. */
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
