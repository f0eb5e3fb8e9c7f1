/**
 * The common test of all operations. For every target and case it checks shapes, dtypes and values of the outputs
 * against a float64 reference, and gradients against the derivatives of that reference, with
 * - a random upstream gradient,
 * - each input frozen in turn,
 * - the operation applied twice to the same inputs, which are leaves or results themselves (gradients accumulate),
 * - transposed and narrowed views as inputs,
 * - another number of the CPU's threads, which must give the same bits.
 *
 * It also checks that no memory stays behind, both within and outside scopes.
 *
 * All of that happens in f32. In bf16 and f16 the inputs are numbers that these types hold exactly, so that only the
 * roundings in between and at the end differ from the reference. There it tests plain inputs, strided inputs, the
 * operation applied twice, and parameters in f32.
 *
 * Derivatives are four-point differences of the reference in float64, with errors of about 1e-11. They are taken for a
 * few elements of each input, and along random directions ±1 of all its elements, whose rounding errors add up like a
 * random walk.
 */
import { afterAll, describe, expect, test } from "vitest";
import { device as deviceOf, setThreads, threads } from "../../lib/core/device.js";
import type { FloatDType } from "../../lib/core/dtype.js";
import { native } from "../../lib/core/native.js";
import { add, mul } from "../../lib/ops/binary.js";
import { sum } from "../../lib/ops/reduce.js";
import { narrow, transpose } from "../../lib/ops/views.js";
import { scope } from "../../lib/core/scope.js";
import { numel } from "../../lib/core/shape.js";
import { tensor } from "../../lib/core/creation.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { bound, expectWithin, type Tolerance } from "./close.js";
import { leastRoundoff, roundoff, roundTo } from "./dtypes.js";
import { dot, map, maxAbs, type Nd, normal } from "./nd.js";
import { nightly } from "./nightly.js";
import { Random } from "./random.js";
import { bestIsa, devicesTested, type Target, targets } from "./targets.js";

type Floats<F extends string> = Record<F, FloatTensor>;
type Ints<I extends string> = Record<I, IntTensor>;

export interface OpCase<F extends string, I extends string, O> {
  name: string;
  inputs: Record<F, Nd>;
  ints?: Record<I, Nd>;
  options?: O;
}

export interface OpTest<F extends string, I extends string, O> {
  name: string;
  cases: readonly OpCase<F, I, O>[];
  ours: (inputs: Floats<F>, ints: Ints<I>, options: O) => FloatTensor | FloatTensor[];
  reference: (inputs: Record<F, Nd>, ints: Record<I, Nd>, options: O) => Nd | Nd[];
  /** Allowed error in units of 2⁻²⁴. A comment should say where it comes from. */
  tolerance: { out: Tolerance; grad: Tolerance };
  /**
   * Additional error of bf16 and f16, in units of their own roundoff. The default is the error of one kernel forward
   * and one backward: one rounding of the output, and two of a gradient, which is rounded when it is written and again
   * when it is added to.
   */
  roundings?: { out?: Tolerance; grad?: Tolerance };
  /** False for operations that take f32 only. */
  short?: boolean;
  /** Inputs that may be f32 if the others are not. */
  parameters?: readonly NoInfer<F>[];
  /** Dtype of the outputs in bf16 and f16. By default it is the dtype of the inputs. */
  outDType?: FloatDType;
  /** False for operations without a gradient. */
  differentiable?: boolean;
  /** True if `ours` is a single operation, which leaves nothing but its results behind. @default true */
  single?: boolean;
  /** Step of the differences for derivatives. @default 1e-4 */
  step?: number;
}

/** Elements of each input whose derivatives are compared one by one. The directions take all elements. */
const samples = nightly ? 16 : 6;
const directions = 3;

const onceRounded: Tolerance = { relative: 1, absolute: 0 };
const twiceRounded: Tolerance = { relative: 2, absolute: 0 };

/**
 * Expected results of a case. They are computed once for all targets, and once more for the inputs of both 16-bit
 * types.
 */
interface Expected {
  upstream: Nd[];
  outputs: Nd[];
  /** Derivatives of each input: by single elements, and along directions. */
  grads: Record<string, { elements: [number, number][]; along: [Int8Array, number][] }>;
}

const list = <T>(value: T | T[]): T[] => (Array.isArray(value) ? value : [value]);

/** Returns numbers that both bf16 and f16 can represent. */
const rounded = (x: Nd): Nd => map(x, (value) => roundTo("f16", roundTo("bf16", value)));

function expectedOf<F extends string, I extends string, O>(
  spec: OpTest<F, I, O>,
  at: OpCase<F, I, O>,
  short: boolean,
): Expected {
  const random = new Random(7);
  const ints = at.ints ?? ({} as Record<I, Nd>);
  const evaluate = (inputs: Record<F, Nd>): Nd[] => list(spec.reference(inputs, ints, at.options as O));
  const outputs = evaluate(at.inputs);
  const upstream = outputs.map((out) => normal(random, out.shape)).map((up) => (short ? rounded(up) : up));
  const loss = (inputs: Record<F, Nd>): number => {
    let total = 0;
    for (const [i, out] of evaluate(inputs).entries()) total += dot(out.data, upstream[i]!.data);
    return total;
  };
  const derivative = (name: F, move: (data: Float64Array, by: number) => void): number => {
    const h = spec.step ?? 1e-4;
    const moved = (by: number): number => {
      const data = at.inputs[name].data.slice();
      move(data, by);
      return loss({ ...at.inputs, [name]: { shape: at.inputs[name].shape, data } });
    };
    return (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h);
  };
  const grads: Expected["grads"] = {};
  for (const name of spec.differentiable === false ? [] : (Object.keys(at.inputs) as F[])) {
    const { length } = at.inputs[name].data;
    const all = [...Array(length).keys()];
    // The ends are always included, because kernels often fail at tails.
    const chosen =
      length <= samples ? all : [0, length - 1, ...Array.from({ length: samples - 2 }, () => random.integer(length))];
    const elements = chosen.map((i): [number, number] => [i, derivative(name, (data, by) => (data[i]! += by))]);
    const along = Array.from({ length: length === 0 ? 0 : directions }, (): [Int8Array, number] => {
      const signs = Int8Array.from({ length }, () => random.sign());
      return [signs, derivative(name, (data, by) => signs.forEach((sign, i) => (data[i]! += sign * by)))];
    });
    grads[name] = { elements, along };
  }
  return { upstream, outputs, grads };
}

/** Returns the allowed error of a number: the error of f32's sums and, in a 16-bit type, of its roundings. */
function allowance(dtype: FloatDType, sums: Tolerance, roundings: Tolerance, largest: number) {
  if (dtype === "f32") return (expected: number): number => bound(sums, expected, largest);
  const [unit, least] = [roundoff(dtype), 2 * leastRoundoff(dtype)];
  return (expected: number): number =>
    bound(sums, expected, largest) + bound(roundings, expected, largest, unit) + least;
}

/**
 * Checks a gradient that should be `times` the gradient of the case; `allowed` returns the allowed error for the
 * largest element.
 */
function expectGradient(
  label: string,
  actual: ArrayLike<number>,
  { elements, along }: Expected["grads"][string],
  allowed: (largest: number) => (expected: number) => number,
  times: number,
): void {
  const expected = elements.map(([, value]) => value * times);
  // The maximum is over all elements, not only over samples. A large wrong element also shows along the random
  // directions.
  const within = allowed(Math.max(maxAbs(actual), maxAbs(expected)));
  expectWithin(
    label,
    elements.map(([i]) => actual[i]!),
    expected,
    within,
  );
  // With independent signs, the sum exceeds six times the root of the summed squares once in 10⁸ cases (Hoeffding's
  // inequality).
  const squares = Array.from(actual, (g) => within(g) ** 2).reduce((a, b) => a + b, 0);
  for (const [signs, value] of along) {
    const error = Math.abs(dot(actual, signs) - value * times);
    expect(error, `${label}: gradient along a random direction`).toBeLessThanOrEqual(6 * Math.sqrt(squares) + 1e-9);
  }
}

/** A leaf that holds `value`, and the input of the operation that is made from it. */
interface Input {
  leaf: FloatTensor;
  view: () => FloatTensor;
  /**
   * Returns the gradient of the input, taken from the gradient of the leaf. It checks that the leaf's other elements
   * have none.
   */
  gradient: (grad: Float32Array) => Float32Array;
}

interface Where {
  device: string;
  dtype: FloatDType;
}

type Maker = (label: string, value: Nd, where: Where) => Input;

const plain: Maker = (_, value, where) => {
  const leaf = tensor(value.data, value.shape, where);
  return { leaf, view: () => leaf, gradient: (grad) => grad };
};

/** Makes an input that is the result of a recorded operation instead of a leaf. */
const computed: Maker = (_, value, where) => {
  const leaf = tensor(value.data, value.shape, where);
  return { leaf, view: () => mul(leaf, 1), gradient: (grad) => grad };
};

/** Makes an input whose last two dimensions are swapped in memory, with a margin around them. */
const strided: Maker = (label, value, where) => {
  const { positions, shape } = scattered(value.shape);
  const memory = new Float32Array(numel(shape)).fill(NaN);
  positions.forEach((at, i) => (memory[at] = value.data[i]!));
  const leaf = tensor(memory, shape, where);
  return {
    leaf,
    view: () => window(leaf, value.shape),
    gradient: (grad) => {
      const picked = Float32Array.from(positions, (at) => grad[at]!);
      for (const at of positions) grad[at] = 0;
      expect(maxAbs(grad), `${label}: gradient outside of the view`).toBe(0);
      return picked;
    },
  };
};

function scattered(shape: readonly number[]): { shape: number[]; positions: number[] } {
  if (shape.length === 0) return { shape: [], positions: [0] };
  const n = numel(shape);
  const last = shape.at(-1)!;
  if (shape.length === 1) return { shape: [last + 4], positions: Array.from({ length: n }, (_, i) => i + 3) };
  const rows = shape.at(-2)!;
  const [height, width] = [last + 3, rows + 2];
  const positions = Array.from({ length: n }, (_, i) => {
    const [row, column] = [Math.floor(i / last) % rows, i % last];
    return (Math.floor(i / (rows * last)) * height + column + 1) * width + row + 1;
  });
  return { shape: [...shape.slice(0, -2), height, width], positions };
}

/** Returns the view that `scattered` describes. */
function window<T extends FloatTensor | IntTensor>(leaf: T, shape: readonly number[]): T {
  if (shape.length === 0) return leaf;
  if (shape.length === 1) return narrow(leaf, 0, 3, shape[0]!);
  return narrow(narrow(transpose(leaf), -1, 1, shape.at(-1)!), -2, 1, shape.at(-2)!);
}

interface Variant {
  maker?: Maker;
  /** Inputs without a gradient. */
  frozen?: readonly string[];
  /** Number of times that the operation is applied to the same inputs. */
  uses?: number;
  /** Number of times that all of that is done without clearing the gradients. */
  passes?: number;
  /** Inputs that are f32 for every dtype. */
  wide?: readonly string[];
}

/** A target and the dtype of the inputs. */
interface Run extends Target {
  dtype: FloatDType;
}

/**
 * Short types run on each device but not on each instruction set, because test/native compares them with f32's kernels
 * on every one.
 */
const runs: readonly Run[] = [
  ...targets.map((target): Run => ({ ...target, dtype: "f32" })),
  ...(["bf16", "f16"] as const).flatMap((dtype) =>
    devicesTested.map((target): Run => ({ ...target, dtype, name: `${target.name} in ${dtype}` })),
  ),
];

interface Result {
  outputs: Float32Array[];
  grads: Record<string, Float32Array>;
}

function expectSameBits(label: string, actual: Result, expected: Result): void {
  const bytes = ({ outputs, grads }: Result): Buffer =>
    Buffer.concat([...outputs, ...Object.values(grads)].map((x) => Buffer.from(x.buffer, x.byteOffset, x.byteLength)));
  // Vitest's comparison takes longer than the operation, so it is used only to show where they differ.
  if (!bytes(actual).equals(bytes(expected))) expect(actual, label).toEqual(expected);
}

/** Makes the inputs of a case on a target. */
function prepare<F extends string, I extends string, O>(
  at: OpCase<F, I, O>,
  { device, dtype }: Run,
  { maker = plain, wide = [] }: Variant,
) {
  const inputs = Object.entries<Nd>(at.inputs).map(([name, value]) => ({
    name,
    ...maker(name, value, { device, dtype: wide.includes(name) ? "f32" : dtype }),
  }));
  const ints = Object.entries<Nd>(at.ints ?? {}).map(([name, value]) => {
    const { positions, shape } = maker === strided ? scattered(value.shape) : { positions: null, shape: value.shape };
    const memory = new Int32Array(numel(shape)).fill(-12345);
    value.data.forEach((x, i) => (memory[positions?.[i] ?? i] = x));
    const leaf = tensor(memory, shape, { device });
    return { name, leaf, view: () => (positions ? window(leaf, value.shape) : leaf) };
  });
  const viewsOf = <T>(list: { name: string; view: () => T }[]): Record<string, T> =>
    Object.fromEntries(list.map(({ name, view }) => [name, view()]));
  return {
    inputs,
    leaves: [...inputs, ...ints].map((input) => input.leaf),
    /** The inputs that the operation gets. */
    views: () => [viewsOf(inputs), viewsOf(ints)] as [Floats<F>, Ints<I>],
  };
}

async function execute<F extends string, I extends string, O>(
  spec: OpTest<F, I, O>,
  at: OpCase<F, I, O>,
  { upstream, outputs }: Expected,
  run: Run,
  variant: Variant,
): Promise<Result> {
  const { device, dtype } = run;
  const { frozen = [], uses = 1, passes = 1, wide = [] } = variant;
  const { inputs, leaves, views } = prepare(at, run, variant);
  for (const { name, leaf } of inputs) leaf.requiresGrad = spec.differentiable !== false && !frozen.includes(name);
  const pass = (): FloatTensor[] =>
    scope(() => {
      const given = views();
      const runs = Array.from({ length: uses }, () => list(spec.ours(...given, at.options as O)));
      if (spec.differentiable !== false) {
        const losses = runs.flatMap((outs) =>
          outs.map((out, i) => {
            const up = tensor(upstream[i]!.data, upstream[i]!.shape, { device, dtype: out.dtype });
            const loss: FloatTensor = sum(mul(out, up)).to("f32");
            return loss;
          }),
        );
        losses.reduce((a, b) => add(a, b)).backward();
      }
      return runs.at(-1)!;
    });
  let outs: FloatTensor[] = [];
  try {
    outs = pass();
    for (let i = 1; i < passes; i++) {
      for (const out of outs) out.dispose();
      outs = pass();
    }
    outs.forEach((out, i) => {
      expect(out.shape, `shape of output ${i}`).toEqual(outputs[i]!.shape);
      expect(out.dtype, `dtype of output ${i}`).toBe(spec.outDType ?? dtype);
    });
    const data = await Promise.all(outs.map((out) => out.data()));
    const grads: Result["grads"] = {};
    for (const { name, leaf, gradient } of inputs) {
      if (!leaf.requiresGrad) {
        expect(leaf.grad, `gradient of ${name}, which is frozen`).toBeNull();
        continue;
      }
      expect(leaf.grad, `gradient of ${name}`).not.toBeNull();
      expect(leaf.grad!.shape, `shape of the gradient of ${name}`).toEqual(leaf.shape);
      expect(leaf.grad!.dtype, `dtype of the gradient of ${name}`).toBe(wide.includes(name) ? "f32" : dtype);
      grads[name] = gradient(await leaf.grad!.data());
    }
    return { outputs: data, grads };
  } finally {
    for (const tensor of [...outs, ...leaves]) tensor.dispose();
  }
}

/**
 * Runs the operation outside any scope, recorded and not recorded, and disposes its inputs and outputs: nothing may be
 * left.
 */
function expectNothingLeft<F extends string, I extends string, O>(
  spec: OpTest<F, I, O>,
  at: OpCase<F, I, O>,
  run: Run,
): void {
  const { device } = run;
  const before = deviceOf(device).memory();
  for (const recorded of [false, true]) {
    const { inputs, leaves, views } = prepare(at, run, { maker: strided });
    for (const { leaf } of inputs) leaf.requiresGrad = recorded;
    const given = scope(views);
    const results = list(spec.ours(...given, at.options as O));
    for (const tensor of [...results, ...given.flatMap((views) => Object.values<FloatTensor | IntTensor>(views))])
      tensor.dispose();
    for (const leaf of leaves) leaf.dispose();
    const { live, tensors } = deviceOf(device).memory();
    const label = `left behind outside of scopes, ${recorded ? "" : "not "}recorded`;
    expect(live, `bytes ${label}`).toBeLessThanOrEqual(before.live);
    expect(tensors, `tensors ${label}`).toBeLessThanOrEqual(before.tensors);
  }
}

/**
 * Returns true if a 16-bit type is tested on a case. Both are at night; in every run the cases take turns, and a case that
 * is tested in bf16 on the CPU is tested in f16 on CUDA.
 */
function hasTurn({ device, dtype }: Run, index: number): boolean {
  return nightly || ((index % 2 === 0) === (device === "cpu")) === (dtype === "bf16");
}

/** Registers the tests of one operation. */
export function opTest<F extends string, I extends string = never, O = undefined>(spec: OpTest<F, I, O>): void {
  describe(spec.name, () => {
    afterAll(() => native.selectIsa(bestIsa));
    for (const [index, given] of spec.cases.entries()) {
      const known = new Map<boolean, Expected>();
      test.for(runs.filter((run) => run.dtype === "f32" || (spec.short !== false && hasTurn(run, index))))(
        `${given.name} on $name`,
        async (run) => {
          run.select();
          const short = run.dtype !== "f32";
          const at = short ? { ...given, inputs: roundedInputs(given.inputs) } : given;
          const expected = known.get(short) ?? expectedOf(spec, at, short);
          known.set(short, expected);
          await checkCase(spec, at, expected, run);
        },
      );
    }
  });
}

function roundedInputs<F extends string>(inputs: Record<F, Nd>): Record<F, Nd> {
  return Object.fromEntries(Object.entries<Nd>(inputs).map(([name, x]) => [name, rounded(x)])) as Record<F, Nd>;
}

async function checkCase<F extends string, I extends string, O>(
  spec: OpTest<F, I, O>,
  at: OpCase<F, I, O>,
  expected: Expected,
  run: Run,
): Promise<void> {
  const { roundings = {}, tolerance, differentiable = true, parameters = [] } = spec;
  const short = run.dtype !== "f32";
  const before = deviceOf(run.device).memory();
  const check = async (label: string, variant: Variant): Promise<Result> => {
    const result = await execute(spec, at, expected, run, variant);
    for (const [i, out] of result.outputs.entries()) {
      const exact = expected.outputs[i]!.data;
      const within = allowance(run.dtype, tolerance.out, roundings.out ?? onceRounded, maxAbs(exact));
      expectWithin(`${label}: output ${i}`, out, exact, within);
    }
    const times = (variant.uses ?? 1) * (variant.passes ?? 1);
    const allowed = (largest: number): ((expected: number) => number) =>
      allowance(run.dtype, tolerance.grad, roundings.grad ?? twiceRounded, largest);
    for (const [name, grad] of Object.entries(result.grads))
      expectGradient(`${label}: gradient of ${name}`, grad, expected.grads[name]!, allowed, times);
    return result;
  };
  const first = await check("plain", {});
  await check("strided inputs", { maker: strided });
  if (differentiable) {
    const names = Object.keys(at.inputs);
    if (!short && names.length > 1) for (const name of names) await check(`${name} frozen`, { frozen: [name] });
    await check("leaves used twice", { uses: 2 });
    if (!short) {
      await check("results used twice", { uses: 2, maker: computed });
      await check("two backward passes", { passes: 2 });
    }
  }
  if (short && parameters.length > 0) await check("parameters in f32", { wide: parameters, uses: 2 });
  if (run.device === "cpu") {
    const usual = threads();
    setThreads(usual === 1 ? 3 : 1);
    try {
      expectSameBits("other number of threads", await execute(spec, at, expected, run, {}), first);
    } finally {
      setThreads(usual);
    }
  }
  if (spec.single !== false) expectNothingLeft(spec, at, run);
  const after = deviceOf(run.device).memory();
  expect(after.live, "bytes left behind").toBeLessThanOrEqual(before.live);
  expect(after.tensors, "tensors left behind").toBeLessThanOrEqual(before.tensors);
}
