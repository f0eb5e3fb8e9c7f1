import { type DataOf, type DType, dtypeIndex, dtypes, type FloatDType, isFloat } from "./dtype.js";
import { type Device, device as deviceOf } from "./device.js";
import { checkValues } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import { type Handle, native, ops } from "./native.js";
import { enterScope, leaveScope, type Scope } from "./scope.js";
import { contiguousStrides, formatShape, isContiguous, numel, type Shape } from "./shape.js";
import { releasedHandle, SharedHandle, Storage } from "./storage.js";
import { integersOf } from "../util/integers.js";

/** @internal Step of the recorded graph (autograd.ts), as far as a tensor uses it. */
export interface GraphNode {
  /** Tells the node that one of its outputs or consumers is gone; the node is freed with the last one. */
  unreference(): void;
  backward(output: Tensor, scale: number): void;
}

/**
 * @internal Records an operation that made `output` from `input`. `backward` receives the gradient of the output and
 * passes on the gradient of the input.
 */
export type Recorder = (
  name: string,
  output: FloatTensor,
  input: Tensor,
  backward: (dout: FloatTensor, pass: (dinp: FloatTensor) => void) => void,
) => void;

let recorder: Recorder = () => {
  throw new HeedError("ERR_INTERNAL", "expected autograd.ts to be loaded before a gradient is required");
};

/**
 * @internal Sets the recorder of operations. autograd.ts imports this file and calls this, so that this file need not
 * import it.
 */
export function setRecorder(record: Recorder): void {
  recorder = record;
}

interface TensorInit<D extends DType> {
  shape: Shape;
  /** Strides; null for those of row-major order. */
  strides: Shape | null;
  dtype: D;
  device: Device;
  /** Handle of the memory; null if memory is to be allocated at the first use. */
  shared: SharedHandle | null;
}

/**
 * Array of numbers on a device. Operations enqueue work and return at once; only `data()`, `item()` and `toArray()`
 * wait.
 *
 * Its memory is freed by `dispose()`, at the end of a `using` block, or at the end of the `scope()` it was made in. If
 * you use none of these, garbage collection frees it.
 *
 * @example
 * using a = tensor([[1, 2], [3, 4]]);
 * using b = matmul(a, a);
 * await b.toArray(); // [[7, 10], [15, 22]]
 */
export class Tensor<D extends DType = DType> implements Disposable {
  /** Sizes of the dimensions. */
  readonly shape: Shape;
  /** Element type. */
  readonly dtype: D;
  /** Device that holds the elements. */
  readonly device: Device;
  /**
   * Gradient that `backward()` left, of this tensor's shape; null for a tensor that is not a leaf or has no gradient
   * yet.
   */
  grad: FloatTensor | null = null;

  /** Memory of the tensor; undefined before it is allocated, null after the tensor was disposed. */
  #shared: SharedHandle | null | undefined;
  /** Strides; null for those of row-major order, which most tensors never have to spell out. */
  #strides: Shape | null;
  #role: "value" | "trained" | "frozen" = "value";
  /** @internal Recorded step that made this tensor; null for a leaf. */
  node: GraphNode | null = null;
  /** @internal Index of this tensor among the node's outputs. */
  outputIndex = 0;
  /**
   * @internal Object that is released with the tensor's memory: a parameter's copy in a shorter dtype (`Rounding.of`).
   */
  rounding: { release(): void } | null = null;
  /** @internal True for a parameter of a model that computes in f32 that is kept in 16 bits; see `keepHalves`. */
  keptHalves = false;
  /** @internal Scope that disposes the tensor, if any. */
  scope: Scope | null = null;

  /** @internal Makes a tensor of memory that exists; users call `tensor()`, `zeros()`, `empty()` and the like. */
  constructor(init: TensorInit<D>, scoped = true) {
    this.shape = init.shape;
    this.#strides = init.strides;
    this.dtype = init.dtype;
    this.device = init.device;
    this.#shared = init.shared ?? undefined;
    if (scoped) enterScope(this);
  }

  /** Distance between neighbours along each dimension, in elements. */
  get strides(): Shape {
    return (this.#strides ??= contiguousStrides(this.shape));
  }

  /** Number of elements. */
  get size(): number {
    return numel(this.shape);
  }

  /** True if the elements lie in row-major order without gaps. */
  get contiguous(): boolean {
    return this.#strides === null || isContiguous(this.shape, this.#strides);
  }

  /** True after `dispose()`. */
  get disposed(): boolean {
    return this.#shared === null;
  }

  /** True if `backward()` computes a gradient for this tensor or for a tensor that it was computed from. */
  get requiresGrad(): boolean {
    return this.#role === "trained" || this.node !== null;
  }

  /**
   * Sets whether `backward()` computes a gradient; only for a leaf (a tensor that no recorded operation made) of a
   * floating dtype. A tensor of a module that has required a gradient once remains one of its parameters: false freezes
   * it.
   *
   * @throws ERR_AUTOGRAD if a recorded operation made the tensor; ERR_DTYPE if it should require a gradient and its
   *   dtype is not a floating one.
   */
  set requiresGrad(value: boolean) {
    if (this.node)
      throw new HeedError("ERR_AUTOGRAD", "requiresGrad: expected a leaf, got the result of a recorded operation");
    if (value && !isFloat(this.dtype))
      throw new HeedError("ERR_DTYPE", `requiresGrad: expected a floating dtype, got ${this.dtype}`);
    if (value) this.#role = "trained";
    else if (this.#role === "trained") this.#role = "frozen";
  }

  /**
   * @internal True if a module counts the tensor among its parameters: it requires a gradient, or did before it was
   * frozen.
   */
  get isParameter(): boolean {
    return this.#role !== "value";
  }

  /** @internal True if it is a parameter that training must not change. */
  get isFrozen(): boolean {
    return this.#role === "frozen";
  }

  /**
   * @internal Handle of the native view.
   *
   * @throws ERR_DISPOSED after `dispose()`.
   */
  get handle(): Handle {
    return this.#live().handle;
  }

  /** @internal Memory of the tensor, which its views and aliases share. */
  get storage(): Storage {
    return this.#live().storage;
  }

  /** @internal Number of the latest writing to this tensor's storage, through any view; see `Storage.version`. */
  get version(): number {
    return this.#live().storage.version;
  }

  /**
   * @internal Marks the elements as overwritten. Call it after writing to a tensor that others may have read, since
   * their copies are stale.
   */
  overwritten(): void {
    this.#live().storage.overwritten();
  }

  /** @internal True if nobody else shares the memory: no view, no tensor that a graph saved, and no other library. */
  get exclusive(): boolean {
    const { references, foreign } = this.#live().storage;
    return references === 1 && !foreign;
  }

  #live(): SharedHandle {
    if (this.#shared) return this.#shared;
    if (this.disposed) throw new HeedError("ERR_DISPOSED", `expected a live tensor, got a disposed one: ${this}`);
    return (this.#shared = memoryFor(this.shape, this.dtype, this.device));
  }

  /** @internal Returns another tensor with the same handle, outside every scope and graph. */
  alias(): Tensor<D> {
    const shared = this.#live().retain();
    const { shape, dtype, device } = this;
    return new Tensor({ shape, strides: this.#strides, dtype, device, shared }, false);
  }

  /** @internal Returns a view of the same storage that is not recorded. `strides` and `offset` are in elements. */
  viewAs(shape: Shape, strides: Shape, offset = 0, scoped = true): Tensor<D> {
    const { handle, storage } = this.#live();
    const shared = new SharedHandle(native.view(handle, shape, strides, offset, releasedHandle()), storage);
    return new Tensor({ shape, strides, dtype: this.dtype, device: this.device, shared }, scoped);
  }

  /**
   * @internal Returns the same elements in row-major order, outside every scope and graph: an alias of this tensor, or
   * a copy.
   */
  toContiguous(): Tensor<D> {
    if (this.contiguous) return this.alias();
    const copy = allocate(this.shape, this.dtype, this.device, false);
    ops.copy({ out: copy, inp: this });
    return copy;
  }

  /**
   * Returns the elements in row-major order, once every operation enqueued so far has run. Floating dtypes are returned
   * as f32.
   *
   * @example
   * const values = await square(tensor([1, 2, 3])).data(); // Float32Array [1, 4, 9]
   *
   * @throws the error of an operation that failed on the device and that should have written this tensor, or one that
   *   this tensor was computed from. Other failed operations do not matter.
   */
  async data(): Promise<DataOf<D>> {
    return this.#elements(await this.#read((handle) => native.read(handle)));
  }

  /**
   * @internal Returns what `data` resolves to, and waits for it: the event loop stands still until the device has run
   * everything enqueued so far. It is for interfaces of other libraries that promise a synchronous read.
   *
   * @throws the errors of `data`.
   */
  dataSync(): DataOf<D> {
    return this.#elements(this.#read((handle) => native.readNow(handle)));
  }

  /** Returns the result of `read` for a handle of these elements in row-major order, floating ones as f32. */
  #read<T>(read: (handle: Handle) => T): T {
    let source: Tensor;
    if (isFloat(this.dtype) && this.dtype !== "f32") {
      source = allocate(this.shape, "f32", this.device, false);
      ops.copy({ out: source, inp: this });
    } else source = this.toContiguous();
    try {
      return read(source.handle);
    } finally {
      source.dispose();
    }
  }

  #elements(bytes: ArrayBuffer): DataOf<D> {
    const data =
      this.dtype === "i32"
        ? new Int32Array(bytes)
        : this.dtype === "u8"
          ? new Uint8Array(bytes)
          : new Float32Array(bytes);
    return data as DataOf<D>;
  }

  /**
   * Returns the only element of a tensor that has one.
   *
   * @throws ERR_SHAPE if the tensor has more or fewer; otherwise the errors of `data`.
   */
  async item(): Promise<number> {
    if (this.size !== 1)
      throw new HeedError("ERR_SHAPE", `item: expected a tensor of one element, got shape ${formatShape(this.shape)}`);
    return (await this.data())[0]!;
  }

  /**
   * Returns the elements as nested arrays, for printing and tests.
   *
   * @throws the errors of `data`.
   */
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
   * Returns the tensor in another dtype. If it has that dtype already, the result is a view of the same memory.
   * Conversion of f32 to bf16 and f16 rounds to nearest even, conversion to integers rounds toward zero. Gradients flow
   * back.
   *
   * @example
   * const half = x.to("bf16");
   */
  to<T extends DType>(dtype: T): Tensor<T>;
  /**
   * Returns the tensor on another device. If it is there already, the result is a view of the same memory. Gradients
   * flow back. The copy is only enqueued, and the call never waits.
   *
   * @example
   * const copy = x.to("cpu");
   *
   * @throws ERR_DEVICE if the device is not available.
   */
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
      ops.copy({ out, inp: this });
    }
    if (!this.requiresGrad || !isFloat(out.dtype)) return out;
    recorder("to", out as FloatTensor, this, (dout, pass) => {
      if (to.device === device) return pass(dout);
      const back = transferred(dout, device, false);
      pass(back);
      back.dispose();
    });
    return out;
  }

  /**
   * @internal Keeps a parameter, which has no memory yet, in the 16 bits in which its file stores it, although its model
   * computes in f32.
   */
  keepHalves(dtype: "bf16" | "f16"): void {
    if (this.#shared === undefined) Object.assign(this, { dtype, keptHalves: true });
  }

  /** @internal Dtype of the parameter in a model that computes with it: f32 if it is kept in 16 bits, or its own. */
  get modelDType(): D {
    return this.keptHalves ? ("f32" as D) : this.dtype;
  }

  /**
   * @internal Moves this tensor itself to another dtype or device, so that everything that holds a parameter sees it
   * moved. Its gradient is dropped.
   */
  move(target: Device | string): void {
    const to = destination(target, this);
    if (target === to.dtype) this.keptHalves = false;
    if (to.device === this.device && to.dtype === this.dtype) return;
    const source = this.alias();
    const moved = source.to(target);
    source.dispose();
    this.zeroGrad();
    this.rounding?.release();
    this.rounding = null;
    this.#live().release();
    const { dtype, device } = moved;
    Object.assign(this, { dtype, device });
    this.#strides = moved.#strides;
    this.#shared = moved.#live().retain();
    moved.dispose();
  }

  /**
   * Overwrites the elements, in queue order. The values are copied before the call returns, which takes about half a
   * second per gigabyte.
   *
   * At most 1 GiB of such copies waits for a device at once (`device.memory().uploading`), or as many MiB as the
   * environment variable HEED_UPLOAD_LIMIT says. A call that would exceed this blocks the thread until the queue has
   * taken enough of them. To avoid that when you set more behind long work, await `data()` or `synchronize()` first.
   *
   * @example
   * const input = zeros([4], { dtype: "i32" });
   * input.set([5, 0, 7, 2]);
   *
   * @throws ERR_SHAPE if there are not as many values as elements; ERR_ARGUMENT if `values` are not numbers; ERR_RANGE
   *   if an integer dtype does not hold one of them exactly.
   */
  set(values: ArrayLike<number>): void {
    this.#live();
    checkValues("set", values);
    if (this.keptHalves) this.move("f32");
    const target = this.contiguous ? this : allocate(this.shape, this.dtype, this.device, false);
    uploadValues("set", target, values);
    if (target !== this) {
      ops.copy({ out: this, inp: target });
      target.dispose();
    }
    this.overwritten();
  }

  /**
   * Computes the gradient of every leaf that this tensor was computed from, times `scale`, and adds it to the leaf's
   * `grad`. The tensor must have one element. The call only enqueues work. It uses up the graph, so it can run
   * only once.
   *
   * The pass starts with `scale` in the tensor's dtype. Losses are f32; a tensor of bf16 or f16 rounds `scale`.
   *
   * @default 1
   *
   * @example
   * const w = parameter(tensor([1, 2, 3]));
   * sum(square(w)).backward();
   * await w.grad!.toArray(); // [2, 4, 6]
   *
   * @throws ERR_AUTOGRAD if the tensor was not recorded, its graph is used up, or a tensor that the graph saved has
   *   been overwritten; ERR_SHAPE if it has more than one element; ERR_RANGE if its dtype does not hold `scale`.
   */
  backward(scale = 1): void {
    this.#live();
    if (!this.node)
      throw new HeedError(
        "ERR_AUTOGRAD",
        "backward: expected a tensor computed outside of noGrad() from one that requires a gradient, whose graph no " +
          "earlier backward() has freed",
      );
    this.node.backward(this, scale);
  }

  /** Frees the gradient and sets `grad` to null. */
  zeroGrad(): void {
    this.grad?.dispose();
    this.grad = null;
  }

  /** Frees the tensor's memory, in queue order. A second call does nothing. */
  dispose(): void {
    const shared = this.#shared;
    if (shared === null) return;
    this.#shared = null;
    leaveScope(this);
    shared?.release();
    this.zeroGrad();
    this.rounding?.release();
    this.rounding = null;
    const node = this.node;
    this.node = null;
    node?.unreference();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
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

/** Tensor of a floating dtype. */
export type FloatTensor = Tensor<FloatDType>;
/** Tensor of token ids or other integers. */
export type IntTensor = Tensor<"i32">;
/** Number, or array of numbers in as many levels as a tensor has dimensions. */
export type NestedArray = number | NestedArray[];

/** @internal Returns an uninitialised, contiguous tensor. */
export function allocate<D extends DType>(shape: Shape, dtype: D, device: Device, scoped = true): Tensor<D> {
  const shared = memoryFor(shape, dtype, device);
  return new Tensor({ shape, strides: null, dtype, device, shared }, scoped);
}

/**
 * @internal Returns a tensor in no scope whose memory is allocated at its first use. Write every element before you
 * read one.
 */
export function allocateLater<D extends DType>(shape: Shape, dtype: D, device: Device): Tensor<D> {
  return new Tensor({ shape, strides: null, dtype, device, shared: null }, false);
}

function memoryFor(shape: Shape, dtype: DType, device: Device): SharedHandle {
  const handle = native.alloc(device.index, dtypeIndex(dtype), shape, releasedHandle());
  return new SharedHandle(handle, new Storage());
}

/** Returns the dtype and device that `to(target)` converts to; `target` names one of them. */
function destination(target: unknown, { dtype, device }: Tensor): { dtype: DType; device: Device } {
  if (dtypes.includes(target as DType)) return { dtype: target as DType, device };
  if (target === undefined) throw new HeedError("ERR_ARGUMENT", "to: expected a dtype or a device, got undefined");
  return { dtype, device: deviceOf(target as Device | string) };
}

/** Returns a copy on another device. */
function transferred<D extends DType>(x: Tensor<D>, device: Device, scoped = true): Tensor<D> {
  const source = x.toContiguous();
  const out = allocate(x.shape, x.dtype, device, scoped);
  native.transfer(out.handle, source.handle);
  source.dispose();
  return out;
}

/** @internal Writes values to all elements of the contiguous `target`; does not count as an overwrite. */
export function uploadValues(op: string, target: Tensor, values: ArrayLike<number>): void {
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
      ops.copy({ out: target, inp: source });
      source.dispose();
    }
  }
}
