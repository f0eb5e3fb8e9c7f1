/** Functions that create tensors: from values, filled with one value, and random. */
import { checkInteger, checkNumber, checkObject, checkValues, largestFloat } from "../util/check.js";
import { type Device, device as deviceOf } from "./device.js";
import { type DType, type FloatDType, isFloat } from "./dtype.js";
import { describe, HeedError } from "../util/errors.js";
import { native, ops } from "./native.js";
import { checkShape, formatShape, maxRank, numel, sameShape, type Shape } from "./shape.js";
import { allocate, type NestedArray, type Tensor, uploadValues } from "./tensor.js";
import { integersOf } from "../util/integers.js";

/** Options of the functions that create tensors. */
export interface TensorOptions<D extends DType = DType> {
  /** Element type. `tensor()` gives an Int32Array i32 and a Uint8Array u8 by default. @default "f32" */
  dtype?: D;
  /** Device that holds the tensor: "cpu", "cuda:0", …, or "auto". @default "auto" */
  device?: Device | string;
}

/**
 * Returns an uninitialised tensor: write every element before you read one.
 *
 * @example
 * const cache = empty([2, 16, 64], { dtype: "bf16" });
 *
 * @throws ERR_SHAPE if `shape` is not a list of at most 8 integers of at least 0; ERR_DTYPE or ERR_DEVICE for an
 *   unknown dtype or a device that is not available.
 */
export function empty<D extends DType = "f32">(shape: Shape, options: TensorOptions<D> = {}): Tensor<D> {
  checkShape("empty", shape);
  checkObject("empty", "options", options);
  return allocate([...shape], options.dtype ?? ("f32" as D), deviceOf(options.device));
}

/**
 * Returns a tensor with every element set to `value`.
 *
 * @example
 * const mask = full([2, 3], -Infinity);
 *
 * @throws ERR_RANGE if the dtype is i32 or u8 and does not hold the value exactly; ERR_SHAPE, ERR_DTYPE or ERR_DEVICE
 *   if `empty` throws it.
 */
export function full<D extends DType = "f32">(shape: Shape, value: number, options: TensorOptions<D> = {}): Tensor<D> {
  checkShape("full", shape);
  if (typeof value !== "number")
    throw new HeedError("ERR_ARGUMENT", `full: expected value to be a number, got ${describe(value)}`);
  const result = empty(shape, options);
  const { dtype } = result;
  if (isFloat(dtype)) ops.fill({ out: result, value });
  else fillIntegers(result, integersOf("full", dtype, [value]));
  return result;
}

/**
 * Fills an integer tensor with the value of `element`. The kernel takes an f32, which does not hold every i32: such a
 * value is written to one element, which is stretched by strides of 0.
 */
function fillIntegers(target: Tensor, element: Int32Array | Uint8Array): void {
  const value = element[0]!;
  if (Math.fround(value) === value) return ops.fill({ out: target, value });
  const source = allocate([], target.dtype, target.device, false);
  native.upload(source.handle, element);
  const { shape } = target;
  const stretched = source.viewAs(
    shape,
    shape.map(() => 0),
    0,
    false,
  );
  ops.copy({ out: target, inp: stretched });
  for (const tensor of [stretched, source]) tensor.dispose();
}

/**
 * Returns a tensor of zeros.
 *
 * @example
 * const counts = zeros([4], { dtype: "i32" });
 *
 * @throws ERR_SHAPE, ERR_DTYPE or ERR_DEVICE if `empty` throws it.
 */
export function zeros<D extends DType = "f32">(shape: Shape, options: TensorOptions<D> = {}): Tensor<D> {
  return full(shape, 0, options);
}

/**
 * Returns a tensor of ones.
 *
 * @example
 * const weight = parameter(ones([64]));
 *
 * @throws ERR_SHAPE, ERR_DTYPE or ERR_DEVICE if `empty` throws it.
 */
export function ones<D extends DType = "f32">(shape: Shape, options: TensorOptions<D> = {}): Tensor<D> {
  return full(shape, 1, options);
}

/**
 * Returns an i32 tensor with the values of an Int32Array.
 *
 * @param shape shape of the result; by default it has one dimension
 */
export function tensor(values: Int32Array, shape?: Shape, options?: TensorOptions<"i32">): Tensor<"i32">;
/**
 * Returns a u8 tensor with the values of a Uint8Array.
 *
 * @param shape shape of the result; by default it has one dimension
 */
export function tensor(values: Uint8Array, shape?: Shape, options?: TensorOptions<"u8">): Tensor<"u8">;
/**
 * Returns a tensor with the given values: a number, an array, nested arrays or a typed array.
 *
 * @param shape shape of the result; by default that of the nested arrays, or one dimension for a typed array
 *
 * @example
 * const a = tensor([[1, 2], [3, 4]]); // f32 [2, 2]
 * const ids = tensor([[5, 0], [7, 2]], undefined, { dtype: "i32" });
 * const b = tensor(new Float32Array(6), [2, 3]);
 *
 * @throws ERR_SHAPE if the nested arrays differ in length, are more than 8 deep, or do not have as many values as
 *   `shape`; ERR_ARGUMENT if a value is not a number; ERR_RANGE if an integer dtype does not hold a value exactly.
 */
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

/**
 * Returns normally distributed numbers with mean `mean` (default 0) and standard deviation `std` (default 1). Element i
 * depends only on the seed and on i.
 *
 * @example
 * const noise = randn([2, 3], { seed: 1, std: 0.02 });
 *
 * @throws ERR_RANGE if `seed` is not an integer of at least 0, or `mean` or `std` is not a number of f32; ERR_SHAPE,
 *   ERR_DTYPE or ERR_DEVICE if `empty` throws it.
 */
export function randn<D extends FloatDType = "f32">(
  shape: Shape,
  options: TensorOptions<D> & { seed: number; mean?: number; std?: number },
): Tensor<D> {
  checkObject("randn", "options", options);
  const { seed, mean = 0, std = 1 } = options;
  checkInteger("randn", "seed", seed, 0);
  checkNumber("randn", "mean", mean, -largestFloat, largestFloat);
  checkNumber("randn", "std", std, 0, largestFloat);
  const result = empty(shape, options);
  ops.random_normal({ out: result, mean, stddev: std, seed });
  return result;
}

/**
 * Returns uniformly distributed numbers in [low, high), by default [0, 1). Element i depends only on the seed and on i.
 * In bf16 and f16 a number is rounded to one inside the interval. If the dtype has none there, every element is `low`,
 * rounded.
 *
 * @example
 * const start = uniform([4], { seed: 1, low: -1, high: 1 });
 *
 * @throws ERR_RANGE if `seed` is not an integer of at least 0, `high` is below `low`, or one of them is not a number of
 *   f32; ERR_SHAPE, ERR_DTYPE or ERR_DEVICE if `empty` throws it.
 */
export function uniform<D extends FloatDType = "f32">(
  shape: Shape,
  options: TensorOptions<D> & { seed: number; low?: number; high?: number },
): Tensor<D> {
  checkObject("uniform", "options", options);
  const { seed, low = 0, high = 1 } = options;
  checkInteger("uniform", "seed", seed, 0);
  checkNumber("uniform", "low", low, -largestFloat, largestFloat);
  checkNumber("uniform", "high", high, low, largestFloat);
  const result = empty(shape, options);
  ops.random_uniform({ out: result, low, high, seed });
  return result;
}
