import { empty } from "../core/creation.js";
import type { Device } from "../core/device.js";
import { ops } from "../core/native.js";
import { narrow, reshape } from "../ops/views.js";
import { keep, scope } from "../core/scope.js";
import type { IntTensor } from "../core/tensor.js";
import { latestTokens } from "./logit-rules.js";

/**
 * The latest tokens of each sequence on the device, i32 [B, W], for penalties; -1 stands for none. New tokens overwrite
 * the oldest column without passing through the host; the order within a row does not matter.
 */
export class TokenHistory implements Disposable {
  readonly tokens: IntTensor;
  #oldest = 0;

  constructor(batch: number, window: number, device: Device) {
    this.tokens = keep(empty([batch, window], { dtype: "i32", device }));
  }

  /** Replaces the sequences. */
  set(sequences: readonly (readonly number[])[]): void {
    this.tokens.set(latestTokens(sequences, this.tokens.shape[1]!));
    this.#oldest = 0;
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
