import { noGrad } from "../../core/autograd.js";
import { checkObject } from "../../util/check.js";
import { tensor } from "../../core/creation.js";
import { HeedError } from "../../util/errors.js";
import type { Hook } from "../../nn/observer.js";
import { greater, sub } from "../../ops/binary.js";
import { crossEntropy } from "../../ops/cross-entropy.js";
import { sum } from "../../ops/reduce.js";
import { square } from "../../ops/unary.js";
import { keep, scope } from "../../core/scope.js";
import type { FloatTensor, IntTensor } from "../../core/tensor.js";
import {
  activationsOf,
  batchesOf,
  type CorpusBatch,
  type CorpusOptions,
  padded,
  type StackHookName,
  type TokenSequences,
} from "../corpus.js";
import { replaceWith } from "../edits.js";
import type { InspectedDecoder } from "../hook-names.js";
import { run } from "../run.js";
import type { SparseAutoencoder } from "./sparse-autoencoder.js";

/** Options of `evaluateSparseAutoencoder`. */
export interface SaeEvaluationOptions extends CorpusOptions {
  /** Value that the autoencoder takes apart. @default its `config.hookName` */
  name?: StackHookName;
}

/** Figures about a sparse autoencoder on a corpus. */
export interface SaeEvaluation {
  /** Number of tokens. */
  tokens: number;
  /** Mean number of active features of a token. */
  l0: number;
  /** Mean squared error of an element of the reconstruction. */
  meanSquaredError: number;
  /** Share of the variance of the activations that the reconstruction has: 1 − Σ ‖x − x̂‖² / Σ ‖x − mean‖². */
  explainedVariance: number;
  /** Share of the features that are active at no token. */
  dead: number;
  /** Cross-entropy of the model, in nats per token. */
  loss: number;
  /** Cross-entropy with the value replaced by its reconstruction. */
  splicedLoss: number;
  /** Cross-entropy with the value replaced by zeros. */
  ablatedLoss: number;
  /** Share of what zeros lose that the reconstruction keeps: (ablated − spliced) / (ablated − loss). */
  lossRecovered: number;
}

/**
 * Resolves to figures about a sparse autoencoder on a corpus: how sparse its features are, how much of the activations it
 * reconstructs, and what the reconstruction costs the model. The corpus is streamed and read once.
 *
 * @example
 * const corpus = ["the whale", "the sea"].map((text) => tokenizer.encode(text));
 * const sae = new SparseAutoencoder({ width: 16, features: 64, hookName: "blocks.1.hook_resid_pre" });
 * const { l0, explainedVariance, lossRecovered } = await evaluateSparseAutoencoder(sae, gpt, corpus);
 *
 * @throws ERR_ARGUMENT if the corpus has no sequence of two tokens, or there is no name of a value; ERR_SHAPE if a token
 *   of the value has another number of elements than the autoencoder expects.
 */
export async function evaluateSparseAutoencoder(
  sae: SparseAutoencoder,
  model: InspectedDecoder,
  corpus: TokenSequences,
  options: SaeEvaluationOptions = {},
): Promise<SaeEvaluation> {
  const op = "evaluateSparseAutoencoder";
  checkObject(op, "options", options);
  const { name = sae.config.hookName as StackHookName | null, batch } = options;
  if (name === null) throw new HeedError("ERR_ARGUMENT", `${op}: expected the name of a value, got none`);
  const reconstruction = new Reconstruction(sae);
  const losses = { loss: 0, splicedLoss: 0, ablatedLoss: 0 };
  const hooks: Record<keyof typeof losses, Record<string, Hook>> = {
    ...{ loss: {}, splicedLoss: { [name]: sae.splice() }, ablatedLoss: { [name]: replaceWith(0) } },
  };
  let predicted = 0;
  for await (const part of batchesOf(op, model, corpus, batch)) {
    const once = { names: [name] };
    for await (const { rows } of activationsOf(op, model, part.sequences, { ...once, batch: part.sequences.length }))
      await reconstruction.add(op, rows.get(name)!);
    const count = part.sequences.reduce((total, { length }) => total + length - 1, 0);
    if (count === 0) continue;
    for (const which of Object.keys(losses) as (keyof typeof losses)[])
      losses[which] += count * (await lossOf(model, part, hooks[which]));
    predicted += count;
  }
  if (predicted === 0)
    throw new HeedError("ERR_ARGUMENT", `${op}: expected a corpus with a sequence of two tokens or more, got none`);
  const [loss, splicedLoss, ablatedLoss] = Object.values(losses).map((total) => total / predicted) as [
    number,
    number,
    number,
  ];
  const lossRecovered = (ablatedLoss - splicedLoss) / (ablatedLoss - loss);
  return { ...reconstruction.figures(), loss, splicedLoss, ablatedLoss, lossRecovered };
}

/** Resolves to the mean cross-entropy of predicting each next token of a batch, in nats. */
async function lossOf(model: InspectedDecoder, batch: CorpusBatch, hooks: Record<string, Hook>): Promise<number> {
  const { read } = noGrad(() =>
    scope(() => {
      const { ids, keyLengths } = padded(batch, model);
      const logits = run<InspectedDecoder>(model, ids, { keyLengths, hooks });
      return { read: crossEntropy(logits, nextTokens(batch, ids)).item() };
    }),
  );
  return await read;
}

/** Returns the token after each one, i32 [B, T], and −100 after the last. */
function nextTokens({ sequences }: CorpusBatch, { shape, device }: IntTensor): IntTensor {
  const [batch, tokens] = shape as [number, number];
  const next = new Int32Array(batch * tokens).fill(-100);
  for (const [b, sequence] of sequences.entries())
    for (let t = 1; t < sequence.length; t++) next[b * tokens + t - 1] = sequence[t]!;
  return tensor(next, [batch, tokens], { device });
}

/** Sums over tokens from which the figures of the reconstruction follow, in f64. */
class Reconstruction {
  readonly #sae: SparseAutoencoder;
  #tokens = 0;
  #error = 0;
  #squares = 0;
  readonly #sums: Float64Array;
  readonly #counts: Float64Array;

  constructor(sae: SparseAutoencoder) {
    this.#sae = sae;
    this.#sums = new Float64Array(sae.config.width);
    this.#counts = new Float64Array(sae.config.features);
  }

  async add(op: string, rows: FloatTensor): Promise<void> {
    const sae = this.#sae;
    sae.checkInput(op, rows);
    const found = noGrad(() =>
      scope(() => {
        const features = sae.encode(rows);
        const each = { axes: [1] };
        return {
          errors: keep(sum(square(sub(sae.decode(features), rows)), each)),
          squares: keep(sum(square(rows), each)),
          sums: keep(sum(rows, { axes: [0] })),
          counts: keep(sum(greater(features, 0), { axes: [0] })),
        };
      }),
    );
    const [errors, squares, sums, counts] = await Promise.all(Object.values(found).map((x) => x.data()));
    for (const x of Object.values(found)) x.dispose();
    this.#tokens += rows.shape[0]!;
    for (const error of errors!) this.#error += error;
    for (const square of squares!) this.#squares += square;
    for (const [i, x] of sums!.entries()) this.#sums[i]! += x;
    for (const [i, x] of counts!.entries()) this.#counts[i]! += x;
  }

  figures(): Pick<SaeEvaluation, "tokens" | "l0" | "meanSquaredError" | "explainedVariance" | "dead"> {
    const tokens = this.#tokens;
    const total = (values: Float64Array): number => values.reduce((sum, x) => sum + x, 0);
    const variance = this.#squares - total(this.#sums.map((x) => x * x)) / tokens;
    return {
      tokens,
      l0: total(this.#counts) / tokens,
      meanSquaredError: this.#error / tokens / this.#sae.config.width,
      explainedVariance: 1 - this.#error / variance,
      dead: this.#counts.filter((count) => count === 0).length / this.#counts.length,
    };
  }
}
