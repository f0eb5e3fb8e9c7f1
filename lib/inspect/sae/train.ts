import { noGrad, parameter } from "../../core/autograd.js";
import { checkInteger, checkNumber, checkObject } from "../../util/check.js";
import { full, zeros } from "../../core/creation.js";
import { HeedError } from "../../util/errors.js";
import { hash } from "../../util/hash.js";
import { ops } from "../../core/native.js";
import { greater, maximum, mul, sub } from "../../ops/binary.js";
import { max, mean, sum } from "../../ops/reduce.js";
import { exp, square } from "../../ops/unary.js";
import { AdamW } from "../../optim/adamw.js";
import { keep, scope } from "../../core/scope.js";
import type { FloatTensor } from "../../core/tensor.js";
import { activationsOf, type CorpusOptions, type StackHookName, type TokenSequences } from "../corpus.js";
import type { InspectedStack } from "../hook-names.js";
import { ActivationBuffer } from "./activation-buffer.js";
import { saeLoss } from "./loss.js";
import { resampleDead } from "./resample.js";
import { overwrite, SparseAutoencoder, type SparseAutoencoderConfig } from "./sparse-autoencoder.js";

/** Report of a step of training. */
export interface SaeStep {
  /** Number of the step, from 1. */
  step: number;
  /** Squared error plus penalty, for activations of mean squared length C. */
  loss: number;
  /** Number of features that were dead and have been made anew in this step. */
  resampled: number;
}

/** Options of `trainSparseAutoencoder`. */
export interface SaeTrainingOptions extends CorpusOptions, Omit<SparseAutoencoderConfig, "width" | "hookName"> {
  /** Value that is taken apart. */
  name: StackHookName;
  /** Number of steps; the corpus is read again when it ends. @default 1000 */
  steps?: number;
  /** Number of tokens in a step. @default 512 */
  rows?: number;
  /** Number of tokens from which those of a step are drawn. @default 16 steps' */
  buffer?: number;
  /** Learning rate; it falls to 0 over the last fifth of the steps. @default 1e-3 */
  lr?: number;
  /**
   * Factor of the penalty: of the sum of a token's features for "standard", and of their number for "jumprelu". It grows
   * from 0 over the first tenth of the steps. It is for activations of mean squared length C, to which they are scaled in
   * training.
   *
   * @default 1 for "standard", 0.1 for "jumprelu"
   */
  sparsity?: number;
  /** Width of the window around a threshold in which "jumprelu" gives it a gradient. @default 0.1 */
  bandwidth?: number;
  /** Number of steps after which features that were not active since are made anew; 0 for never. @default a tenth */
  resampleEvery?: number;
  /** Seed of the parameters, of the order of tokens and of new features. @default 0 */
  seed?: number;
  /** Function that is called every 10 steps, and when features are made anew. */
  onStep?: (report: SaeStep) => void;
}

const op = "trainSparseAutoencoder";

/** Threshold at which features of "jumprelu" begin. */
const firstThreshold = 0.1;
/**
 * Learning rate of the logarithms of thresholds, relative to that of the weights. A step of Adam changes a logarithm by the
 * rate at most, and thresholds have a long way to go.
 */
const thresholdRate = 10;

/**
 * Resolves to a sparse autoencoder of a value, trained on the activations of a corpus as they are computed: memory does
 * not grow with the corpus. The decoder's directions keep length 1, and dead features are made anew from inputs that are
 * reconstructed badly. Dispose the autoencoder.
 *
 * @example
 * const corpus = ["the whale", "the sea"].map((text) => tokenizer.encode(text));
 * const options = { name: "blocks.1.hook_resid_pre", features: 32, architecture: "topk", k: 4 } as const;
 * const sae = await trainSparseAutoencoder(gpt, corpus, { ...options, steps: 10, rows: 16 });
 * sae.W_dec.shape; // [32, 16]
 *
 * @throws ERR_ARGUMENT if the corpus is empty, or the value is not one of tokens; ERR_RANGE if an option is out of range;
 *   ERR_DIVERGED if the loss is not finite.
 * @see Bricken et al. 2023, "Towards Monosemanticity"; Gao et al. 2024, arXiv:2406.04093; Rajamanoharan et al. 2024,
 *   arXiv:2407.14435.
 */
export async function trainSparseAutoencoder(
  model: InspectedStack,
  corpus: TokenSequences,
  options: SaeTrainingOptions,
): Promise<SparseAutoencoder> {
  checkObject(op, "options", options);
  const { name, batch, rows = 512, buffer = 16 * rows, seed = 0, steps = 1000, ...rest } = options;
  checkInteger(op, "steps", steps, 1);
  checkInteger(op, "rows", rows, 1);
  checkInteger(op, "buffer", buffer, 1);
  checkInteger(op, "seed", seed, 0);
  using pool = new ActivationBuffer({ batch: rows, capacity: buffer, seed });
  let training: SaeTraining | null = null;
  const read = (): AsyncIterable<{ rows: ReadonlyMap<string, FloatTensor> }> =>
    activationsOf(op, model, corpus, { names: [name], batch });
  try {
    for await (const x of batches(read, name, pool)) {
      training ??= await SaeTraining.begin(x, { ...rest, hookName: name, seed, steps });
      await training.step(x);
      if (training.done) break;
    }
    return await training!.end();
  } finally {
    training?.dispose();
  }
}

/** Yields random batches of activations, over the corpus again and again. */
async function* batches(
  read: () => AsyncIterable<{ rows: ReadonlyMap<string, FloatTensor> }>,
  name: string,
  pool: ActivationBuffer,
): AsyncGenerator<FloatTensor> {
  for (let first = true; ; first = false) {
    let empty = true;
    for await (const { rows } of read()) {
      empty = false;
      yield* pool.add(rows.get(name)!);
    }
    if (empty && first)
      throw new HeedError("ERR_ARGUMENT", `${op}: expected a corpus with sequences, got an empty one`);
    if (empty) return;
    yield* pool.end();
  }
}

type Settings = Omit<SaeTrainingOptions, "name" | "batch" | "rows" | "buffer"> & {
  hookName: string;
  seed: number;
  steps: number;
};

/** State of a training. Activations are scaled to a mean squared length of C, and the result is scaled back. */
class SaeTraining {
  readonly #sae: SparseAutoencoder;
  /** Optimisers of the weights and, for "jumprelu", of the thresholds. */
  readonly #optimizers: AdamW[];
  readonly #logThreshold: FloatTensor | null;
  /** 1 for each feature that has been active since the last resampling, f32 [F]. */
  readonly #fired: FloatTensor;
  readonly #settings: Required<Pick<Settings, "lr" | "sparsity" | "bandwidth" | "resampleEvery" | "steps">> & Settings;
  #step = 0;
  #ended = false;
  #random: number;

  private constructor(
    sae: SparseAutoencoder,
    /** Factor of the activations. */
    readonly scale: number,
    settings: Settings,
  ) {
    const { steps, architecture, seed } = settings;
    const { lr = 1e-3, sparsity = architecture === "jumprelu" ? 0.1 : 1, bandwidth = 0.1 } = settings;
    const { resampleEvery = Math.ceil(steps / 10) } = settings;
    this.#sae = sae;
    this.#settings = { ...settings, lr, sparsity, bandwidth, resampleEvery };
    this.#random = hash(seed, 7);
    const { device } = sae.W_dec;
    const { features } = sae.config;
    this.#fired = keep(zeros([features], { device }));
    this.#logThreshold = sae.threshold ? parameter(keep(full([features], Math.log(firstThreshold), { device }))) : null;
    const trained = Object.entries({ W_enc: sae.W_enc, b_enc: sae.b_enc, W_dec: sae.W_dec, b_dec: sae.b_dec });
    this.#optimizers = [new AdamW(trained, { lr, weightDecay: 0 })];
    if (this.#logThreshold)
      this.#optimizers.push(new AdamW([["threshold", this.#logThreshold]], { lr, weightDecay: 0 }));
  }

  /** Makes an autoencoder for activations such as these; its decoder's bias begins as their mean. */
  static async begin(x: FloatTensor, settings: Settings): Promise<SaeTraining> {
    const { lr = 1e-3, sparsity = 1, bandwidth = 0.1, resampleEvery = 0 } = settings;
    for (const [name, value] of Object.entries({ lr, sparsity })) checkNumber(op, name, value, 0);
    checkNumber(op, "bandwidth", bandwidth, Number.MIN_VALUE);
    checkInteger(op, "resampleEvery", resampleEvery, 0);
    const width = x.shape[1]!;
    const sae = new SparseAutoencoder({ ...settings, width }, { seed: settings.seed, device: x.device });
    const { read } = noGrad(() => scope(() => ({ read: mean(square(x)).item() })));
    const scale = 1 / Math.sqrt((await read) || 1);
    noGrad(() => scope(() => overwrite(sae.b_dec, mul(mean(x, { axes: [0] }), scale))));
    return new SaeTraining(sae, scale, settings);
  }

  /** True after the last step. */
  get done(): boolean {
    return this.#step === this.#settings.steps;
  }

  /** Takes a step with rows x f32 [N, C]. */
  async step(x: FloatTensor): Promise<void> {
    const { steps, lr, sparsity, bandwidth, resampleEvery, onStep } = this.#settings;
    const step = ++this.#step;
    const rate = lr * Math.min(1, (5 * (steps - step + 1)) / steps);
    for (const [i, optimizer] of this.#optimizers.entries()) optimizer.lr = i === 0 ? rate : thresholdRate * rate;
    const weight = sparsity * Math.min(1, (10 * step) / steps);
    const sae = this.#sae;
    const { scaled, loss, errors } = scope(() => {
      const scaled = noGrad(() => mul(x, this.scale));
      const found = saeLoss(sae, scaled, { sparsity: weight, bandwidth, logThreshold: this.#logThreshold });
      found.loss.backward();
      noGrad(() => {
        withoutParallel(sae.W_dec);
        const active = greater(max(found.features, { axes: [0] }), 0);
        ops.copy({ out: this.#fired, inp: maximum(this.#fired, active) });
      });
      return { scaled: keep(scaled), loss: keep(found.loss), errors: keep(found.errors) };
    });
    for (const optimizer of this.#optimizers) {
      optimizer.step();
      optimizer.zeroGrad();
    }
    sae.normalizeDecoder();
    // Features that are made anew late would have no time to learn.
    const resamples = resampleEvery > 0 && step % resampleEvery === 0 && step <= 0.7 * steps;
    const resampled = resamples ? await this.#resample(scaled, errors) : 0;
    // Reading the loss waits for the device, so that steps do not pile up in its queue.
    const value = step % 10 === 0 || resampled > 0 || this.done ? await loss.item() : null;
    for (const tensor of [scaled, loss, errors]) tensor.dispose();
    if (value === null) return;
    if (!Number.isFinite(value))
      throw new HeedError("ERR_DIVERGED", `${op}: expected a finite loss, got ${value} at step ${step}`);
    onStep?.({ step, loss: value, resampled });
  }

  async #resample(x: FloatTensor, errors: FloatTensor): Promise<number> {
    const fired = await this.#fired.data();
    const random = (): number => (this.#random = hash(this.#random, 1)) / 2 ** 32 + 0.5;
    const thresholds = this.#logThreshold && { log: this.#logThreshold, start: firstThreshold };
    const count = await resampleDead(this.#sae, this.#optimizers, fired, { x, errors, random, thresholds });
    ops.fill({ out: this.#fired, value: 0 });
    return count;
  }

  /** Scales the autoencoder to the activations as they are, and resolves to it. Directions keep their length of 1. */
  async end(): Promise<SparseAutoencoder> {
    const sae = this.#sae;
    noGrad(() =>
      scope(() => {
        for (const parameter of [sae.b_enc, sae.b_dec]) overwrite(parameter, mul(parameter, 1 / this.scale));
        if (sae.threshold) overwrite(sae.threshold, mul(exp(this.#logThreshold!), 1 / this.scale));
      }),
    );
    await sae.W_dec.device.synchronize();
    this.#ended = true;
    return sae;
  }

  /** Frees the optimiser, and the autoencoder too if the training has not ended. */
  dispose(): void {
    for (const optimizer of this.#optimizers) optimizer.dispose();
    this.#fired.dispose();
    this.#logThreshold?.dispose();
    if (!this.#ended) this.#sae.dispose();
  }
}

/** Removes from the gradient of rows of length 1 what would only change their length. */
function withoutParallel(rows: FloatTensor): void {
  const gradient = rows.grad!;
  const along = sum(mul(gradient, rows), { axes: [-1], keepDims: true });
  ops.copy({ out: gradient, inp: sub(gradient, mul(rows, along)) });
}
