import type { CausalModel } from "./causal-model.js";
import { DecodingBatch } from "./decoding-batch.js";
import type { TokenSettings } from "./options.js";
import type { Sequence } from "./sequence.js";
import { untilAborted } from "../util/until-aborted.js";

/**
 * Decodes sequences together until each has ended. After every step it yields the sequences that got a token, which is
 * their last one. The caller may end a sequence too, by setting its `finish`.
 *
 * The device runs one step ahead of the host: step n + 1 is enqueued before the tokens of step n are read. If those
 * tokens end all sequences, step n + 1 was in vain. Its memory is freed, in queue order, when the generator ends,
 * whether by itself or early.
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
