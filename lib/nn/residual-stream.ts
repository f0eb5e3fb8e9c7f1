import type { FloatTensor } from "../core/tensor.js";
import type { Dropout } from "./dropout.js";
import { type Observer, see } from "./observer.js";

/** Part of a block that adds to its residual stream. */
type Part = "attn" | "cross_attn" | "mlp";

/**
 * Residual stream of one block in one pass: what its parts read and add to. Its observer sees hook_resid_pre,
 * hook_attn_out, hook_resid_mid and so on, all [B, T, C].
 */
export class ResidualStream {
  /** @param scale factor of what each part adds to the stream */
  constructor(
    readonly dropout: Dropout,
    readonly observer: Observer | null | undefined,
    readonly scale = 1,
  ) {}

  /** Returns the observers of parts of the block, each null if no hook listens there. */
  observers<const Parts extends readonly string[]>(...parts: Parts): { [K in keyof Parts]: Observer | null } {
    return parts.map((part) => this.observer?.at(part) ?? null) as { [K in keyof Parts]: Observer | null };
  }

  /** Passes a value to its hook, if there is one, and returns the tensor to continue with. */
  see(name: string, x: FloatTensor): FloatTensor {
    return see(this.observer, name, x);
  }

  /**
   * Returns the stream x [B, T, C] plus what `part` adds, hook_<name>_out; the sum is hook_resid_<place>. `part` receives
   * x if it can add it itself, and null otherwise; see `Dropout.residual`.
   */
  add(name: Part, place: string, x: FloatTensor, part: (residual: FloatTensor | null) => FloatTensor): FloatTensor {
    const { scale } = this;
    const listener = this.observer?.listener(`hook_${name}_out`) ?? null;
    return this.see(`hook_resid_${place}`, this.dropout.residual(x, part, { scale, listener }));
  }
}
