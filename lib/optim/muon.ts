import { noGrad } from "../core/autograd.js";
import { HeedError } from "../util/errors.js";
import { ops } from "../core/native.js";
import {
  checkBoolean,
  checkChoice,
  checkInteger,
  checkNumber,
  checkObject,
  describe,
  largestFloat,
} from "../ops/check.js";
import { scope } from "../core/scope.js";
import { numel } from "../core/shape.js";
import { allocate, type FloatTensor } from "../core/tensor.js";
import { type AdamWNumbers, checkAdamW, updateAdamW } from "./adamw.js";
import { hiddenMatrices, type HiddenMatrices } from "./hidden-matrices.js";
import { newtonSchulz } from "./newton-schulz.js";
import type { Entry } from "./entry.js";
import { Optimizer, type OptimizerOptions, type SharedNumbers } from "./optimizer.js";
import type { Trained } from "./parameter-groups.js";

/** Options of `Muon`. */
export interface MuonOptions extends OptimizerOptions {
  /** Learning rate of the matrices; the optimiser's `lr` may be changed between steps. @default 0.02 */
  lr?: number;
  /** Decay of the moving average of the gradients. @default 0.95 */
  momentum?: number;
  /** True for Nesterov's momentum, which looks one step ahead. @default true */
  nesterov?: boolean;
  /** Number of Newton–Schulz iterations. @default 5 */
  iterations?: number;
  /**
   * Dtype of the Newton–Schulz iterations. The published code has "bf16", which is much faster on a GPU.
   * @default "f32"
   */
  dtype?: "f32" | "bf16";
  /** Weight decay: a step shrinks a parameter by lr · weightDecay. @default 0 */
  weightDecay?: number;
  /**
   * Returns true for a parameter of two dimensions that Muon updates; AdamW updates the others. By default Muon has all
   * matrices, except those of embeddings and of layers that project to logits (`wte`, `embed_tokens`, `lm_head`,
   * `classifier` and the like).
   */
  matrices?: (name: string, parameter: FloatTensor) => boolean;
  /** Options of AdamW, which updates everything but the matrices. */
  adamw?: {
    /** AdamW's learning rate as a share of Muon's. @default 0.015 (3e-4 if Muon's is 0.02) */
    lrScale?: number;
    /** Decay of the first moment. @default 0.9 */
    beta1?: number;
    /** Decay of the second moment. @default 0.95 */
    beta2?: number;
    /** Epsilon that is added to the divisor, the root of the second moment. @default 1e-10 */
    eps?: number;
  };
}

/** Largest number of elements whose iterations run at once, which takes about six times as much memory. */
const mostElements = 2 ** 24;

/**
 * Optimiser Muon: the step of a matrix is the orthogonal matrix that is nearest to the moving average of its gradients,
 * times √max(1, outputs/inputs). Everything that is not a matrix of a hidden layer is updated by AdamW. A matrix has one
 * moment, half as much memory as with AdamW. Everything else is described at `Optimizer`.
 *
 * Matrices of the same shape are computed together. Their order does not change a bit of the result.
 *
 * @example
 * using optimizer = new Muon(gpt, { lr: 0.02, adamw: { lrScale: 0.015 }, maxNorm: 1 });
 * gpt.loss(tensor([[1, 2]], [1, 2], { dtype: "i32" }), tensor([[2, 3]], [1, 2], { dtype: "i32" })).backward();
 * optimizer.step();
 *
 * @see Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks",
 *   https://kellerjordan.github.io/posts/muon/.
 */
export class Muon extends Optimizer {
  /** Decay of the moving average of the gradients. */
  readonly momentum: number;
  /** True for Nesterov's momentum. */
  readonly nesterov: boolean;
  /** Number of Newton–Schulz iterations. */
  readonly iterations: number;
  /** Dtype of the Newton–Schulz iterations. */
  readonly dtype: "f32" | "bf16";
  /** Numbers of AdamW, which updates everything but the matrices. */
  readonly adamw: Readonly<AdamWNumbers & { lrScale: number }>;
  readonly #matrices: HiddenMatrices;

  /**
   * Makes an optimiser for a model, or for named parameters such as those of `model.namedParameters()`. Of a model it
   * knows which matrices are stored as [inputs, outputs]; of named parameters it takes all as [outputs, inputs].
   *
   * @throws ERR_ARGUMENT if there is no parameter, one has no name, or a group matches none; ERR_DTYPE if one that is
   *   trained is not f32; ERR_RANGE if an option is out of range.
   */
  constructor(parameters: Trained, options: MuonOptions = {}) {
    checkObject("Muon", "options", options);
    const { momentum = 0.95, nesterov = true, iterations = 5, dtype = "f32", adamw = {}, matrices } = options;
    checkNumber("Muon", "momentum", momentum, 0, 1 - Number.EPSILON);
    checkBoolean("Muon", "nesterov", nesterov);
    checkInteger("Muon", "iterations", iterations, 1, 100);
    checkChoice("Muon", "dtype", dtype, ["f32", "bf16"]);
    checkObject("Muon", "adamw", adamw);
    if (matrices !== undefined && typeof matrices !== "function")
      throw new HeedError("ERR_ARGUMENT", `Muon: expected matrices to be a function, got ${describe(matrices)}`);
    const { lrScale = 0.015, beta1 = 0.9, beta2 = 0.95, eps = 1e-10 } = adamw;
    checkNumber("Muon", "adamw.lrScale", lrScale, 0, Number.MAX_VALUE);
    checkAdamW("Muon", { beta1, beta2, eps });
    super("Muon", parameters, options, { lr: 0.02, weightDecay: 0 });
    [this.momentum, this.nesterov, this.iterations, this.dtype] = [momentum, nesterov, iterations, dtype];
    this.adamw = { lrScale, beta1, beta2, eps };
    const found = hiddenMatrices(parameters);
    const chosen = matrices ?? found.has;
    this.#matrices = { ...found, has: (name, tensor) => tensor.shape.length === 2 && chosen(name, tensor) };
    this.allocateStates();
  }

  protected override stateKinds(name: string, parameter: FloatTensor): readonly string[] {
    return this.#matrices.has(name, parameter) ? ["m"] : ["m", "v"];
  }

  protected override cuts(name: string, parameter: FloatTensor): boolean {
    return !this.#matrices.has(name, parameter);
  }

  protected override update(entries: readonly Entry[], numbers: SharedNumbers): void {
    const isMatrix = ({ state }: Entry): boolean => !("v" in state!);
    const others = entries.filter((entry) => !isMatrix(entry));
    const { lrScale, ...adamw } = this.adamw;
    if (others.length > 0) updateAdamW(others, { ...numbers, lr: numbers.lr * lrScale }, adamw);
    const matrices = entries.filter(isMatrix);
    if (matrices.length === 0) return;
    const { norm, maxNorm } = numbers;
    ops.lerp_list({ outs: moments(matrices), inps: gradients(matrices), norm, maxNorm, weight: 1 - this.momentum });
    for (const batch of ofOneShape(matrices)) noGrad(() => scope(() => this.#orthogonal(batch, numbers)));
  }

  /** Enqueues the steps of matrices [M, N] that have the same shape. */
  #orthogonal(entries: readonly Entry[], { lr, weightDecay, norm, maxNorm }: SharedNumbers): void {
    const [rows, columns] = entries[0]!.parameter.shape as [number, number];
    const { device } = entries[0]!.parameter;
    const directions: FloatTensor = allocate([entries.length, rows, columns], "f32", device);
    const parts = (of: FloatTensor): FloatTensor[] =>
      entries.map((_, i) => of.viewAs([rows, columns], [columns, 1], i * rows * columns));
    ops.copy_list({ outs: parts(directions), inps: moments(entries) });
    if (this.nesterov)
      // momentum · m + (1 − momentum) · g
      ops.lerp_list({ outs: parts(directions), inps: gradients(entries), norm, maxNorm, weight: 1 - this.momentum });
    const orthogonal = newtonSchulz(directions.to(this.dtype), this.iterations);
    // `directions` is free again and takes the result in f32 and row-major order.
    ops.copy({ out: directions, inp: orthogonal });
    // As the published code: the outputs are the rows.
    for (const isTransposed of [false, true]) {
      const of = [...entries.keys()].filter((i) => this.#matrices.isTransposed(entries[i]!.parameter) === isTransposed);
      const [outputs, inputs] = isTransposed ? [columns, rows] : [rows, columns];
      const scale = Math.sqrt(Math.max(1, outputs / inputs));
      if (of.length === 0) continue;
      const updates = parts(directions);
      // p −= lr · scale · (update + decay · p). No clipping: the norm only tells whether the step is skipped.
      ops.sgd({
        params: of.map((i) => entries[i]!.parameter),
        grads: of.map((i) => updates[i]!),
        m: [],
        norm,
        maxNorm: largestFloat,
        lr: lr * scale,
        momentum: 0,
        weightDecay: weightDecay / scale,
      });
    }
  }
}

const gradients = (entries: readonly Entry[]): FloatTensor[] => entries.map(({ parameter }) => parameter.grad!);
const moments = (entries: readonly Entry[]): FloatTensor[] => entries.map(({ state }) => state!.m!);

/** Returns entries in batches of the same shape, each of at most `mostElements` elements if it is more than one. */
function ofOneShape(entries: readonly Entry[]): Entry[][] {
  const open = new Map<string, Entry[]>();
  const batches: Entry[][] = [];
  for (const entry of entries) {
    const { shape } = entry.parameter;
    if (numel(shape) === 0) continue;
    const key = shape.join();
    const batch = open.get(key);
    if (batch && (batch.length + 1) * numel(shape) <= mostElements) batch.push(entry);
    else {
      const next = [entry];
      batches.push(next);
      open.set(key, next);
    }
  }
  return batches;
}
