import { noGrad } from "../core/autograd.js";
import { checkInteger, checkNumber, checkObject } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import { AdamW } from "../optim/adamw.js";
import { scope } from "../core/scope.js";
import type { FloatTensor } from "../core/tensor.js";
import { activationsOf, type CorpusOptions, type StackHookName, type TokenSequences } from "./corpus.js";
import { frozen } from "./gradients.js";
import type { InspectedDecoder } from "./hook-names.js";
import { klDivergence } from "./kl-divergence.js";
import { repeating } from "./repeating.js";
import { TunedLens } from "./tuned-lens.js";

/** Options of `trainTunedLens`. */
export interface TunedLensOptions extends CorpusOptions {
  /** Number of steps, each with one batch of sequences; the corpus is read again when it ends. @default 250 */
  steps?: number;
  /** Learning rate at the beginning; it falls to 0 in a straight line. @default 1e-3 */
  lr?: number;
  /** Lens to train further. @default a new one */
  lens?: TunedLens;
  /** Function that is called after each step with its loss for every block, in nats per token. */
  onStep?: (step: number, losses: readonly number[]) => void;
}

/** Returns the names of the residual stream before each block, and after the last one. */
function streamNames(model: InspectedDecoder): StackHookName[] {
  const { layers } = model.config;
  const before = Array.from({ length: layers }, (_, layer): StackHookName => `blocks.${layer}.hook_resid_pre`);
  return [...before, `blocks.${layers - 1}.hook_resid_post`];
}

/**
 * Resolves to a tuned lens for a model: its translators minimise the KL divergence from the model's own distribution to
 * that which the lens reads. The model does not change. Dispose the lens.
 *
 * @example
 * const corpus = ["the whale", "the sea"].map((text) => tokenizer.encode(text));
 * const lens = await trainTunedLens(gpt, corpus, { steps: 5 });
 *
 * @throws ERR_ARGUMENT if the corpus is empty; ERR_SHAPE if the lens is for another model; ERR_RANGE if an option is out
 *   of range; ERR_DIVERGED if a loss is not finite.
 * @see Belrose et al. 2023, "Eliciting Latent Predictions from Transformers with the Tuned Lens", arXiv:2303.08112.
 */
export async function trainTunedLens(
  model: InspectedDecoder,
  corpus: TokenSequences,
  options: TunedLensOptions = {},
): Promise<TunedLens> {
  const op = "trainTunedLens";
  checkObject(op, "options", options);
  const { steps = 250, lr = 1e-3, batch, onStep } = options;
  checkInteger(op, "steps", steps, 1);
  checkNumber(op, "lr", lr, 0);
  const lens = options.lens ?? new TunedLens(model.config, { device: model.device });
  lens.checkFits(op, model);
  using optimizer = new AdamW(lens.namedParameters(), { lr, weightDecay: 0, maxNorm: 1 });
  let step = 0;
  const names = streamNames(model);
  for await (const { rows } of repeating(op, () => activationsOf(op, model, corpus, { names, batch }))) {
    optimizer.lr = lr * (1 - step / steps);
    const { read } = scope(() => lossesOf(model, lens, [...rows.values()], (loss) => loss.backward()));
    optimizer.step();
    optimizer.zeroGrad();
    // Reading the losses waits for the device, so that steps do not pile up in its queue.
    const losses = await read;
    if (!losses.every(Number.isFinite))
      throw new HeedError("ERR_DIVERGED", `${op}: expected finite losses, got ${losses.join(", ")} at step ${step}`);
    onStep?.(step, losses);
    if (++step === steps) break;
  }
  return lens;
}

/**
 * Resolves to the KL divergence from a model's own distribution to what a lens reads before each block, in nats per token
 * of a corpus. Without a lens (null) it is that of the logit lens.
 *
 * @example
 * const corpus = ["the whale", "the sea"].map((text) => tokenizer.encode(text));
 * const [early, late] = await lensDivergence(gpt, corpus, null);
 *
 * @throws ERR_ARGUMENT if the corpus is empty; ERR_SHAPE if the lens is for another model.
 */
export async function lensDivergence(
  model: InspectedDecoder,
  corpus: TokenSequences,
  lens: TunedLens | null,
  options: CorpusOptions = {},
): Promise<number[]> {
  const op = "lensDivergence";
  checkObject(op, "options", options);
  const { batch } = options;
  lens?.checkFits(op, model);
  const totals = new Float64Array(model.config.layers);
  let count = 0;
  const names = streamNames(model);
  for await (const { rows } of activationsOf(op, model, corpus, { names, batch })) {
    const streams = [...rows.values()];
    const tokens = streams[0]!.shape[0]!;
    const losses = await noGrad(() => scope(() => lossesOf(model, lens, streams, null))).read;
    for (const [layer, loss] of losses.entries()) totals[layer]! += loss * tokens;
    count += tokens;
  }
  if (count === 0) throw new HeedError("ERR_ARGUMENT", `${op}: expected a corpus with sequences, got none`);
  return Array.from(totals, (total) => total / count);
}

/** Computes the loss of each block from the streams [N, C] before the blocks and after the last. */
function lossesOf(
  model: InspectedDecoder,
  lens: TunedLens | null,
  streams: readonly FloatTensor[],
  use: ((loss: FloatTensor) => void) | null,
): { read: Promise<number[]> } {
  const target = noGrad(() => model.unembed(streams.at(-1)!.to(model.dtype)));
  const reads = streams.slice(0, -1).map((stream, layer) =>
    scope(() => {
      const logits = frozen(model, () =>
        lens ? lens.read(model, layer, stream) : model.unembed(stream.to(model.dtype)),
      );
      const loss = klDivergence(target, logits);
      use?.(loss);
      return { read: loss.item() };
    }),
  );
  return { read: Promise.all(reads.map(({ read }) => read)) };
}
