/**
 * Random programs: steps over a growing list of values, the first of which are leaves. heed runs them, and so does a
 * reference in float64.
 *
 * In float64, gradients are differences of the program's result. Everything without a derivative keeps its value at the
 * point at which they are computed: the rounding error of a 16-bit type is added as it was there, and the results of
 * `detach` and `noGrad` stay the same.
 */
import { noGrad } from "../../lib/core/autograd.js";
import { gradientCheckpoint } from "../../lib/core/gradient-checkpoint.js";
import type { FloatDType } from "../../lib/core/dtype.js";
import { mul } from "../../lib/ops/binary.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { roundoff, roundTo } from "../support/dtypes.js";
import * as nd from "../support/nd.js";
import { map, type Nd } from "../support/nd.js";
import type { Random } from "../support/random.js";
import { type Choice, type Draw, mostElements, operations, shared, stop, type Value } from "./graph-operations.js";

type Step = Choice & { disposes: number[] };

export interface Program {
  /** Number of inputs. */
  inputs: number;
  steps: Step[];
  /** All values at the point at which gradients are computed: the inputs and the results of the steps. */
  values: Value[];
  /** Flag of each value: true if it is disposed as soon as no step needs it any more. */
  early: boolean[];
}

/** Says how the values of a program in float64 are changed, including those of checkpointed parts. */
export interface Shake {
  /** While it is on, each value is changed by a rounding, up or down. */
  on: boolean;
  random: Random;
  /** Dtypes of all values. */
  dtypes: Set<FloatDType>;
  /** Numbers of elements of the results that have gradients. */
  sizes: number[];
  /** The number `by` is added to an element of one of these results, if it is given. */
  moved: { result: number; element: number; by: number } | null;
}

/** Numbers that determine a step. */
export type Genes = readonly number[];

/** Largest element of a result: results computed from larger ones would be ill-conditioned. */
const largest = 6;

export function drawFrom(genes: Genes): Draw {
  let at = 0;
  return (n) => genes[at++ % genes.length]! % n;
}

/**
 * Makes a program from these genes, over values the first `leaves` of which are leaves. Checkpointed parts are programs
 * of their own.
 */
export function planned(
  genes: readonly Genes[],
  inputs: readonly Value[],
  leaves: number,
  shake: Shake,
  depth = 0,
): Program {
  const values = [...inputs];
  const steps: Step[] = [];
  const early: boolean[] = inputs.map(() => false);
  for (let at = 0; at < genes.length; at++) {
    const draw = drawFrom(genes[at]!);
    // Recent values are chosen more often than old ones.
    const first = Math.max(draw(values.length), draw(values.length));
    const kind = draw(operations.length + 2);
    let choice: Choice | null;
    if (kind >= operations.length && depth < 2) {
      const part = genes.slice(at + 1, at + 2 + draw(5));
      at += part.length;
      const handed = [first, draw(values.length)].slice(draw(2));
      choice = checkpointed(part, values, handed, leaves, shake, depth);
    } else choice = (operations[kind] ?? stop)(values, first, draw) ?? shared(values, first, draw);
    if (!choice) continue;
    const fixed = choice.constant === true || draw(20) === 0;
    const { name, args, dtypes, ours } = choice;
    const reference = held(choice, fixed, shake);
    const results = reference(...args.map((i) => values[i]!.nd));
    if (!results.every(({ data }) => data.length <= mostElements && data.every((v) => Math.abs(v) <= largest)))
      continue;
    steps.push({
      name: fixed ? `noGrad ${name}` : name,
      args,
      dtypes,
      ours: fixed ? (...args) => noGrad(() => ours(...args)) : ours,
      reference,
      disposes: [],
    });
    for (const [i, result] of results.entries()) {
      values.push({ nd: result, dtype: dtypes[i]! });
      early.push(draw(2) === 0);
    }
  }
  return { inputs: inputs.length, steps, values, early };
}

/** Disposes values after the last step that needs them, except `results`. */
export function disposeEarly({ inputs, steps, values, early }: Program, results: readonly number[]): void {
  let made = inputs;
  const last = new Map<number, Step>();
  for (const step of steps) {
    for (const i of step.args) last.set(i, step);
    step.dtypes.forEach(() => last.set(made++, step));
  }
  for (let i = inputs; i < values.length; i++) if (early[i] && !results.includes(i)) last.get(i)!.disposes.push(i);
}

/** Returns `choice` in float64 with the rounding error, or the whole result, of the first call. */
function held({ dtypes, reference }: Choice, fixed: boolean, shake: Shake): Choice["reference"] {
  let first: Nd[] | null = null;
  let rests: Nd[];
  let shifts: Nd[];
  let number = 0;
  return (...args) => {
    if (!first) {
      for (const dtype of dtypes) shake.dtypes.add(dtype);
      const exact = reference(...args);
      first = exact.map((x, i) => (dtypes[i] === "f32" ? x : map(x, (value) => roundTo(dtypes[i]!, value))));
      rests = first.map((x, i) => map(x, (value, k) => value - exact[i]!.data[k]!));
      shifts = first.map((x, i) => map(x, (value) => shake.random.sign() * roundoff(dtypes[i]!) * value));
      number = shake.sizes.length;
      if (!fixed) shake.sizes.push(...first.map(({ data }) => data.length));
    }
    if (fixed) return shake.on ? first.map((x, i) => nd.add(x, shifts[i]!)) : first;
    const results = reference(...args).map((x, i) => nd.add(x, rests[i]!));
    const { moved } = shake;
    if (moved && results[moved.result - number]) results[moved.result - number]!.data[moved.element]! += moved.by;
    return shake.on ? results.map((x, i) => nd.add(x, shifts[i]!)) : results;
  };
}

/** Returns a part of which the graph keeps only the inputs; it also uses leaves that are not passed to it. */
function checkpointed(
  part: readonly Genes[],
  values: readonly Value[],
  chosen: number[],
  leaves: number,
  shake: Shake,
  depth: number,
): Choice | null {
  const args = [...Array.from({ length: leaves }, (_, i) => i), ...chosen];
  const inputs = args.map((i) => values[i]!);
  const body = planned(part, inputs, leaves, shake, depth + 1);
  if (body.steps.length === 0) return null;
  disposeEarly(body, [body.values.length - 1]);
  // The result is a new tensor, whatever the last step returns.
  return {
    name: `checkpoint(${body.steps.map(({ name }) => name).join(", ")})`,
    args,
    dtypes: [body.values.at(-1)!.dtype],
    ours: (...args) => {
      const outside = args.slice(0, leaves);
      return [
        gradientCheckpoint(
          (...inputs: FloatTensor[]) => mul(run(body, [...outside, ...inputs]).at(-1)!, 0.5),
          args.slice(leaves),
        ),
      ];
    },
    reference: (...args) => [map(evaluated(body, args).at(-1)!, (value) => value / 2)],
  };
}

/** Returns all values, some of which are disposed. */
export function run({ steps }: Program, inputs: readonly FloatTensor[]): FloatTensor[] {
  const values = [...inputs];
  for (const { args, ours, disposes } of steps) {
    values.push(...ours(...args.map((i) => values[i]!)));
    for (const i of disposes) values[i]!.dispose();
  }
  return values;
}

export function evaluated({ steps }: Program, inputs: readonly Nd[]): Nd[] {
  const values = [...inputs];
  for (const { args, reference } of steps) values.push(...reference(...args.map((i) => values[i]!)));
  return values;
}
