import { checkpoint } from "../checkpoint.js";
import type { DropoutSeeds } from "../nn/dropout.js";
import type { KvCache } from "../nn/kv-cache.js";
import type { BlockMask } from "../ops/attention.js";
import type { FloatTensor, IntTensor } from "../tensor.js";

/** What a block is told beside its input. */
interface BlockContext {
  cache?: KvCache | null;
  keyLengths?: IntTensor | null;
  keyRanges?: IntTensor | null;
  blocks?: BlockMask | null;
}

interface Checkpointing {
  gradientCheckpointing: boolean;
  readonly dropoutSeeds: DropoutSeeds;
}

/**
 * block(x, context), of which the graph keeps x and the context alone where the model says so. What else the block uses
 * outlives the backward pass.
 */
export function checkpointed<Context extends BlockContext>(
  { gradientCheckpointing, dropoutSeeds }: Checkpointing,
  block: { forward(x: FloatTensor, context: Context): FloatTensor },
  x: FloatTensor,
  context: Context,
): FloatTensor {
  if (!gradientCheckpointing || context.cache) return block.forward(x, context);
  const { keyLengths = null, keyRanges = null, blocks = null } = context;
  const forward = (
    x: FloatTensor,
    keyLengths: IntTensor | null,
    keyRanges: IntTensor | null,
    mask: BlockMask["mask"] | null,
  ): FloatTensor => block.forward(x, { ...context, keyLengths, keyRanges, blocks: mask && { ...blocks!, mask } });
  return checkpoint(dropoutSeeds.repeatable(forward), [x, keyLengths, keyRanges, blocks?.mask ?? null]);
}
