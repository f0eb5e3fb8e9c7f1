/** Tensors from nothing: of given values, of one value, and random. */
import { checkInteger, checkNumber, checkObject, checkValues, largestFloat } from "./check.js";
import { type Device, device as deviceOf } from "./device.js";
import { type DType, type FloatDType, isFloat } from "./dtype.js";
import { describe, HeedError } from "./errors.js";
import { native, ops } from "./native.js";
import { checkShape, formatShape, maxRank, numel, sameShape, type Shape } from "./shape.js";
import { allocate, type NestedArray, type Tensor, uploadValues } from "./tensor.js";
import { integersOf } from "./integers.js";

export interface TensorOptions<D extends DType = DType> {
  dtype?: D;
  /** Device that holds the tensor: "cpu", "cuda:0", …, or "auto". @default "auto" */
  device?: Device | string;
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
  if (isFloat(dtype)) ops.fill({ out: result, value });
  else fillIntegers(result, integersOf("full", dtype, [value]));
  return result;
}

/** The kernel takes an f32, which does not hold every i32: others are stretched from one element. */
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

/** Normally distributed; element i depends on the seed and i alone. */
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
  checkNumber("uniform", "low", low, -largestFloat, largestFloat);
  checkNumber("uniform", "high", high, low, largestFloat);
  const result = empty(shape, options);
  ops.random_uniform({ out: result, low, high, seed });
  return result;
}
