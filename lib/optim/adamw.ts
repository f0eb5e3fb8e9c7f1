import { checkFunction } from "../check.js";
import { describe, HeedError } from "../errors.js";
import { ops } from "../native.js";
import { checkArray, checkDType, checkInteger, checkNumber, checkObject, checkTensor } from "../ops/check.js";
import { roundAgain } from "../ops/precision.js";
import { allocate, checkSaved, type FloatTensor, type SavedTensor } from "../tensor.js";

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

interface Group {
  decay: boolean;
  names: string[];
  params: FloatTensor[];
  m: FloatTensor[];
  v: FloatTensor[];
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
 */
export class AdamW implements Disposable {
  lr: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly weightDecay: number;
  readonly maxNorm: number | null;
  /** Steps taken. */
  steps = 0;
  /** [] : the global norm of the gradients at the last step, before clipping; null without `maxNorm`. */
  readonly gradientNorm: FloatTensor | null;
  readonly #groups: Group[];

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
    this.#groups = [true, false].map((decay) => ({ decay, names: [], params: [], m: [], v: [] }));
    for (const [name, parameter] of checkParameters(parameters)) {
      const group = this.#groups[decays(name, parameter) ? 0 : 1]!;
      group.names.push(name);
      group.params.push(parameter);
      for (const moment of [group.m, group.v]) {
        const tensor = allocate(parameter.shape, "f32", parameter.device, false);
        ops.fill(tensor.handle, 0);
        moment.push(tensor);
      }
    }
    const first = this.#groups.flatMap((group) => group.params)[0]!;
    this.gradientNorm = maxNorm === undefined ? null : allocate([], "f32", first.device, false);
  }

  /**
   * Moves the parameters that have a gradient. Where the norm of the gradients is not finite, nothing moves; the count
   * of steps goes on.
   */
  step(): void {
    checkNumber("AdamW", "lr", this.lr, 0, Number.MAX_VALUE);
    this.steps++;
    const grads = this.#groups.flatMap((group) => group.params.flatMap((p) => (p.grad ? [p.grad.handle] : [])));
    if (grads.length === 0)
      throw new HeedError("ERR_AUTOGRAD", "AdamW: expected gradients; call backward() before step()");
    if (this.gradientNorm) ops.global_norm(this.gradientNorm.handle, grads);
    const moved: FloatTensor[] = [];
    for (const { decay, params, m, v } of this.#groups) {
      const used = [...params.keys()].filter((i) => params[i]!.grad);
      if (used.length === 0) continue;
      const handles = (list: FloatTensor[]) => used.map((i) => list[i]!.handle);
      ops.adamw(
        handles(params),
        used.map((i) => params[i]!.grad!.handle),
        handles(m),
        handles(v),
        this.gradientNorm?.handle ?? null,
        this.maxNorm ?? 0,
        this.lr,
        this.beta1,
        this.beta2,
        this.eps,
        decay ? this.weightDecay : 0,
        this.steps,
      );
      moved.push(...used.map((i) => params[i]!));
    }
    roundAgain(moved);
  }

  /** Forgets the gradients: the next backward pass writes them anew. */
  zeroGrad(): void {
    for (const { params } of this.#groups) for (const parameter of params) parameter.zeroGrad();
  }

  /** The moments, named `m.<parameter>` and `v.<parameter>`: the tensors themselves, not copies. */
  stateDict(): Record<string, FloatTensor> {
    return Object.fromEntries(
      this.#groups.flatMap(({ names, m, v }) =>
        names.flatMap((name, i) => [
          [`m.${name}`, m[i]!],
          [`v.${name}`, v[i]!],
        ]),
      ),
    );
  }

  /** Takes up a saved state after `steps` steps. Throws ERR_FORMAT for missing names, ERR_SHAPE for wrong shapes. */
  loadStateDict(state: Readonly<Record<string, SavedTensor>>, steps: number): void {
    checkInteger("AdamW", "steps", steps, 0);
    checkObject("AdamW", "state", state);
    const own = Object.entries(this.stateDict());
    for (const [name, tensor] of own) {
      if (!Object.hasOwn(state, name)) throw new HeedError("ERR_FORMAT", `AdamW: missing ${name}`);
      checkSaved("AdamW", name, tensor, state[name]);
    }
    for (const [name, tensor] of own) tensor.set(state[name]!.values);
    this.steps = steps;
  }

  /** Frees the moments. */
  dispose(): void {
    for (const { m, v } of this.#groups) for (const tensor of [...m, ...v]) tensor.dispose();
    this.gradientNorm?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
