import { withFinalGradients } from "../core/final-gradients.js";
import { checkFunction, checkInteger, checkNumber, checkObject } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import { ops } from "../core/native.js";
import { checkDType, checkFloat } from "../ops/check.js";
import { checkSaved, type SavedTensor } from "../core/saved-tensor.js";
import type { Shape } from "../core/shape.js";
import { allocate, type FloatTensor, type Tensor } from "../core/tensor.js";
import { setPieces } from "../core/tensor-pieces.js";
import { inPieces } from "../util/turns.js";
import { divide, ownPart, partOf, sliced } from "./own-parts.js";
import { alike, checkParameters, groupsOf, type ParameterGroup, type Trained } from "./parameter-groups.js";
import type { Entry } from "./entry.js";
import type { Shard } from "./shards.js";

/**
 * Bytes of complete gradients that `backwardStep` updates together: few launches, and gradients that a processor's cache
 * still holds.
 */
const updateBytes = 8 << 20;

/** Options of every optimiser. */
export interface OptimizerOptions {
  /** Learning rate; the optimiser's `lr` may be changed between steps. @default the optimiser's own */
  lr?: number;
  /** Weight decay of the parameters that decay. @default the optimiser's own */
  weightDecay?: number;
  /**
   * Returns true for a parameter that decays. By default those of two and more dimensions decay, but not biases and
   * norms.
   */
  decays?: (name: string, parameter: FloatTensor) => boolean;
  /** Parameters with settings of their own. If a parameter is in several groups, the last one counts. @default [] */
  groups?: readonly ParameterGroup[];
  /**
   * Largest global norm of the gradients: if it is greater, all gradients are scaled down together. Infinity measures the
   * norm without limiting it. By default there is no limit.
   */
  maxNorm?: number;
  /**
   * Process of a distributed run, of which the optimiser keeps and updates only its share of the state (ZeRO-1). The
   * shares of the other processes must then be fetched after each step, as trainers do with `distributed`.
   * @default all of the state
   */
  shard?: Shard | undefined;
}

/** @internal State tensor as it is saved. */
export interface SavedState {
  readonly name: string;
  readonly shape: Shape;
  /** Resolves to all elements, in a tensor that the caller disposes. */
  tensor(): Promise<FloatTensor>;
}

/** Numbers that all parameters of one launch share. */
export interface SharedNumbers {
  readonly lr: number;
  readonly weightDecay: number;
  /** Number of this step, counted from 1. */
  readonly step: number;
  /** Norm of the gradients on the device; null without clipping. */
  readonly norm: FloatTensor | null;
  readonly maxNorm: number;
}

/**
 * Base class of all optimisers. It knows the parameters, their groups, their state, and the clipping of gradients by
 * their global norm. Everything runs on the device: a step reads nothing back. Parameters that are trained must be f32.
 *
 * A frozen parameter (`requiresGrad` is false) never changes and has no state. It can be frozen and trained again at any
 * time.
 *
 * @example
 * using optimizer: Optimizer = new SGD(gpt, { lr: 0.1, momentum: 0.9, maxNorm: 1 });
 * gpt.loss(tensor([[1, 2]], [1, 2], { dtype: "i32" }), tensor([[2, 3]], [1, 2], { dtype: "i32" })).backward();
 * optimizer.step();
 * optimizer.zeroGrad();
 *
 * @see Pascanu et al. 2013, "On the Difficulty of Training Recurrent Neural Networks", arXiv:1211.5063.
 */
export abstract class Optimizer implements Disposable {
  /** Learning rate; it may be changed between steps. */
  lr: number;
  /** Weight decay of the parameters that decay and whose group has none of its own. */
  readonly weightDecay: number;
  /** Largest global norm of the gradients; null if it is not measured. */
  readonly maxNorm: number | null;
  /** Global norm of the gradients at the last step, before clipping, f32 []; null without `maxNorm`. */
  readonly gradientNorm: FloatTensor | null;
  readonly #op: string;
  readonly #entries: readonly Entry[];
  readonly #shard: Shard | null;
  #divided = false;
  /** Parameters that the last step has counted. */
  #counted: readonly Entry[] = [];

  /**
   * @param defaults learning rate and weight decay without options
   * @throws ERR_ARGUMENT if there is no parameter, one has no name, or a group matches none; ERR_DTYPE if one that is
   *   trained is not f32; ERR_RANGE if an option is out of range.
   */
  protected constructor(
    op: string,
    parameters: Trained,
    options: OptimizerOptions,
    defaults: { lr: number; weightDecay: number },
  ) {
    checkObject(op, "options", options);
    const { lr = defaults.lr, weightDecay = defaults.weightDecay, maxNorm, groups = [], shard } = options;
    const decays = options.decays ?? ((_, parameter) => parameter.shape.length >= 2);
    checkFunction(op, decays);
    checkNumber(op, "lr", lr, 0, Number.MAX_VALUE);
    checkNumber(op, "weightDecay", weightDecay, 0, Number.MAX_VALUE);
    if (maxNorm !== undefined) checkNumber(op, "maxNorm", maxNorm, Number.MIN_VALUE);
    if (shard !== undefined) {
      checkObject(op, "shard", shard);
      checkInteger(op, "shard.size", shard.size, 1);
      checkInteger(op, "shard.rank", shard.rank, 0, shard.size - 1);
    }
    [this.lr, this.weightDecay, this.maxNorm, this.#op] = [lr, weightDecay, maxNorm ?? null, op];
    this.#shard = shard && shard.size > 1 ? shard : null;
    const list = checkParameters(op, parameters);
    const grouped = groupsOf(
      op,
      groups,
      list.map(([name]) => name),
    );
    this.#entries = list.map(([name, parameter]) => ({
      name,
      parameter,
      lrScale: grouped.get(name)?.lrScale ?? 1,
      weightDecay: grouped.get(name)?.weightDecay ?? (decays(name, parameter) ? weightDecay : 0),
      state: null,
      steps: 0,
      parts: null,
    }));
    const { device } = this.#entries[0]!.parameter;
    this.gradientNorm = maxNorm === undefined ? null : allocate([], "f32", device, false);
  }

  /** Returns the kinds of state that a parameter has, each a tensor of its shape. */
  protected abstract stateKinds(name: string, parameter: FloatTensor): readonly string[];

  /**
   * Returns true if the update of an element depends on this element alone, so that processes of a distributed run may
   * divide the parameter. By default one process updates all of a parameter.
   */
  protected cuts(_name: string, _parameter: FloatTensor): boolean {
    return false;
  }

  /** Enqueues the update of parameters that share their numbers. Their gradients and states exist. */
  protected abstract update(entries: readonly Entry[], numbers: SharedNumbers): void;

  /**
   * Updates the parameters that have a gradient and are not frozen. The others do not change, and neither do their state
   * and counts of steps. If the norm of the gradients is measured (`maxNorm`) and not finite, the step is skipped: no
   * parameter or state changes. Nothing waits for the norm here, so that the counts increase at first; `settle` takes
   * them back.
   *
   * `lossScale` is the factor by which the loss was scaled before the backward pass; gradients are divided by it first.
   *
   * @throws ERR_AUTOGRAD if no parameter that is trained has a gradient; ERR_DTYPE if one that was frozen at first is
   *   not f32; ERR_RANGE if `lr` is negative or not finite, or `lossScale` is not above 0.
   */
  step({ lossScale = 1 }: { lossScale?: number } = {}): void {
    checkNumber(this.#op, "lr", this.lr, 0, Number.MAX_VALUE);
    checkNumber(this.#op, "lossScale", lossScale, Number.MIN_VALUE, Number.MAX_VALUE);
    const used = this.#withGradients();
    if (used.length === 0)
      throw new HeedError("ERR_AUTOGRAD", `${this.#op}: expected gradients; call backward() before step()`);
    for (const { name, parameter } of used) checkDType(this.#op, name, parameter, "f32");
    const gradients = used.map(({ parameter }) => parameter.grad!);
    if (lossScale !== 1) {
      ops.scale_list({ tensors: gradients, factor: 1 / lossScale });
      for (const gradient of gradients) gradient.overwritten();
    }
    if (this.gradientNorm) ops.global_norm({ norm: this.gradientNorm, grads: gradients });
    this.#updateAll(used);
    this.#counted = used;
  }

  /**
   * Resolves to true if the last step changed the parameters, and to false if it was skipped, because the norm of the
   * gradients is not finite. A skipped step is then taken back from the counts, so that AdamW corrects its moments for the
   * steps that they contain. Await it before the next step where steps may be skipped, as in f16. Trainers do so.
   *
   * @example
   * const w = parameter(ones([2]));
   * using optimizer = new AdamW([["w", w]], { maxNorm: Infinity });
   * sum(mul(w, Infinity)).backward();
   * optimizer.step();
   * await optimizer.settle(); // false
   * optimizer.steps; // { w: 0 }
   */
  async settle(): Promise<boolean> {
    const norm = (await this.gradientNorm?.item()) ?? 0;
    if (Number.isFinite(norm)) return true;
    this.uncount();
    return false;
  }

  /** @internal Takes the last step, which was skipped, back from the counts. A second call does nothing. */
  uncount(): void {
    for (const entry of this.#counted) entry.steps--;
    this.#counted = [];
  }

  /**
   * Does the same as `loss.backward(scale)`, `step()` and `zeroGrad()`, bit for bit, with less memory and less traffic: a
   * parameter is updated as soon as its gradient is complete and nothing needs its old numbers any more, and then the
   * gradient is freed. So the gradients of all parameters never exist at the same time. What other passes have added to
   * the gradients before counts too.
   *
   * A function of `gradientCheckpoint` must not read the numbers of a trained parameter through `detach`.
   *
   * @example
   * const w = parameter(randn([8, 4], { seed: 2 }));
   * using optimizer = new AdamW([["w", w]], { lr: 3e-4 });
   * optimizer.backwardStep(mean(square(matmul(x, w))));
   *
   * @throws ERR_ARGUMENT if the optimiser has `maxNorm` or `shard`, which need all gradients at once; the errors of
   *   `backward()` and `step()`, and then nothing has changed.
   * @see Lv et al. 2024, "Full Parameter Fine-tuning for Large Language Models with Limited Resources", arXiv:2306.09782.
   */
  backwardStep(loss: FloatTensor, { scale = 1 }: { scale?: number } = {}): void {
    const op = `${this.#op}.backwardStep`;
    checkFloat(op, "loss", loss);
    for (const [name, value] of [
      ["maxNorm", this.gradientNorm],
      ["shard", this.#shard],
    ] as const)
      if (value)
        throw new HeedError(
          "ERR_ARGUMENT",
          `${op}: expected an optimiser without ${name}, which needs all gradients at once; call backward(), step() and zeroGrad()`,
        );
    checkNumber(this.#op, "lr", this.lr, 0, Number.MAX_VALUE);
    for (const { name, parameter } of this.#entries)
      if (!parameter.isFrozen) checkDType(this.#op, name, parameter, "f32");
    const entries = new Map<Tensor, Entry>(this.#entries.map((entry) => [entry.parameter, entry]));
    let complete: Entry[] = [];
    let bytes = 0;
    let updated = false;
    const update = (): void => {
      updated ||= complete.length > 0;
      this.#updateAll(complete);
      for (const { parameter } of complete) parameter.zeroGrad();
      [complete, bytes] = [[], 0];
    };
    withFinalGradients(
      (leaf) => {
        const entry = entries.get(leaf);
        if (!entry?.parameter.grad || entry.parameter.isFrozen) return;
        complete.push(entry);
        bytes += 4 * leaf.size;
        if (bytes >= updateBytes) update();
      },
      () => loss.backward(scale),
    );
    update();
    // This loss does not depend on the others, but earlier passes have left gradients.
    complete = this.#withGradients();
    update();
    this.zeroGrad();
    if (!updated)
      throw new HeedError("ERR_AUTOGRAD", `${op}: expected a loss that depends on a parameter that is trained`);
  }

  /** Returns the parameters that have a gradient and are not frozen. */
  #withGradients(): Entry[] {
    return this.#entries.filter(({ parameter }) => parameter.grad && !parameter.isFrozen);
  }

  /** Enqueues the updates of parameters that have gradients. */
  #updateAll(used: readonly Entry[]): void {
    for (const entry of used) {
      entry.steps++;
      entry.state ??= this.#emptyState(entry);
    }
    const { shard } = this;
    const own = shard ? used.flatMap((entry) => ownPart(entry, shard) ?? []) : used;
    for (const group of alike(own)) {
      const { lrScale, weightDecay, steps: step } = group[0]!;
      const { gradientNorm: norm, maxNorm } = this;
      this.update(group, { lr: this.lr * lrScale, weightDecay, step, norm, maxNorm: maxNorm ?? 0 });
      for (const { parameter, state } of group) {
        parameter.overwritten();
        for (const kind in state) state[kind]!.overwritten();
      }
    }
    if (own === used) return;
    // Views of parts are freed with their gradients.
    const whole = new Set(used);
    for (const entry of own) if (!whole.has(entry)) entry.parameter.dispose();
  }

  /** @internal The processes between which the state is divided; null if it is not. */
  get shard(): Shard | null {
    return this.#shard;
  }

  /** @internal The parameters with their states. */
  get entries(): readonly Entry[] {
    this.#divide();
    return this.#entries;
  }

  /**
   * @internal Returns the states as they are saved, the same in all processes. If they are divided, `collect` resolves to
   * all elements of one, and all processes call it in the same order.
   */
  savedStates(collect?: (entry: Entry, kind: string) => Promise<FloatTensor>): SavedState[] {
    this.allocateStates();
    return this.#entries.flatMap((entry) => {
      if (!entry.state) return [];
      const { name, parameter, state } = entry;
      return this.stateKinds(name, parameter).map((kind) => ({
        name: `${kind}.${name}`,
        shape: parameter.shape,
        tensor: (): Promise<FloatTensor> =>
          this.#shard && collect ? collect(entry, kind) : Promise.resolve(state[kind]!.alias()),
      }));
    });
  }

  /** Divides the parameters between the processes, at the first call. */
  #divide(): void {
    if (this.#divided) return;
    this.#divided = true;
    if (!this.#shard) return;
    divide(this.#entries, this.#shard, ({ name, parameter }) => ({
      kinds: this.stateKinds(name, parameter).length,
      cuts: this.cuts(name, parameter),
    }));
  }

  /** Frees the gradients of all parameters, so that the next backward pass does not add to them. */
  zeroGrad(): void {
    for (const { parameter } of this.#entries) parameter.zeroGrad();
  }

  /** Number of steps that each parameter has taken, by name: those in which it had a gradient, without skipped ones. */
  get steps(): Record<string, number> {
    return Object.fromEntries(this.#entries.map(({ name, steps }) => [name, steps]));
  }

  /**
   * Returns the state by the names `kind.<parameter>`, such as `m.h.0.ln_1.weight`: the tensors themselves, not copies. A
   * parameter that is frozen and was never trained has none. With `shard`, the tensors are those of this process, of
   * which some are parts with one dimension.
   */
  stateDict(): Record<string, FloatTensor> {
    this.allocateStates();
    return Object.fromEntries(
      this.#entries.flatMap(({ name, state }) =>
        Object.entries(state ?? {}).map(([kind, tensor]) => [`${kind}.${name}`, tensor]),
      ),
    );
  }

  /**
   * Sets state and steps to those of a saved optimiser: the contents of its `stateDict()`, and its `steps`. If it throws,
   * nothing has changed.
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
    for (const [tensor, values] of this.#statesIn(state)) tensor.set(values);
    this.#takeSteps(steps);
  }

  /** @internal Does the same as `loadStateDict`, in pieces between which the event loop runs. */
  async loadInTurns(
    state: Readonly<Record<string, SavedTensor>>,
    steps: Readonly<Record<string, number>>,
  ): Promise<void> {
    this.checkStateDict(state, steps);
    for (const [tensor, values] of this.#statesIn(state)) {
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
    checkObject(this.#op, "state", state);
    checkObject(this.#op, "steps", steps);
    for (const entry of this.#entries) {
      const names = this.#namesOf(entry);
      if (!isTakenUp(entry, names, state)) continue;
      for (const name of names) {
        if (!Object.hasOwn(state, name))
          throw new HeedError("ERR_FORMAT", `${this.#op}: expected ${name} in the state, got none`);
        checkSaved(this.#op, name, entry.parameter, state[name]);
      }
    }
    for (const { name } of this.#entries) {
      if (!Object.hasOwn(steps, name))
        throw new HeedError("ERR_FORMAT", `${this.#op}: expected the steps of ${name}, got none`);
      checkInteger(this.#op, `steps of ${name}`, steps[name], 0);
    }
  }

  /** Frees the state and `gradientNorm`. */
  dispose(): void {
    for (const { state } of this.#entries) for (const tensor of Object.values(state ?? {})) tensor.dispose();
    this.gradientNorm?.dispose();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  #namesOf({ name, parameter }: Entry): string[] {
    return this.stateKinds(name, parameter).map((kind) => `${kind}.${name}`);
  }

  /** Returns the state of a parameter that has taken no step: zeros. */
  #emptyState(entry: Entry): Record<string, FloatTensor> {
    this.#divide();
    const { name, parameter } = entry;
    const part = partOf(entry, this.#shard);
    if (part && part.end === part.begin) return {};
    const zeros = (): FloatTensor => {
      const shape = part ? [part.end - part.begin] : parameter.shape;
      const tensor: FloatTensor = allocate(shape, "f32", parameter.device, false);
      ops.fill({ out: tensor, value: 0 });
      return tensor;
    };
    return Object.fromEntries(this.stateKinds(name, parameter).map((kind) => [kind, zeros()]));
  }

  /** Gives a state to each parameter that is not frozen. Constructors call it, so that a lack of memory shows early. */
  protected allocateStates(): void {
    for (const entry of this.#entries) if (!entry.parameter.isFrozen) entry.state ??= this.#emptyState(entry);
  }

  /** Returns the state tensors with their values in a checked state, and allocates missing ones. */
  #statesIn(saved: Readonly<Record<string, SavedTensor>>): [FloatTensor, ArrayLike<number>][] {
    for (const entry of this.#entries)
      if (isTakenUp(entry, this.#namesOf(entry), saved)) entry.state ??= this.#emptyState(entry);
    this.allocateStates();
    return this.#entries.flatMap((entry) => {
      const part = partOf(entry, this.#shard);
      return Object.entries(entry.state ?? {}).map(([kind, tensor]): [FloatTensor, ArrayLike<number>] => {
        const { values } = saved[`${kind}.${entry.name}`]!;
        return [tensor, part ? sliced(values, part) : values];
      });
    });
  }

  #takeSteps(steps: Readonly<Record<string, number>>): void {
    this.#counted = [];
    for (const entry of this.#entries) entry.steps = steps[entry.name]!;
  }
}

/**
 * @internal Returns the name of the parameter to which a state tensor of this name belongs: the name without its kind.
 */
export function parameterOfState(name: string): string {
  return name.slice(name.indexOf(".") + 1);
}

/**
 * Returns true if an entry takes its state from a saved one. A parameter that had a state when the other was saved may be
 * frozen now: it may be trained again.
 */
function isTakenUp(
  { state, parameter }: Entry,
  names: readonly string[],
  saved: Readonly<Record<string, SavedTensor>>,
): boolean {
  if (names.length === 0) return false;
  return state !== null || !parameter.isFrozen || Object.hasOwn(saved, names[0]!);
}
