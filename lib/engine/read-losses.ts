import { tensor } from "../creation.js";
import { infer } from "../generate/causal-model.js";
import { tokenLosses } from "../generate/token-losses.js";
import type { CausalDecoder } from "../models/causal-decoder.js";
import { argmax } from "../ops/choose.js";
import { narrow } from "../ops/views.js";
import type { FloatTensor } from "../tensor.js";

/** Losses of tokens in nats, and the model's first choices in their places. */
export interface Losses {
  readonly losses: Float32Array;
  readonly choices: Int32Array;
}

/** Number of rows whose logits exist at the same time. */
const chunk = 128;

/**
 * Resolves to the losses of `targets` [R], whose predecessors have the states [R, C]. `project` returns the logits of the
 * states `from` to `to`.
 */
export async function readLosses(
  model: CausalDecoder,
  states: FloatTensor,
  targets: readonly number[],
  project: (states: FloatTensor, from: number, to: number) => FloatTensor,
): Promise<Losses> {
  const reads: Promise<[Float32Array, Int32Array]>[] = [];
  for (let first = 0; first < targets.length; first += chunk) {
    const count = Math.min(chunk, targets.length - first);
    const ids = Int32Array.from(targets.slice(first, first + count));
    using rows = narrow(states, 0, first, count);
    using logits = project(rows, first, first + count); // [count, V]
    using losses = infer(model, () => tokenLosses(logits, tensor(ids, [count], { device: model.device })));
    using choices = argmax(logits);
    reads.push(Promise.all([losses.data() as Promise<Float32Array>, choices.data()]));
  }
  const parts = await Promise.all(reads);
  const losses = new Float32Array(targets.length);
  const choices = new Int32Array(targets.length);
  for (const [i, [some, best]] of parts.entries()) {
    losses.set(some, i * chunk);
    choices.set(best, i * chunk);
  }
  return { losses, choices };
}
