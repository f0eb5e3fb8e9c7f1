import type { Device } from "../core/device.js";
import { dtypes, elementBytes, type FloatDType } from "../core/dtype.js";
import { describe, HeedError } from "../util/errors.js";
import { checkObject } from "../util/check.js";
import { type ActivationBits, checkActivations, checkQuantizeOptions, type QuantizeOptions } from "../ops/quantize.js";
import { checkSaved, type SavedTensor } from "../core/saved-tensor.js";
import { type FloatTensor, Tensor } from "../core/tensor.js";

/** Returns true if the value is a parameter; a weight that was quantised is disposed and no longer one. */
function isParameter(value: unknown): value is FloatTensor {
  return value instanceof Tensor && value.isParameter && !value.disposed;
}

/** Selection of parameters. */
export interface ParameterOptions {
  /** True if frozen parameters (`requiresGrad` is false) are left out. @default false */
  trainable?: boolean;
}

/** Parameters by their names, as in checkpoints. */
export type StateDict = Record<string, FloatTensor>;

/**
 * Part of a model. Its properties that hold parameters are its parameters; its properties that hold modules, or arrays
 * of modules, are its children. Names are joined by dots: `h.0.attn.c_attn.weight`.
 *
 * `parameter.requiresGrad = false` freezes a parameter: it is still saved, loaded and moved with the others, but gets
 * no gradient, and no optimiser changes it.
 *
 * @example
 * class Classifier extends Module {
 *   readonly hidden = new Linear({ inputs: 8, outputs: 16 }, new Initializer(1, device()));
 *   readonly norm = new LayerNorm({ width: 16 }, new Initializer(2, device()));
 *   forward = (x: FloatTensor): FloatTensor => this.norm.forward(this.hidden.forward(x));
 * }
 * Object.keys(new Classifier().stateDict()); // ["hidden.weight", "hidden.bias", "norm.weight", "norm.bias"]
 */
export abstract class Module {
  /** True if dropout is on. Set it with `train()` and `eval()`. */
  training = true;

  /** Yields the module's direct children with their names. */
  *children(): Generator<[string, Module]> {
    for (const [name, value] of Object.entries(this)) {
      if (value instanceof Module) yield [name, value];
      else if (Array.isArray(value))
        for (const [i, item] of value.entries()) if (item instanceof Module) yield [`${name}.${i}`, item];
    }
  }

  /** Yields this module and all modules below it, with their names; `prefix` is this module's name. */
  *modules(prefix = ""): Generator<[string, Module]> {
    yield [prefix, this];
    for (const [name, child] of this.children()) yield* child.modules(prefix ? `${prefix}.${name}` : name);
  }

  /**
   * Yields every parameter of this module and those below it with its name, each once even if modules share it.
   *
   * @example
   * for (const [name, { shape }] of gpt.namedParameters()) console.log(name, shape);
   */
  *namedParameters({ trainable = false }: ParameterOptions = {}): Generator<[string, FloatTensor]> {
    const seen = new Set<Tensor>();
    for (const [prefix, module] of this.modules())
      for (const [name, value] of Object.entries(module)) {
        if (!isParameter(value) || seen.has(value)) continue;
        seen.add(value);
        if (!trainable || !value.isFrozen) yield [prefix ? `${prefix}.${name}` : name, value];
      }
  }

  /** Yields tensors of the modules that are not parameters, such as tables: they are not trained, saved or rounded. */
  *#buffers(): Generator<Tensor> {
    for (const [, module] of this.modules())
      for (const value of Object.values(module))
        if (value instanceof Tensor && !value.isParameter && !value.disposed) yield value;
  }

  /** Returns every parameter of this module and those below it, each once. */
  parameters(options: ParameterOptions = {}): FloatTensor[] {
    return [...this.namedParameters(options)].map(([, tensor]) => tensor);
  }

  /** Returns the number of elements in all parameters; shared parameters count once. */
  parameterCount(options: ParameterOptions = {}): number {
    return this.parameters(options).reduce((sum, tensor) => sum + tensor.size, 0);
  }

  /** Number of bytes of all parameters, of what replaces them, and of tables; what modules share counts once. */
  get bytes(): number {
    const tensors = new Set<Tensor>([...this.parameters(), ...this.#buffers()]);
    return [...tensors].reduce((sum, { size, dtype }) => sum + size * elementBytes(dtype), 0);
  }

  /**
   * True if weights are quantised. They are then constants: gradients pass through them, so that adapters can be trained
   * (`addAdapter`), but the module cannot be rounded to another dtype, and only `savePretrained` can save it.
   */
  get isQuantized(): boolean {
    for (const [, child] of this.children()) if (child.isQuantized) return true;
    return false;
  }

  /**
   * Quantises the weights of projections and of token embeddings to 8 or 4 bits, in place: each number is rounded to
   * nearest, and a group of inputs shares a scale. The original weights are freed. Norms, biases, positions and the
   * dtype of activations stay as they are, and so do weights in blocks of a GGUF file. From then on the module serves
   * inference and the training of adapters. A second call does nothing. `quantizeBySearch` takes longer and loses less.
   *
   * @example
   * const small = new GPT({ vocabularySize: 256, contextLength: 32, layers: 2, heads: 2, width: 64 });
   * small.quantize({ bits: 4, groupSize: 64 }).isQuantized; // true
   *
   * @throws ERR_ARGUMENT if `bits` or `groupSize` is not supported.
   */
  quantize(options: QuantizeOptions = {}): this {
    checkQuantizeOptions(options);
    for (const [, child] of this.children()) child.quantize(options);
    return this;
  }

  /**
   * Replaces quantised weights, in place, by the numbers that they stand for, in the dtype that the weights had before.
   * What was lost by rounding does not come back. The weights are frozen; see `unfreeze`. It does nothing to weights that
   * are not quantised.
   *
   * @example
   * const small = new GPT({ vocabularySize: 256, contextLength: 32, layers: 2, heads: 2, width: 64 }).quantize();
   * small.dequantize().isQuantized; // false: it can be saved in every format
   */
  dequantize(): this {
    for (const [, child] of this.children()) child.dequantize();
    return this;
  }

  /**
   * Bits to which products with the module's quantised weights may round activations in inference; null if it has none.
   */
  get activations(): ActivationBits | null {
    for (const [, child] of this.children()) if (child.activations !== null) return child.activations;
    return null;
  }

  /**
   * Sets the bits to which products with quantised weights may round activations in inference: 8 is fastest, 24 is as
   * exact as f32 (see `QuantizedLinearOptions`). It holds for the weights that are quantised now. Training does not
   * round.
   *
   * @example
   * const small = new GPT({ vocabularySize: 256, contextLength: 32, layers: 2, heads: 2, width: 64 });
   * small.quantize().roundActivations(8);
   *
   * @throws ERR_ARGUMENT if `bits` is not 8, 16 or 24.
   */
  roundActivations(bits: ActivationBits): this {
    checkActivations("roundActivations", bits);
    for (const [, child] of this.children()) child.roundActivations(bits);
    return this;
  }

  /** Turns dropout on, in this module and all below it. */
  train(): this {
    for (const [, module] of this.modules()) module.training = true;
    return this;
  }

  /** Turns dropout off, in this module and all below it. */
  eval(): this {
    for (const [, module] of this.modules()) module.training = false;
    return this;
  }

  /**
   * Moves the parameters to a device or rounds them to a dtype, in place. Their gradients are dropped. Make a new
   * optimiser afterwards: one made before still belongs to the old parameters.
   *
   * @example
   * gpt.to("bf16").parameters()[0]!.dtype; // "bf16"
   * gpt.to("cpu");
   *
   * @throws ERR_DTYPE if the dtype is not a floating one, or the module is quantised and is to be rounded.
   * @throws ERR_DEVICE if the device is not available.
   */
  to(target: Device | FloatDType | (string & {})): this {
    const parameters = this.parameters();
    if (target === "i32" || target === "u8")
      throw new HeedError("ERR_DTYPE", `to: expected a floating dtype for parameters, got ${target}`);
    const rounds = dtypes.some((dtype) => dtype === target);
    if (rounds && this.isQuantized)
      throw new HeedError(
        "ERR_DTYPE",
        `to: expected a model that is not quantised, got one that cannot be rounded to ${String(target)}`,
      );
    for (const parameter of parameters) parameter.move(target);
    if (!rounds) for (const buffer of this.#buffers()) buffer.move(target);
    return this;
  }

  /** Drops the gradients of all parameters. */
  zeroGrad(): void {
    for (const parameter of this.parameters()) parameter.zeroGrad();
  }

  /** Returns all parameters by name, frozen ones included. They are the tensors themselves, not copies. */
  stateDict(): StateDict {
    return Object.fromEntries(this.namedParameters());
  }

  /**
   * Overwrites the parameters with saved values. Every name and shape must fit; if one does not, nothing is changed.
   *
   * @example
   * const [weight, bias] = [Float32Array.of(1, 2, 3, 4), Float32Array.of(5, 6)];
   * const layer = new Linear({ inputs: 2, outputs: 2 }, new Initializer(1, device()));
   * layer.loadStateDict({ weight: { shape: [2, 2], values: weight }, bias: { shape: [2], values: bias } });
   *
   * @throws ERR_FORMAT if names are missing or unknown.
   * @throws ERR_SHAPE if a shape does not fit.
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

  /** Frees the parameters, their gradients and every other tensor of this module and those below it. */
  dispose(): void {
    for (const buffer of this.#buffers()) buffer.dispose();
    for (const parameter of this.parameters()) parameter.dispose();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Checks that an argument is a module.
 *
 * @throws ERR_ARGUMENT if it is not.
 */
export function checkModule(op: string, model: unknown): asserts model is Module {
  if (model instanceof Module) return;
  throw new HeedError("ERR_ARGUMENT", `${op}: expected a model or another module, got ${describe(model)}`);
}
