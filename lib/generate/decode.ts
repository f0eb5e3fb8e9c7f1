import type { CausalModel } from "./causal-model.js";
import { DecodingBatch } from "./decoding-batch.js";
import type { TokenSettings } from "./options.js";
import type { Sequence } from "./sequence.js";
import { untilAborted } from "./until-aborted.js";

/**
 * Decodes sequences together until each has ended, and yields after every step those that got a token, their last.
 * Who reads them may end one too, by its `finish`.
 *
 * The device runs one step ahead of the host: step n + 1 is enqueued before the tokens of step n are read. Where those
 * end everything, it was in vain; its memory goes, in queue order, when the generator ends, in whatever way it does.
 */
export async function* decode(
  model: CausalModel,
  sequences: readonly Sequence[],
  settings: TokenSettings,
): AsyncGenerator<Sequence[], void, undefined> {
  const { signal, onToken } = settings;
  signal?.throwIfAborted();
  using batch = new DecodingBatch(model, sequences, settings);
  batch.prefill();
  for (;;) {
    const reading = untilAborted(batch.read(), signal);
    const ahead = batch.canRunAhead;
    if (ahead) batch.step();
    const advanced = batch.accept(await reading);
    for (const { tokens, index } of advanced) onToken?.(tokens.at(-1)!, index);
    if (advanced.length > 0) yield advanced;
    if (batch.finished) return;
    signal?.throwIfAborted();
    if (!ahead) {
      batch.makeRoom();
      batch.step();
    }
  }
}
