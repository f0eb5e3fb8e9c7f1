import { checkFunction } from "../check.js";
import { describe, HeedError } from "../errors.js";
import { ops } from "../native.js";
import { checkArray, checkDType, checkInteger, checkNumber, checkObject, checkTensor } from "../ops/check.js";
import { checkSaved, type SavedTensor } from "../saved-tensor.js";
import { allocate, type FloatTensor } from "../tensor.js";
import { setPieces } from "../tensor-pieces.js";
import { inPieces } from "../turns.js";

/** Options of `AdamW`. */
export interface AdamWOptions {
  /** Learning rate; the optimiser's `lr` may be changed between steps. @default 1e-3 */
  lr?: number;
  /** Decay of the first moment. @default 0.9 */
  beta1?: number;
  /** Decay of the second moment. @default 0.999 */
  beta2?: number;
  /** Epsilon that is added to the divisor, the root of the second moment. @default 1e-8 */
  eps?: number;
  /** Weight decay: a step shrinks a parameter by lr · weightDecay. @default 0.01 */
  weightDecay?: number;
  /**
   * Returns true for a parameter that decays. By default those of two and more dimensions decay, but not biases and
   * norms.
   */
  decays?: (name: string, parameter: FloatTensor) => boolean;
  /**
   * Largest global norm of the gradients: if it is greater, all gradients are scaled down together. By default there is
   * no limit.
   */
  maxNorm?: number;
}

/** Parameter with its state in the optimiser. */
interface Entry {
  name: string;
  parameter: FloatTensor;
  decay: boolean;
  /** Moments; null until the parameter is trained for the first time, so that a frozen one takes no memory. */
  moments: Moments | null;
  /** Number of steps in which it had a gradient. The correction of the moments' bias depends on it. */
  steps: number;
}

interface Moments {
  m: FloatTensor;
  v: FloatTensor;
}

/** Returns the moments of a parameter that has taken no step: zeros. */
function noMoments({ shape, device }: FloatTensor): Moments {
  const zeros = (): FloatTensor => {
    const tensor: FloatTensor = allocate(shape, "f32", device, false);
    ops.fill({ out: tensor, value: 0 });
    return tensor;
  };
  return { m: zeros(), v: zeros() };
}

/**
 * Checks that there is at least one named tensor, and that those that are trained are f32, and returns all of them.
 * Nothing is allocated before this.
 */
function checkParameters(parameters: Iterable<[string, FloatTensor]>): [string, FloatTensor][] {
  if (typeof (parameters as Partial<typeof parameters> | null)?.[Symbol.iterator] !== "function")
    throw new HeedError("ERR_ARGUMENT", `AdamW: expected named parameters, got ${describe(parameters)}`);
  const list = [...parameters];
  if (list.length === 0) throw new HeedError("ERR_ARGUMENT", "AdamW: expected at least one parameter, got none");
  for (const entry of list) {
    checkArray("AdamW", "each parameter", entry);
    const [name, tensor] = entry;
    if (typeof name !== "string")
      throw new HeedError("ERR_ARGUMENT", `AdamW: expected the name of a parameter, got ${describe(name)}`);
    checkTensor("AdamW", name, tensor);
    if (!tensor.isFrozen) checkDType("AdamW", name, tensor, "f32");
  }
  return list;
}

/**
 * Optimiser AdamW, with decoupled weight decay, bias-corrected moments, and clipping by the global norm of the
 * gradients. It runs entirely on the device: a step reads nothing back. Parameters that are trained must be f32.
 *
 * A frozen parameter (`requiresGrad` is false) never changes. It can be frozen and trained again at any time.
 *
 * @example
 * const w = parameter(randn([8, 4], { seed: 2 }));
 * using optimizer = new AdamW([["w", w]], { lr: 3e-4, maxNorm: 1 });
 * mean(square(matmul(x, w))).backward();
 * optimizer.step();
 * optimizer.zeroGrad();
 *
 * @see Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", arXiv:1711.05101; Pascanu et al. 2013, "On
 *   the Difficulty of Training Recurrent Neural Networks", arXiv:1211.5063.
 */
export class AdamW implements Disposable {
  /** Learning rate; it may be changed between steps. */
  lr: number;
  /** Decay of the first moment. */
  readonly beta1: number;
  /** Decay of the second moment. */
  readonly beta2: number;
  /** Epsilon that is added to the divisor, the root of the second moment. */
  readonly eps: number;
  /** Weight decay of the parameters that decay. */
  readonly weightDecay: number;
  /** Largest global norm of the gradients; null for no limit. */
  readonly maxNorm: number | null;
  /** Global norm of the gradients at the last step, before clipping, f32 []; null without `maxNorm`. */
  readonly gradientNorm: FloatTensor | null;
  readonly #entries: Entry[];

  /**
   * Makes an optimiser for named parameters, such as those of `model.namedParameters()`.
   *
   * @throws ERR_ARGUMENT if there is no parameter or one has no name; ERR_DTYPE if one that is trained is not f32;
   *   ERR_RANGE if an option is out of range.
   */
  constructor(parameters: Iterable<[string, FloatTensor]>, options: AdamWOptions = {}) {
    checkObject("AdamW", "options", options);
    const { lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weightDecay = 0.01, maxNorm } = options;
    const decays = options.decays ?? ((_, parameter) => parameter.shape.length >= 2);
    checkFunction("AdamW", decays);
    checkNumber("AdamW", "lr", lr, 0, Number.MAX_VALUE);
    checkNumber("AdamW", "beta1", beta1, 0, 1 - Number.EPSILON);
    checkNumber("AdamW", "beta2", beta2, 0, 1 - Number.EPSILON);
    checkNumber("AdamW", "eps", eps, 0, Number.MAX_VALUE);
    checkNumber("AdamW", "weightDecay", weightDecay, 0, Number.MAX_VALUE);
    if (maxNorm !== undefined) checkNumber("AdamW", "maxNorm", maxNorm, Number.MIN_VALUE);
    [this.lr, this.beta1, this.beta2, this.eps, this.weightDecay] = [lr, beta1, beta2, eps, weightDecay];
    this.maxNorm = maxNorm ?? null;
    this.#entries = checkParameters(parameters).map(([name, parameter]) => ({
      name,
      parameter,
      decay: decays(name, parameter),
      moments: parameter.isFrozen ? null : noMoments(parameter),
      steps: 0,
    }));
    const { device } = this.#entries[0]!.parameter;
    this.gradientNorm = maxNorm === undefined ? null : allocate([], "f32", device, false);
  }

  /**
   * Updates the parameters that have a gradient and are not frozen. The others do not change, and neither do their
   * moments and counts of steps. If `maxNorm` is set and the norm of the gradients is not finite, no parameter changes,
   * but the counts increase.
   *
   * @throws ERR_AUTOGRAD if no parameter that is trained has a gradient; ERR_DTYPE if one that was frozen at first is
   *   not f32; ERR_RANGE if `lr` is negative or not finite.
   */
  step(): void {
    checkNumber("AdamW", "lr", this.lr, 0, Number.MAX_VALUE);
    const used = this.#entries.filter(({ parameter }) => parameter.grad && !parameter.isFrozen);
    if (used.length === 0)
      throw new HeedError("ERR_AUTOGRAD", "AdamW: expected gradients; call backward() before step()");
    for (const { name, parameter } of used) checkDType("AdamW", name, parameter, "f32");
    const gradients = (entries: readonly Entry[]) => entries.map(({ parameter }) => parameter.grad!);
    if (this.gradientNorm) ops.global_norm({ norm: this.gradientNorm, grads: gradients(used) });
    for (const entry of used) {
      entry.steps++;
      entry.moments ??= noMoments(entry.parameter);
    }
    for (const group of alike(used)) {
      const { decay, steps } = group[0]!;
      const moments = group.map((entry) => entry.moments!);
      ops.adamw({
        params: group.map(({ parameter }) => parameter),
        grads: gradients(group),
        m: moments.map(({ m }) => m),
        v: moments.map(({ v }) => v),
        norm: this.gradientNorm,
        maxNorm: this.maxNorm ?? 0,
        lr: this.lr,
        beta1: this.beta1,
        beta2: this.beta2,
        eps: this.eps,
        weightDecay: decay ? this.weightDecay : 0,
        step: steps,
      });
      for (const { parameter } of group) parameter.overwritten();
      for (const { m, v } of moments) for (const moment of [m, v]) moment.overwritten();
    }
  }

  /** Frees the gradients of all parameters, so that the next backward pass does not add to them. */
  zeroGrad(): void {
    for (const { parameter } of this.#entries) parameter.zeroGrad();
  }

  /** Number of steps that each parameter has taken, by name: those in which it had a gradient. */
  get steps(): Record<string, number> {
    return Object.fromEntries(this.#entries.map(({ name, steps }) => [name, steps]));
  }

  /**
   * Returns the moments by the names `m.<parameter>` and `v.<parameter>`: the tensors themselves, not copies. A
   * parameter that was never trained has none.
   */
  stateDict(): Record<string, FloatTensor> {
    return Object.fromEntries(
      this.#entries.flatMap(({ name, moments }) =>
        moments
          ? [
              [`m.${name}`, moments.m],
              [`v.${name}`, moments.v],
            ]
          : [],
      ),
    );
  }

  /**
   * Sets the moments and steps to those of a saved optimiser: the contents of its `stateDict()`, and its `steps`. If it
   * throws, nothing has changed.
   *
   * @example
   * const w = parameter(ones([2]));
   * using optimizer = new AdamW([["w", w]]);
   * const zero = { shape: [2], values: [0, 0] };
   * optimizer.loadStateDict({ "m.w": zero, "v.w": zero }, { w: 0 });
   *
   * @throws ERR_FORMAT if a name is missing; ERR_SHAPE for a wrong shape; ERR_ARGUMENT if values are not numbers;
   *   ERR_RANGE if a count is not an integer of at least 0.
   */
  loadStateDict(state: Readonly<Record<string, SavedTensor>>, steps: Readonly<Record<string, number>>): void {
    this.checkStateDict(state, steps);
    for (const [name, tensor] of this.#momentsIn(state)) tensor.set(state[name]!.values);
    this.#takeSteps(steps);
  }

  /** @internal Does the same as `loadStateDict`, in pieces between which the event loop runs. */
  async loadInTurns(
    state: Readonly<Record<string, SavedTensor>>,
    steps: Readonly<Record<string, number>>,
  ): Promise<void> {
    this.checkStateDict(state, steps);
    for (const [name, tensor] of this.#momentsIn(state)) {
      const { values } = state[name]!;
      await setPieces(tensor, inPieces(values instanceof Float32Array ? values : Float32Array.from(values)));
    }
    this.#takeSteps(steps);
  }

  /**
   * @internal Checks arguments of `loadStateDict`.
   *
   * @throws the errors of `loadStateDict`.
   */
  checkStateDict(state: Readonly<Record<string, SavedTensor>>, steps: Readonly<Record<string, number>>): void {
    checkObject("AdamW", "state", state);
    checkObject("AdamW", "steps", steps);
    for (const entry of this.#entries) {
      if (!isTakenUp(entry, state)) continue;
      for (const name of [`m.${entry.name}`, `v.${entry.name}`]) {
        if (!Object.hasOwn(state, name))
          throw new HeedError("ERR_FORMAT", `AdamW: expected ${name} in the state, got none`);
        checkSaved("AdamW", name, entry.parameter, state[name]);
      }
    }
    for (const { name } of this.#entries) {
      if (!Object.hasOwn(steps, name))
        throw new HeedError("ERR_FORMAT", `AdamW: expected the steps of ${name}, got none`);
      checkInteger("AdamW", `steps of ${name}`, steps[name], 0);
    }
  }

  /** Returns the moments that a checked state has values for, and allocates missing ones. */
  #momentsIn(state: Readonly<Record<string, SavedTensor>>): [string, FloatTensor][] {
    for (const entry of this.#entries) if (isTakenUp(entry, state)) entry.moments ??= noMoments(entry.parameter);
    return Object.entries(this.stateDict());
  }

  #takeSteps(steps: Readonly<Record<string, number>>): void {
    for (const entry of this.#entries) entry.steps = steps[entry.name]!;
  }

  /** Frees the moments and `gradientNorm`. */
  dispose(): void {
    for (const { moments } of this.#entries) {
      moments?.m.dispose();
      moments?.v.dispose();
    }
    this.gradientNorm?.dispose();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Returns true if an entry takes moments from a state. A parameter that had moments when the state was saved may be
 * frozen now: it may be trained again.
 */
function isTakenUp({ name, moments }: Entry, state: Readonly<Record<string, SavedTensor>>): boolean {
  return moments !== null || Object.hasOwn(state, `m.${name}`);
}

/**
 * Returns the entries in groups of the same decay and the same count of steps, because a launch uses the same numbers
 * for all of its tensors.
 */
function alike(entries: readonly Entry[]): Entry[][] {
  const groups = new Map<number, Entry[]>();
  for (const entry of entries) {
    const key = entry.decay ? entry.steps : -entry.steps;
    const group = groups.get(key);
    if (group) group.push(entry);
    else groups.set(key, [entry]);
  }
  return [...groups.values()];
}
