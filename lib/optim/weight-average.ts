import { checkBoolean, checkFunction, checkInteger, checkNumber, checkObject } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import { ops } from "../core/native.js";
import { Module } from "../nn/module.js";
import { checkSaved, type SavedTensor } from "../core/saved-tensor.js";
import { allocate, type FloatTensor } from "../core/tensor.js";
import { setPieces } from "../core/tensor-pieces.js";
import { inPieces } from "../util/turns.js";

/** Options of `WeightAverage`. */
export interface WeightAverageOptions {
  /** Largest share of the average that an update keeps; the rest is the weights of the moment. @default 0.999 */
  decay?: number;
  /**
   * True if early updates keep less, so that the first weights are soon forgotten: update t, counted from 1, keeps
   * min(decay, (1 + t) / (10 + t)). False for the same decay in every update.
   * @default true
   */
  warmup?: boolean;
}

/**
 * Exponential moving average (EMA) of a model's weights, which often evaluates better than the weights themselves. Each
 * `update` computes average += (1 − d) · (weight − average), on the device. The average begins with the weights that the
 * model has when it is made. Update t keeps the share d = min(decay, (1 + t) / (10 + t)): with a decay of 0.999 alone, the
 * first weights would still make up 37 % of the average after a thousand updates.
 *
 * Frozen parameters have no average, since they do not change. A parameter that is trained later gets its average then.
 *
 * @example
 * using average = new WeightAverage(gpt, { decay: 0.99 });
 * // … after each step of the optimiser:
 * average.update();
 * // … with the averaged weights:
 * const text = await average.use(() => generateTokens(gpt, [[1, 2]], { maxTokens: 3 }));
 *
 * @see Polyak & Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging"; Tarvainen & Valpola 2017, "Mean
 *   teachers are better role models", arXiv:1703.01780.
 */
export class WeightAverage implements Disposable {
  /** Largest share of the average that an update keeps. */
  readonly decay: number;
  /** True if early updates keep less than `decay`. */
  readonly warmup: boolean;
  readonly #model: Module;
  readonly #averages = new Map<string, FloatTensor>();
  #used = false;
  /** Number of updates; infinite if it is unknown, and the decay is that of a long average. */
  #updates = 0;

  /**
   * @throws ERR_ARGUMENT if `model` is not a module or `warmup` is no boolean; ERR_RANGE if `decay` is not in [0, 1).
   */
  constructor(model: Module, options: WeightAverageOptions = {}) {
    const op = "WeightAverage";
    if (!(model instanceof Module)) throw new HeedError("ERR_ARGUMENT", `${op}: expected a model or another module`);
    checkObject(op, "options", options);
    const { decay = 0.999, warmup = true } = options;
    checkNumber(op, "decay", decay, 0, 1 - Number.EPSILON);
    checkBoolean(op, "warmup", warmup);
    this.decay = decay;
    this.warmup = warmup;
    this.#model = model;
    this.#allocate();
  }

  /** Number of updates so far, on which the decay depends; null if the average was loaded without it. */
  get updates(): number | null {
    return Number.isFinite(this.#updates) ? this.#updates : null;
  }

  /**
   * Moves the average towards the weights. `norm`, if given, is the norm of the gradients of the step, f32 []: if it is
   * not finite, the step was skipped, and the average stays. The update counts nevertheless, since nothing waits for the
   * norm here; call `uncount` when you know it.
   */
  update({ norm = null }: { norm?: FloatTensor | null } = {}): void {
    this.#check("update");
    this.#allocate();
    const t = ++this.#updates;
    const warm = this.warmup && t < Infinity ? (1 + t) / (10 + t) : 1;
    const pairs = this.#pairs();
    ops.lerp_list({
      outs: pairs.map(([, average]) => average),
      inps: pairs.map(([weight]) => weight),
      norm,
      maxNorm: Infinity,
      weight: 1 - Math.min(this.decay, warm),
    });
    for (const [, average] of pairs) average.overwritten();
  }

  /** Takes the last update back from the count, because its step was skipped. */
  uncount(): void {
    if (this.#updates > 0) this.#updates--;
  }

  /** Begins again with the weights that the model has now. */
  restart(): void {
    this.#check("restart");
    this.#allocate();
    for (const [weight, average] of this.#pairs()) {
      ops.copy({ out: average, inp: weight });
      average.overwritten();
    }
    this.#updates = 0;
  }

  /**
   * Runs `body` while the model has the averaged weights, and then gives its own back, both to the bit. The model must
   * not be trained meanwhile.
   *
   * @throws ERR_ARGUMENT if the averaged weights are in use already; what `body` throws.
   */
  async use<T>(body: () => T | Promise<T>): Promise<T> {
    checkFunction("WeightAverage", body);
    this.#check("use");
    this.#swap();
    this.#used = true;
    try {
      return await body();
    } finally {
      this.#used = false;
      this.#swap();
    }
  }

  /** Returns the averages by the names of their parameters: the tensors themselves, not copies. */
  stateDict(): Record<string, FloatTensor> {
    return Object.fromEntries(this.#averages);
  }

  /**
   * Sets the averages and the number of updates to saved ones. Without the number, updates keep `decay` from now on. If it
   * throws, nothing has changed.
   *
   * @throws ERR_FORMAT if a parameter that is trained has none; ERR_SHAPE for a wrong shape; ERR_ARGUMENT if values are
   *   not numbers; ERR_RANGE if `updates` is not an integer of at least 0.
   */
  async load(state: Readonly<Record<string, SavedTensor>>, updates: number | null = null): Promise<void> {
    this.checkStateDict(state);
    if (updates !== null) checkInteger("WeightAverage", "updates", updates, 0);
    const parameters = this.#model.stateDict();
    for (const [name, { values }] of Object.entries(state)) {
      const parameter = parameters[name];
      if (!parameter) continue;
      if (!this.#averages.has(name)) this.#averages.set(name, copyOf(parameter));
      const floats = values instanceof Float32Array ? values : Float32Array.from(values);
      await setPieces(this.#averages.get(name)!, inPieces(floats));
    }
    this.#updates = updates ?? Infinity;
  }

  /**
   * @internal Checks the argument of `load`.
   *
   * @throws the errors of `load`.
   */
  checkStateDict(state: Readonly<Record<string, SavedTensor>>): void {
    const op = "WeightAverage";
    checkObject(op, "state", state);
    for (const [name, parameter] of Object.entries(this.#model.stateDict())) {
      if (!Object.hasOwn(state, name)) {
        if (parameter.isFrozen) continue;
        throw new HeedError("ERR_FORMAT", `${op}: expected ${name} in the state, got none`);
      }
      checkSaved(op, name, parameter, state[name]);
    }
  }

  /** Frees the averages. The model stays. */
  dispose(): void {
    for (const average of this.#averages.values()) average.dispose();
    this.#averages.clear();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  #check(name: string): void {
    if (this.#used)
      throw new HeedError(
        "ERR_ARGUMENT",
        `WeightAverage: expected the model's own weights for ${name}(), got the averaged ones; await use() first`,
      );
  }

  /** Gives an average to each parameter that is trained and has none. */
  #allocate(): void {
    for (const [name, parameter] of this.#model.namedParameters({ trainable: true }))
      if (!this.#averages.has(name)) this.#averages.set(name, copyOf(parameter));
  }

  /** Returns the parameters that have averages, with their averages. */
  #pairs(): [FloatTensor, FloatTensor][] {
    const parameters = this.#model.stateDict();
    return [...this.#averages].flatMap(([name, average]) => {
      const parameter = parameters[name];
      return parameter ? [[parameter, average] as [FloatTensor, FloatTensor]] : [];
    });
  }

  /** Exchanges the numbers of the parameters and of the averages, with memory for one parameter at a time. */
  #swap(): void {
    for (const [parameter, average] of this.#pairs()) {
      using own = copyOf(parameter);
      ops.copy({ out: parameter, inp: average });
      ops.copy({ out: average, inp: own });
      parameter.overwritten();
      average.overwritten();
    }
  }
}

function copyOf(parameter: FloatTensor): FloatTensor {
  const copy: FloatTensor = allocate(parameter.shape, "f32", parameter.device, false);
  ops.copy({ out: copy, inp: parameter });
  return copy;
}
