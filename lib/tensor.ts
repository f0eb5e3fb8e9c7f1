import { type DataOf, type DType, dtypeIndex, dtypes, type FloatDType, isFloat } from "./dtype.js";
import { type Device, device as deviceOf } from "./device.js";
import { checkValues } from "./check.js";
import { HeedError } from "./errors.js";
import { type Handle, native, ops } from "./native.js";
import { enterScope, leaveScope } from "./scope.js";
import { contiguousStrides, formatShape, isContiguous, numel, type Shape } from "./shape.js";
import { releasedHandle, SharedHandle, Storage } from "./storage.js";
import { integersOf } from "./integers.js";

/** @internal A step of the recorded graph, as a tensor sees it (autograd.ts). */
export interface GraphNode {
  /** Calls one fewer of the node's outputs and consumers alive. */
  unreference(): void;
  backward(output: Tensor, scale: number): void;
}

/**
 * @internal Records an operation that made `output` of `input`. `backward` gets the gradient of the output, and hands that
 * of the input on.
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

/** @internal For autograd.ts, which builds on this file, so that this one can record what it does without importing it. */
export function setRecorder(record: Recorder): void {
  recorder = record;
}

interface TensorInit<D extends DType> {
  shape: Shape;
  strides: Shape;
  dtype: D;
  device: Device;
  /** null where memory is to be allocated at the first use. */
  shared: SharedHandle | null;
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

  /** undefined before memory is allocated, null after the tensor was disposed. */
  #shared: SharedHandle | null | undefined;
  #role: "value" | "trained" | "frozen" = "value";
  /** @internal The step that made this tensor, while recorded. */
  node: GraphNode | null = null;
  /** @internal Which of the node's outputs this is. */
  outputIndex = 0;
  /** @internal What is let go with the tensor's memory: a parameter's copy in a shorter dtype (`Rounding.of`). */
  rounding: { release(): void } | null = null;

  /** @internal Use `tensor()`, `zeros()`, `empty()` and the like. */
  constructor(init: TensorInit<D>, scoped = true) {
    this.shape = init.shape;
    this.strides = init.strides;
    this.dtype = init.dtype;
    this.device = init.device;
    this.#shared = init.shared ?? undefined;
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
    return this.#role === "trained" || this.node !== null;
  }

  /**
   * Only for tensors that no recorded operation made (leaves), of a floating type. A module's tensor that required a
   * gradient once stays one of its parameters: false freezes it.
   */
  set requiresGrad(value: boolean) {
    if (this.node)
      throw new HeedError("ERR_AUTOGRAD", "requiresGrad: expected a leaf, got the result of a recorded operation");
    if (value && !isFloat(this.dtype))
      throw new HeedError("ERR_DTYPE", `requiresGrad: expected a floating dtype, got ${this.dtype}`);
    if (value) this.#role = "trained";
    else if (this.#role === "trained") this.#role = "frozen";
  }

  /** @internal Whether it is a parameter where it is a module's: it requires a gradient, or did before it was frozen. */
  get isParameter(): boolean {
    return this.#role !== "value";
  }

  /** @internal Whether it is a parameter that is not to be changed by training. */
  get isFrozen(): boolean {
    return this.#role === "frozen";
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
    if (this.#shared) return this.#shared;
    if (this.disposed) throw new HeedError("ERR_DISPOSED", `expected a live tensor, got a disposed one: ${this}`);
    return (this.#shared = memoryFor(this.shape, this.dtype, this.device));
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
    const shared = new SharedHandle(native.view(handle, shape, strides, offset, releasedHandle()), storage);
    return new Tensor({ shape, strides, dtype: this.dtype, device: this.device, shared }, scoped);
  }

  /** @internal The same elements in row-major order: this tensor's alias, or a copy. Outside of scopes and graph. */
  toContiguous(): Tensor<D> {
    if (this.contiguous) return this.alias();
    const copy = allocate(this.shape, this.dtype, this.device, false);
    ops.copy({ out: copy, inp: this });
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
      ops.copy({ out: source, inp: this });
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
      ops.copy({ out: this, inp: target });
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

/** @internal Uninitialised memory. */
export function allocate<D extends DType>(shape: Shape, dtype: D, device: Device, scoped = true): Tensor<D> {
  const shared = memoryFor(shape, dtype, device);
  return new Tensor({ shape, strides: contiguousStrides(shape), dtype, device, shared }, scoped);
}

/** @internal A tensor whose memory is allocated at its first use, in no scope. Write every element before reading one. */
export function allocateLater<D extends DType>(shape: Shape, dtype: D, device: Device): Tensor<D> {
  return new Tensor({ shape, strides: contiguousStrides(shape), dtype, device, shared: null }, false);
}

function memoryFor(shape: Shape, dtype: DType, device: Device): SharedHandle {
  const handle = native.alloc(device.index, dtypeIndex(dtype), shape, releasedHandle());
  return new SharedHandle(handle, new Storage());
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

/** @internal Writes as many values as the contiguous `target` has elements; does not count as an overwrite. */
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
