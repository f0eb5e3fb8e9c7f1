import type { Device } from "../device.js";
import { ops } from "../native.js";
import { narrow, reshape } from "../ops/views.js";
import { keep, scope } from "../scope.js";
import type { IntTensor } from "../tensor.js";
import { tokenRows } from "./logit-rules.js";

/**
 * The latest tokens of each sequence on the device, i32 [B, W], for the repetition penalty. New tokens overwrite the
 * oldest column without passing through the host; the order within a row does not matter.
 */
export class TokenHistory implements Disposable {
  readonly tokens: IntTensor;
  #oldest = 0;

  constructor(sequences: readonly (readonly number[])[], window: number, device: Device) {
    this.tokens = keep(tokenRows(sequences, device, window)!);
  }

  /** Adds one token to each sequence: ids i32 [B]. */
  append(ids: IntTensor): void {
    const [batch, window] = this.tokens.shape as [number, number];
    scope(() => {
      ops.copy({ out: narrow(this.tokens, 1, this.#oldest, 1), inp: reshape(ids, [batch, 1]) });
    });
    this.#oldest = (this.#oldest + 1) % window;
  }

  dispose(): void {
    this.tokens.dispose();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
