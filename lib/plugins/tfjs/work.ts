import type { DType } from "../../core/dtype.js";
import { native, ops } from "../../core/native.js";
import { binaryKinds, reduceKinds, unaryKinds } from "../../core/native-kinds.js";
import { broadcastShapes, contiguousStrides, numel, sameShape, type Shape } from "../../core/shape.js";
import { allocate, type Tensor } from "../../core/tensor.js";
import type { HeedBackend } from "./backend.js";
import type { TensorFlow, TensorInfo, TensorType } from "./types.js";

/**
 * One call of a kernel on the device. Tensors that it makes are freed at its end (`end`), except for results. Numbers
 * stand for tensors of shape [] where an operand is expected.
 */
export class Work {
  readonly #made = new Set<Tensor>();

  constructor(readonly backend: HeedBackend) {}

  get tf(): TensorFlow {
    return this.backend.tf;
  }

  /** Frees what the kernel has made. */
  end(): void {
    for (const tensor of this.#made) tensor.dispose();
  }

  /** Returns an input's elements on the device. A float32 number that is only on the host becomes a shared constant. */
  input(info: TensorInfo, shape: Shape = info.shape): Tensor {
    const { tensor, values } = this.backend.stored(info.dataId);
    if (!tensor && shape.length === 0 && values instanceof Float32Array && values.length === 1)
      return this.backend.constant(values[0]!);
    const stored = this.backend.onDevice(info);
    return sameShape(stored.shape, shape) ? stored : this.view(stored, shape, contiguousStrides(shape));
  }

  /** Returns an uninitialised tensor. */
  make(shape: Shape, dtype: DType = "f32"): Tensor {
    return this.#own(allocate([...shape], dtype, this.backend.device, false));
  }

  view(x: Tensor, shape: Shape, strides: Shape, offset = 0): Tensor {
    return this.#own(x.viewAs([...shape], [...strides], offset, false));
  }

  /** Returns the elements of a contiguous tensor in another shape. */
  reshape(x: Tensor, shape: Shape): Tensor {
    return sameShape(x.shape, shape) ? x : this.view(this.contiguous(x), shape, contiguousStrides(shape));
  }

  /** Returns a view with the dimensions in another order. */
  permute(x: Tensor, order: Shape): Tensor {
    const pick = (list: Shape): number[] => order.map((axis) => list[axis]!);
    return this.view(x, pick(x.shape), pick(x.strides));
  }

  /** Returns a view of the block of `size` that starts at `begin`, with steps of `steps`. */
  block(x: Tensor, begin: Shape, size: Shape, steps?: Shape): Tensor {
    const strides = steps ? x.strides.map((stride, i) => stride * steps[i]!) : x.strides;
    // A block without elements may begin behind the tensor's end.
    const offset = size.includes(0) ? 0 : begin.reduce((sum, at, i) => sum + at * x.strides[i]!, 0);
    return this.view(x, size, strides, offset);
  }

  contiguous(x: Tensor): Tensor {
    return x.contiguous ? x : this.copied(x);
  }

  copied(x: Tensor, dtype: DType = x.dtype): Tensor {
    const out = this.make(x.shape, dtype);
    ops.copy({ out, inp: x });
    return out;
  }

  cast(x: Tensor, dtype: DType): Tensor {
    return x.dtype === dtype ? x : this.copied(x, dtype);
  }

  filled(shape: Shape, value: number, dtype: DType = "f32"): Tensor {
    const out = this.make(shape, dtype);
    if (dtype === "f32" || Math.fround(value) === value) ops.fill({ out, value });
    else ops.copy({ out, inp: this.#expanded(this.backend.constant(value, dtype), shape) });
    return out;
  }

  unary(kind: keyof typeof unaryKinds, x: Tensor): Tensor {
    const out = this.make(x.shape);
    ops.unary({ out, inp: x, kind: unaryKinds[kind] });
    return out;
  }

  /** Returns kind(a, b) of tensors of one dtype, which the result has; shapes broadcast. */
  binary(kind: keyof typeof binaryKinds, a: Tensor | number, b: Tensor | number): Tensor {
    const { dtype } = (typeof a === "number" ? b : a) as Tensor;
    const x = this.#operand(a, dtype);
    const y = this.#operand(b, dtype);
    const out = this.make(broadcastShapes(kind, x.shape, y.shape), dtype);
    ops.binary({ out, a: this.#expanded(x, out.shape), b: this.#expanded(y, out.shape), kind: binaryKinds[kind] });
    return out;
  }

  /** Returns a where the condition is not 0, and b elsewhere, as a tensor of `shape`, to which all of them stretch. */
  where(condition: Tensor, a: Tensor | number, b: Tensor | number, shape: Shape, dtype: DType): Tensor {
    const out = this.make(shape, dtype);
    const [x, y] = [this.#operand(a, dtype), this.#operand(b, dtype)];
    const operands = { a: this.#expanded(x, shape), b: this.#expanded(y, shape) };
    ops.where({ out, condition: this.#expanded(condition, shape), ...operands });
    return out;
  }

  /** Returns an i32 tensor of one dimension with these elements. */
  integers(values: Int32Array): Tensor {
    const out = this.make([values.length], "i32");
    native.upload(out.handle, values);
    return out;
  }

  /** Reduces dimensions, which remain with a size of 1. */
  reduce(kind: keyof typeof reduceKinds, x: Tensor, axes: readonly number[]): Tensor {
    const out = this.make(x.shape.map((size, i) => (axes.includes(i) ? 1 : size)));
    ops.reduce({ out, inp: x, kind: reduceKinds[kind] });
    return out;
  }

  /** Returns a kernel's result: the elements of `x`, which the kernel has made, as a tensor of this shape. */
  result(x: Tensor, dtype: TensorType = "float32", shape: Shape = x.shape): TensorInfo {
    const whole = this.#made.has(x) && x.contiguous ? x : this.copied(x);
    this.#made.delete(whole);
    return this.backend.result(whole, shape, dtype);
  }

  /** Returns a result of booleans, from numbers that are 0 or 1. */
  flags(x: Tensor, shape?: Shape): TensorInfo {
    return this.result(this.cast(x, "u8"), "bool", shape);
  }

  #operand(x: Tensor | number, dtype: DType): Tensor {
    return typeof x === "number" ? this.backend.constant(x, dtype) : x;
  }

  /** Returns a view that is stretched to a shape by strides of 0. */
  #expanded(x: Tensor, shape: Shape): Tensor {
    if (sameShape(x.shape, shape)) return x;
    const missing = shape.length - x.shape.length;
    const strides = shape.map((_, i) => (i < missing || x.shape[i - missing] === 1 ? 0 : x.strides[i - missing]!));
    return this.view(x, shape, strides);
  }

  #own(tensor: Tensor): Tensor {
    this.#made.add(tensor);
    return tensor;
  }
}

/** Returns the axes of a kernel's attribute as indices in rising order; all if it names none. */
export function axesOf({ tf }: Work, axis: unknown, shape: number[]): number[] {
  return tf.util.parseAxisParam(axis as number | number[], shape).sort((a, b) => a - b);
}

/** Returns the shape without the reduced axes, or with sizes of 1 there. */
export function reducedShape(shape: Shape, axes: readonly number[], keepDims: unknown): number[] {
  return keepDims ? shape.map((size, i) => (axes.includes(i) ? 1 : size)) : shape.filter((_, i) => !axes.includes(i));
}

export function isEmpty(info: TensorInfo): boolean {
  return numel(info.shape) === 0;
}
