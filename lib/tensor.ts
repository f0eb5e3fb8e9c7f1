import { record } from "./autograd.js";
import { type DataOf, type DType, dtypeIndex, dtypes, type FloatDType, isFloat } from "./dtype.js";
import { type Device, device as deviceOf } from "./device.js";
import { checkInteger, checkNumber, checkObject, checkValues } from "./check.js";
import { describe, HeedError } from "./errors.js";
import { type Handle, native, ops } from "./native.js";
import type { Rounding } from "./rounding.js";
import { enterScope, leaveScope } from "./scope.js";
import {
  checkShape,
  contiguousStrides,
  formatShape,
  isContiguous,
  maxRank,
  numel,
  sameShape,
  type Shape,
} from "./shape.js";
import { Storage } from "./storage.js";

/** Handles without memory, for the next tensors: making one takes longer than a small operation. */
const released: Handle[] = [];
const mostReleased = 256;

/** A native handle shared by a tensor and the graph that saved it. */
class SharedHandle {
  #references = 0;
  constructor(
    readonly handle: Handle,
    readonly storage: Storage,
  ) {
    this.retain();
  }

  retain(): this {
    this.#references++;
    this.storage.references++;
    return this;
  }

  release(): void {
    this.storage.references--;
    if (--this.#references !== 0) return;
    native.release(this.handle);
    if (released.length < mostReleased) released.push(this.handle);
  }
}

/** @internal A step of the recorded graph, as a tensor sees it (autograd.ts). */
export interface GraphNode {
  /** Calls one fewer of the node's outputs and consumers alive. */
  unreference(): void;
  backward(output: Tensor, scale: number): void;
}

interface TensorInit<D extends DType> {
  shape: Shape;
  strides: Shape;
  dtype: D;
  device: Device;
  shared: SharedHandle;
}

/**
 * An array of numbers on a device. Operations on it enqueue and return at once; only `data()` and `item()` wait.
 *
 * Its memory goes with `dispose()`, at the end of a `using` block or of the `scope()` it was made in; garbage
 * collection is the safety net.
 */
export class Tensor<D extends DType = DType> implements Disposable {
  readonly shape: Shape;
  /** In elements. */
  readonly strides: Shape;
  readonly dtype: D;
  readonly device: Device;
  /** The gradient that `backward()` left, for parameters and other tensors with `requiresGrad` set by hand. */
  grad: FloatTensor | null = null;

  #shared: SharedHandle | null;
  #requiresGrad = false;
  /** @internal The step that made this tensor, while recorded. */
  node: GraphNode | null = null;
  /** @internal Which of the node's outputs this is. */
  outputIndex = 0;
  /** @internal A parameter's copy in a shorter dtype, kept for inference (ops/precision.ts). */
  rounding: Rounding | null = null;

  /** @internal Use `tensor()`, `zeros()`, `empty()` and the like. */
  constructor(init: TensorInit<D>, scoped = true) {
    this.shape = init.shape;
    this.strides = init.strides;
    this.dtype = init.dtype;
    this.device = init.device;
    this.#shared = init.shared;
    if (scoped) enterScope(this);
  }

  /** Number of elements. */
  get size(): number {
    return numel(this.shape);
  }

  /** Whether elements lie in row-major order without gaps. */
  get contiguous(): boolean {
    return isContiguous(this.shape, this.strides);
  }

  get disposed(): boolean {
    return this.#shared === null;
  }

  /** Whether `backward()` computes a gradient for this tensor or something it was made from. */
  get requiresGrad(): boolean {
    return this.#requiresGrad || this.node !== null;
  }

  /** Only for tensors that no recorded operation made (leaves), of a floating type. */
  set requiresGrad(value: boolean) {
    if (this.node)
      throw new HeedError("ERR_AUTOGRAD", "requiresGrad: expected a leaf, got the result of a recorded operation");
    if (value && !isFloat(this.dtype))
      throw new HeedError("ERR_DTYPE", `requiresGrad: expected a floating dtype, got ${this.dtype}`);
    this.#requiresGrad = value;
  }

  /** @internal The native view. Throws ERR_DISPOSED. */
  get handle(): Handle {
    return this.#live().handle;
  }

  /** @internal How often the elements of this tensor's storage have been overwritten, through whatever view. */
  get version(): number {
    return this.#live().storage.version;
  }

  /** @internal To be called by whoever has written to a tensor that others may have read: what they keep is stale. */
  overwritten(): void {
    this.#live().storage.version++;
  }

  /** @internal Whether no other tensor shares its memory: no view, and nothing that the graph saved. */
  get exclusive(): boolean {
    return this.#live().storage.references === 1;
  }

  #live(): SharedHandle {
    if (!this.#shared) throw new HeedError("ERR_DISPOSED", `expected a live tensor, got a disposed one: ${this}`);
    return this.#shared;
  }

  /** @internal Another tensor on the same handle, outside of scopes and graph. */
  alias(): Tensor<D> {
    const shared = this.#live().retain();
    const { shape, strides, dtype, device } = this;
    return new Tensor({ shape, strides, dtype, device, shared }, false);
  }

  /** @internal A view of the same storage; not recorded. `offset` in elements. */
  viewAs(shape: Shape, strides: Shape, offset = 0, scoped = true): Tensor<D> {
    const { handle, storage } = this.#live();
    const shared = new SharedHandle(native.view(handle, shape, strides, offset, released.pop()), storage);
    return new Tensor({ shape, strides, dtype: this.dtype, device: this.device, shared }, scoped);
  }

  /** @internal The same elements in row-major order: this tensor's alias, or a copy. Outside of scopes and graph. */
  toContiguous(): Tensor<D> {
    if (this.contiguous) return this.alias();
    const copy = allocate(this.shape, this.dtype, this.device, false);
    ops.copy(copy.handle, this.handle, false);
    return copy;
  }

  /**
   * The elements in row-major order, once every operation enqueued so far has run. Floating types arrive as f32.
   * Rejects where an operation failed on the device that should have written this tensor, or something that it was
   * computed from, with that operation's error. Failures elsewhere do not matter.
   */
  async data(): Promise<DataOf<D>> {
    let source: Tensor;
    if (isFloat(this.dtype) && this.dtype !== "f32") {
      source = allocate(this.shape, "f32", this.device, false);
      ops.copy(source.handle, this.handle, false);
    } else source = this.toContiguous();
    const pending = native.read(source.handle);
    source.dispose();
    const bytes = await pending;
    const data =
      this.dtype === "i32"
        ? new Int32Array(bytes)
        : this.dtype === "u8"
          ? new Uint8Array(bytes)
          : new Float32Array(bytes);
    return data as DataOf<D>;
  }

  /** The one element of a tensor of one. */
  async item(): Promise<number> {
    if (this.size !== 1)
      throw new HeedError("ERR_SHAPE", `item: expected a tensor of one element, got shape ${formatShape(this.shape)}`);
    return (await this.data())[0]!;
  }

  /** The elements as nested arrays, for printing and tests. */
  async toArray(): Promise<NestedArray> {
    const data = await this.data();
    const strides = contiguousStrides(this.shape);
    const nest = (axis: number, offset: number): NestedArray =>
      axis === this.shape.length
        ? data[offset]!
        : Array.from({ length: this.shape[axis]! }, (_, i) => nest(axis + 1, offset + i * strides[axis]!));
    return nest(0, 0);
  }

  /**
   * The tensor in another dtype, or on another device; a view of the same memory where it is so already. f32 to bf16 and
   * f16 rounds to nearest even, to integers toward zero. Gradients flow back. Only enqueues; between devices it waits as
   * `set` does while more than 128 MiB would be on their way (`device.memory().uploading` of the one that receives).
   */
  to<T extends DType>(dtype: T): Tensor<T>;
  to(device: Device | (string & {})): Tensor<D>;
  to(target: Device | string): Tensor {
    this.#live();
    const { dtype, device } = this;
    const to = destination(target, this);
    let out: Tensor;
    if (to.device !== device) out = transferred(this, to.device);
    else if (to.dtype === dtype) out = this.viewAs(this.shape, this.strides);
    else {
      out = allocate(this.shape, to.dtype, device);
      ops.copy(out.handle, this.handle, false);
    }
    if (!isFloat(dtype) || !isFloat(out.dtype)) return out;
    return record("to", out as FloatTensor, [this], {}, ({ dout, pass }) => {
      if (to.device === device) return pass(0, dout);
      const back = transferred(dout, device, false);
      pass(0, back);
      back.dispose();
    });
  }

  /** @internal Becomes what `to(target)` gives: a parameter moves with all who hold it. Its gradient is forgotten. */
  move(target: Device | string): void {
    const to = destination(target, this);
    if (to.device === this.device && to.dtype === this.dtype) return;
    const source = this.alias();
    const moved = source.to(target);
    source.dispose();
    this.zeroGrad();
    this.rounding?.release();
    this.rounding = null;
    this.#live().release();
    const { strides, dtype, device } = moved;
    Object.assign(this, { strides, dtype, device });
    this.#shared = moved.#live().retain();
    moved.dispose();
  }

  /**
   * Overwrites the elements, in queue order. The values are copied before this returns: at most 128 MiB of such copies are
   * on their way to a device at a time (`device.memory().uploading`), and where these would be more, it waits for as much
   * of the queue as comes before them. Who sets more than that behind long work awaits `data()` or `synchronize()` first.
   * The copy itself takes the thread about half a second a gigabyte.
   */
  set(values: ArrayLike<number>): void {
    this.#live();
    checkValues("set", values);
    const target = this.contiguous ? this : allocate(this.shape, this.dtype, this.device, false);
    uploadValues("set", target, values);
    if (target !== this) {
      ops.copy(this.handle, target.handle, false);
      target.dispose();
    }
    this.overwritten();
  }

  /**
   * Computes the gradients of every leaf this tensor was made from, times `scale`, adding to `grad` where there is one
   * already. The tensor must have one element; its graph is used up. Only enqueues.
   *
   * The pass starts from `scale` in the tensor's dtype. Losses are f32; a tensor of bf16 or f16 rounds it.
   *
   * @throws ERR_RANGE if the tensor's dtype does not hold `scale`
   */
  backward(scale = 1): void {
    this.#live();
    if (!this.node)
      throw new HeedError(
        "ERR_AUTOGRAD",
        "backward: expected a tensor made from one that requires a gradient, outside of noGrad(), and not yet used up",
      );
    this.node.backward(this, scale);
  }

  /** Forgets the gradient. */
  zeroGrad(): void {
    this.grad?.dispose();
    this.grad = null;
  }

  /** Frees the tensor's memory, in queue order; a second time does nothing. */
  dispose(): void {
    const shared = this.#shared;
    if (!shared) return;
    this.#shared = null;
    leaveScope(this);
    shared.release();
    this.zeroGrad();
    this.rounding?.release();
    this.rounding = null;
    const node = this.node;
    this.node = null;
    node?.unreference();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  toString(): string {
    return `Tensor(${this.dtype} ${formatShape(this.shape)} on ${this.device.name})`;
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }
}

/** A tensor of a floating type. */
export type FloatTensor = Tensor<FloatDType>;
/** A tensor of token ids or other integers. */
export type IntTensor = Tensor<"i32">;
export type NestedArray = number | NestedArray[];

export interface TensorOptions<D extends DType = DType> {
  dtype?: D;
  /** "auto" unless given. */
  device?: Device | string;
}

/** @internal Uninitialised memory. */
export function allocate<D extends DType>(shape: Shape, dtype: D, device: Device, scoped = true): Tensor<D> {
  const handle = native.alloc(device.index, dtypeIndex(dtype), shape, released.pop());
  const shared = new SharedHandle(handle, new Storage());
  return new Tensor({ shape, strides: contiguousStrides(shape), dtype, device, shared }, scoped);
}

/** Where `to(target)` leads: the name of a dtype, or a device. */
function destination(target: unknown, { dtype, device }: Tensor): { dtype: DType; device: Device } {
  if (dtypes.includes(target as DType)) return { dtype: target as DType, device };
  if (target === undefined) throw new HeedError("ERR_ARGUMENT", "to: expected a dtype or a device, got undefined");
  return { dtype, device: deviceOf(target as Device | string) };
}

/** A copy on another device. */
function transferred<D extends DType>(x: Tensor<D>, device: Device, scoped = true): Tensor<D> {
  const source = x.toContiguous();
  const out = allocate(x.shape, x.dtype, device, scoped);
  native.transfer(out.handle, source.handle);
  source.dispose();
  return out;
}

function uploadValues(op: string, target: Tensor, values: ArrayLike<number>): void {
  const { dtype, size } = target;
  if (values.length !== size)
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected ${size} values for shape ${formatShape(target.shape)}, got ${values.length}`,
    );
  if (!isFloat(dtype)) native.upload(target.handle, integersOf(op, dtype, values));
  else {
    const floats = values instanceof Float32Array ? values : Float32Array.from(values);
    if (dtype === "f32") native.upload(target.handle, floats);
    else {
      const source = allocate(target.shape, "f32", target.device, false);
      native.upload(source.handle, floats);
      ops.copy(target.handle, source.handle, false);
      source.dispose();
    }
  }
}

const integerArrays = { i32: Int32Array, u8: Uint8Array } as const;

/** The values in a typed array of the dtype. Throws ERR_RANGE at one that the dtype does not hold exactly. */
function integersOf(op: string, dtype: "i32" | "u8", values: ArrayLike<number>): Int32Array | Uint8Array {
  const kind = integerArrays[dtype];
  if (values instanceof kind) return values;
  const integers = new kind(values.length);
  for (let i = 0; i < values.length; i++) {
    integers[i] = values[i]!;
    if (integers[i] !== values[i])
      throw new HeedError(
        "ERR_RANGE",
        `${op}: expected integers that ${dtype} holds, got ${describe(values[i])} at position ${i}`,
      );
  }
  return integers;
}

/** Uninitialised: write every element before reading one. */
export function empty<D extends DType = "f32">(shape: Shape, options: TensorOptions<D> = {}): Tensor<D> {
  checkShape("empty", shape);
  checkObject("empty", "options", options);
  return allocate([...shape], options.dtype ?? ("f32" as D), deviceOf(options.device));
}

/**
 * Every element `value`.
 *
 * @throws ERR_RANGE for an i32 or u8 tensor where that dtype does not hold the value exactly.
 */
export function full<D extends DType = "f32">(shape: Shape, value: number, options: TensorOptions<D> = {}): Tensor<D> {
  checkShape("full", shape);
  if (typeof value !== "number")
    throw new HeedError("ERR_ARGUMENT", `full: expected value to be a number, got ${describe(value)}`);
  const result = empty(shape, options);
  const { dtype } = result;
  if (isFloat(dtype)) ops.fill(result.handle, value);
  else fillIntegers(result, integersOf("full", dtype, [value]));
  return result;
}

/** The kernel takes an f32, which does not hold every i32: others are stretched from one element. */
function fillIntegers(target: Tensor, one: Int32Array | Uint8Array): void {
  const value = one[0]!;
  if (Math.fround(value) === value) return ops.fill(target.handle, value);
  const source = allocate([], target.dtype, target.device, false);
  native.upload(source.handle, one);
  const { shape } = target;
  const stretched = source.viewAs(
    shape,
    shape.map(() => 0),
    0,
    false,
  );
  ops.copy(target.handle, stretched.handle, false);
  for (const tensor of [stretched, source]) tensor.dispose();
}

export function zeros<D extends DType = "f32">(shape: Shape, options: TensorOptions<D> = {}): Tensor<D> {
  return full(shape, 0, options);
}

export function ones<D extends DType = "f32">(shape: Shape, options: TensorOptions<D> = {}): Tensor<D> {
  return full(shape, 1, options);
}

/**
 * A tensor of the given values: a number, a (nested) array, or a typed array with a shape. Without a dtype, Int32Array
 * gives i32, Uint8Array u8, everything else f32.
 */
export function tensor(values: Int32Array, shape?: Shape, options?: TensorOptions<"i32">): Tensor<"i32">;
export function tensor(values: Uint8Array, shape?: Shape, options?: TensorOptions<"u8">): Tensor<"u8">;
export function tensor<D extends DType = "f32">(
  values: NestedArray | ArrayLike<number>,
  shape?: Shape,
  options?: TensorOptions<D>,
): Tensor<D>;
export function tensor(values: NestedArray | ArrayLike<number>, shape?: Shape, options: TensorOptions = {}): Tensor {
  checkObject("tensor", "options", options);
  const dtype: DType =
    options.dtype ?? (values instanceof Int32Array ? "i32" : values instanceof Uint8Array ? "u8" : "f32");
  const natural = typeof values === "number" || Array.isArray(values) ? shapeOfNested(values, 0) : null;
  const flat: unknown =
    typeof values === "number"
      ? [values]
      : natural && natural.length > 1
        ? (values as unknown[]).flat(maxRank)
        : values;
  checkValues("tensor", flat);
  const target = shape ?? natural ?? [flat.length];
  checkShape("tensor", target);
  if (numel(target) !== flat.length)
    throw new HeedError(
      "ERR_SHAPE",
      `tensor: expected ${numel(target)} values for shape ${formatShape(target)}, got ${flat.length}`,
    );
  const result = allocate([...target], dtype, deviceOf(options.device));
  uploadValues("tensor", result, flat);
  return result;
}

function shapeOfNested(values: NestedArray, depth: number): number[] {
  if (!Array.isArray(values)) return [];
  if (depth === maxRank)
    throw new HeedError("ERR_SHAPE", `tensor: expected at most ${maxRank} levels of arrays, got more`);
  if (values.length === 0 || !values.some((value) => Array.isArray(value))) return [values.length];
  const inner = values.map((value) => shapeOfNested(value, depth + 1));
  for (const shape of inner)
    if (!sameShape(shape, inner[0]!))
      throw new HeedError(
        "ERR_SHAPE",
        `tensor: expected nested arrays of equal lengths, got ${formatShape(inner[0]!)} and ${formatShape(shape)}`,
      );
  return [values.length, ...inner[0]!];
}

/** What a file or another process knows of a tensor. */
export interface SavedTensor {
  shape: Shape;
  values: ArrayLike<number>;
}

/** @internal Throws unless `saved` can be the content of `tensor`. */
export function checkSaved(op: string, name: string, tensor: Tensor, saved: unknown): void {
  checkObject(op, name, saved);
  const { shape, values } = saved as Partial<SavedTensor>;
  checkValues(op, values);
  if (!Array.isArray(shape) || !sameShape(shape, tensor.shape) || values.length !== tensor.size)
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected ${name} of shape ${formatShape(tensor.shape)}, got ` +
        `${Array.isArray(shape) ? formatShape(shape) : describe(shape)} and ${values.length} values`,
    );
}

/** The largest finite f32. */
const maxFloat = (2 - 2 ** -23) * 2 ** 127;

/** Normally distributed; element i depends on the seed and i alone. */
export function randn<D extends FloatDType = "f32">(
  shape: Shape,
  options: TensorOptions<D> & { seed: number; mean?: number; std?: number },
): Tensor<D> {
  checkObject("randn", "options", options);
  const { seed, mean = 0, std = 1 } = options;
  checkInteger("randn", "seed", seed, 0);
  checkNumber("randn", "mean", mean, -maxFloat, maxFloat);
  checkNumber("randn", "std", std, 0, maxFloat);
  const result = empty(shape, options);
  ops.random_normal(result.handle, mean, std, seed);
  return result;
}

/**
 * Returns numbers that are uniform in [low, high); element i depends on the seed and i alone. In bf16 and f16 a draw is
 * rounded to a number inside the interval; where the type has none there, every element is `low`, rounded.
 */
export function uniform<D extends FloatDType = "f32">(
  shape: Shape,
  options: TensorOptions<D> & { seed: number; low?: number; high?: number },
): Tensor<D> {
  checkObject("uniform", "options", options);
  const { seed, low = 0, high = 1 } = options;
  checkInteger("uniform", "seed", seed, 0);
  checkNumber("uniform", "low", low, -maxFloat, maxFloat);
  checkNumber("uniform", "high", high, low, maxFloat);
  const result = empty(shape, options);
  ops.random_uniform(result.handle, low, high, seed);
  return result;
}
