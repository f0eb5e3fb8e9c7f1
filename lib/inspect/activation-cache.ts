import type { FloatTensor } from "../core/tensor.js";
import { NamedTensors } from "./named-tensors.js";

/**
 * Values of a forward pass by their names, and the output of the pass. The tensors belong to the cache, which frees them
 * when it is disposed.
 *
 * @example
 * const ids = tensor([[72, 101, 108]], [1, 3], { dtype: "i32" });
 * using cache = runWithCache(gpt, ids, { names: /hook_pattern$/ });
 * cache.get("blocks.0.attn.hook_pattern").shape; // [1, 2, 3, 3]
 * cache.output.shape; // [1, 3, 256]
 */
export class ActivationCache<Name extends string = string> extends NamedTensors<Name> {
  /** @internal */
  constructor(
    /** Output of the pass: the logits, an encoder's states, or the residual stream where the pass stopped. */
    readonly output: FloatTensor,
    values: ReadonlyMap<Name, FloatTensor>,
  ) {
    super(values);
  }

  /** Frees the values and the output. */
  override dispose(): void {
    super.dispose();
    this.output.dispose();
  }
}
