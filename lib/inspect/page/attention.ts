import type { ActivationCache } from "../activation-cache.js";
import type { HookName } from "../hook-names.js";
import type { Blobs } from "./blobs.js";
import type { AttentionData } from "./data.js";
import { inAttention, type Stack } from "./stacks.js";

/** Resolves to the attention weights of every head of a stack. The cache has its patterns. */
export async function attentionOf(
  stack: Stack,
  cache: ActivationCache<HookName>,
  blobs: Blobs,
): Promise<AttentionData> {
  const { title, layers, queries, keys } = stack;
  const patterns: AttentionData["patterns"] = [];
  let heads = 0;
  for (let layer = 0; layer < layers; layer++) {
    const pattern = cache.get(inAttention(stack, layer, "hook_pattern")); // [1, H, T, S]
    const [, count, rows, columns] = pattern.shape as [number, number, number, number];
    const weights = await pattern.to("f32").data();
    heads = count;
    for (let head = 0; head < count; head++) {
      const own = weights.subarray(head * rows * columns, (head + 1) * rows * columns);
      patterns.push(blobs.addRoots(own, columns, 1));
    }
  }
  return { title, layers, heads, queries, keys, patterns };
}
