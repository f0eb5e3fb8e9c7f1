import { checkFunction } from "../check.js";
import { describe, HeedError } from "../errors.js";
import { ops } from "../native.js";
import { checkArray, checkDType, checkInteger, checkNumber, checkObject, checkTensor } from "../ops/check.js";
import { checkSaved, type SavedTensor } from "../saved-tensor.js";
import { allocate, type FloatTensor } from "../tensor.js";
import { setPieces } from "../tensor-pieces.js";
import { inPieces } from "../turns.js";

export interface AdamWOptions {
  /** Learning rate; may be changed between steps. 1e-3 unless given. */
  lr?: number;
  /** 0.9 unless given. */
  beta1?: number;
  /** 0.999 unless given. */
  beta2?: number;
  /** 1e-8 unless given. */
  eps?: number;
  /** 0.01 unless given. */
  weightDecay?: number;
  /** Which parameters decay; those of two dimensions and more unless given (not biases and norms). */
  decays?: (name: string, parameter: FloatTensor) => boolean;
  /** Gradients are scaled down together so that their global norm is at most this; off unless given. */
  maxNorm?: number;
}

/** A parameter with what the optimiser knows of it. */
interface Entry {
  name: string;
  parameter: FloatTensor;
  decay: boolean;
  /** null while it has never been trained: what is frozen takes no memory. */
  moments: Moments | null;
  /** In how many steps it had a gradient: what the moments' bias depends on. */
  steps: number;
}

interface Moments {
  m: FloatTensor;
  v: FloatTensor;
}

/** Those of a parameter that has taken no step. */
function noMoments({ shape, device }: FloatTensor): Moments {
  const zeros = (): FloatTensor => {
    const tensor: FloatTensor = allocate(shape, "f32", device, false);
    ops.fill({ out: tensor, value: 0 });
    return tensor;
  };
  return { m: zeros(), v: zeros() };
}

/** At least one name with its f32 tensor; all of them are checked before anything is made. */
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
    checkDType("AdamW", name, tensor, "f32");
  }
  return list;
}

/**
 * AdamW (Loshchilov & Hutter 2019): decoupled weight decay, bias-corrected moments, and clipping by the global norm of
 * the gradients (Pascanu et al. 2013), all on the device: a step reads nothing back.
 *
 * A parameter that is frozen (`requiresGrad` is false) is never changed. It may be frozen and trained again at any time.
 */
export class AdamW implements Disposable {
  lr: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly weightDecay: number;
  readonly maxNorm: number | null;
  /** [] : the global norm of the gradients at the last step, before clipping; null without `maxNorm`. */
  readonly gradientNorm: FloatTensor | null;
  readonly #entries: Entry[];

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
   * Moves the parameters that have a gradient and are not frozen; the others stay, and so do their moments and counts of
   * steps. Where the norm of the gradients is not finite, nothing moves; the counts go on.
   *
   * @throws ERR_AUTOGRAD where no parameter that is trained has a gradient
   */
  step(): void {
    checkNumber("AdamW", "lr", this.lr, 0, Number.MAX_VALUE);
    const used = this.#entries.filter(({ parameter }) => parameter.grad && !parameter.isFrozen);
    if (used.length === 0)
      throw new HeedError("ERR_AUTOGRAD", "AdamW: expected gradients; call backward() before step()");
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

  /** Forgets the gradients: the next backward pass writes them anew. */
  zeroGrad(): void {
    for (const { parameter } of this.#entries) parameter.zeroGrad();
  }

  /** How many steps each parameter has taken, by its name: those in which it had a gradient. */
  get steps(): Record<string, number> {
    return Object.fromEntries(this.#entries.map(({ name, steps }) => [name, steps]));
  }

  /**
   * The moments, named `m.<parameter>` and `v.<parameter>`: the tensors themselves, not copies. A parameter that was
   * never trained has none.
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
   * Takes up the moments of `stateDict()` and the `steps` of an optimiser that was saved.
   *
   * @throws ERR_FORMAT for missing names, ERR_SHAPE for wrong shapes, ERR_RANGE for a count that is not an integer from 0;
   *   nothing is changed then
   */
  loadStateDict(state: Readonly<Record<string, SavedTensor>>, steps: Readonly<Record<string, number>>): void {
    this.checkStateDict(state, steps);
    for (const [name, tensor] of this.#momentsIn(state)) tensor.set(state[name]!.values);
    this.#takeSteps(steps);
  }

  /** @internal As `loadStateDict`, in pieces between which the event loop goes round. */
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

  /** @internal Throws what `loadStateDict` throws. */
  checkStateDict(state: Readonly<Record<string, SavedTensor>>, steps: Readonly<Record<string, number>>): void {
    checkObject("AdamW", "state", state);
    checkObject("AdamW", "steps", steps);
    for (const entry of this.#entries) {
      if (!isTakenUp(entry, state)) continue;
      for (const name of [`m.${entry.name}`, `v.${entry.name}`]) {
        if (!Object.hasOwn(state, name)) throw new HeedError("ERR_FORMAT", `AdamW: missing ${name}`);
        checkSaved("AdamW", name, entry.parameter, state[name]);
      }
    }
    for (const { name } of this.#entries) {
      if (!Object.hasOwn(steps, name)) throw new HeedError("ERR_FORMAT", `AdamW: missing steps of ${name}`);
      checkInteger("AdamW", `steps of ${name}`, steps[name], 0);
    }
  }

  /** The moments that a checked state has numbers for. */
  #momentsIn(state: Readonly<Record<string, SavedTensor>>): [string, FloatTensor][] {
    for (const entry of this.#entries) if (isTakenUp(entry, state)) entry.moments ??= noMoments(entry.parameter);
    return Object.entries(this.stateDict());
  }

  #takeSteps(steps: Readonly<Record<string, number>>): void {
    for (const entry of this.#entries) entry.steps = steps[entry.name]!;
  }

  /** Frees the moments. */
  dispose(): void {
    for (const { moments } of this.#entries) {
      moments?.m.dispose();
      moments?.v.dispose();
    }
    this.gradientNorm?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Tells whether an entry takes moments from a state: a parameter that was frozen since then may be trained again. */
function isTakenUp({ name, moments }: Entry, state: Readonly<Record<string, SavedTensor>>): boolean {
  return moments !== null || Object.hasOwn(state, `m.${name}`);
}

/** Those of one decay and one count of steps together: a launch's numbers are the same for all of its tensors. */
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
