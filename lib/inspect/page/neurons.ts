import type { ActivationCache } from "../activation-cache.js";
import type { HookName } from "../hook-names.js";
import type { Blobs } from "./blobs.js";
import type { NeuronData } from "./data.js";
import { inBlock, type Stack } from "./stacks.js";

/**
 * Resolves to the activations of the `most` neurons of each feed-forward layer of a stack that are most active at some
 * token. The cache has the layers' values after the activation function.
 */
export async function neuronsOf(
  stack: Stack,
  cache: ActivationCache<HookName>,
  most: number,
  blobs: Blobs,
): Promise<NeuronData[]> {
  const layers: NeuronData[] = [];
  for (let layer = 0; layer < stack.layers; layer++) {
    const post = cache.get(inBlock(stack, layer, "mlp.hook_post")); // [1, T, F]
    const [, tokens, count] = post.shape as [number, number, number];
    const values = await post.to("f32").data();
    const peaks = new Float32Array(count);
    for (const [at, value] of values.entries()) peaks[at % count] = Math.max(peaks[at % count]!, Math.abs(value));
    const neurons = [...peaks.keys()].sort((a, b) => peaks[b]! - peaks[a]!).slice(0, most);
    const chosen = Float32Array.from({ length: neurons.length * tokens }, (_, at) => {
      return values[(at % tokens) * count + neurons[Math.floor(at / tokens)]!]!;
    });
    const where = stack.prefix === "blocks" ? "Layer" : `${stack.title}, layer`;
    layers.push({
      ...{ title: `${where} ${layer}`, sequence: stack.queries, count, neurons },
      values: blobs.addSigned(chosen, tokens),
    });
  }
  return layers;
}
