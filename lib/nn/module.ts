import type { Device } from "../device.js";
import { dtypes, type FloatDType } from "../dtype.js";
import { HeedError } from "../errors.js";
import { checkObject } from "../check.js";
import { checkQuantizeOptions, type QuantizeOptions } from "../ops/quantize.js";
import { checkSaved, type SavedTensor } from "../saved-tensor.js";
import { type FloatTensor, Tensor } from "../tensor.js";

/** Only floating tensors can be parameters; a weight that was quantised is disposed. */
function isParameter(value: unknown): value is FloatTensor {
  return value instanceof Tensor && value.isParameter && !value.disposed;
}

/** Selects parameters. */
export interface ParameterOptions {
  /** Those that are trained, without those that are frozen (`requiresGrad` is false). @default false, all of them */
  trainable?: boolean;
}

/** Parameters by name, as checkpoints hold them. */
export type StateDict = Record<string, FloatTensor>;

/**
 * A part of a model: its tensors that require gradients are parameters, its properties that are modules (alone or in
 * arrays) are its children. Names join by dots: `h.0.attn.c_attn.weight`.
 *
 * `parameter.requiresGrad = false` freezes a parameter: it is saved, loaded and moved with the others, gets no gradient,
 * and no optimiser changes it.
 */
export abstract class Module {
  /** Whether dropout is on. Set it with `train()` and `eval()`. */
  training = true;

  /** The module's own children, by name. */
  *children(): Generator<[string, Module]> {
    for (const [name, value] of Object.entries(this)) {
      if (value instanceof Module) yield [name, value];
      else if (Array.isArray(value))
        for (const [i, item] of value.entries()) if (item instanceof Module) yield [`${name}.${i}`, item];
    }
  }

  /** This module and all below it, with their names. */
  *modules(prefix = ""): Generator<[string, Module]> {
    yield [prefix, this];
    for (const [name, child] of this.children()) yield* child.modules(prefix ? `${prefix}.${name}` : name);
  }

  /** Every parameter once, in the order of the modules. */
  *namedParameters({ trainable = false }: ParameterOptions = {}): Generator<[string, FloatTensor]> {
    const seen = new Set<Tensor>();
    for (const [prefix, module] of this.modules())
      for (const [name, value] of Object.entries(module)) {
        if (!isParameter(value) || seen.has(value)) continue;
        seen.add(value);
        if (!trainable || !value.isFrozen) yield [prefix ? `${prefix}.${name}` : name, value];
      }
  }

  /** Tensors of the modules that are no parameters, such as tables: they are not trained, saved or rounded. */
  *#buffers(): Generator<Tensor> {
    for (const [, module] of this.modules())
      for (const value of Object.values(module))
        if (value instanceof Tensor && !value.isParameter && !value.disposed) yield value;
  }

  parameters(options: ParameterOptions = {}): FloatTensor[] {
    return [...this.namedParameters(options)].map(([, tensor]) => tensor);
  }

  /** Returns how many numbers the parameters have; shared ones count once. */
  parameterCount(options: ParameterOptions = {}): number {
    return this.parameters(options).reduce((sum, tensor) => sum + tensor.size, 0);
  }

  /** Whether weights are quantised: then the module can be neither trained nor saved, nor rounded to another dtype. */
  get isQuantized(): boolean {
    for (const [, child] of this.children()) if (child.isQuantized) return true;
    return false;
  }

  /**
   * Puts the weights of projections and of tables of tokens into 8 or 4 bits, in place, each rounded to nearest with a
   * scale for a group of inputs; what they were is freed. Norms, biases and positions stay what they are, and activations
   * of their dtype. From then on there is inference alone. A second time does nothing.
   */
  quantize(options: QuantizeOptions = {}): this {
    checkQuantizeOptions(options);
    for (const [, child] of this.children()) child.quantize(options);
    return this;
  }

  /** Dropout on. */
  train(): this {
    for (const [, module] of this.modules()) module.training = true;
    return this;
  }

  /** Dropout off. */
  eval(): this {
    for (const [, module] of this.modules()) module.training = false;
    return this;
  }

  /**
   * Moves the parameters to a device, or rounds them to a dtype, in place; their gradients are forgotten. An optimiser
   * that was made for them before belongs to the old ones.
   */
  to(target: Device | FloatDType | (string & {})): this {
    const parameters = this.parameters();
    if (target === "i32" || target === "u8")
      throw new HeedError("ERR_DTYPE", `to: expected a floating dtype for parameters, got ${target}`);
    const rounds = dtypes.some((dtype) => dtype === target);
    if (rounds && this.isQuantized)
      throw new HeedError("ERR_DTYPE", `to: expected a model that is not quantised to round to ${String(target)}`);
    for (const parameter of parameters) parameter.move(target);
    if (!rounds) for (const buffer of this.#buffers()) buffer.move(target);
    return this;
  }

  zeroGrad(): void {
    for (const parameter of this.parameters()) parameter.zeroGrad();
  }

  /** The parameters by name, frozen ones too: the tensors themselves, not copies. */
  stateDict(): StateDict {
    return Object.fromEntries(this.namedParameters());
  }

  /**
   * Overwrites the parameters. Every name and shape must fit; nothing is changed if one does not.
   * Throws ERR_FORMAT for missing and unknown names, ERR_SHAPE for a wrong shape.
   */
  loadStateDict(state: Readonly<Record<string, SavedTensor>>): void {
    checkObject("loadStateDict", "state", state);
    const own = this.stateDict();
    const missing = Object.keys(own).filter((name) => !Object.hasOwn(state, name));
    const unknown = Object.keys(state).filter((name) => !Object.hasOwn(own, name));
    if (missing.length || unknown.length) {
      const list = (names: string[]): string => names.slice(0, 5).join(", ") + (names.length > 5 ? ", …" : "");
      throw new HeedError(
        "ERR_FORMAT",
        "loadStateDict: expected the names of this model's parameters" +
          (missing.length ? `; missing ${list(missing)}` : "") +
          (unknown.length ? `; unknown ${list(unknown)}` : ""),
      );
    }
    for (const [name, tensor] of Object.entries(own)) checkSaved("loadStateDict", name, tensor, state[name]);
    for (const [name, tensor] of Object.entries(own)) tensor.set(state[name]!.values);
  }

  /** Frees every parameter and its gradient, and every other tensor of the modules. */
  dispose(): void {
    for (const buffer of this.#buffers()) buffer.dispose();
    for (const parameter of this.parameters()) parameter.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
