import { gradientCheckpoint } from "../core/gradient-checkpoint.js";
import type { DropoutSeeds } from "../nn/dropout.js";
import type { AttentionContext } from "../nn/attend.js";
import type { Module } from "../nn/module.js";
import { inModes, presentModes } from "../nn/training-modes.js";
import type { BlockMask } from "../ops/attention.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";

interface Checkpointing {
  gradientCheckpointing: boolean;
  readonly dropoutSeeds: DropoutSeeds;
}

/**
 * Returns block(x, context). If the model checkpoints gradients, the graph keeps only x and the context's tensors, and
 * the backward pass computes the block again; everything else that the block uses (its parameters) outlives the
 * backward pass. A pass with an observer is not checkpointed, because its hooks would run twice.
 */
export function checkpointed<Context extends AttentionContext>(
  { gradientCheckpointing, dropoutSeeds }: Checkpointing,
  block: Module & { forward(x: FloatTensor, context: Context): FloatTensor },
  x: FloatTensor,
  context: Context,
): FloatTensor {
  if (!gradientCheckpointing || context.cache || context.observer) return block.forward(x, context);
  const { keyLengths = null, keyRanges = null, blocks = null } = context;
  // The model may have left the modes of this pass, such as that without dropout, when the block is computed again.
  const modes = presentModes(block);
  const forward = (
    x: FloatTensor,
    keyLengths: IntTensor | null,
    keyRanges: IntTensor | null,
    mask: BlockMask["mask"] | null,
  ): FloatTensor =>
    inModes(block, modes, () =>
      block.forward(x, { ...context, keyLengths, keyRanges, blocks: mask && { ...blocks!, mask } }),
    );
  return gradientCheckpoint(dropoutSeeds.repeatable(forward), [x, keyLengths, keyRanges, blocks?.mask ?? null]);
}
