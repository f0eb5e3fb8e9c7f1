import type { CausalDecoder } from "../models/causal-decoder.js";
import type { KvPages } from "../nn/kv-pages.js";
import { DecodeSteps, stepShape } from "./decode-steps.js";
import type { Request } from "./request.js";
import type { RequestAdapters } from "./request-adapters.js";

/** Largest number of recordings that are kept. */
const most = 12;

/** Recorded steps, by what they have room for. The latest few are kept. */
export class RecordedSteps implements Disposable {
  readonly #steps = new Map<string, DecodeSteps>();
  #memory: KvPages | null = null;

  /**
   * Returns steps of a model that have room for `tokens` tokens of each of the requests, whose keys and values lie in
   * `memory`.
   */
  for(
    model: CausalDecoder,
    memory: KvPages,
    requests: readonly Request[],
    adapters: RequestAdapters | null = null,
    tokens = 1,
  ): DecodeSteps {
    if (memory !== this.#memory) this.dispose();
    this.#memory = memory;
    const shape = stepShape(requests, memory.pageSize, model.config.contextLength, adapters, tokens);
    const key = JSON.stringify(shape);
    const found = this.#steps.get(key) ?? new DecodeSteps(model, memory, shape, adapters);
    this.#steps.delete(key);
    this.#steps.set(key, found);
    const [oldest] = this.#steps.keys();
    if (this.#steps.size > most) {
      this.#steps.get(oldest!)!.dispose();
      this.#steps.delete(oldest!);
    }
    return found;
  }

  dispose(): void {
    for (const steps of this.#steps.values()) steps.dispose();
    this.#steps.clear();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
