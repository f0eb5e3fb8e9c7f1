/** Compares gradients of random graphs, on every device, with central differences of the same graph in float64. */
import fc from "fast-check";
import { expect } from "vitest";
import { device } from "../../lib/core/device.js";
import { add, mul } from "../../lib/ops/binary.js";
import { sum } from "../../lib/ops/reduce.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { roundoff, roundTo } from "../support/dtypes.js";
import { dot, map, maxAbs, type Nd, normal } from "../support/nd.js";
import { expectWithin } from "../support/close.js";
import { Random } from "../support/random.js";
import { onEachDevice } from "../support/targets.js";
import { fuzz } from "./fuzz.js";
import { disposeEarly, drawFrom, evaluated, type Genes, planned, run, type Shake } from "./graph-program.js";
import type { Value } from "./graph-operations.js";

const shapes = [[], [3], [4], [2, 3], [3, 4], [4, 4], [2, 1, 4], [2, 3, 4]];
const scales = [1, 1, 0.5, -2, 1 / 3];

interface Case {
  seed: number;
  leaves: number;
  genes: Genes[];
  results: Genes;
  /** Flag of each pass over the program: true if its tensors belong to a scope. */
  passes: boolean[];
}

const gene = fc.noBias(fc.nat({ max: 2 ** 16 }));
const cases: fc.Arbitrary<Case> = fc.record({
  seed: fc.integer({ min: 0, max: 2 ** 31 }),
  leaves: fc.integer({ min: 1, max: 4 }),
  genes: fc.array(fc.array(gene, { minLength: 9, maxLength: 9 }), { minLength: 1, maxLength: 32, size: "max" }),
  results: fc.array(gene, { minLength: 8, maxLength: 8 }),
  passes: fc.array(fc.boolean(), { minLength: 1, maxLength: 3 }),
});

/** Prepares a case: a program, and the sum, times constants, of the values that no step uses and of some others. */
function prepare({ seed, leaves, genes, results }: Case) {
  const random = new Random(seed);
  const inputs = Array.from({ length: leaves }, (): Value => {
    const dtype = random.integer(8) === 0 ? "bf16" : "f32";
    const nd = map(normal(random, shapes[random.integer(shapes.length)]!), (value) => roundTo(dtype, value));
    return { nd, dtype };
  });
  const dtypes = new Set(inputs.map(({ dtype }) => dtype));
  const shake: Shake = { on: false, random, dtypes, sizes: [], moved: null };
  const program = planned(genes, inputs, leaves, shake);
  const { values } = program;
  const draw = drawFrom(results);
  const used = new Set(program.steps.flatMap(({ args }) => args));
  const last = [...values.keys()].filter((i) => i >= leaves && !used.has(i));
  const chosen = [...last, ...Array.from({ length: draw(3) + (last.length === 0 ? 1 : 0) }, () => draw(values.length))];
  const ends = chosen.map((i) => ({ i, by: normal(random, values[i]!.nd.shape) }));
  disposeEarly(program, chosen);
  const scale = (): number => scales[random.integer(scales.length)]!;
  return { program, inputs, ends, scale, shake };
}

type Prepared = ReturnType<typeof prepare>;

function resultOf({ program, ends }: Prepared, leaves: Nd[]): number {
  const values = evaluated(program, leaves);
  return ends.reduce((total, { i, by }) => total + dot(values[i]!.data, by.data), 0);
}

function slope(result: (by: number) => number): number {
  const step = 1e-5;
  return (result(step) - result(-step)) / (2 * step);
}

/** Returns the gradient of each element of each leaf. */
function differences(prepared: Prepared): Float64Array[] {
  const at = prepared.inputs.map(({ nd }) => nd);
  return at.map((x, leaf) =>
    x.data.map((_, k) =>
      slope((by) => {
        const moved = map(x, (value, i) => (i === k ? value + by : value));
        return resultOf(prepared, at.with(leaf, moved));
      }),
    ),
  );
}

/**
 * Returns the largest gradient of the values between the leaves and the result: two of them may cancel in a leaf's
 * gradient, and their roundings remain.
 */
function largestWithin(prepared: Prepared): number {
  const { inputs, shake } = prepared;
  const leaves = inputs.map(({ nd }) => nd);
  const gradients = shake.sizes.flatMap((size, result) =>
    Array.from({ length: size }, (_, element) =>
      slope((by) => {
        shake.moved = { result, element, by };
        return resultOf(prepared, leaves);
      }),
    ),
  );
  shake.moved = null;
  return maxAbs(gradients);
}

/**
 * Error of a gradient: the number of roundings along its paths, each of which is that of a value or of the largest
 * gradient.
 */
const roundings = { f32: 64, bf16: 16, f16: 16 };

interface Expected {
  /** Gradients for a factor of 1. */
  expected: Float64Array[];
  /** Allowed error of them, if the largest gradient is a leaf's. */
  allowed: number;
  /** Returns the allowed error if the largest gradient is anywhere. It takes far longer to compute. */
  allowedWithin: () => number;
}

function expectedOf(prepared: Prepared): Expected {
  const { shake } = prepared;
  const dtype = (["bf16", "f16"] as const).find((short) => shake.dtypes.has(short)) ?? "f32";
  const expected = differences(prepared);
  shake.on = true;
  const shaken = differences(prepared);
  const shift = maxAbs(expected.flatMap((x, i) => [...x].map((value, k) => value - shaken[i]![k]!)));
  shake.on = false;
  const largest = Math.max(1, ...expected.map(maxAbs));
  const bound = (gradient: number): number => roundings[dtype] * (shift + roundoff(dtype) * gradient);
  return {
    expected,
    allowed: bound(largest),
    allowedWithin: () => bound(Math.max(largest, largestWithin(prepared))),
  };
}

onEachDevice((name) => {
  fuzz("gradients of random graphs", cases, { ci: 150, nightly: 20_000 }, async (given) => {
    const before = device(name).memory();
    const prepared = prepare(given);
    const { program, inputs, ends, scale } = prepared;
    const steps = program.steps.map(({ name }) => name).join(", ");
    const leaves = inputs.map(({ nd, dtype }): FloatTensor => {
      const leaf: FloatTensor = tensor(nd.data, nd.shape, { dtype });
      leaf.requiresGrad = true;
      return leaf;
    });
    const lossOf = (values: FloatTensor[]): FloatTensor =>
      ends
        .map(({ i, by }) => scope(() => sum(mul(values[i]!.to("f32"), tensor(by.data, by.shape)))))
        .reduce((a, b) => add(a, b));
    let [total, weight] = [0, 0];
    for (const scoped of given.passes) {
      const values: FloatTensor[] = [];
      const forward = (): FloatTensor => {
        values.push(...run(program, leaves));
        return scope(() => lossOf(values));
      };
      using loss = scoped ? scope(forward) : forward();
      if (loss.requiresGrad) {
        const by = scale();
        loss.backward(by);
        total += by;
        weight += Math.max(1, Math.abs(by));
      }
      for (const value of values) if (!leaves.includes(value)) value.dispose();
    }
    const { expected, allowed, allowedWithin } = expectedOf(prepared);
    for (const [i, leaf] of leaves.entries()) {
      const got = leaf.grad ? await leaf.grad.data() : new Float32Array(leaf.size);
      const want = expected[i]!.map((value) => value * total);
      const near = want.every((value, k) => Math.abs(value - got[k]!) <= allowed * weight);
      const error = (near ? allowed : allowedWithin()) * weight;
      expectWithin(`gradient of leaf ${i} of ${steps}`, got, want, () => error);
    }
    for (const leaf of leaves) leaf.dispose();
    const after = device(name).memory();
    expect(after.live, "bytes left behind").toBeLessThanOrEqual(before.live);
    expect(after.tensors, "tensors left behind").toBeLessThanOrEqual(before.tensors);
  });
});
